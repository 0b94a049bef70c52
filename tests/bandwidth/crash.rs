//! Limits in a hurry: killed half way, and two at a time.

use std::thread;

use serde_json::{Value, json};
use testbed::{
    Death,
    bandwidth::{on_bridge, rates},
    chain::{Chain, with_result},
    config::changed,
    crowd::sandboxes,
    wait::until_so,
};

use crate::differences::case;

fn chain<'bed>(bed: &'bed testbed::Testbed) -> Chain<'bed> {
    let mut chain = on_bridge(bed, &rates(8_000_000, 16_000_000));
    for plugin in &mut chain.plugins {
        *plugin = changed(plugin.clone(), &json!({"cniVersion": "1.1.0"}));
    }
    chain
}

#[test]
fn a_killed_add_is_cleaned_up_by_del_and_by_gc() {
    case(|bed| {
        let chain = chain(bed);
        chain.add(&bed.sandbox("earlier"), "earlier");
        let before = bed.snapshot();
        for by_gc in [false, true] {
            let deaths = Death::each(|death| {
                let pod = bed.sandbox("pod");
                let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
                let config = with_result(&chain.plugins[1], &result);
                let survived = death.spares(bed.call("ADD", "c1", &config).netns(pod.path()));
                if by_gc {
                    chain.gc(&["earlier"]);
                } else {
                    chain.del(&pod, "c1", &Value::Null);
                }
                bed.assert_unchanged_since(&before);
                pod.destroy();
                survived
            });
            assert!(deaths > 15, "it was hardly ever killed: {deaths}");
        }
    });
}

#[test]
fn a_killed_del_is_repeated() {
    case(|bed| {
        let chain = chain(bed);
        chain.add(&bed.sandbox("earlier"), "earlier");
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        let deaths = Death::each(|death| {
            let result = chain.add(&pod, "c1");
            let config = with_result(&chain.plugins[1], &result);
            let survived = death.spares(bed.call("DEL", "c1", &config).netns(pod.path()));
            chain.del(&pod, "c1", &result);
            bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 6, "it was hardly ever killed: {deaths}");
    });
}

#[test]
fn of_two_adds_at_once_one_makes_the_limits() {
    case(|bed| {
        let chain = chain(bed);
        for round in 0..5 {
            let pod = bed.sandbox(&format!("pod{round}"));
            let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let config = with_result(&chain.plugins[1], &result);
            let add = || chain.run("ADD", &config, &pod, "c1");
            let outcomes = thread::scope(|scope| {
                let other = scope.spawn(add);
                [add(), other.join().unwrap()]
            });
            let [won, lost]: [Vec<_>; 2] = [true, false]
                .map(|is| outcomes.iter().filter(|one| one.status.success() == is).collect());
            assert_eq!((won.len(), lost.len()), (1, 1), "{outcomes:?}");
            chain.check(&pod, "c1", &won[0].result());
            chain.del(&pod, "c1", &Value::Null);
        }
    });
}

#[test]
fn del_during_add_is_told_to_wait() {
    case(|bed| {
        let (chain, pod) = (chain(bed), bed.sandbox("pod"));
        let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
        let config = with_result(&chain.plugins[1], &result);
        let call = |verb: &str| bed.call(verb, "c1", &config).netns(pod.path());
        // The answer, which comes when all is made.
        let slow = "-e trace=write -e inject=write:delay_enter=1500000";
        let ifbs = || bed.snapshot().lines("link \"bwp").count();
        thread::scope(|threads| {
            let add = threads.spawn(|| bed.strace(call("ADD"), slow).0);
            until_so("the ifb", || ifbs() == 1);
            call("DEL").run().fails_with(11, "another ADD or DEL of this attachment");
            assert_eq!(ifbs(), 1);
            let result = add.join().unwrap().result();
            chain.check(&pod, "c1", &result);
        });
        call("DEL").run().silent();
        assert_eq!(ifbs(), 0);
    });
}

#[test]
fn gc_lets_those_be_that_are_being_added() {
    case(|bed| {
        let chain = chain(bed);
        let before = bed.snapshot();
        let pods = sandboxes(bed, 10);
        thread::scope(|scope| {
            let adds: Vec<_> =
                pods.iter().map(|(pod, id)| scope.spawn(|| chain.add(pod, id))).collect();
            while !adds.iter().all(thread::ScopedJoinHandle::is_finished) {
                let own =
                    changed(chain.plugins[1].clone(), &json!({"cni.dev/valid-attachments": []}));
                bed.plugin("bandwidth").command("GC").config(&own).run().silent();
            }
            let results = adds.into_iter().map(|add| add.join().unwrap());
            for ((pod, id), result) in pods.iter().zip(results) {
                chain.check(pod, id, &result);
                chain.del(pod, id, &result);
            }
        });
        let links = |snapshot: &testbed::Snapshot| snapshot.lines("link \"bwp").count();
        assert_eq!(links(&before), links(&bed.snapshot()));
    });
}
