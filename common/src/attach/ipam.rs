//! The IPAM plugin of a network. A network without one has no addresses.

use super::Layer3;
use crate::cni::delegate::{Pending, Running};
use crate::cni::{Call, Delegate, Errors, Network, Result, Success, Undo};

/// The plugins that talk over the container's link: it is there before their ADD begins, and after
/// their DEL has ended.
const TALK_OVER_THE_LINK: [&str; 1] = ["dhcp"];

/// Whether the IPAM plugin of this kind takes IPv6 from the container's segment, so that the interface
/// has to listen to routers. What the key says is the plugin's own affair.
pub(super) fn listens_to_routers(network: &Network, kind: &str) -> bool {
    TALK_OVER_THE_LINK.contains(&kind) && network.tolerant::<String>(&["ipam", "ipv6"]).is_some()
}

/// The IPAM plugin that the configuration names, if it names one.
pub struct Ipam(Option<Delegate>);

/// The ADD of an IPAM plugin, which runs while the main plugin makes the links, unless it needs them.
pub enum Addresses {
    /// A network without addresses.
    None,
    /// The plugin is asked when its answer is [waited](Self::wait) for.
    Pending(Pending),
    /// The plugin has not answered yet.
    Running(Running),
    /// The plugin has answered this.
    Answered(Success),
}

impl Ipam {
    /// For ADD, CHECK and STATUS.
    ///
    /// # Errors
    /// Code 7 when `CNI_PATH` has no such plugin.
    pub fn of(call: &Call, layer3: Option<&Layer3>) -> Result<Self> {
        let kind = layer3.map(Layer3::ipam).filter(|kind| !kind.is_empty());
        kind.map(|kind| call.delegate(kind)).transpose().map(Self)
    }

    /// For DEL and GC: reads nothing of the configuration but `ipam.type`, because the rest may have
    /// been edited since ADD.
    ///
    /// # Errors
    /// As [`Ipam::of`].
    pub fn find(call: &Call) -> Result<Self> {
        call.tolerant_ipam().map(Self)
    }

    /// Starts its ADD, or lets it wait until the container has its link. `link` and `segment` are as
    /// in [`Add`](crate::Add).
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(
        &self,
        link: Option<&str>,
        segment: Option<&str>,
        undo: &mut Undo,
    ) -> Result<Addresses> {
        let Some(ipam) = &self.0 else { return Ok(Addresses::None) };
        if talks_over_the_link(ipam) {
            let pending = ipam.prepare_add(link, segment);
            let (what, step) = pending.rollback();
            undo.push_urgent(what, step);
            return Ok(Addresses::Pending(pending));
        }
        Ok(Addresses::Running(ipam.start_add(link, segment, undo)?))
    }

    /// DEL of an attachment: that of its links, which is `delete_links`, and then that of the plugin,
    /// because another container may get the address at once. A plugin that talks over the link gets
    /// its turn while there is one.
    pub fn del_with(call: &Call, errors: &mut Errors, delete_links: impl FnOnce(&mut Errors)) {
        let ipam = errors.note(Self::find(call)).unwrap_or(Self(None));
        let is_first = ipam.0.as_ref().is_some_and(talks_over_the_link);
        if is_first {
            errors.note(ipam.del());
        }
        delete_links(errors);
        if !is_first {
            errors.note(ipam.del());
        }
    }

    /// # Errors
    /// Those of the plugin, unchanged.
    pub fn del(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), Delegate::del)
    }

    /// # Errors
    /// Those of the plugin, unchanged.
    pub fn check(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), Delegate::check)
    }

    /// # Errors
    /// Those of the plugin, unchanged.
    pub fn gc(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), Delegate::gc)
    }

    /// # Errors
    /// Those of the plugin, unchanged.
    pub fn status(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), Delegate::status)
    }
}

fn talks_over_the_link(ipam: &Delegate) -> bool {
    TALK_OVER_THE_LINK.contains(&ipam.kind())
}

impl Addresses {
    /// Waits for the answer before there is a link, unless the plugin needs one to give it.
    ///
    /// # Errors
    /// As [`Addresses::wait`].
    pub fn wait_before_link(&mut self) -> Result<()> {
        if matches!(self, Self::Pending(_)) { Ok(()) } else { self.wait().map(drop) }
    }

    /// Waits for the answer; `None` for a network without addresses. It may be called again.
    ///
    /// # Errors
    /// Those of the plugin, unchanged; code 6 when it answers nonsense.
    pub fn wait(&mut self) -> Result<Option<Success>> {
        *self = match std::mem::replace(self, Self::None) {
            Self::Pending(pending) => Self::Answered(pending.start()?.finish()?),
            Self::Running(running) => Self::Answered(running.finish()?),
            settled => settled,
        };
        match self {
            Self::Answered(success) => Ok(Some(success.clone())),
            Self::None | Self::Pending(_) | Self::Running(_) => Ok(None),
        }
    }
}
