//! Routers that say something else than before, or than others do.

use serde_json::json;
use testbed::{Network, Testbed, dhcp::network, result::addresses, until_so};

use crate::differences::case;

fn only_v6<'bed>(bed: &'bed Testbed, ipv6: &str) -> Network<'bed> {
    let ipam = json!({"type": "dhcp", "graceAge": 0, "ipv4": false, "ipv6": ipv6});
    bed.network(network("macvlan", &json!({"master": "lan", "ipam": ipam})))
}

#[test]
fn a_router_that_is_no_way_out_is_no_gateway() {
    case(|bed| {
        let more = ["--enable-ra", "--ra-param=lan,60,0"];
        let (_neighbour, _server) = bed.dnsmasq_on_lan("2001:db8:ffff::,ra-only", &more);
        let _daemon = bed.dhcp_daemon("");
        let (pod, network) = (bed.sandbox("pod"), only_v6(bed, "slaac"));
        let result = network.add(&pod, "c1").result();
        assert!(addresses(&result)[0].starts_with("2001:db8:ffff:0:"), "{result}");
        assert!(result["ips"][0].get("gateway").is_none(), "{result}");
        assert!(!pod.ip("-6 route").contains("default"));
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn another_prefix_of_the_router_is_another_address() {
    case(|bed| {
        let (neighbour, server) = bed.dnsmasq_on_lan("2001:db8:ffff::,ra-only", &["--enable-ra"]);
        let _daemon = bed.dhcp_daemon("");
        let (pod, network) = (bed.sandbox("pod"), only_v6(bed, "slaac"));
        let result = network.add(&pod, "c1").result();
        drop(server);
        neighbour.ip("addr add 2001:db8:fffe::2/64 dev lan nodad");
        let range = "2001:db8:fffe::,ra-only";
        let _server = bed.dnsmasq(&neighbour, "lan", range, &["--enable-ra"]);
        until_so("the address", || pod.ip("-6 -o addr").contains(" 2001:db8:fffe:"));
        // The former one stands until the kernel ends it.
        assert!(pod.has_address(&addresses(&result)[0]));
        network.check(&pod, "c1").silent();
        pod.ip(&format!("addr del {}/64 dev eth0", addresses(&result)[0]));
        assert!(network.check(&pod, "c1").error().msg.contains(&addresses(&result)[0]));
        network.del(&pod, "c1").silent();
        assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
    });
}
