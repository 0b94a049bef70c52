//! Sysctls: which may be set, and where.

use serde_json::{Value, json};
use testbed::{
    Sandbox, Testbed,
    config::changed,
    tuning::{DATA_DIR, config, tuning},
};

use crate::differences::case;

const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

fn sysctls(pairs: &[(&str, &str)]) -> Value {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
    json!({"sysctl": pairs.collect::<serde_json::Map<_, _>>()})
}

#[test]
fn they_are_the_containers() {
    case(|bed| {
        let keys = sysctls(&[
            ("net.ipv4.conf.all.log_martians", "1"),
            ("net.core.somaxconn", "500"),
            ("net/ipv4/conf/IFNAME/arp_filter", "1"),
            ("net.ipv4.ip_local_port_range", "20000 60000"),
        ]);
        let (network, pod) = tuning(bed, &keys);
        let before = bed.sysctl("net/ipv4/conf/all/log_martians");
        let result = network.add(&pod, "c1").result();
        for key in ["interfaces", "ips"] {
            assert_eq!(result[key], network.config()["prevResult"][key], "it is passed on");
        }
        for (path, value) in [
            ("net/ipv4/conf/all/log_martians", "1"),
            ("net/core/somaxconn", "500"),
            ("net/ipv4/conf/eth0/arp_filter", "1"),
            ("net/ipv4/ip_local_port_range", "20000\t60000"),
        ] {
            assert_eq!(pod.sysctl(path).as_deref(), Some(value));
        }
        assert_eq!(bed.sysctl("net/ipv4/conf/all/log_martians"), before);
        assert!(!bed.file(format!("{DATA_DIR}/c1_eth0.json")).exists(), "the Go plugin has none");
    });
}

#[test]
fn del_sets_them_back() {
    case(|bed| {
        let keys = sysctls(&[
            ("net.core.somaxconn", "500"),
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv4.conf.IFNAME.arp_filter", "1"),
        ]);
        for attributes in [json!({}), json!({"mtu": 1400})] {
            let (_, pod) = tuning(bed, &json!({}));
            let network = bed.network(config(&pod, &changed(keys.clone(), &attributes)));
            pod.set_sysctl("net/core/somaxconn", "77");
            let host = bed.snapshot();
            network.add(&pod, "c1").success();
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            for (path, value) in [
                ("net/core/somaxconn", "77"),
                ("net/ipv4/ip_forward", "0"),
                ("net/ipv4/conf/eth0/arp_filter", "0"),
            ] {
                assert_eq!(pod.sysctl(path).as_deref(), Some(value), "{path}");
            }
            bed.assert_unchanged_since(&host);
            pod.destroy();
        }
    });
}

/// Those of every link of a place that the kernel overwrites.
fn of_all_links(pod: &Sandbox) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for link in ["all", "default", "lo", "eth0", "peer0"] {
        for setting in [
            "ipv4/conf/*/forwarding",
            "ipv4/conf/*/accept_redirects",
            "ipv4/conf/*/arp_filter",
            "ipv6/conf/*/forwarding",
            "ipv6/conf/*/disable_ipv6",
            "ipv6/conf/*/addr_gen_mode",
        ] {
            let key = format!("net/{}", setting.replace('*', link));
            found.push((key.clone(), pod.sysctl(&key)));
        }
    }
    found
}

#[test]
fn del_sets_back_what_the_kernel_has_overwritten() {
    case(|bed| {
        for keys in [
            &[("net.ipv4.ip_forward", "1")][..],
            &[("net.ipv4.conf.all.forwarding", "1"), ("net.ipv4.conf.all.accept_redirects", "1")],
            &[("net.ipv6.conf.all.forwarding", "1"), ("net.ipv6.conf.all.disable_ipv6", "1")],
            &[("net.ipv6.conf.all.addr_gen_mode", "1"), ("net.ipv4.conf.default.arp_filter", "1")],
            &[("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.IFNAME.forwarding", "0")],
        ] {
            let (network, pod) = tuning(bed, &sysctls(keys));
            for (key, value) in [
                ("ipv4/conf/all/forwarding", "0"),
                ("ipv4/conf/all/accept_redirects", "0"),
                ("ipv4/conf/default/forwarding", "1"),
                ("ipv4/conf/peer0/forwarding", "1"),
                ("ipv6/conf/peer0/forwarding", "1"),
                ("ipv6/conf/lo/disable_ipv6", "1"),
                ("ipv6/conf/peer0/addr_gen_mode", "3"),
            ] {
                pod.set_sysctl(&format!("net/{key}"), value);
            }
            let before = of_all_links(&pod);
            network.add(&pod, "c1").success();
            assert_ne!(of_all_links(&pod), before);
            network.check(&pod, "c1").silent();
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert_eq!(of_all_links(&pod), before, "{keys:?}");
            pod.destroy();
        }
    });
}

