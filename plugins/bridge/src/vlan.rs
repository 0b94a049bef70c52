//! Which VLANs a container's port carries.

use crate::config::TrunkEntry;
use common::cni::IfName;
use common::net::{Link, Mac, Netlink, Netns, VethEnd, VethPair, Vlan};
use common::veth::ignore_router_advertisements;
use common::{Error, Host, Result};
use std::collections::BTreeSet;

/// The VLANs of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vlans {
    /// The VLAN of untagged frames.
    pub(crate) access: Option<u16>,
    /// VLANs of tagged frames, ascending.
    pub(crate) trunk: Vec<u16>,
    /// Whether the VLAN that the bridge gives to every port stays.
    pub(crate) keep_default: bool,
}

impl Vlans {
    /// IEEE 802.1Q: 0 and 4095 are reserved.
    pub(crate) const MAX: u16 = 4094;

    /// Expands `vlanTrunk`.
    pub(crate) fn collect_trunk(entries: &[TrunkEntry]) -> Result<Vec<u16>> {
        let valid = |id: i64, what: &str| {
            u16::try_from(id)
                .ok()
                .filter(|id| (1..=Self::MAX).contains(id))
                .ok_or_else(|| Error::config(format!("incorrect trunk {what} parameter")))
        };
        let both = "minID and maxID should be configured simultaneously";
        let mut vlans = BTreeSet::new();
        for entry in entries {
            match (entry.min_id, entry.max_id) {
                (None, None) => {}
                (None, Some(_)) => return Err(Error::config(format!("{both}, minID is missing"))),
                (Some(_), None) => return Err(Error::config(format!("{both}, maxID is missing"))),
                (Some(min), Some(max)) => {
                    let (min, max) = (valid(min, "minID")?, valid(max, "maxID")?);
                    if min > max {
                        let msg = "minID is greater than maxID in trunk parameter";
                        return Err(Error::config(msg));
                    }
                    vlans.extend(min..=max);
                }
            }
            if let Some(id) = entry.id {
                vlans.insert(valid(id, "id")?);
            }
        }
        Ok(vlans.into_iter().collect())
    }

    /// What a port with these VLANs has, but for the bridge's default one.
    fn wanted(&self) -> Vec<Vlan> {
        let native = self.access.or((!self.trunk.is_empty()).then_some(1));
        let native = native.map(|vid| Vlan { vid, pvid: true, untagged: true });
        let tagged =
            self.trunk.iter().filter(|vid| native.is_none_or(|native| native.vid != **vid));
        let tagged = tagged.map(|&vid| Vlan { vid, pvid: false, untagged: false });
        native.into_iter().chain(tagged).collect()
    }

