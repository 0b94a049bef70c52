//! One attachment's place on this host.

use super::{Host, Owner, Sandbox, host_end, running};
use crate::cni::{Add, Check, Code, Error, NetnsPath, Result, Undo};
use crate::net::Netlink;

/// One side of an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The runtime's namespace.
    #[default]
    Host,
    /// The container's namespace.
    Container,
}

/// The host, the container, and the owner of what an ADD makes on both sides.
pub struct Site {
    /// The runtime's side.
    pub host: Host,
    /// The container's side.
    pub sandbox: Sandbox,
    /// The attachment.
    pub owner: Owner,
}

impl Site {
    /// For ADD: the attachment must not exist yet, not even in part, and no other process may be adding
    /// it, nor rolling back.
    ///
    /// # Errors
    /// Code 4 when the container has an interface of that name (specification, section "ADD"), 11
    /// when another ADD of it runs, 999 when the host has the end of an earlier pair of it; code 7
    /// when the plugin was called as an IPAM plugin.
    pub fn open_new(request: &Add<'_>, undo: &mut Undo) -> Result<Self> {
        request.refuse_as_ipam()?;
        let owner = request.owner();
        undo.hold(running::announce(&owner)?);
        let site = Self::at(owner, &request.netns)?;
        site.refuse_existing().map(|()| site)
    }

    /// For CHECK.
    ///
    /// # Errors
    /// Code 4 when the path is not a network namespace.
    pub fn open(request: &Check<'_>) -> Result<Self> {
        Self::at(request.owner(), &request.netns)
    }

    /// For ADD of a chained plugin: the attachment as it is.
    ///
    /// # Errors
    /// Code 4 when the path is not a network namespace.
    pub fn at(owner: Owner, netns: &NetnsPath) -> Result<Self> {
        Ok(Self { host: Host::open()?, sandbox: Sandbox::open(netns)?, owner })
    }

    /// Refuses an attachment that exists, in whole or in part.
    pub(super) fn refuse_existing(&self) -> Result<()> {
        let way_out = "if this attachment was made before, DEL it first";
        let (ifname, path) = (self.owner.ifname().as_str(), self.sandbox.path());
        if self.sandbox.netlink.find_link(ifname)?.is_some() {
            let msg = format!(
                "container interface name ({ifname:?}) already exists in {path}: CNI_IFNAME is taken"
            );
            return Err(Error::new(Code::BadEnvironment, msg).details(way_out));
        }
        for name in host_end::link_names(&self.owner) {
            let Some(link) = self.host.netlink.find_link(&name)? else { continue };
            // Two owners may have the same 32 bits, so under the former name the alias decides.
            if name == host_end::host_name(&self.owner) || host_end::is_end_of(&link, &self.owner) {
                let msg = format!("the host's end {name:?} of this attachment already exists");
                return Err(Error::internal(msg).details(way_out));
            }
        }
        Ok(())
    }

    /// The socket of one side.
    pub fn netlink(&self, side: Side) -> &Netlink {
        match side {
            Side::Host => &self.host.netlink,
            Side::Container => &self.sandbox.netlink,
        }
    }
}