#[test]
fn a_secret_has_no_value_before_it_is_set() {
    case(|bed| {
        let keys = sysctls(&[("net.ipv6.conf.IFNAME.stable_secret", "2001:db8::1")]);
        let (network, pod) = tuning(bed, &keys);
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn a_setting_for_all_links_does_not_undo_that_of_one() {
    case(|bed| {
        let keys = sysctls(&[
            ("net.ipv4.conf.all.forwarding", "1"),
            ("net.ipv4.conf.IFNAME.forwarding", "0"),
            ("net.ipv4.ip_forward", "1"),
        ]);
        let (network, pod) = tuning(bed, &keys);
        network.add(&pod, "c1").success();
        let forwards =
            |link: &str| pod.sysctl(&format!("net/ipv4/conf/{link}/forwarding")).unwrap();
        assert_eq!((&*forwards("all"), &*forwards("peer0"), &*forwards("eth0")), ("1", "1", "0"));
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn the_name_of_a_link_may_have_dots() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        pod.ip("link set eth0 name eth0.100");
        let keys = sysctls(&[("net.ipv4.conf.IFNAME.arp_filter", "1")]);
        let network = bed.network(config(&pod, &keys)).ifname("eth0.100");
        network.add(&pod, "c1").success();
        assert_eq!(pod.sysctl("net/ipv4/conf/eth0.100/arp_filter").as_deref(), Some("1"));
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn some_can_only_be_written() {
    case(|bed| {
        let (network, pod) = tuning(bed, &sysctls(&[("net.ipv4.route.flush", "1")]));
        network.add(&pod, "c1").success();
        network.call("DEL", "c1").netns(pod.path()).run().silent();
    });
}

#[test]
fn what_is_not_the_namespaces_is_refused() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        let host = bed.snapshot();
        for key in [
            "kernel.core_pattern",
            "kernel.shm_rmid_forced",
            "net/../kernel/core_pattern",
            "net.../kernel/core_pattern",
            "vm.swappiness",
            // The kernel lets only the first namespace write these, or even see them.
            "net.core.bpf_jit_harden",
            "net.ipv4.tcp_allowed_congestion_control",
            "net.netfilter.nf_conntrack_max",
            "net.ipv4.no_such_setting",
        ] {
            let keys = sysctls(&[("net.core.somaxconn", "500"), (key, "1")]);
            let error = bed.network(config(&pod, &keys)).add(&pod, "c1").error();
            assert!(error.msg.contains(key), "{key}: {error:?}");
            assert_eq!(error.code, 7, "{key}");
            assert_ne!(pod.sysctl("net/core/somaxconn").as_deref(), Some("500"), "{key}");
            bed.assert_unchanged_since(&host);
        }
    });
}

#[test]
fn a_value_smuggles_nothing_in() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        for (key, value) in [
            ("net.core.somaxconn", "500\nkernel.core_pattern=|/bin/sh"),
            ("net.core.somaxconn\n", "500"),
            ("net.core.somaxconn", "500\u{0}"),
        ] {
            let keys = sysctls(&[(key, value)]);
            bed.network(config(&pod, &keys)).add(&pod, "c1").fails_with(7, "sysctl");
            assert_ne!(pod.sysctl("net/core/somaxconn").as_deref(), Some("500"));
        }
    });
}

#[test]
fn a_value_that_the_kernel_refuses_is_named_and_nothing_is_left() {
    case(|bed| {
        let keys =
            sysctls(&[("net.core.somaxconn", "500"), ("net.ipv4.conf.IFNAME.arp_filter", "x")]);
        let (network, pod) = tuning(bed, &changed(keys, &json!({"mtu": 1400})));
        let (host, before) = (bed.snapshot(), pod.sysctl("net/core/somaxconn"));
        let error = network.add(&pod, "c1").error();
        assert!(error.msg.contains("arp_filter"), "{error:?}");
        assert_eq!(pod.sysctl("net/core/somaxconn"), before);
        assert_eq!(pod.link("eth0")["mtu"], 1500);
        bed.assert_unchanged_since(&host);
    });
}

