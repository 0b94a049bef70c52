//! The file of what was before: whole at any time, and nobody else's to take.

use std::thread;

use serde_json::json;
use testbed::{
    Death,
    config::changed,
    tuning::{DATA_DIR, restored},
    until_so,
};

use crate::differences::case;

#[test]
fn a_killed_repeated_add_keeps_what_was_before_the_first() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &json!({"mtu": 1400}));
        let more = changed(network.config().clone(), &json!({"mtu": 1300, "txQLen": 5}));
        let deaths = Death::each(|death| {
            network.add(&pod, "c1").success();
            let again = network.call("ADD", "c1").netns(pod.path()).config(&more);
            let survived = death.spares(again);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert_restored(&format!("{death:?}"));
            survived
        });
        assert!(deaths > 10, "it was hardly ever killed");
    });
}

#[test]
fn del_takes_nothing_from_an_add_that_runs() {
    case(|bed| {
        let keys = json!({"sysctl": {"net.core.somaxconn": "500"}});
        let (network, pod, assert_restored) = restored(bed, &keys);
        let call = |verb: &str| network.call(verb, "c1").netns(pod.path());
        // The first is that of the file.
        let slow = "-e trace=write -e inject=write:delay_enter=1500000:when=2";
        thread::scope(|threads| {
            let add = threads.spawn(|| bed.strace(call("ADD"), slow).0);
            let file = bed.file(format!("{DATA_DIR}/sysctl/c1_eth0.json"));
            until_so("the file", || file.exists());
            call("DEL").run().fails_with(11, "is running");
            add.join().unwrap().success();
        });
        assert_eq!(pod.sysctl("net/core/somaxconn").as_deref(), Some("500"));
        call("DEL").run().silent();
        assert_restored("added");
    });
}

#[test]
fn gc_tells_of_a_directory_that_cannot_be_read() {
    case(|bed| {
        let keys = json!({"cniVersion": "1.1.0", "dataDir": "/run/test/loop"});
        let (network, _pod, _) = restored(bed, &keys);
        bed.succeed("ln", &["-s", "loop", "/run/test/loop"]);
        network.gc(&[]).fails_with(5, "failed to read /run/test/loop");
    });
}
