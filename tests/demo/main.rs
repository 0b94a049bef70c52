//! Two pods on one bridge, in a throw-away host: what `make demo` shows.
//!
//! | file | what it is |
//! |---|---|
//! | `main.rs` | the story, in the order in which it is told |
//! | `pods.rs` | the pods, and `cnitool` run for them |
//! | `picture.rs` | results, leases, topology and times as a person likes to see them |
//! | `server.rs` | the container: a process in a pod |
//! | `kernel.rs` | what the kernel has |
//! | `page.rs` | lines of 80 columns |

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "people read what it prints; it starts programs, and asks the environment for colour"
)]

mod kernel;
mod page;
mod picture;
mod pods;
mod server;

use std::{env, fs, os::unix::fs::MetadataExt as _, process::ExitCode, time::Instant};

use testbed::Testbed;

use crate::{
    page::{Page, Step, ms, wrong},
    pods::{Demo, POD_NETWORK, Pod},
    server::Server,
};

/// The network of the example configuration keeps its bridge when the last pod has gone.
const BRIDGE: &str = "cni0";

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(server::SERVE) {
        return match server::serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        eprintln!("demo: making a throw-away host needs root: run `make demo`");
        return ExitCode::FAILURE;
    }
    if tell() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every step is tried, whatever came of the one before; the host, and all that is in it, goes
/// when this returns or panics.
fn tell() -> bool {
    let start = Instant::now();
    let mut page = Page::new();
    page.heading("A throw-away host, and two pods in it");
    let bed = Testbed::new();
    page.step("its own links, mounts and processes", Ok(ms(start.elapsed())));
    let mut demo = Demo::new(&bed, page);
    demo.attach();
    demo.look();
    demo.talk();
    demo.check();
    demo.restart();
    demo.detach();
    demo.look_for_traces();
    demo.times();
    let page = demo.page;
    drop(bed);
    page.close(start.elapsed())
}

impl Demo<'_> {
    fn attach(&mut self) {
        self.page.heading("ADD");
        self.page.aside("cnitool add <network> /run/netns/<pod>");
        self.run_for_all("add", &pods::NETWORKS);
    }

    fn look(&mut self) {
        self.page.heading(&format!("What `cnitool add {POD_NETWORK} ..` printed for pod-b"));
        picture::result(&self.page, &self.pods[1]);
        self.page.heading(&format!("Leases, of {}", picture::lease_file()));
        picture::leases(&self.page, self.bed, &self.pods);
        self.page.heading("Topology, as the kernel has it");
        picture::topology(&self.page, self.bed, BRIDGE, &self.pods);
        self.page.gap();
        for number in 0..self.pods.len() {
            let step = compare_with_result(&self.pods[number]);
            let name = self.pods[number].name;
            self.page.step(&format!("{name} has what its result says"), step);
            let step = find_port(self.bed, &self.pods[number]);
            self.page.step(&format!("{name} is plugged into the bridge"), step);
        }
    }

    fn talk(&mut self) {
        self.page.heading("Packets: a server in pod-a");
        self.server = self.start_server("it listens");
        self.ask_over_bridge("pod-b reaches pod-a over the bridge");
        let own = Some("127.0.0.1".to_owned());
        let step = self.pods[0].ask(own.as_deref());
        self.page.step("pod-a reaches itself over lo", step);
    }

    fn start_server(&mut self, sentence: &str) -> Option<Server> {
        match Server::start(&self.pods[0].sandbox) {
            Ok(server) => {
                self.page.step(sentence, Ok(server.ready.clone()));
                Some(server)
            }
            Err(error) => {
                self.page.step(sentence, wrong("a process that listens", error));
                None
            }
        }
    }

    fn kill_server(&mut self, sentence: &str) {
        let step = match self.server.take().map(Server::kill) {
            Some(Ok(status)) => Ok(status),
            Some(Err(error)) => wrong("a process that ends", error),
            None => wrong("a server that runs", "none"),
        };
        self.page.step(sentence, step);
    }

    fn ask_over_bridge(&mut self, sentence: &str) {
        let [server, client] = &self.pods;
        let step = client.ask(server.address().as_deref());
        self.page.step(sentence, step);
    }

    fn check(&mut self) {
        self.page.heading("CHECK");
        self.run_for_all("check", &pods::NETWORKS);
    }

    /// A pod's address belongs to its namespace, not to the processes in it.
    fn restart(&mut self) {
        self.page.heading("The container stops and starts again");
        self.kill_server("killed");
        let step = compare_with_result(&self.pods[0]);
        self.page.step("pod-a keeps its address", step);
        self.server = self.start_server("started again");
        self.ask_over_bridge("pod-b reaches it where it was");
        self.kill_server("stopped, for good");
    }

    fn detach(&mut self) {
        self.page.heading("DEL");
        let mut networks = pods::NETWORKS;
        networks.reverse();
        self.run_for_all("del", &networks);
    }

    fn look_for_traces(&mut self) {
        self.page.heading("Nothing is left");
        for number in 0..self.pods.len() {
            let pod = &self.pods[number];
            let step = only(&["lo"], kernel::links(&pod.sandbox).into_keys());
            self.page.step(&format!("links in {}", pod.name), step);
        }
        let step = only(&["lo", BRIDGE], kernel::links(self.bed).into_keys());
        self.page.step("links of the host (pods share cni0)", step);
        let leases = self.bed.leases(POD_NETWORK).into_keys();
        self.page.step("leases", only(&[], leases.map(|address| address.to_string())));
        let step = only(&[], kernel::files(self.bed, pods::CACHE));
        self.page.step("results that cnitool keeps", step);
    }

    fn times(&self) {
        self.page.heading("Times, of cnitool and its plugins together, in ms");
        picture::times(&self.page, &self.calls, &self.pods);
    }
}

/// The addresses that the pod's plugins reported against those that its links have.
fn compare_with_result(pod: &Pod) -> Step {
    let links = kernel::links(&pod.sandbox);
    let has = |link: &str| links.get(link).map(|found| found.join(" ")).unwrap_or_default();
    let got = format!("lo {}, eth0 {}", has("lo"), has("eth0"));
    let expected = ["127.0.0.1/8".to_owned(), pod.reported().unwrap_or("an address".to_owned())];
    let [lo, eth0] = &expected;
    if has("lo").split(' ').any(|found| found == lo) && has("eth0") == *eth0 {
        Ok(format!("eth0 {eth0}, lo {lo}"))
    } else {
        wrong(format!("lo {lo}, eth0 {eth0}"), got)
    }
}

fn find_port(bed: &Testbed, pod: &Pod) -> Step {
    let ports = kernel::ports(bed, BRIDGE);
    match pod.host_end() {
        Some(end) if ports.contains(&end) => Ok(format!("{end} is a port of {BRIDGE}")),
        end => wrong(
            format!("{} as a port of {BRIDGE}", end.unwrap_or("a link".to_owned())),
            format!("ports: {ports:?}"),
        ),
    }
}

/// Nothing but what is allowed to be there, of which nothing may be missing either.
fn only(allowed: &[&str], found: impl IntoIterator<Item = String>) -> Step {
    let mut found: Vec<_> = found.into_iter().collect();
    let mut allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
    found.sort();
    allowed.sort();
    let list = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    if found == allowed { Ok(list(&found)) } else { wrong(list(&allowed), list(&found)) }
}
