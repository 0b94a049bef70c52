//! The IPAM plugin of a network. A network without one has no addresses.

use super::Layer3;
use crate::cni::delegate::Running;
use crate::cni::{Call, Delegate, Result, Success, Undo};

/// The IPAM plugin that the configuration names, if it names one.
pub struct Ipam(Option<Delegate>);

/// The ADD of an IPAM plugin, which runs while the main plugin makes the links.
pub enum Addresses {
    /// A network without addresses.
    None,
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

    /// Starts its ADD. `link` and `segment` are as in [`Add`](crate::Add).
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(
        &self,
        link: Option<&str>,
        segment: Option<&str>,
        undo: &mut Undo,
    ) -> Result<Addresses> {
        Ok(match &self.0 {
            Some(ipam) => Addresses::Running(ipam.start_add(link, segment, undo)?),
            None => Addresses::None,
        })
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

impl Addresses {
    /// Waits for the answer; `None` for a network without addresses. It may be called again.
    ///
    /// # Errors
    /// Those of the plugin, unchanged; code 6 when it answers nonsense.
    pub fn wait(&mut self) -> Result<Option<Success>> {
        *self = match std::mem::replace(self, Self::None) {
            Self::Running(running) => Self::Answered(running.finish()?),
            settled => settled,
        };
        match self {
            Self::Answered(success) => Ok(Some(success.clone())),
            Self::None | Self::Running(_) => Ok(None),
        }
    }
}
