//! What links of one kind have beside what all links have: their modes, in the words of ip-link(8), and
//! the numbers of VLANs.

use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoMacVlan, InfoVlan, IpVlanFlags, IpVlanMode, LinkAttribute, LinkInfo,
    LinkMessage, MacVlanMode,
};

use super::{Netlink, Result};

/// One of a few ways, each of which has a name in ip-link(8).
pub trait Mode: Copy + PartialEq + 'static {
    /// All of them.
    const NAMES: &'static [(&'static str, Self)];

    /// The one of a name.
    fn of(name: &str) -> Option<Self> {
        Self::find(|(known, _)| *known == name).map(|(_, mode)| *mode)
    }

    /// Its name.
    fn name(self) -> &'static str {
        Self::find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// The first one of which this is true.
    fn find(is: impl Fn(&(&'static str, Self)) -> bool) -> Option<&'static (&'static str, Self)> {
        Self::NAMES.iter().find(|one| is(one))
    }
}

/// How the macvlans of a link share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// They do not reach each other.
    Private,
    /// They reach each other through a switch outside that sends frames back.
    Vepa,
    /// They reach each other.
    Bridge,
    /// There is only one, which uses the link alone.
    Passthru,
}

impl Mode for MacvlanMode {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("bridge", Self::Bridge),
        ("private", Self::Private),
        ("vepa", Self::Vepa),
        ("passthru", Self::Passthru),
    ];
}

impl MacvlanMode {
    pub(super) fn to_wire(self) -> MacVlanMode {
        match self {
            Self::Private => MacVlanMode::Private,
            Self::Vepa => MacVlanMode::Vepa,
            Self::Bridge => MacVlanMode::Bridge,
            Self::Passthru => MacVlanMode::Passthrough,
        }
    }
}

/// At which layer the packets of a link are told apart for its ipvlans
/// (Documentation/networking/ipvlan.rst). All of them have the same: the latest one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// They are as machines on the link's wire.
    L2,
    /// By routes; without broadcast.
    L3,
    /// The same, and the host's packet filter sees the packets.
    L3s,
}

impl Mode for IpvlanMode {
    const NAMES: &'static [(&'static str, Self)] =
        &[("l2", Self::L2), ("l3", Self::L3), ("l3s", Self::L3s)];
}

impl IpvlanMode {
    pub(super) fn to_wire(self) -> IpVlanMode {
        match self {
            Self::L2 => IpVlanMode::L2,
            Self::L3 => IpVlanMode::L3,
            Self::L3s => IpVlanMode::L3S,
        }
    }
}

/// How the ipvlans of a link share it. All of them have the same: the latest one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// They reach each other.
    Bridge,
    /// They do not reach each other.
    Private,
    /// They reach each other through a switch outside that sends frames back.
    Vepa,
}

impl Mode for IpvlanFlag {
    const NAMES: &'static [(&'static str, Self)] =
        &[("bridge", Self::Bridge), ("private", Self::Private), ("vepa", Self::Vepa)];
}

impl IpvlanFlag {
    pub(super) fn to_wire(self) -> IpVlanFlags {
        match self {
            Self::Bridge => IpVlanFlags::empty(),
            Self::Private => IpVlanFlags::Private,
            Self::Vepa => IpVlanFlags::Vepa,
        }
    }
}

impl Netlink {
    /// The mode of a macvlan; `None` if the link is no macvlan, or its mode is not one of
    /// [`MacvlanMode`].
    ///
    /// # Errors
    /// [`Error::is_gone`](super::Error::is_gone) if there is no such link.
    pub fn read_macvlan_mode(&self, index: u32) -> Result<Option<MacvlanMode>> {
        let Some(InfoData::MacVlan(data)) = self.read_data(index)? else { return Ok(None) };
        Ok(data.iter().find_map(|info| match info {
            InfoMacVlan::Mode(wire) => known(|mode: MacvlanMode| mode.to_wire() == *wire),
            _ => None,
        }))
    }

    /// The mode and the flag of an ipvlan; `None` where the link is no ipvlan, or has another one.
    ///
    /// # Errors
    /// [`Error::is_gone`](super::Error::is_gone) if there is no such link.
    pub fn read_ipvlan_mode(&self, index: u32) -> Result<(Option<IpvlanMode>, Option<IpvlanFlag>)> {
        let Some(InfoData::IpVlan(data)) = self.read_data(index)? else { return Ok((None, None)) };
        let mode = data.iter().find_map(|info| match info {
            InfoIpVlan::Mode(wire) => known(|mode: IpvlanMode| mode.to_wire() == *wire),
            _ => None,
        });
        let flag = data.iter().find_map(|info| match info {
            InfoIpVlan::Flags(wire) => known(|flag: IpvlanFlag| flag.to_wire() == *wire),
            _ => None,
        });
        Ok((mode, flag))
    }

    /// The VLAN of a link that tags frames (`ip link add .. type vlan`); `None` if it is no such link.
    ///
    /// # Errors
    /// [`Error::is_gone`](super::Error::is_gone) if there is no such link.
    pub fn read_tag(&self, index: u32) -> Result<Option<u16>> {
        let Some(InfoData::Vlan(data)) = self.read_data(index)? else { return Ok(None) };
        Ok(data.iter().find_map(|info| match info {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        }))
    }

    /// What only links of its kind have.
    pub(super) fn read_data(&self, index: u32) -> Result<Option<InfoData>> {
        let mut infos = link_infos(self.read_link_message(index)?);
        Ok(infos.find_map(|info| match info {
            LinkInfo::Data(data) => Some(data),
            _ => None,
        }))
    }
}

fn known<M: Mode>(is: impl Fn(M) -> bool) -> Option<M> {
    M::find(|(_, mode)| is(*mode)).map(|(_, mode)| *mode)
}

/// What the kernel says of a link's kind, and of that of the link that it is a port of.
pub(super) fn link_infos(message: LinkMessage) -> impl Iterator<Item = LinkInfo> {
    let infos = message.attributes.into_iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_a_name_and_is_found_by_it() {
        fn all<M: Mode + std::fmt::Debug>() {
            for (name, mode) in M::NAMES {
                assert_eq!((M::of(name), mode.name()), (Some(*mode), *name));
            }
            assert_eq!(M::of("x"), None);
        }
        all::<MacvlanMode>();
        all::<IpvlanMode>();
        all::<IpvlanFlag>();
    }
}
