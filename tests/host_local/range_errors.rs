//! Ranges that make no sense, and what is said about them.

use serde_json::{Value, json};

use testbed::ipam::Ipam;

use crate::differences::case;

/// Configurations that make no sense, and what is said about them.
fn nonsense() -> Vec<(Value, &'static str)> {
    let one = |range: Value| json!({"ranges": [[range]]});
    let set =
        |first: &str, second: &str| json!({"ranges": [[{"subnet": first}, {"subnet": second}]]});
    let sets =
        |first: &str, second: &str| json!({"ranges": [[{"subnet": first}], [{"subnet": second}]]});
    let limits = |subnet: &str, start: &str, end: &str| json!({"ranges": [[{"subnet": subnet, "rangeStart": start, "rangeEnd": end}]]});
    vec![
        (json!({}), "no IP ranges specified"),
        (json!({"ranges": []}), "no IP ranges specified"),
        (json!({"rangeStart": "10.1.2.5", "gateway": "10.1.2.1"}), "no IP ranges specified"),
        (json!({"ranges": [[]]}), "invalid range set 0: empty range set"),
        (one(json!({"rangeStart": "10.1.2.5"})), "invalid range set 0: IP <nil> not v4 nor v6"),
        (
            one(json!({"subnet": "10.1.2.1/24"})),
            "Network has host bits set. For a subnet mask of length 24 the network address is 10.1.2.0",
        ),
        (
            one(json!({"subnet": "2001:db8:1::24:19ff:fee1:c44a/64"})),
            "Network has host bits set. For a subnet mask of length 64 the network address is 2001:db8:1::",
        ),
        (
            limits("10.1.2.0/24", "10.1.3.1", "10.1.2.9"),
            "RangeStart 10.1.3.1 not in network 10.1.2.0/24",
        ),
        (
            limits("10.1.2.0/24", "10.1.2.1", "10.1.3.9"),
            "RangeEnd 10.1.3.9 not in network 10.1.2.0/24",
        ),
        (
            limits("10.1.2.0/24", "10.1.2.9", "10.1.2.8"),
            "RangeStart 10.1.2.9 not in network 10.1.2.0/24",
        ),
        (
            limits("fd00::/64", "fd00:1::1", "fd00::2"),
            "RangeStart fd00:1::1 not in network fd00::/64",
        ),
        (set("10.1.2.0/24", "fd00::/64"), "invalid range set 0: mixed address families"),
        (
            set("10.1.2.0/24", "10.1.2.0/29"),
            "invalid range set 0: subnets 10.1.2.1-10.1.2.254 and 10.1.2.1-10.1.2.6 overlap",
        ),
        (set("10.1.2.0/29", "10.1.2.0/29"), "overlap"),
        (sets("10.1.2.0/29", "10.1.2.0/29"), "range set 0 overlaps with 1"),
        (sets("10.1.2.0/29", "10.1.0.0/16"), "range set 0 overlaps with 1"),
        (sets("fd00::/64", "fd00::/48"), "range set 0 overlaps with 1"),
    ]
}

#[test]
fn nonsense_is_refused_by_name() {
    case(|bed| {
        for (number, (section, words)) in nonsense().into_iter().enumerate() {
            let ipam = Ipam::named(bed, &format!("net{number}"), &section);
            let error = ipam.add("c1").error();
            assert!(format!("{error:?}").contains(words), "{section}: {error:?}");
            assert!(!bed.file(format!("/var/lib/cni/networks/net{number}")).exists());
        }
    });
}

#[test]
fn nonsense_is_an_invalid_configuration() {
    case(|bed| {
        for (number, (section, words)) in nonsense().into_iter().enumerate() {
            Ipam::named(bed, &format!("net{number}"), &section).add("c1").fails_with(7, words);
        }
        let rows = [
            json!({"subnet": "no subnet"}),
            json!({"subnet": "10.1.2.0"}),
            json!({"subnet": "10.1.2.0/33"}),
            json!({"subnet": 7}),
            json!({"subnet": "10.1.2.0/24", "gateway": "no address"}),
            json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2"}),
            json!({"subnet": "10.1.2.0/24", "routes": [{"dst": "everywhere"}]}),
            json!({"subnet": "10.1.2.0/24", "routes": {"dst": "0.0.0.0/0"}}),
            json!({"subnet": "10.1.2.0/24", "exclude": ["192.0.2.1"]}),
            json!({"subnet": "10.1.2.0/24", "exclude": ["10.1.2.1/24"]}),
            json!({"subnet": "10.1.2.0/24", "lockTimeout": "soon"}),
            json!({"ranges": [{"subnet": "10.1.2.0/24"}]}),
            json!({"ranges": "10.1.2.0/24"}),
        ];
        for (number, section) in rows.into_iter().enumerate() {
            let outcome = Ipam::named(bed, &format!("typo{number}"), &section).add("c1");
            assert_eq!(outcome.error_code(), 7, "{outcome}");
        }
    });
}

#[test]
fn without_an_ipam_section_there_is_nothing_to_do() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let network =
            bed.network(json!({"cniVersion": "1.0.0", "name": "net", "type": "host-local"}));
        let error = network.add(&pod, "c1").error();
        assert!(error.msg.contains("IPAM config missing 'ipam' key"), "{error:?}");
    });
}
