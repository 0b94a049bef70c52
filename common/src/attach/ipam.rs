//! The IPAM plugin of a network, or none: then the network has no addresses.

use super::Layer3;
use crate::cni::delegate::Running;
use crate::cni::{Call, Delegate, Result, Success, Undo};

/// The plugin that the configuration names.
pub struct Ipam(Option<Delegate>);

/// Its ADD, which runs while the links are made.
pub enum Addresses {
    /// A network without addresses.
    None,
    /// It has not answered yet.
    Running(Running),
    /// It has.
    Answered(Success),
}

impl Ipam {
    /// For ADD, CHECK and STATUS.
    ///
    /// # Errors
    /// Code 7 when `CNI_PATH` has no such plugin.
    pub fn of(call: &Call, layer3: Option<&Layer3>) -> Result<Self> {
        layer3.map(|layer3| call.delegate(layer3.ipam())).transpose().map(Self)
    }

    /// For DEL and GC, whatever else the configuration says by now.
    ///
    /// # Errors
    /// As [`Ipam::of`].
    pub fn find(call: &Call) -> Result<Self> {
        call.tolerant_ipam().map(Self)
    }

    /// Starts its ADD. `link` is the one of the host that will go with the container's namespace, if
    /// there is one; `segment` is as in [`Add::segment`](crate::Add::segment).
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
    /// The answer, as soon as it is there.
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
