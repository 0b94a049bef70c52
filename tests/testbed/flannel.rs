//! A node of a cluster as flanneld leaves it: the file with its subnet, and the way to the pods of the
//! other nodes.

use serde_json::{Value, json};

use crate::{bed::Testbed, config::changed, place::Place};

/// The file in which flanneld says what the node has.
pub const SUBNET_ENV: &str = "/run/flannel/subnet.env";

/// The file of a node with addresses of IPv4, for which nobody else masquerades.
pub const LEASE: &str = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.17.1/24\n\
                         FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

/// A flannel network of today's version, and whatever `changes` says.
#[must_use]
pub fn flannel(changes: &Value) -> Value {
    let config = json!({
        "cniVersion": "1.1.0", "name": "cbr0", "type": "flannel", "ipam": {"graceAge": 0},
        "delegate": {"isDefaultGateway": true, "hairpinMode": true}
    });
    changed(config, changes)
}

impl Testbed {
    /// flanneld has a subnet for this node.
    pub fn lease_subnet(&self) {
        self.write(SUBNET_ENV, LEASE);
    }
}

/// How the pods of two nodes reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// In UDP packets from node to node.
    Vxlan,
    /// The other node is the next hop.
    HostGw,
}

/// The link that leads from each node to the other one.
const WIRE: &str = "wire";

/// A node of a cluster of two, whose pods have addresses of both families. The network is 10.5.0.0/16
/// and fd00:5::/48.
#[derive(Debug)]
pub struct ClusterNode<'bed> {
    /// The host.
    pub bed: &'bed Testbed,
    backend: Backend,
    /// 1 or 2: the last part of its addresses 192.0.2.x and 2001:db8:2::x.
    number: u8,
}

impl<'bed> ClusterNode<'bed> {
    /// Two nodes with a wire between them that takes what is added to packets of 1450 bytes.
    #[must_use]
    pub fn pair(backend: Backend, beds: [&'bed Testbed; 2]) -> [Self; 2] {
        let [one, two] =
            [(beds[0], 1), (beds[1], 2)].map(|(bed, number)| Self { bed, backend, number });
        one.connect(&two);
        [one, two]
    }

    /// Plugs the wire in, which a node that was started anew has lost.
    pub fn connect(&self, other: &Self) {
        self.bed.connect(other.bed, WIRE);
        for node in [self, other] {
            let Self { bed, number, .. } = node;
            bed.ip(&format!("link set {WIRE} mtu 1520 up"));
            bed.ip(&format!("addr add 192.0.2.{number}/24 dev {WIRE}"));
            bed.ip(&format!("addr add 2001:db8:2::{number}/64 dev {WIRE} nodad"));
            for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                bed.set_sysctl(key, "1");
            }
        }
    }

    /// What flanneld does with a subnet of this number: the file, and the links of the data path.
    pub fn lease(&self, subnet: u8, ip_masq: bool) {
        let mtu = if self.backend == Backend::Vxlan { 1450 } else { 1500 };
        self.bed.write(
            SUBNET_ENV,
            format!(
                "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.{subnet}.1/24\n\
                 FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:{subnet}::1/64\n\
                 FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ={ip_masq}\n"
            ),
        );
        if self.backend == Backend::HostGw {
            return;
        }
        let Self { bed, number, .. } = self;
        for (link, local, address) in [
            ("flannel.1", format!("192.0.2.{number}"), format!("10.5.{subnet}.0/32")),
            ("flannel-v6.1", format!("2001:db8:2::{number}"), format!("fd00:5:0:{subnet}::/128")),
        ] {
            bed.run("ip", &["link", "del", link]);
            let own = format!("id 1 local {local} dev {WIRE} dstport 8472 nolearning");
            bed.ip(&format!("link add {link} address {} mtu 1450 type vxlan {own}", mac(subnet)));
            bed.ip(&format!("addr add {address} dev {link} nodad"));
            bed.ip(&format!("link set {link} up"));
        }
    }

    /// Another node has the subnet of this number.
    pub fn peer(&self, other: &Self, subnet: u8) {
        let (bed, to) = (self.bed, other.number);
        for (link, host, first, length) in [
            ("flannel.1", format!("192.0.2.{to}"), format!("10.5.{subnet}.0"), 24),
            ("flannel-v6.1", format!("2001:db8:2::{to}"), format!("fd00:5:0:{subnet}::"), 64),
        ] {
            if self.backend == Backend::HostGw {
                bed.ip(&format!("route replace {first}/{length} via {host} dev {WIRE}"));
                continue;
            }
            let mac = mac(subnet);
            bed.ip(&format!("neigh replace {first} lladdr {mac} dev {link} nud permanent"));
            let entry = ["fdb", "replace", &mac, "dev", link, "dst", &host];
            bed.succeed("bridge", &entry);
            bed.ip(&format!("route replace {first}/{length} via {first} dev {link} onlink"));
        }
    }

    /// What flanneld does with `--ip-masq`.
    pub fn masquerade(&self, subnet: u8) {
        let table = |family: &str, own: String, all: &str, many: &str| {
            format!(
                "table {family} flannel {{ chain postrtg {{\n\
                 type nat hook postrouting priority srcnat;\n\
                 {family} saddr {own} {family} daddr {all} return\n\
                 {family} saddr {all} {family} daddr {own} return\n\
                 {family} saddr {all} {family} daddr != {many} masquerade fully-random\n\
                 {family} saddr != {all} {family} daddr {own} return\n\
                 {family} saddr != {all} {family} daddr {all} masquerade fully-random\n\
                 }}\n}}\n"
            )
        };
        let rules = table("ip", format!("10.5.{subnet}.0/24"), "10.5.0.0/16", "224.0.0.0/4")
            + &table("ip6", format!("fd00:5:0:{subnet}::/64"), "fd00:5::/48", "ff00::/8");
        let made = self.bed.feed("nft", &["-f", "-"], rules.as_bytes());
        assert!(made.status.success(), "{made:?}");
    }
}

/// The hardware address of the vxlan link of the node with this subnet.
fn mac(subnet: u8) -> String {
    format!("02:00:0a:05:00:{subnet:02x}")
}

/// How many packets were cut into pieces here, or put together again.
///
/// # Panics
/// When the kernel's counters cannot be read.
#[must_use]
pub fn fragments(place: &Place) -> u64 {
    let [old, new] =
        ["/proc/net/snmp", "/proc/net/snmp6"].map(|file| place.succeed("cat", &[file]));
    let mut heads = old.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
    let (names, numbers) = (heads.next().expect("names"), heads.next().expect("numbers"));
    let old = names.zip(numbers);
    let new = new.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let all = old.chain(new).filter(|(name, _)| name.contains("Frag") || name.contains("Reasm"));
    all.map(|(name, number)| {
        number.trim().parse::<u64>().unwrap_or_else(|error| panic!("{name} {number:?}: {error}"))
    })
    .sum()
}
