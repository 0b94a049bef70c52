//! Forwarding, bridges, and what the kernel can do.

use super::{of_type, text};
use crate::finding::Finding;
use crate::list::ConfigList;
use common::Result;
use common::filter::{Backend, Masquerade};
use common::net::nft::Feature;
use common::net::{BridgeStatus, Family, nft, sysctl};
use firewall::policy::{self, Sender};
use std::collections::BTreeSet;

/// Whether packets leave the host for those whose gateway it is.
pub(super) fn forwarding(pods: &[Sender]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (key, family) in
        [("net/ipv4/ip_forward", Family::V4), ("net/ipv6/conf/all/forwarding", Family::V6)]
    {
        let addresses = pods.iter().filter(|pod| pod.family == family).count();
        let value = sysctl::read(key)?;
        if addresses > 0 && value.as_deref() != Some("1") {
            let value = value.as_deref().unwrap_or("not there");
            let key = key.replace('/', ".");
            findings.push(Finding::problem(
                format!("{key} is {value}: {addresses} pod addresses reach nobody beyond the host"),
                format!("sysctl -w {key}=1, and find out who switched it off (/etc/sysctl.d)"),
            ));
        }
    }
    Ok(findings)
}

/// The bridges that the configurations name.
pub(super) fn bridges(lists: &[ConfigList]) -> Result<Vec<Finding>> {
    let plugins = lists.iter().flat_map(|list| of_type(list, "bridge"));
    let names: BTreeSet<_> =
        plugins.map(|keys| text(keys, "bridge").unwrap_or("cni0").to_owned()).collect();
    let (mut findings, mut any) = (Vec::new(), false);
    for name in names {
        match BridgeStatus::read(&name) {
            None => {}
            Some(None) => findings.push(Finding::problem(
                format!("{name} is no bridge, and pods cannot be attached to it"),
                "give the network another `bridge` name, or remove that link",
            )),
            Some(Some(bridge)) => {
                any = true;
                findings.extend(of_bridge(&name, &bridge));
            }
        }
    }
    if any && sysctl::read("net/bridge/bridge-nf-call-iptables")?.as_deref() == Some("1") {
        findings.push(Finding::note(
            "net.bridge.bridge-nf-call-iptables is 1: frames between the pods of one bridge go \
             through the rules for routed packets as well",
            "intended by kube-proxy; otherwise sysctl -w net.bridge.bridge-nf-call-iptables=0",
        ));
    }
    Ok(findings)
}

fn of_bridge(name: &str, bridge: &BridgeStatus) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !bridge.is_up {
        findings.push(Finding::problem(
            format!("bridge {name} is down: its pods are cut off"),
            format!("ip link set {name} up"),
        ));
    }
    if bridge.ports == 0 {
        findings.push(Finding::note(
            format!("bridge {name} has no ports: no pod is attached to it"),
            format!("if the network is not used any more: ip link del {name}"),
        ));
    }
    if bridge.is_borrowed {
        findings.push(Finding::problem(
            format!(
                "the hardware address of bridge {name} moves as pods come and go, and their \
                 neighbour caches are wrong for a while each time"
            ),
            format!("ip link set {name} address {}", bridge.mac),
        ));
    }
    findings
}

/// What iptables does because the kernel lacks a part of nftables, and what nobody can do.
fn backends() -> Vec<Finding> {
    let finding = |probed: Result<Option<Feature>>, what: &str, key: &str| match probed {
        Ok(None) => None,
        Ok(Some(lack)) => Some(Finding::note(
            lack.to_string(),
            format!("iptables {what} instead, unless the network has \"{key}\": \"nftables\""),
        )),
        Err(error) => Some(Finding::problem(
            format!("nothing here {what}: {error}"),
            "update the kernel, or install iptables",
        )),
    };
    let found = [
        finding(Masquerade::probe(), "masquerades pods", "ipMasqBackend"),
        finding(portmap::probe(), "maps host ports", "backend"),
        finding(policy::probe(Backend::Any), "lets connections of pods through", "backend"),
    ];
    found.into_iter().flatten().collect()
}

/// Features that the kernel lacks.
pub(super) fn kernel() -> Vec<Finding> {
    let mut findings = Vec::new();
    let unusable = match nft::is_available() {
        Ok(true) => None,
        Ok(false) => Some("the kernel does not have it".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(error) = unusable {
        findings.push(Finding::problem(
            format!("nftables cannot be used: {error}"),
            "load the module nf_tables, or run this as root; without it there are no host ports \
             and there is no masquerading",
        ));
    } else {
        findings.extend(backends());
    }
    if matches!(sysctl::read("net/ipv6/conf/all/disable_ipv6"), Ok(None)) {
        findings.push(Finding::note(
            "the kernel has no IPv6",
            "networks with IPv6 ranges do not work on this node",
        ));
    }
    findings
}
