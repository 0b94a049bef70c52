//! Many pods at once.

use std::{collections::BTreeSet, thread};

use crate::{bed::Testbed, network::Network, place::Sandbox, result::addresses};

/// New sandboxes, and the container IDs that go with them.
#[must_use]
pub fn sandboxes(bed: &Testbed, count: usize) -> Vec<(Sandbox, String)> {
    let name = |number| format!("c{number}");
    (0..count).map(|number| (bed.sandbox(&name(number)), name(number))).collect()
}

/// Adds all at the same time: their addresses.
pub fn add_all(network: &Network<'_>, pods: &[(Sandbox, String)]) -> Vec<String> {
    thread::scope(|scope| {
        let add = |(pod, name): &(Sandbox, String)| addresses(&network.add(pod, name).result());
        let running: Vec<_> = pods.iter().map(|pod| scope.spawn(move || add(pod))).collect();
        running.into_iter().flat_map(|add| add.join().expect("every ADD succeeds")).collect()
    })
}

/// Deletes all at the same time.
pub fn del_all(network: &Network<'_>, pods: &[(Sandbox, String)]) {
    thread::scope(|scope| {
        for (pod, name) in pods {
            scope.spawn(|| network.del(pod, name).silent());
        }
    });
}

/// Asserts that there are so many addresses, all of them different.
#[track_caller]
pub fn assert_distinct(all: &[String], count: usize) {
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (count, count), "{all:?}");
}
