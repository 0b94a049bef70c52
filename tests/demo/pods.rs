//! The pods, and `cnitool` run for them as by hand.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::{Sandbox, Testbed, bin_dir};

use crate::{
    page::{Page, Step, ms, wrong},
    server::{PORT, Server, ask},
};

/// Where `cnitool` finds the networks, and where it keeps results.
const CONFIG: &str = "/etc/cni/net.d";
pub(crate) const CACHE: &str = "/var/lib/cni/results";

/// The network of the pods: of the example that is installed.
pub(crate) const POD_NETWORK: &str = "pods";

/// In the order in which a runtime attaches a pod to them.
pub(crate) const NETWORKS: [Network; 2] =
    [Network { name: "lo", ifname: "lo" }, Network { name: POD_NETWORK, ifname: "eth0" }];

/// The examples are what is demonstrated.
const EXAMPLES: [(&str, &str); 2] = [
    ("10-pods.conflist", include_str!("../../conf/10-pods.conflist")),
    ("99-loopback.conflist", include_str!("../../conf/99-loopback.conflist")),
];

/// A network, and the interface that it makes in a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    pub(crate) name: &'static str,
    ifname: &'static str,
}

/// How long one call took.
#[derive(Debug)]
pub(crate) struct Timing {
    pub(crate) verb: &'static str,
    pub(crate) network: &'static str,
    pub(crate) pod: &'static str,
    pub(crate) took: Duration,
}

/// Everything that the story is about.
#[derive(Debug)]
pub(crate) struct Demo<'bed> {
    pub(crate) bed: &'bed Testbed,
    pub(crate) page: Page,
    pub(crate) pods: [Pod; 2],
    pub(crate) server: Option<Server>,
    pub(crate) calls: Vec<Timing>,
}

impl<'bed> Demo<'bed> {
    /// A host with pods and configured networks, in which nothing is attached yet.
    pub(crate) fn new(bed: &'bed Testbed, mut page: Page) -> Self {
        let start = Instant::now();
        let pods = ["pod-a", "pod-b"].map(|name| Pod::new(bed, name));
        page.step("namespaces pod-a and pod-b", Ok(ms(start.elapsed())));
        for (name, content) in EXAMPLES {
            bed.write(&format!("{CONFIG}/{name}"), content);
        }
        let names = EXAMPLES.map(|(name, _)| name).join(" ");
        page.step(&format!("{CONFIG} from conf/"), Ok(names));
        Self { bed, page, pods, server: None, calls: Vec::new() }
    }

    /// `cnitool <verb>` for both pods, network after network.
    pub(crate) fn run_for_all(&mut self, verb: &'static str, networks: &[Network]) {
        for number in 0..self.pods.len() {
            for network in networks {
                let step = self.run(verb, *network, number);
                let sentence = format!("{verb} {} {}", network.name, self.pods[number].name);
                self.page.step(&sentence, step);
            }
        }
    }

    fn run(&mut self, verb: &'static str, network: Network, number: usize) -> Step {
        let pod = &mut self.pods[number];
        let call = self.bed.plugin("cnitool").argument(verb).argument(network.name);
        let call = call.argument(pod.sandbox.path()).env("NETCONFPATH", CONFIG);
        let call = call.cni_path(&bin_dir().to_string_lossy()).ifname(network.ifname);
        let start = Instant::now();
        let outcome = call.run();
        let took = start.elapsed();
        self.calls.push(Timing { verb, network: network.name, pod: pod.name, took });
        if !outcome.status.success() {
            return wrong("exit status 0", format!("{}\n{}", outcome.status, outcome.stderr));
        }
        if verb != "add" {
            return Ok(format!("{:>8}", ms(took)));
        }
        let result = serde_json::from_str::<Value>(&outcome.stdout);
        let Some(address) = result.as_ref().ok().and_then(first_address) else {
            return wrong("a result with an address", outcome.stdout);
        };
        if network.name == POD_NETWORK {
            pod.result = result.ok();
        }
        Ok(format!("{:>8}   {} {address}", ms(took), network.ifname))
    }
}

fn first_address(result: &Value) -> Option<String> {
    result["ips"][0]["address"].as_str().map(ToOwned::to_owned)
}

/// A namespace, and what `cnitool` printed when it was attached to the network of the pods.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) sandbox: Sandbox,
    pub(crate) result: Option<Value>,
}

impl Pod {
    fn new(bed: &Testbed, name: &'static str) -> Self {
        Self { name, sandbox: bed.sandbox(name), result: None }
    }

    /// The address that ADD reported, with its prefix length.
    pub(crate) fn reported(&self) -> Option<String> {
        first_address(self.result.as_ref()?)
    }

    /// The address by which others reach the pod.
    pub(crate) fn address(&self) -> Option<String> {
        Some(self.reported()?.split('/').next()?.to_owned())
    }

    /// The host's end of the pod's pair.
    pub(crate) fn host_end(&self) -> Option<String> {
        let interfaces = self.result.as_ref()?["interfaces"].as_array()?;
        let mut names = interfaces.iter().filter_map(|interface| interface["name"].as_str());
        Some(names.find(|name| name.starts_with("veth"))?.to_owned())
    }

    /// Lets a client in this pod ask the server at `address`, which answers with what it saw: an
    /// address that is not the pod's own was translated on the way.
    pub(crate) fn ask(&self, address: Option<&str>) -> Step {
        let expected = "an answer";
        let Some(address) = address else { return wrong(expected, "the server has no address") };
        let Ok(server) = address.parse::<IpAddr>() else { return wrong("an address", address) };
        match ask(&self.sandbox, server) {
            Ok((own, answer)) if answer == format!("hello {own}") => {
                Ok(format!("{own} -> {server}:{PORT} \"hello\""))
            }
            Ok((own, answer)) => wrong(format!("hello {own}"), answer),
            Err(error) => wrong(format!("{expected} from {server}:{PORT}"), error),
        }
    }
}
