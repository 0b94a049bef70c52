//! `dummy`: a link of the container that leads nowhere, to hold addresses.

use common::attach::site::Side;
use common::attach::{ContainerLink, Ipam, Layer3, Site, link};
use common::net::LinkKind;
use common::{Add, Call, Check, Del, Error, Errors, Gc, Plugin, Result, Status, Success, Undo};

/// The plugin.
#[derive(Debug)]
pub struct Dummy {
    layer3: Layer3,
}

impl Plugin for Dummy {
    const NAME: &'static str = "dummy";
    const ABOUT: &'static str =
        "Gives the container a link that leads nowhere, to hold addresses of its own.";

    fn load(call: &Call) -> Result<Self> {
        let layer3 = Layer3::load(call)?.ok_or_else(|| {
            Error::config("dummy interface requires an IPAM configuration")
                .details("without addresses the link is good for nothing: give \"ipam\" a \"type\"")
        })?;
        Ok(Self { layer3 })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let site = Site::open_new(request, undo)?;
        let link = ContainerLink {
            kind: LinkKind::Dummy,
            mac: None,
            mtu: None,
            parent: Side::Container,
            // No other container and no host sees the addresses.
            segment: Self::NAME,
        };
        link.attach(request, &site, &self.layer3, undo)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        link::detach(request, errors, Self::NAME);
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        link::check(request, &self.layer3, Self::NAME, |_, _| Ok(Vec::new()))
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        link::collect(request, errors);
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        Ipam::of(request.call, Some(&self.layer3))?.status()
    }
}
