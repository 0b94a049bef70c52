//! What a pod costs: `RunPodSandbox` and `StopPodSandbox`, with our plugins and with the Go plugins in
//! turn. Not a test: `make bench-runtimes` runs it, and people read what it prints.

use std::{path::Path, time::Duration};

use testbed::{REFERENCE, bin_dir};

use crate::{
    containerd::{Containerd, Release},
    differences::case,
    pod::{Pod, Port, Wish},
};

/// How many pods each of them makes, after one that makes bridge and shared rules.
const ROUNDS: usize = 20;

/// A column of times.
fn describe(times: &[Duration]) -> (Duration, String) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let (middle, last) = (sorted[sorted.len() / 2], sorted[sorted.len() * 95 / 100]);
    (middle, format!("{middle:.1?} / {last:.1?} / {:.1?}", sorted[0]))
}

#[test]
#[ignore = "it measures"]
fn what_a_pod_costs() {
    case(|ours| {
        case(|theirs| {
            theirs.install(Path::new(REFERENCE));
            let contenders = [ours, theirs].map(|node| Containerd::new(node, Release::Later));
            // The same configuration for both, and what the older one of them takes.
            for node in [ours, theirs] {
                node.configure("1.0.0");
            }
            let mut times = [const { [Vec::new(), Vec::new()] }; 2];
            for round in 0..=ROUNDS {
                for turn in 0..2 {
                    let who = (round + turn) % 2;
                    let wish = Wish::new(&format!("pod-{round}")).port(Port::Tcp(8080, 80));
                    let (pod, run) = Pod::timed(&contenders[who], wish).unwrap();
                    let stop = pod.stop();
                    pod.remove();
                    if round > 0 {
                        times[who][0].push(run.took);
                        times[who][1].push(stop.took);
                    }
                }
            }
            println!(
                "{ROUNDS} pods with a host port each, median / p95 / min: {:?}, Go",
                bin_dir()
            );
            for (call, name) in ["RunPodSandbox", "StopPodSandbox"].into_iter().enumerate() {
                let [ours, theirs] = [0, 1].map(|who| describe(&times[who][call]));
                let ratio = ours.0.as_secs_f64() / theirs.0.as_secs_f64();
                println!("{name}: {} , {} : {ratio:.2}", ours.1, theirs.1);
            }
        });
    });
}
