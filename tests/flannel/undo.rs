//! What flannel leaves when its delegate fails or is killed, or it is itself: state as long as
//! something may be left, and not longer.

use serde_json::{Value, json};
use testbed::{Death, Network, Sandbox, Snapshot, Testbed, flannel::flannel};

use crate::differences::case;

const FILE: &str = "/var/lib/cni/flannel/c1";

/// A node with a pod of the network.
fn settled(bed: &Testbed) -> (Network<'_>, Sandbox, Snapshot) {
    bed.lease_subnet();
    let network = bed.network(flannel(&json!({})));
    network.add(&bed.sandbox("earlier"), "earlier").success();
    let before = bed.snapshot();
    (network, bed.sandbox("pod"), before)
}

fn has_state(bed: &Testbed) -> bool {
    bed.file(FILE).exists()
}

/// A bridge that runs these lines of a shell for each verb, and writes the verb down.
fn bridge(bed: &Testbed, lines: &str) {
    let refuse = r#"refuse() { echo '{"code": 53, "msg": "no"}'; exit 1; }"#;
    let log = r#"echo "$CNI_COMMAND" >>/run/test/verbs"#;
    bed.script("bridge", &format!("#!/bin/sh\ncat >/dev/null\n{refuse}\n{log}\n{lines}\n"));
}

#[test]
fn del_undoes_add() {
    case(|bed| {
        let (network, pod, before) = settled(bed);
        for is_there in [true, false] {
            network.add(&pod, "c1").success();
            if !is_there {
                bed.destroy(&pod);
            }
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn what_was_never_added_is_gone() {
    case(|bed| {
        // flanneld has not even begun.
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        for changes in
            [json!({}), json!({"delegate": {"type": "ptp"}}), json!({"cniVersion": "0.2.0"})]
        {
            bed.network(flannel(&changes)).del(&pod, "c1").silent();
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_delegate_that_refuses_leaves_no_state() {
    case(|bed| {
        bed.lease_subnet();
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        bridge(bed, "refuse");
        bed.network(flannel(&json!({}))).add(&pod, "c1").fails_with(53, "no");
        bed.assert_unchanged_since(&before);
        assert_eq!(bed.read("/run/test/verbs"), "ADD\n");
    });
}

#[test]
fn a_delegate_that_dies_is_asked_to_clean_up() {
    case(|bed| {
        bed.lease_subnet();
        let pod = bed.sandbox("pod");
        bridge(bed, "[ $CNI_COMMAND = DEL ] || kill -9 $$");
        let network = bed.network(flannel(&json!({})));
        network.add(&pod, "c1").fails_with(999, "");
        assert_eq!(bed.read("/run/test/verbs"), "ADD\nDEL\n");
        assert!(!has_state(bed));
        // As long as that fails, there is something for DEL to find.
        bridge(bed, "[ $CNI_COMMAND = DEL ] && refuse; kill -9 $$");
        network.add(&pod, "c1").fails_with(999, "");
        assert!(has_state(bed));
    });
}

#[test]
fn state_stays_until_the_delegate_has_cleaned_up() {
    case(|bed| {
        let (network, pod, before) = settled(bed);
        network.add(&pod, "c1").success();
        let kept = bed.read(FILE);
        bridge(bed, "refuse");
        for _ in 0..2 {
            network.del(&pod, "c1").fails_with(53, "no");
            assert_eq!(bed.read(FILE), kept);
        }
        network.gc(&[]).fails_with(53, "no");
        assert_eq!(bed.read(FILE), kept);
        bed.succeed("rm", &["/run/test/plugins/bridge"]);
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_refused_add_leaves_the_attachment_that_is_there() {
    case(|bed| {
        let (network, pod, _) = settled(bed);
        network.add(&pod, "c1").success();
        let before = bed.snapshot();
        let kept = bed.read(FILE);
        let another = bed.network(flannel(&json!({"delegate": {"mtu": 1400}})));
        another.add(&pod, "c1").fails_with(4, "CNI_IFNAME");
        assert_eq!(bed.read(FILE), kept);
        bed.assert_unchanged_since(&before);
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn of_two_adds_one_is_told_to_try_again() {
    case(|bed| {
        bed.lease_subnet();
        let pod = bed.sandbox("pod");
        let network = bed.network(flannel(&json!({})));
        // Its delegate is the rival: the same ADD again, and then a DEL.
        let flannel = testbed::bin_dir().join("flannel");
        let again = format!("exec env CNI_COMMAND=$verb {} </run/test/config", flannel.display());
        bed.write("/run/test/config", network.config().to_string());
        let ips: Value = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.5.17.2/24"}]});
        bridge(
            bed,
            &format!(
                "[ $GIRDER_DEPTH = 1 ] || exit 0\n[ $CNI_COMMAND = ADD ] || exit 0\n\
             for verb in ADD DEL; do ( {again} ) >>/run/test/rival; done\necho '{ips}'"
            ),
        );
        network.add(&pod, "c1").success();
        let rival = bed.read("/run/test/rival");
        assert!(rival.contains("is running") && rival.contains("\"code\": 11"), "{rival}");
        assert!(has_state(bed), "the DEL has left the state to the ADD");
    });
}

#[test]
fn a_killed_add_or_del_is_cleaned_up_by_one_del() {
    case(|bed| {
        let (network, pod, before) = settled(bed);
        let mut deaths = Death::each(|death| {
            let survived = death.spares(network.call("ADD", "c1").netns(pod.path()));
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            survived
        });
        deaths += Death::each(|death| {
            network.add(&pod, "c1").success();
            let survived = death.spares(network.again("DEL", "c1").netns(pod.path()));
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 20, "{deaths} deaths");
    });
}

#[test]
fn a_killed_add_is_collected() {
    case(|bed| {
        let (network, pod, before) = settled(bed);
        let deaths = Death::each(|death| {
            let survived = death.spares(network.call("ADD", "c1").netns(pod.path()));
            // What it had only begun to write tells nothing, and goes when it is old.
            let age = r"find /var/lib/cni/flannel -name ':*' -exec touch -d '1 hour ago' {} +";
            bed.succeed("sh", &["-c", age]);
            network.gc(&["earlier"]).silent();
            bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 10, "{deaths} deaths");
    });
}
