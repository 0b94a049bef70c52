//! Names at the edge of what the kernel takes, and names that former programs have given.

use serde_json::{Value, json};
use testbed::{
    Sandbox, Testbed,
    config::{self, changed},
    warm::Warm,
};

use crate::differences::{case, case_each};

#[test]
fn a_container_may_have_a_long_id() {
    case(|bed| {
        let keys = changed(config::dual_stack(), &json!({"ipMasq": true, "macspoofchk": true}));
        let keys = changed(keys, &json!({"cniVersion": "1.1.0"}));
        let network = bed.network(config::bridge(&keys));
        network.add(&bed.sandbox("first"), "first").success();
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        for length in [64, 233, 234, 237, 238, 239, 250] {
            let id = "c".repeat(length);
            network.add(&pod, &id).success();
            network.check(&pod, &id).silent();
            let untold = network.call("DEL", &id).netns("");
            network.del(&pod, &id).silent();
            bed.assert_unchanged_since(&before);
            untold.run().silent();
        }
    });
}

#[test]
fn chained_plugins_take_a_long_id() {
    case(|bed| {
        let id = "c".repeat(240);
        let network = bed.network(config::bridge(&config::dual_stack()));
        let pod = bed.sandbox("pod");
        let result = network.add(&pod, &id).result();
        for plugin in [
            json!({"type": "firewall"}),
            json!({"type": "portmap", "runtimeConfig": {"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}),
        ] {
            let keys = json!({"cniVersion": "1.0.0", "name": "net", "prevResult": result});
            let config = changed(plugin, &keys);
            let call = |verb: &str| bed.call(verb, &id, &config).netns(pod.path()).run();
            call("ADD").success();
            call("CHECK").silent();
            call("DEL").silent();
        }
        // As which the container stands in the packet filter.
        assert!(!bed.succeed("nft", &["list", "ruleset"]).contains("net sha256-"));
    });
}

/// The kernel would replace it by a number of its choice.
#[test]
fn a_name_with_a_percent_sign_is_refused() {
    case_each(|it| {
        let before = it.bed.snapshot();
        for name in ["a%d", "%d", "a%", "100%"] {
            for verb in ["ADD", "CHECK", "DEL"] {
                let call = it.call(verb).ifname(name);
                call.run().fails_with(4, "interface name contains %");
            }
        }
        it.bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_bridge_with_a_percent_sign_is_refused() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        for name in ["zz%d", "%d", "%s"] {
            let network = bed.network(config::bridge(&json!({"bridge": name})));
            network.add(&pod, "c1").fails_with(7, name);
            bed.assert_unchanged_since(&before);
        }
    });
}

/// What the owner's first 32 bits made of it, before there were 44.
const FORMER: &str = "veth814c47b8";

/// An attachment of c1 to "pods" as the programs before have made it: under the former name of its
/// link, in the packet filter too, and without a note of its age.
fn former(bed: &Testbed, pod: &Sandbox, config: &Value) -> Value {
    let mut result = bed.network(config.clone()).add(pod, "c1").result();
    let name = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with(FORMER), "{name}");
    bed.ip(&format!("link set {name} down"));
    bed.ip(&format!("link set {name} name {FORMER}"));
    bed.succeed("ip", &["link", "set", FORMER, "alias", "pods c1 eth0"]);
    bed.ip(&format!("link set {FORMER} up"));
    let mac = result["interfaces"][2]["mac"].as_str().unwrap();
    let of = |verb: &str, set: &str, key: &str| {
        bed.succeed("nft", &[verb, "element", "bridge", "girder", set, &format!("{{ {key} }}")]);
    };
    for (set, after) in [("checked-ports", String::new()), ("checked-macs", format!(" . {mac}"))] {
        of("delete", set, &format!("\"{name}\"{after}"));
        of("add", set, &format!("\"{FORMER}\"{after} comment \"pods c1 eth0\""));
    }
    result["interfaces"][1]["name"] = json!(FORMER);
    result
}

/// What is not of a link: a young one may be known by its name no more.
fn spoof_elements(bed: &Testbed) -> usize {
    let table = bed.succeed("nft", &["list", "table", "bridge", "girder"]);
    table.matches("pods c1 eth0").count()
}

#[test]
fn a_link_of_the_former_name_is_checked_and_deleted() {
    case(|bed| {
        let config = config::pods_with(&json!({"macspoofchk": true, "cniVersion": "1.1.0"}));
        let warm = Warm::new(bed, config.clone());
        let before = bed.snapshot();
        for is_known in [true, false] {
            let pod = bed.sandbox("pod");
            let result = former(bed, &pod, &config);
            assert_eq!(spoof_elements(bed), 2);
            let known = changed(config.clone(), &json!({"prevResult": result}));
            let call = |verb: &str| {
                warm.network.call(verb, "c1").config(if is_known { &known } else { &config })
            };
            call("CHECK").config(&known).netns(pod.path()).run().silent();
            // It is there, and is not made a second time.
            let other = bed.sandbox("other");
            warm.network.call("ADD", "c1").netns(other.path()).run().fails_with(999, FORMER);
            other.destroy();
            call("DEL").netns("").run().silent();
            assert!(!pod.has_link("eth0"));
            pod.destroy();
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn a_link_of_the_former_name_is_garbage_when_nobody_lists_it() {
    case(|bed| {
        let config = config::pods_with(&json!({"macspoofchk": true, "cniVersion": "1.1.0"}));
        let warm = Warm::new(bed, config.clone());
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        former(bed, &pod, &config);
        let added = bed.snapshot();
        warm.network.gc(&["first", "c1"]).silent();
        bed.assert_unchanged_since(&added);
        warm.network.gc(&["first"]).silent();
        assert!(!pod.has_link("eth0"));
        pod.destroy();
        bed.assert_unchanged_since(&before);
    });
}

/// Another owner may have the same 32 bits.
#[test]
fn a_strangers_link_of_the_former_name_is_left_alone() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods_with(&json!({"cniVersion": "1.1.0"})));
        let (network, pod) = (&warm.network, bed.sandbox("pod"));
        bed.ip(&format!("link add {FORMER} type veth peer name other"));
        bed.succeed("ip", &["link", "set", FORMER, "alias", "elsewhere c7 eth0"]);
        network.call("DEL", "c1").netns("").run().silent();
        assert!(bed.has_link(FORMER));
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        network.gc(&["first"]).silent();
        assert!(bed.has_link(FORMER));
    });
}

#[test]
fn leaked_links_are_deleted_with_one_request() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods_with(&json!({"cniVersion": "1.1.0"})));
        let before = bed.snapshot();
        let pods: Vec<_> = (0..20).map(|n| (bed.sandbox(&format!("p{n}")), n)).collect();
        for (pod, number) in &pods {
            warm.network.add(pod, &format!("c{number}")).success();
        }
        let mut config = warm.network.config().clone();
        config["cni.dev/valid-attachments"] = json!([{"containerID": "first", "ifname": "eth0"}]);
        let gc = bed.plugin("bridge").command("GC").config(&config);
        let (outcome, trace) = bed.traced(gc, "sendto,sendmsg");
        outcome.silent();
        // Each is a wait for the kernel.
        let asked = trace.iter().filter(|line| line.contains("RTM_DELLINK")).count();
        assert_eq!(asked, 1, "{trace:#?}");
        for (pod, _) in &pods {
            assert!(!pod.has_link("eth0"));
        }
        bed.assert_unchanged_since(&before);
        warm.assert_connected(&warm.first);
    });
}

#[test]
fn gc_and_status_do_not_look_at_cni_args() {
    case(|bed| {
        let network = bed.network(changed(config::pods(), &json!({"cniVersion": "1.1.0"})));
        network.add(&bed.sandbox("first"), "first").success();
        let before = bed.snapshot();
        let mut config = network.config().clone();
        config["cni.dev/valid-attachments"] = json!([{"containerID": "first", "ifname": "eth0"}]);
        for args in ["K8S_POD_NAME=p", "nonsense", "MAC=nonsense", "=;;="] {
            for verb in ["GC", "STATUS"] {
                bed.plugin("bridge").command(verb).args(args).config(&config).run().silent();
            }
            bed.assert_unchanged_since(&before);
        }
    });
}
