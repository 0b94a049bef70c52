//! Addresses that are this host's own, and hosts where that cannot be told by a socket.

use serde_json::json;
use testbed::{
    Outcome, bin_dir,
    ipam::{Ipam, held},
    result::cidrs,
};

use crate::differences::case;

#[test]
fn addresses_are_had_where_lo_was_never_up() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        let program = bin_dir().join("host-local");
        let netns = format!("CNI_NETNS={}", ipam.pod.path());
        for number in 2..4 {
            let container = format!("CNI_CONTAINERID=c{number}");
            let words = ["--net", "env", "-i", "PATH=/usr/bin", "CNI_COMMAND=ADD", &container];
            let more = [&netns, "CNI_IFNAME=eth0", "CNI_PATH=/", program.to_str().unwrap()];
            let words: Vec<_> = words.into_iter().chain(more).collect();
            let output = bed.feed("unshare", &words, ipam.network.config().to_string().as_bytes());
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
            assert!(said.contains(&format!("10.1.2.{number}/24")), "{said}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        }
        assert_eq!(held(bed).len(), 2);
    });
}

fn assert_one_line(outcome: &Outcome, words: &str) {
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains(words), "{} lines: {words}", lines.len());
}

#[test]
fn a_network_that_is_all_of_this_host_is_passed_over_with_one_line() {
    case(|bed| {
        bed.ip("route add local 10.1.0.0/16 dev lo");
        bed.ip("address add 10.2.0.2/32 dev lo");
        bed.ip("address add 10.2.0.3/32 dev lo");
        let ranges = json!([[{"subnet": "10.1.0.0/16"}, {"subnet": "10.2.0.0/24"}]]);
        let ipam = Ipam::new(bed, &json!({"ranges": ranges}));
        let outcome = ipam.add("c1");
        assert_eq!(cidrs(&outcome.result()), ["10.2.0.4/24"]);
        assert_one_line(&outcome, "10.1.0.2 to 10.1.255.255 are addresses of this host");
        assert!(outcome.stderr.contains("10.2.0.2 to 10.2.0.3"), "{outcome}");
        let only = Ipam::named(bed, "only", &json!({"subnet": "10.1.0.0/16"}));
        let outcome = only.add("c1");
        outcome.fails_with(11, "10.1.0.2 to 10.1.255.255 are addresses of this host");
        assert_eq!(outcome.stderr, "");
    });
}
