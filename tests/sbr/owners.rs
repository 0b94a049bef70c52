//! Whose a rule is: DEL finds what ADD has made whatever has changed since, and nothing else; and what
//! the Go plugin has made.

use serde_json::{Value, json};
use testbed::{
    Network, Outcome, REFERENCE, SYSTEM_PATH, Sandbox, config::changed, later_reference,
};

use crate::differences::case;

const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

#[test]
fn del_needs_neither_addresses_nor_the_interface() {
    case(|bed| {
        for (number, damage) in
            ["addr flush dev net1", "link set net1 down", "link del net1"].into_iter().enumerate()
        {
            for keys in [json!({}), json!({"table": 77})] {
                let pod = bed.sandbox(&format!("pod{number}{}", keys["table"]));
                let wire = bed.wire(&pod, "net1", &DUAL);
                let network = wire.chained(bed, "sbr", &keys);
                network.add(&pod, "c1").success();
                pod.ip(damage);
                let config = changed(network.config().clone(), &json!({"prevResult": null}));
                network.call("DEL", "c1").config(&config).netns(pod.path()).run().silent();
                assert!(pod.source_rules().is_empty(), "{damage}");
                assert!(pod.ip("-6 route show table all").lines().all(|it| !it.contains(" 10")));
            }
        }
    });
}

#[test]
fn del_does_not_depend_on_todays_configuration() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let before = pod.routing();
        let all = [
            json!({}),
            json!({"table": 77}),
            json!({"table": "broken"}),
            json!({"table": -7}),
            json!({"gateways": [1, 2, 3]}),
            json!({"addSourceHints": "perhaps"}),
        ];
        for made in &all[..2] {
            for edited in &all {
                wire.chained(bed, "sbr", made).add(&pod, "c1").success();
                let network = wire.chained(bed, "sbr", edited);
                network.call("DEL", "c1").netns(pod.path()).run().silent();
                assert_eq!(pod.routing(), before, "{made} {edited}");
            }
        }
    });
}

#[test]
fn rules_of_others_stay() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        // An administrator's, which say so, or are of other addresses.
        for words in [
            "rule add from 192.168.1.209 lookup 900 protocol static",
            "-6 rule add from 2001:db8:1::209 lookup 900 protocol static",
            "rule add from 10.9.0.0/16 lookup 901",
            // Or are for some packets only, wherever those come from.
            "rule add from 192.168.1.209 fwmark 5 lookup 902",
            "rule add from 192.168.1.209 iif lo lookup 903",
            "route add 198.18.0.0/15 dev net1 table 900",
        ] {
            pod.ip(words);
        }
        let before = pod.routing();
        let network = wire.chained(bed, "sbr", &json!({}));
        network.add(&pod, "c1").success();
        network.del(&pod, "c1").silent();
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert_eq!(pod.routing(), before);
    });
}

#[test]
fn another_interface_keeps_its_rules() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wires = [
            bed.wire(&pod, "net1", &DUAL),
            bed.wire(&pod, "net2", &[("192.168.2.209/24", "192.168.2.1")]),
        ];
        let [one, two] = wires.each_ref().map(|wire| wire.chained(bed, "sbr", &json!({})));
        two.add(&pod, "c1").success();
        let before = pod.source_rules();
        one.add(&pod, "c1").success();
        two.check(&pod, "c1").silent();
        one.del(&pod, "c1").silent();
        assert_eq!(pod.source_rules(), before);
        two.check(&pod, "c1").silent();
    });
}

fn theirs(dir: &str, verb: &str, network: &Network<'_>, pod: &Sandbox) -> Outcome {
    let call = network.call(verb, "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
    call.program(format!("{dir}/sbr")).run()
}

#[test]
fn either_plugin_deletes_what_the_other_has_made() {
    case(|bed| {
        for dir in [REFERENCE].into_iter().chain(later_reference()) {
            // 1.1.1 does not know the key.
            for keys in [json!({}), json!({"table": 100})] {
                let pod = bed.sandbox("pod");
                let wire = bed.wire(&pod, "net1", &DUAL[..1]);
                let network = wire.chained(bed, "sbr", &keys);
                theirs(dir, "ADD", &network, &pod).success();
                assert_eq!(pod.source_rules().len(), 1);
                network.call("CHECK", "c1").netns(pod.path()).run().silent();
                network.call("DEL", "c1").netns(pod.path()).run().silent();
                assert!(pod.source_rules().is_empty());
                network.call("DEL", "c1").netns(pod.path()).run().silent();
                for place in [&pod, &wire.router] {
                    place.destroy();
                }
                let pod = bed.sandbox("pod");
                let wire = bed.wire(&pod, "net1", &DUAL);
                let network = wire.chained(bed, "sbr", &keys);
                network.add(&pod, "c1").success();
                theirs(dir, "DEL", &network, &pod).silent();
                assert!(pod.source_rules().is_empty(), "{}", pod.ip("rule show"));
                network.del(&pod, "c1").silent();
                for place in [&pod, &wire.router] {
                    place.destroy();
                }
            }
        }
    });
}

/// With what the result tells, even when the interface has lost its addresses.
#[test]
fn rules_of_the_go_plugin_are_found_by_the_result() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let network = wire.chained(bed, "sbr", &json!({}));
        theirs(REFERENCE, "ADD", &network, &pod).success();
        pod.ip("addr flush dev net1");
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert!(pod.source_rules().is_empty());
    });
}

#[test]
fn what_was_never_added_is_gone() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let before = pod.routing();
        let bare: Value = json!({"prevResult": null});
        for keys in [json!({}), bare] {
            let network = wire.chained(bed, "sbr", &keys).ifname("net7");
            network.call("DEL", "c9").netns(pod.path()).run().silent();
        }
        assert_eq!(pod.routing(), before);
    });
}
