//! Results, leases, topology and times as a person likes to see them.

use std::time::Duration;

use serde_json::Value;
use testbed::{Testbed, leases::DATA_DIR};

use crate::{
    kernel,
    page::Page,
    pods::{NETWORKS, POD_NETWORK, Pod, Timing},
};

/// Where the addresses of the pods' network are written down.
pub(crate) fn lease_file() -> String {
    format!("{DATA_DIR}/{POD_NETWORK}/leases")
}

/// A result, one line for each thing that it names.
pub(crate) fn result(page: &Page, pod: &Pod) {
    let Some(result) = &pod.result else { return page.line("nothing") };
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = |key: &str| result[key].as_array().cloned().unwrap_or_default();
    page.line(format!("cniVersion  {}", text(&result["cniVersion"])));
    for interface in list("interfaces") {
        let place = interface["sandbox"].as_str().filter(|path| !path.is_empty());
        let (name, mac) = (text(&interface["name"]), text(&interface["mac"]));
        page.line(format!("interface   {name:14} {mac}  {}", place.unwrap_or("the host")));
    }
    for ip in list("ips") {
        let (address, gateway) = (text(&ip["address"]), text(&ip["gateway"]));
        page.line(format!("address     {address:14} gateway {gateway}"));
    }
    for route in list("routes") {
        let (to, via) = (text(&route["dst"]), text(&route["gw"]));
        page.line(format!("route       {to:14} via {via}"));
    }
}

/// Who holds which address, by the words of the lease file.
pub(crate) fn leases(page: &Page, bed: &Testbed, pods: &[Pod]) {
    let leases = bed.leases(POD_NETWORK);
    if leases.is_empty() {
        return page.line("none");
    }
    for (address, owner) in leases {
        let held = |pod: &&Pod| pod.address() == Some(address.to_string());
        let pod = pods.iter().find(held).map_or("?", |pod| pod.name);
        page.line(format!("{address:15} {pod}  {owner}"));
    }
}

/// Who is connected to whom. Only the way from a port of the bridge to its pod is taken from the
/// result: neither end of a pair knows the name of the other.
pub(crate) fn topology(page: &Page, bed: &Testbed, bridge: &str, pods: &[Pod]) {
    let addresses = kernel::links(bed).remove(bridge);
    let addresses = addresses.map_or("missing".to_owned(), |found| found.join(" "));
    page.line("host");
    page.line(format!("└── {bridge}  {addresses}"));
    let ports = kernel::ports(bed, bridge);
    for (number, port) in ports.iter().enumerate() {
        let branch = if number + 1 == ports.len() { "└──" } else { "├──" };
        let pod = pods.iter().find(|pod| pod.host_end().as_ref() == Some(port));
        let end = pod.map_or("?".to_owned(), |pod| {
            let mut links = kernel::links(&pod.sandbox);
            let addresses = links.remove("eth0").unwrap_or_default().join(" ");
            format!("{} eth0  {addresses}", pod.name)
        });
        page.line(format!("    {branch} {port} ── {end}"));
    }
}

/// A line for each verb, a column for each attachment, and their sum.
pub(crate) fn times(page: &Page, calls: &[Timing], pods: &[Pod]) {
    let columns: Vec<_> =
        pods.iter().flat_map(|pod| NETWORKS.map(|network| (pod.name, network.name))).collect();
    let names = columns.iter().map(|(pod, network)| format!("{:>13}", format!("{pod} {network}")));
    page.line(format!("     {}{:>9}", names.collect::<String>(), "sum"));
    for verb in ["add", "check", "del"] {
        let of_verb = || calls.iter().filter(|call| call.verb == verb);
        let cells = columns.iter().map(|column| {
            let call = of_verb().find(|call| (call.pod, call.network) == *column);
            format!("{:>13}", call.map_or("-".to_owned(), |call| number(call.took)))
        });
        let sum = number(of_verb().map(|call| call.took).sum());
        let verb = verb.to_uppercase();
        page.line(format!("{verb:5}{}{sum:>9}", cells.collect::<String>()));
    }
}

fn number(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64() * 1e3)
}
