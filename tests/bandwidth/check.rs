//! CHECK of limits finds each single thing that is missing or different.

use serde_json::{Value, json};
use testbed::{
    Sandbox, Testbed,
    bandwidth::{host_end, ifb, on_bridge, on_ptp, rates},
    chain::{Chain, with_result},
    config::changed,
};

use crate::differences::case;

/// For each breakage by tc or ip, where END and IFB are links of the host, a new pod, which CHECK must
/// reject, naming `object`.
fn find(bed: &Testbed, keys: &Value, breakages: &[(&str, &str)]) {
    for (breakage, object) in breakages {
        let (chain, pod) = (on_bridge(bed, keys), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        chain.check(&pod, "c1", &result);
        let fill = |text: &str| {
            text.replace("END", &host_end(&result)).replace("IFB", &ifb(&result).unwrap())
        };
        for command in fill(breakage).split(" ; ") {
            let words: Vec<_> = command.split(' ').collect();
            bed.succeed(words[0], &words[1..]);
        }
        let error = check(&chain, &pod, &result, &json!({}));
        assert!(error.contains(&fill(object)), "{breakage}: {error:?}");
        chain.del(&pod, "c1", &result);
        pod.destroy();
    }
}

fn check(chain: &Chain<'_>, pod: &Sandbox, result: &Value, changes: &Value) -> String {
    let config = changed(with_result(&chain.plugins[1], result), changes);
    let error = chain.run("CHECK", &config, pod, "c1").error();
    format!("{}; {}", error.msg, error.details)
}

#[test]
fn it_finds_what_is_wrong_with_a_bucket() {
    case(|bed| {
        let tbf = "handle 1: tbf latency 25ms";
        let change = |link: &str, words: &str| {
            format!("tc qdisc del dev {link} root ; tc qdisc add dev {link} root {tbf} {words}")
        };
        let breakages = [
            ("tc qdisc del dev END root".to_owned(), "END has the qdisc none"),
            ("tc qdisc del dev IFB root".to_owned(), "IFB has the qdisc"),
            (change("END", "rate 9mbit burst 12500"), "END sends 1125000 bytes"),
            (change("END", "rate 8mbit burst 13000"), "END has a burst of 13000 bytes"),
            (change("IFB", "rate 8mbit burst 12500"), "IFB sends 1000000 bytes"),
            (
                "tc qdisc del dev END root ; tc qdisc add dev END root bfifo limit 9000".to_owned(),
                "bfifo",
            ),
        ];
        let breakages = breakages.each_ref().map(|(breakage, object)| (breakage.as_str(), *object));
        find(bed, &rates(8_000_000, 16_000_000), &breakages);
    });
}

#[test]
fn it_finds_what_is_wrong_with_the_redirection() {
    case(|bed| {
        let breakages = [
            ("tc filter del dev END ingress", "packets from END are not redirected to IFB"),
            ("tc qdisc del dev END clsact", "packets from END are not redirected to IFB"),
            ("ip link set IFB down", "IFB is down"),
            ("ip link del IFB", "get ifb device"),
            ("ip link set IFB alias net c7 eth0", "get ifb device"),
        ];
        find(bed, &rates(8_000_000, 16_000_000), &breakages[..4]);
        let (chain, pod) = (on_bridge(bed, &rates(8_000_000, 16_000_000)), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        let name = ifb(&result).unwrap();
        bed.succeed("ip", &["link", "set", &name, "alias", "net c7 eth0"]);
        assert!(check(&chain, &pod, &result, &json!({})).contains("get ifb device"));
    });
}

#[test]
fn it_finds_what_is_wrong_with_classes() {
    case(|bed| {
        let keys = changed(
            rates(8_000_000, 16_000_000),
            &json!({"unshapedSubnets": ["10.9.0.0/16", "fd00:9::/32"]}),
        );
        let breakages = [
            ("tc qdisc del dev END root", "END has the qdisc none, not htb"),
            (
                "tc filter del dev END parent 6764: prio 16",
                "END has no filter that picks packets of 10.9.0.0/16",
            ),
            (
                "tc filter del dev IFB parent 6764: prio 15",
                "IFB has no filter that picks packets of fd00:9::/32",
            ),
            (
                "tc class change dev IFB classid 6764:30 htb rate 5mbit burst 100000",
                "IFB sends 625000 bytes",
            ),
        ];
        find(bed, &keys, &breakages);
    });
}

#[test]
fn it_compares_with_the_configuration_of_today() {
    case(|bed| {
        let (chain, pod) = (on_bridge(bed, &rates(8_000_000, 16_000_000)), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        for (changes, words) in [
            (json!({"ingressRate": 80_000_000}), "bytes a second"),
            (json!({"egressBurst": 80_000}), "burst"),
            (json!({"shapedSubnets": ["10.0.0.0/8"]}), "not htb"),
            (json!({"egressRate": 0}), "if burst is set"),
        ] {
            let found = check(&chain, &pod, &result, &changes);
            assert!(found.contains(words), "{changes}: {found}");
        }
        // Limits that are not asked for any more are not looked at.
        let none = changed(
            with_result(&chain.plugins[1], &result),
            &json!({"egressRate": 0, "egressBurst": 0, "ingressRate": 0, "ingressBurst": 0}),
        );
        chain.run("CHECK", &none, &pod, "c1").silent();
    });
}

#[test]
fn it_needs_a_result_with_the_links() {
    case(|bed| {
        let (chain, pod) = (on_bridge(bed, &rates(8_000_000, 16_000_000)), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        assert_ne!(chain.run("CHECK", &chain.plugins[1], &pod, "c1").error_code(), 0);
        let mut without = result.clone();
        without["interfaces"].as_array_mut().unwrap().pop();
        assert_ne!(check(&chain, &pod, &without, &json!({})), "");
    });
}

#[test]
fn a_plugin_behind_it_may_change_the_mtu() {
    case(|bed| {
        let mut chain = on_ptp(bed, &rates(8_000_000, 16_000_000));
        bed.ip("addr add 203.0.113.8/32 dev lo");
        let own = json!({"type": "tuning", "mtu": 9000});
        chain.plugins.push(changed(chain.plugins[1].clone(), &own));
        let pod = bed.sandbox("pod");
        let result = chain.add(&pod, "c1");
        assert_eq!(pod.link("eth0")["mtu"], 9000);
        let large = ["-c", "1", "-W", "5", "-M", "do", "-s", "8000", "203.0.113.8"];
        pod.succeed("ping", &large);
        chain.check(&pod, "c1", &result);
        chain.del(&pod, "c1", &result);
    });
}