#[test]
fn a_key_stands_there_once() {
    case(|bed| {
        let (network, pod) = tuning(bed, &json!({"sysctl": {}}));
        let twice = r#""sysctl":{"net.core.somaxconn":"5","net.core.somaxconn":"5"}"#;
        let text = network.config().to_string().replace(r#""sysctl":{}"#, twice);
        let call = |verb: &str| network.call(verb, "c1").netns(pod.path()).stdin(text.clone());
        for verb in ["ADD", "CHECK"] {
            let error = call(verb).run().error();
            assert!(error.msg.contains("duplicated"), "{error:?}");
        }
        call("DEL").run().silent();
    });
}

#[test]
fn two_names_of_one_setting_have_one_value() {
    case(|bed| {
        let keys = sysctls(&[("net.core.somaxconn", "5"), ("net/core/somaxconn", "6")]);
        let (network, pod) = tuning(bed, &keys);
        network.add(&pod, "c1").fails_with(7, "duplicated");
    });
}

#[test]
fn what_the_container_asks_for_counts_most() {
    case(|bed| {
        let (network, pod) = tuning(
            bed,
            &changed(
                sysctls(&[("net.core.somaxconn", "500")]),
                &json!({"args": {"cni": sysctls(&[("net.core.somaxconn", "501")])}}),
            ),
        );
        network.add(&pod, "c1").success();
        assert_eq!(pod.sysctl("net/core/somaxconn").as_deref(), Some("501"));
    });
}

#[test]
fn the_container_may_ask_where_nobody_else_does() {
    case(|bed| {
        let args = json!({"args": {"cni": sysctls(&[("net.core.somaxconn", "501")])}});
        let (network, pod) = tuning(bed, &args);
        network.add(&pod, "c1").success();
        assert_eq!(pod.sysctl("net/core/somaxconn").as_deref(), Some("501"));
    });
}

/// Whether a host with this list lets a network set this key.
fn is_allowed(bed: &Testbed, list: &str, key: &str) -> bool {
    bed.write(ALLOWLIST, list);
    let (network, pod) = tuning(bed, &sysctls(&[(key, "1")]));
    let outcome = network.add(&pod, "c1");
    if !outcome.status.success() {
        let error = outcome.error();
        assert!(error.msg.contains(&format!("Sysctl {key} is not allowed")), "{error:?}");
    }
    // Whatever the list says by now.
    bed.write(ALLOWLIST, "");
    network.del(&pod, "c1").silent();
    pod.destroy();
    outcome.status.success()
}

#[test]
fn an_administrator_lists_what_is_allowed() {
    case(|bed| {
        let key = "net.ipv4.conf.all.log_martians";
        for list in [
            r"^net\.ipv4\.conf\.all\.[a-z_]*$",
            "  log_mart  \r\n",
            "nothing\n\n^net.*martians$",
            "(?i)^NET",
            r"^net\.[[:alnum:]]+\.conf",
        ] {
            assert!(is_allowed(bed, list, key), "{list:?}");
        }
        for list in ["", "\n", r"^net\.ipv4\.conf\.other\.[a-z_]*$", "^log_martians", "#net"] {
            assert!(!is_allowed(bed, list, key), "{list:?}");
        }
        // It is the key that is listed, not what becomes of it.
        assert!(is_allowed(bed, r"^net\.ipv4\.conf\.IFNAME\.", "net.ipv4.conf.IFNAME.arp_filter"));
        assert!(!is_allowed(bed, r"^net\.ipv4\.conf\.eth0\.", "net.ipv4.conf.IFNAME.arp_filter"));
        assert!(!is_allowed(bed, r"^net\.ipv4\.", "net/ipv4/conf/all/log_martians"));
    });
}

#[test]
fn a_list_that_cannot_be_understood_allows_nothing() {
    case(|bed| {
        let (network, pod) = tuning(bed, &sysctls(&[("net.core.somaxconn", "500")]));
        let host = bed.snapshot();
        bed.write(ALLOWLIST, "(\nnet.*");
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        bed.assert_unchanged_since(&host);
        assert_ne!(pod.sysctl("net/core/somaxconn").as_deref(), Some("500"));
    });
}

#[test]
fn status_tells_what_add_would_refuse() {
    case(|bed| {
        let keys =
            changed(sysctls(&[("net.core.somaxconn", "500")]), &json!({"cniVersion": "1.1.0"}));
        let (network, _pod) = tuning(bed, &keys);
        network.status().silent();
        bed.write(ALLOWLIST, "^net.ipv4");
        network.status().fails_with(50, "Sysctl net.core.somaxconn is not allowed");
    });
}

#[test]
fn the_hosts_own_namespace_is_refused_unless_it_is_meant() {
    case(|bed| {
        let (network, _pod) = tuning(bed, &sysctls(&[("net.ipv4.conf.all.log_martians", "1")]));
        let before = bed.sysctl("net/ipv4/conf/all/log_martians");
        let call = |verb: &str| network.call(verb, "c1").netns("/proc/self/ns/net");
        assert_eq!(call("ADD").run().error_code(), 8);
        assert_eq!(bed.sysctl("net/ipv4/conf/all/log_martians"), before);
        call("ADD").env("CNI_NETNS_OVERRIDE", "1").run().success();
        assert_eq!(bed.sysctl("net/ipv4/conf/all/log_martians").as_deref(), Some("1"));
        call("DEL").env("CNI_NETNS_OVERRIDE", "true").run().silent();
        assert_eq!(bed.sysctl("net/ipv4/conf/all/log_martians"), before);
    });
}
