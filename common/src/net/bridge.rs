//! Bridges, their ports, and which VLANs a port takes part in.

use std::fs;
use std::path::Path;

use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData,
    InfoKind, InfoPortData, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;

use super::link_data::link_infos;
use super::{Error, Link, Netlink, Result};

/// What an operator has to know when the kernel refuses anything about VLANs.
const NO_VLANS: &str =
    "this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING is not set)";

pub(super) const NO_PORT: &str = "it is not a port of a bridge";

/// The state of a bridge's port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Hairpin mode: whether a frame may leave by the port that it came in by.
    pub hairpin: bool,
    /// Whether it exchanges frames only with ports that are not isolated.
    pub isolated: bool,
}

/// A VLAN of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// Its number, 1 to 4094.
    pub vid: u16,
    /// Whether frames that come in without a tag belong to it. One VLAN of a port at most.
    pub pvid: bool,
    /// Whether frames leave without a tag.
    pub untagged: bool,
}

/// What sysfs(5) says about a bridge.
#[derive(Debug)]
pub struct BridgeStatus {
    /// Whether it was switched on.
    pub is_up: bool,
    /// How many ports it has.
    pub ports: usize,
    /// Its hardware address.
    pub mac: String,
    /// Whether that is the address of a port. A bridge that was given none of its own takes one of its
    /// ports', and another when that port goes (`br_stp_recalculate_bridge_id` in
    /// net/bridge/br_stp_if.c).
    pub is_borrowed: bool,
}

/// `NET_ADDR_SET` of linux/netdevice.h.
const GIVEN: &str = "3";

/// Whether a bridge was given its hardware address, and therefore keeps it. Only sysfs says so. The
/// index is compared, because a sysfs that was mounted in another namespace shows the links of that
/// one; where sysfs does not show this bridge, the answer is no.
pub fn has_given_mac(bridge: &Link) -> bool {
    let link = Path::new("/sys/class/net").join(&bridge.name);
    let reads = |file: &str, value: &str| {
        fs::read_to_string(link.join(file)).is_ok_and(|text| text.trim() == value)
    };
    reads("addr_assign_type", GIVEN) && reads("ifindex", &bridge.index.to_string())
}

impl BridgeStatus {
    /// `None` if there is no link of this name, `Some(None)` if it is not a bridge.
    pub fn read(name: &str) -> Option<Option<Self>> {
        let link = Path::new("/sys/class/net").join(name);
        let read = |file: &str| fs::read_to_string(link.join(file)).unwrap_or_default();
        link.exists().then(|| {
            let ports = fs::read_dir(link.join("brif")).ok()?.count();
            let flags = u32::from_str_radix(read("flags").trim().trim_start_matches("0x"), 16);
            Some(Self {
                is_up: flags.is_ok_and(|flags| flags & 1 == 1),
                ports,
                mac: read("address").trim().to_owned(),
                is_borrowed: read("addr_assign_type").trim() != GIVEN,
            })
        })
    }
}

impl Netlink {
    /// The state of a port.
    ///
    /// # Errors
    /// If the link does not exist or is no port of a bridge.
    pub(crate) fn read_port(&self, index: u32) -> Result<Port> {
        let message = self.read_link_message(index)?;
        let data = link_infos(message).find_map(|info| match info {
            LinkInfo::PortData(InfoPortData::BridgePort(data)) => Some(data),
            _ => None,
        });
        let what = || format!("read bridge port {}", self.name_of(index));
        let data = data.ok_or_else(|| Error::new(what(), NO_PORT))?;
        let mut port = Port::default();
        for attribute in data {
            match attribute {
                InfoBridgePort::HairpinMode(on) => port.hairpin = on,
                InfoBridgePort::Isolated(on) => port.isolated = on,
                _ => {}
            }
        }
        Ok(port)
    }

    /// Whether a bridge filters VLANs. On a kernel without VLAN filtering it does not.
    ///
    /// # Errors
    /// If the link does not exist or is not a bridge.
    pub fn read_vlan_filtering(&self, bridge: u32) -> Result<bool> {
        Ok(self.read_bridge(bridge)?.contains(&InfoBridge::VlanFiltering(true)))
    }

