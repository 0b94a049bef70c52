//! Pair of the Go plugins and ours on one node: each is deleted by the other.

use serde_json::{Value, json};
use testbed::{
    Outcome, REFERENCE, SYSTEM_PATH, Sandbox, Snapshot, Testbed, attachment::ptp, config::changed,
    later_reference,
};

use crate::differences::case;

/// A version of the Go plugins, and the backend that it is told to use.
#[derive(Clone, Copy, Debug)]
struct Theirs {
    dir: &'static str,
    backend: Option<&'static str>,
}

impl Theirs {
    fn all() -> Vec<Self> {
        let later = later_reference().into_iter();
        let later =
            later.flat_map(|dir| [None, Some("nftables")].map(|backend| Self { dir, backend }));
        [Self { dir: REFERENCE, backend: None }].into_iter().chain(later).collect()
    }

    /// A verb for `container`.
    fn run(
        self,
        bed: &Testbed,
        (verb, container): (&str, &str),
        pod: &Sandbox,
        config: &Value,
    ) -> Outcome {
        let Self { dir, backend } = self;
        let config = changed(config.clone(), &json!({"ipMasqBackend": backend}));
        let call =
            bed.plugin("ptp").program(format!("{dir}/ptp")).command(verb).container(container);
        let call = call.ifname("eth0").netns(pod.path()).cni_path(dir).env("PATH", SYSTEM_PATH);
        call.config(&config).run()
    }
}

fn rules(bed: &Testbed) -> String {
    bed.succeed("nft", &["-s", "list", "ruleset"])
}

/// A node with a pod of theirs that stays, so that what they share is there: its state and rules.
fn node(bed: &Testbed, theirs: Theirs, config: &Value) -> (Snapshot, String) {
    theirs.run(bed, ("ADD", "earlier"), &bed.sandbox("earlier"), config).success();
    bed.settle();
    (bed.snapshot(), rules(bed))
}

#[test]
fn del_of_ours_removes_what_add_of_theirs_has_made() {
    for theirs in Theirs::all() {
        case(|bed| {
            let config = ptp(&json!({"ipMasq": true}));
            let (before, rules_before) = node(bed, theirs, &config);
            for (is_told, is_there) in [(true, true), (false, true), (false, false)] {
                let pod = bed.sandbox("pod");
                let result = theirs.run(bed, ("ADD", "c1"), &pod, &config).result();
                assert_ne!(rules(bed), rules_before);
                if !is_there {
                    bed.destroy(&pod);
                }
                let known = is_told.then_some(&result);
                let config = changed(config.clone(), &json!({"prevResult": known}));
                let del = bed.plugin("ptp").command("DEL").container("c1").ifname("eth0");
                let del = del.netns(if is_there { pod.path() } else { "" }).config(&config);
                del.clone().run().silent();
                del.run().silent();
                bed.assert_unchanged_since(&before);
                assert_eq!(rules(bed), rules_before, "{theirs:?}");
                if is_there {
                    assert!(pod.has_only_lo());
                    pod.destroy();
                }
            }
        });
    }
}

#[test]
fn check_of_ours_is_content_with_what_add_of_theirs_has_made() {
    for theirs in Theirs::all() {
        case(|bed| {
            let (pod, config) = (bed.sandbox("pod"), ptp(&json!({})));
            let result = theirs.run(bed, ("ADD", "c1"), &pod, &config).result();
            let config = changed(config, &json!({"prevResult": result}));
            let check = bed.plugin("ptp").command("CHECK").container("c1").ifname("eth0");
            check.netns(pod.path()).config(&config).run().silent();
        });
    }
}

#[test]
fn del_of_theirs_removes_pair_routes_and_lease_of_ours() {
    for theirs in Theirs::all() {
        case(|bed| {
            let config = ptp(&json!({}));
            let (before, _) = node(bed, theirs, &config);
            let (pod, network) = (bed.sandbox("pod"), bed.network(config.clone()));
            let result = network.add(&pod, "c1").result();
            let config = changed(config, &json!({"prevResult": result}));
            theirs.run(bed, ("DEL", "c1"), &pod, &config).silent();
            assert!(pod.has_only_lo());
            assert_eq!(before.lines("link ").count(), bed.snapshot().lines("link ").count());
            assert_eq!(bed.route_lines("-4").len(), 1, "the earlier pod's");
            let held: Vec<_> = bed.lease_files("links").into_values().collect();
            assert!(held.iter().all(|owner| owner.starts_with("earlier ")), "{held:?}");
            // Ours make up their mind by what is there, too.
            network.add(&pod, "c1").success();
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
        });
    }
}

#[test]
fn gc_of_ours_removes_what_lost_pods_of_theirs_had() {
    for theirs in Theirs::all() {
        case(|bed| {
            let config = ptp(&json!({"ipMasq": true, "cniVersion": "1.0.0"}));
            let (before, rules_before) = node(bed, theirs, &config);
            let pod = bed.sandbox("pod");
            theirs.run(bed, ("ADD", "c1"), &pod, &config).success();
            bed.destroy(&pod);
            let config = changed(config, &json!({"cniVersion": "1.1.0"}));
            bed.network(config).gc(&["earlier"]).silent();
            bed.assert_unchanged_since(&before);
            assert_eq!(rules(bed), rules_before, "{theirs:?}");
        });
    }
}
