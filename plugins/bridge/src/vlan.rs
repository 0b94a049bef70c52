//! The VLANs of a container's port.

use common::net::{Link, Netlink, Vlan};
use common::{Error, Result, Success};
use serde::Deserialize;
use std::collections::BTreeSet;

/// An entry of `vlanTrunk`: a range, a single VLAN, or both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TrunkEntry {
    #[serde(rename = "minID")]
    pub(crate) min_id: Option<i64>,
    #[serde(rename = "maxID")]
    pub(crate) max_id: Option<i64>,
    pub(crate) id: Option<i64>,
}

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
    /// The largest number: IEEE 802.1Q reserves 0 and 4095.
    pub(crate) const MAX: u16 = 4094;

    /// The VLANs of `vlanTrunk`, ascending.
    ///
    /// # Errors
    /// Code 7 for an incomplete range or an invalid number.
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

    /// The VLANs of such a port, without the bridge's default one. A trunk without an access VLAN has
    /// VLAN 1 for untagged frames, as in the Go plugin.
    fn wanted(&self) -> Vec<Vlan> {
        let native = self.access.or((!self.trunk.is_empty()).then_some(1));
        let native = native.map(|vid| Vlan { vid, pvid: true, untagged: true });
        let tagged =
            self.trunk.iter().filter(|vid| native.is_none_or(|native| native.vid != **vid));
        let tagged = tagged.map(|&vid| Vlan { vid, pvid: false, untagged: false });
        native.into_iter().chain(tagged).collect()
    }

    /// Gives the port these VLANs, and removes others unless the default one is to stay.
    pub(crate) fn apply(&self, host: &Netlink, port: u32) -> Result<()> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return Ok(());
        }
        if !self.keep_default {
            let mut others = host.list_vlans(port)?;
            others.retain(|vlan| !wanted.iter().any(|wanted| wanted.vid == vlan.vid));
            for vlan in others {
                host.delete_vlan(port, vlan.vid)?;
            }
        }
        Ok(host.create_vlans(port, &wanted)?)
    }

    /// Lets frames of these VLANs through a port that leads to other switches, tagged. What the port does
    /// with them already stays as it is.
    pub(crate) fn ensure_tagged(&self, host: &Netlink, port: u32) -> Result<()> {
        let missing = self.list_missing(host, port)?;
        if missing.is_empty() {
            return Ok(());
        }
        let tagged = |vlan: &Vlan| Vlan { vid: vlan.vid, pvid: false, untagged: false };
        Ok(host.create_vlans(port, &missing.iter().map(tagged).collect::<Vec<_>>())?)
    }

    /// The VLANs that such a port is not in.
    pub(crate) fn list_missing(&self, host: &Netlink, port: u32) -> Result<Vec<Vlan>> {
        let (found, mut missing) = (host.list_vlans(port)?, self.wanted());
        missing.retain(|vlan| !found.iter().any(|found| found.vid == vlan.vid));
        Ok(missing)
    }

    /// Every difference between these VLANs and those of the ports that the result of ADD names.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn verify(
        &self,
        host: &Netlink,
        bridge: &Link,
        result: &Success,
    ) -> Result<Vec<String>> {
        let (default, mut differences) = (host.read_default_vlan(bridge.index)?, Vec::new());
        for port in host.list_ports(bridge.index)? {
            if result.interfaces.iter().any(|interface| interface.name == port.name) {
                let found = self.differences(&host.list_vlans(port.index)?, default);
                differences.extend(found.iter().map(|what| format!("port {} {what}", port.name)));
            }
        }
        Ok(differences)
    }

    /// Every difference between what a port with these VLANs should have and what it has. `default`
    /// is what the bridge gives to every port by itself.
    pub(crate) fn differences(&self, found: &[Vlan], default: Option<u16>) -> Vec<String> {
        let wanted = self.wanted();
        let keeps_default = self.keep_default || wanted.is_empty();
        let is_wanted = |vid: u16| {
            wanted.iter().any(|vlan| vlan.vid == vid) || keeps_default && default == Some(vid)
        };
        let missing = wanted.iter().filter(|vlan| !found.contains(vlan));
        let missing = missing.map(|vlan| match found.iter().any(|found| found.vid == vlan.vid) {
            true => format!("is not in VLAN {} as it should be: {}", vlan.vid, describe(vlan)),
            false => format!("is not in VLAN {}", vlan.vid),
        });
        let more = found.iter().filter(|vlan| !is_wanted(vlan.vid));
        let more = more.map(|vlan| format!("is in VLAN {}, too, which is not its own", vlan.vid));
        missing.chain(more).collect()
    }
}

fn describe(vlan: &Vlan) -> &'static str {
    if vlan.pvid { "untagged in both directions" } else { "tagged" }
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

    #[test]
    fn a_port_has_its_vlans_and_no_other() {
        let vlan = |vid, native| Vlan { vid, pvid: native, untagged: native };
        let differences = |access, trunk: &[u16], keep_default, found: &[Vlan]| {
            let vlans = Vlans { access, trunk: trunk.to_vec(), keep_default };
            vlans.differences(found, Some(1)).join("; ")
        };
        let (nine, default) = (vlan(9, true), vlan(1, false));
        assert_eq!(differences(Some(9), &[], false, &[nine]), "");
        assert_eq!(differences(Some(9), &[], false, &[]), "is not in VLAN 9");
        let foreign = "is in VLAN 8, too, which is not its own";
        assert_eq!(differences(Some(9), &[], false, &[vlan(8, false), nine]), foreign);
        assert_eq!(differences(Some(9), &[], true, &[vlan(8, false), nine]), foreign);
        // The default one is a difference unless it is to be kept.
        assert_eq!(differences(Some(9), &[], true, &[default, nine]), "");
        assert!(differences(Some(9), &[], false, &[default, nine]).contains("VLAN 1, too"));
        let tagged = differences(Some(9), &[], false, &[vlan(9, false)]);
        assert!(tagged.contains("not in VLAN 9 as it should be: untagged"), "{tagged}");
        let trunk = [vlan(1, true), vlan(5, false), vlan(6, false)];
        assert_eq!(differences(None, &[5, 6], false, &trunk), "");
        assert_eq!(differences(None, &[5], false, &trunk), foreign.replace('8', "6"));
        // Without VLANs of its own, the port has the one that the bridge gives.
        assert_eq!(differences(None, &[], false, &[vlan(1, true)]), "");
        assert!(!differences(None, &[], false, &[vlan(1, true), nine]).is_empty());
    }
}