    /// The VLAN that a bridge gives to each new port. `None` if it gives none.
    ///
    /// # Errors
    /// If the link does not exist or is not a bridge.
    pub fn read_default_vlan(&self, bridge: u32) -> Result<Option<u16>> {
        let vlan = self.read_bridge(bridge)?.into_iter().find_map(|attribute| match attribute {
            InfoBridge::VlanDefaultPvid(vid) => Some(vid),
            _ => None,
        });
        Ok(vlan.filter(|vid| *vid != 0))
    }

    /// Which of the group addresses 01:80:C2:00:00:00 to 0F, that no bridge forwards (IEEE 802.1D, table
    /// 7-10), this one does forward: a bit for each.
    ///
    /// # Errors
    /// If the link does not exist or is not a bridge.
    pub fn read_group_forwarding(&self, bridge: u32) -> Result<u16> {
        let mask = self.read_bridge(bridge)?.into_iter().find_map(|attribute| match attribute {
            InfoBridge::GroupFwdMask(mask) => Some(mask),
            _ => None,
        });
        Ok(mask.unwrap_or_default())
    }

    /// Sets that mask.
    ///
    /// # Errors
    /// EINVAL for the bits 0 to 2 (`BR_GROUPFWD_RESTRICTED` in net/bridge/br_private.h).
    pub fn set_group_forwarding(&self, bridge: u32, mask: u16) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = bridge;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::GroupFwdMask(mask)])),
        ]));
        self.change(RouteNetlinkMessage::NewLink(message), 0, || {
            format!("set the group_fwd_mask of {} to {mask:#x}", self.name_of(bridge))
        })
        .map(drop)
    }

    fn read_bridge(&self, bridge: u32) -> Result<Vec<InfoBridge>> {
        let what = || format!("read settings of {}", self.name_of(bridge));
        match self.read_data(bridge)? {
            Some(InfoData::Bridge(data)) => Ok(data),
            _ => Err(Error::new(what(), "it is not a bridge")),
        }
    }

    /// The VLANs of a port, in ascending order; an empty list on a kernel without VLANs. The kernel cannot be
    /// asked about one port only (`rtnl_bridge_getlink`), so all ports are listed.
    pub fn list_vlans(&self, port: u32) -> Result<Vec<Vlan>> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        // As ranges, because 4094 single VLANs of a trunk would not fit into the kernel's message.
        let mask = vec![LinkExtentMask::BrvlanCompressed];
        message.attributes.push(LinkAttribute::ExtMask(mask));
        let answer = self.dump(&RouteNetlinkMessage::GetLink(message), || {
            format!("list VLANs of {}", self.name_of(port))
        })?;
        let vlans = answer.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) if link.header.index == port => {
                Some(decode_vlans(&link))
            }
            _ => None,
        });
        Ok(vlans.unwrap_or_default())
    }

    /// Adds VLANs to a port with one message, in the order given: a later one that is the PVID
    /// replaces the earlier.
    ///
    /// # Errors
    /// [`Error::is_unsupported`] on a kernel without VLAN filtering; EINVAL for an invalid number.
    pub fn create_vlans(&self, port: u32, vlans: &[Vlan]) -> Result<()> {
        let message = RouteNetlinkMessage::SetLink(vlan_message(port, vlans));
        self.change_vlans(port, message, || {
            let vids: Vec<_> = vlans.iter().map(|vlan| vlan.vid.to_string()).collect();
            format!("add VLAN {} to bridge port {}", vids.join(", "), self.name_of(port))
        })
    }

    /// Takes a VLAN from a port. The kernel does not tell whether the port had it
    /// (`br_vlan_info` in net/bridge/br_netlink.c drops the error), not even if it cannot do VLANs.
    ///
    /// # Errors
    /// If the link is no port of a bridge. One that does not exist has no VLANs: no error.
    pub fn delete_vlan(&self, port: u32, vid: u16) -> Result<()> {
        let vlan = Vlan { vid, pvid: false, untagged: false };
        let message = RouteNetlinkMessage::DelLink(vlan_message(port, &[vlan]));
        let outcome = self.change_vlans(port, message, || {
            format!("remove VLAN {vid} from bridge port {}", self.name_of(port))
        });
        match outcome {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
            outcome => outcome,
        }
    }

    fn change_vlans(
        &self,
        port: u32,
        message: RouteNetlinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        self.change(message, 0, what).map(drop).map_err(|error| {
            if self.is_no_port(port, &error) {
                error.because(NO_PORT)
            } else {
                explain_vlans(error)
            }
        })
    }

    /// The kernel answers EOPNOTSUPP both when it was built without a feature and when the link is no
    /// port of a bridge: reading the port tells which.
    pub(super) fn is_no_port(&self, index: u32, error: &Error) -> bool {
        error.is_unsupported() && self.read_port(index).is_err()
    }
}

