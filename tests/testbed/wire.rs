//! An interface that no plugin has made, as the plugin before a chained one would leave it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    config::changed,
    network::Network,
    place::{Place, Sandbox},
};

/// An interface of a pod, and what is at the other end of its wire.
#[derive(Debug)]
pub struct Wire {
    /// A router with the gateways' addresses.
    pub router: Sandbox,
    /// The result of the plugin that would have made it.
    pub result: Value,
    ifname: String,
}

impl Testbed {
    /// Gives a pod an interface with these addresses, `(address, gateway)`.
    #[must_use]
    pub fn wire(&self, pod: &Sandbox, ifname: &str, ips: &[(&str, &str)]) -> Wire {
        let name = pod.path().rsplit('/').next().expect("a path has a last part");
        let router = self.sandbox(&format!("{name}-{ifname}"));
        pod.ip(&format!("link add {ifname} type veth peer name {ifname} netns {name}-{ifname}"));
        router.ip("link set lo up");
        for (address, gateway) in ips {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            pod.ip(&format!("addr add {address} dev {ifname} {nodad}"));
            if !gateway.is_empty() {
                let length = address.split('/').nth(1).expect("an address has a length");
                router.ip(&format!("addr add {gateway}/{length} dev {ifname} {nodad}"));
            }
        }
        for place in [&**pod, &*router] {
            place.set_sysctl(&format!("net/ipv6/conf/{ifname}/accept_dad"), "0");
            place.ip(&format!("link set {ifname} up"));
        }
        for place in [&**pod, &*router] {
            // The kernel adds it when the wire has a carrier, in its own time.
            while !place.ip(&format!("-6 route show dev {ifname}")).contains("fe80::/64") {}
        }
        let ip = |(address, gateway): &(&str, &str)| {
            let mut ip = json!({"address": address, "interface": 0});
            if !gateway.is_empty() {
                ip["gateway"] = json!(gateway);
            }
            ip
        };
        let interface = json!({"name": ifname, "sandbox": pod.path()});
        let ips: Vec<_> = ips.iter().map(ip).collect();
        let result = json!({"cniVersion": "1.0.0", "interfaces": [interface], "ips": ips});
        Wire { router, result, ifname: ifname.to_owned() }
    }
}

impl Wire {
    /// A network of one plugin with these keys, chained behind the one that would have made it.
    #[must_use]
    pub fn chained<'bed>(&self, bed: &'bed Testbed, plugin: &str, keys: &Value) -> Network<'bed> {
        let plain = json!({
            "cniVersion": "1.0.0", "name": "second", "type": plugin, "prevResult": self.result
        });
        bed.network(changed(plain, keys)).ifname(&self.ifname)
    }

    /// Gives the router an address, of no network that the pod knows, by which it asks the pod's
    /// addresses from now on.
    pub fn ask_from(&self, far: &str) {
        let is_ipv6 = far.contains(':');
        let bits = if is_ipv6 { 128 } else { 32 };
        let nodad = if is_ipv6 { "nodad" } else { "" };
        self.router.ip(&format!("addr add {far}/{bits} dev lo {nodad}"));
        for ip in self.result["ips"].as_array().into_iter().flatten() {
            let own = ip["address"].as_str().and_then(|cidr| cidr.split('/').next());
            let own = own.filter(|own| own.contains(':') == is_ipv6);
            if let Some(own) = own {
                self.router.ip(&format!("route add {own}/{bits} dev {} src {far}", self.ifname));
            }
        }
    }
}

impl Place {
    /// The rules of here that are for packets from somewhere, first one first: from where, and into
    /// which table.
    #[must_use]
    pub fn source_rules(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for family in ["-4", "-6"] {
            let rules = self.ip_json(&format!("{family} rule show"));
            for rule in rules.as_array().into_iter().flatten() {
                let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
                if text("src") != "all" {
                    found.push((text("src"), text("table")));
                }
            }
        }
        found
    }

    /// The rules and routes of here, but for local ones, which come and go with addresses.
    #[must_use]
    pub fn routing(&self) -> BTreeSet<String> {
        let words =
            ["rule show", "-6 rule show", "route show table all", "-6 route show table all"];
        let text: String = words.iter().map(|words| self.ip(words)).collect();
        let lines = text.lines().map(|line| line.trim().to_owned());
        lines.filter(|line| !line.contains("table local") && !line.is_empty()).collect()
    }
}