    /// Makes the port carry them.
    pub(crate) fn apply(&self, host: &Netlink, port: u32) -> Result<()> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return Ok(());
        }
        if !self.keep_default {
            for vlan in host.list_vlans(port)? {
                host.delete_vlan(port, vlan.vid)?;
            }
        }
        Ok(host.create_vlans(port, &wanted)?)
    }

    pub(crate) fn gateway_name(&self, bridge: &Link) -> Option<String> {
        self.access.map(|access| format!("{}.{access}", bridge.name))
    }

    /// The host's own end of the VLAN, `<bridge>.<vlan>`, where a gateway's addresses go: the
    /// bridge itself would be in another VLAN. Shared by all attachments, and never removed.
    pub(crate) fn ensure_gateway_link(&self, host: &Host, bridge: &Link) -> Result<Link> {
        let Some(name) = self.gateway_name(bridge) else { return Ok(bridge.clone()) };
        let name: IfName =
            name.parse().map_err(|error| Error::config(format!("VLAN gateway {name}: {error}")))?;
        if let Some(link) = host.netlink.find_link(name.as_str())? {
            return Ok(link);
        }
        let here = Netns::current()?;
        let port = Mac::random()?;
        let pair = VethPair {
            host: VethEnd { name: name.as_str(), mac: Mac::random()? },
            peer: VethEnd { name: &port_name(port), mac: port },
            peer_netns: &here,
            mtu: Some(bridge.mtu),
            master: None,
            group: 0,
        };
        let link = match host.netlink.create_veth(&pair) {
            Ok(link) => link,
            // Another attachment was quicker.
            Err(error) if error.is_exists() => {
                return host.netlink.find_link(name.as_str())?.ok_or_else(|| error.into());
            }
            Err(error) => return Err(error.into()),
        };
        let port = link.peer.ok_or_else(|| Error::internal(format!("veth {name} has no peer")))?;
        host.netlink.set_master(port, Some(bridge.index))?;
        Self { access: self.access, trunk: Vec::new(), keep_default: self.keep_default }
            .apply(&host.netlink, port)?;
        ignore_router_advertisements(name.as_str());
        host.netlink.set_up(port)?;
        host.netlink.set_up(link.index)?;
        Ok(link)
    }

    /// Every VLAN that the port should carry and does not.
    pub(crate) fn verify(&self, host: &Netlink, port: u32) -> Result<Vec<String>> {
        let found = host.list_vlans(port)?;
        let missing = self.wanted().into_iter().filter(|vlan| !found.contains(vlan));
        Ok(missing.map(|vlan| format!("VLAN {} is missing on the bridge port", vlan.vid)).collect())
    }
}

fn port_name(mac: Mac) -> String {
    let [_, _, bytes @ ..] = mac.0;
    bytes.iter().fold("veth".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(min_id: Option<i64>, max_id: Option<i64>, id: Option<i64>) -> TrunkEntry {
        TrunkEntry { min_id, max_id, id }
    }

    #[test]
    fn collect_trunk_succeeds() {
        let collect = |entries: &[TrunkEntry]| Vlans::collect_trunk(entries).unwrap();
        assert!(collect(&[]).is_empty());
        assert_eq!(collect(&[entry(Some(101), Some(103), None)]), [101, 102, 103]);
        assert_eq!(collect(&[entry(None, None, Some(7))]), [7]);
        let both = [entry(Some(3), Some(4), Some(9)), entry(None, None, Some(4))];
        assert_eq!(collect(&both), [3, 4, 9]);
    }

    #[test]
    fn collect_trunk_fails() {
        for (entry, msg) in [
            (entry(Some(10), None, None), "simultaneously, maxID is missing"),
            (entry(None, Some(10), None), "simultaneously, minID is missing"),
            (entry(Some(-1), Some(10), None), "incorrect trunk minID parameter"),
            (entry(Some(4095), Some(4096), None), "incorrect trunk minID parameter"),
            (entry(Some(10), Some(4095), None), "incorrect trunk maxID parameter"),
            (entry(Some(10), Some(-5), None), "incorrect trunk maxID parameter"),
            (entry(None, None, Some(4095)), "incorrect trunk id parameter"),
            (entry(None, None, Some(-1)), "incorrect trunk id parameter"),
            (entry(Some(10), Some(5), None), "minID is greater than maxID in trunk parameter"),
        ] {
            let error = Vlans::collect_trunk(&[entry]).unwrap_err();
            assert!(error.to_string().contains(msg), "{error}");
        }
    }

    #[test]
    fn a_trunk_without_a_native_vlan_has_vlan_1() {
        let vlans = |access, trunk: &[u16]| {
            Vlans { access, trunk: trunk.to_vec(), keep_default: false }.wanted()
        };
        let native = |vid| Vlan { vid, pvid: true, untagged: true };
        let tagged = |vid| Vlan { vid, pvid: false, untagged: false };
        assert!(vlans(None, &[]).is_empty());
        assert_eq!(vlans(Some(100), &[]), [native(100)]);
        assert_eq!(vlans(None, &[101]), [native(1), tagged(101)]);
        assert_eq!(vlans(Some(100), &[100, 101]), [native(100), tagged(101)]);
    }
}