pub(super) fn explain_vlans(error: Error) -> Error {
    if error.is_unsupported() { error.because(NO_VLANS) } else { error }
}

/// The message that `br_afspec` in net/bridge/br_netlink.c reads. Without IFLA_BRIDGE_FLAGS the kernel
/// gives it to the bridge, not to the driver of the port.
fn vlan_message(port: u32, vlans: &[Vlan]) -> LinkMessage {
    let entry = |vlan: &Vlan| {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, vlan.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
        AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid: vlan.vid })
    };
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = port;
    message.attributes.push(LinkAttribute::AfSpecBridge(vlans.iter().map(entry).collect()));
    message
}

/// A range is two entries, its first and its last VLAN, marked as such; a single VLAN is one entry
/// without a mark (`br_fill_ifvlaninfo_range`).
fn decode_vlans(message: &LinkMessage) -> Vec<Vlan> {
    let mut vlans = Vec::new();
    let mut begin = None;
    let specs = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecBridge(specs) => Some(specs),
        _ => None,
    });
    for spec in specs.flatten() {
        let AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }) = spec else {
            continue;
        };
        if flags.contains(BridgeVlanInfoFlags::RangeBegin) {
            begin = Some(*vid);
            continue;
        }
        let first = begin.take().unwrap_or(*vid);
        vlans.extend((first..=*vid).map(|vid| Vlan {
            vid,
            pvid: flags.contains(BridgeVlanInfoFlags::Pvid),
            untagged: flags.contains(BridgeVlanInfoFlags::Untagged),
        }));
    }
    vlans
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    #[test]
    fn vlans_are_encoded_as_linux_if_bridge_h_says() {
        let vlans = [
            Vlan { vid: 100, pvid: true, untagged: true },
            Vlan { vid: 0x234, pvid: false, untagged: false },
        ];
        let message = vlan_message(7, &vlans);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let mut expected = vec![7, 0, 0, 0]; // AF_BRIDGE
        expected.extend(7u32.to_ne_bytes());
        let native = |values: &[u16]| -> Vec<u8> {
            values.iter().flat_map(|value| value.to_ne_bytes()).collect()
        };
        expected.extend([0; 8]); // flags, change mask
        expected.extend(native(&[20, 26])); // IFLA_AF_SPEC
        expected.extend(native(&[8, 2, 0b110, 100])); // IFLA_BRIDGE_VLAN_INFO, PVID | UNTAGGED
        expected.extend(native(&[8, 2, 0, 0x234]));
        assert_eq!(bytes, expected);
    }

    #[test]
    fn ranges_of_vlans_are_spelt_out() {
        let info = |flags, vid| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::AfSpecBridge(vec![
            info(BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged, 1),
            info(BridgeVlanInfoFlags::RangeBegin, 10),
            info(BridgeVlanInfoFlags::RangeEnd, 12),
            info(BridgeVlanInfoFlags::empty(), 4094),
        ]));
        let vlans = decode_vlans(&message);
        let vids: Vec<_> = vlans.iter().map(|vlan| vlan.vid).collect();
        assert_eq!(vids, [1, 10, 11, 12, 4094]);
        assert_eq!(vlans[0], Vlan { vid: 1, pvid: true, untagged: true });
        assert_eq!(vlans[2], Vlan { vid: 11, pvid: false, untagged: false });
    }

    #[test]
    fn a_kernel_without_vlans_is_named_as_the_reason() {
        let error = explain_vlans(Error::from_errno("add VLAN 5", libc::EOPNOTSUPP, None));
        assert!(error.to_string().contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{error}");
        assert!(error.is_unsupported());
        let other = explain_vlans(Error::from_errno("add VLAN 5", libc::ENODEV, None));
        assert_eq!(other.errno(), Some(libc::ENODEV));
    }
}
