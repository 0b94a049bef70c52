//! JSON to plan. Everything that can be wrong with a configuration is found here.

use crate::range::{Limits, RangeSet};
use crate::resolv;
use crate::value::{Excluded, RequestedIp};
use common::attach::kept::GRACE_AGE;
use common::cni::ipam::{OptionalIp, no_ipam, refuse_untellable};
use common::cni::{Cidr, Context as _, Dns, Route, Timeout, Verb, Version};
use common::{Call, Code, Error, Network, Result};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DATA_DIR: &str = "/var/lib/cni/networks";

/// Far longer than anybody holds the lock, and well within what a runtime grants a plugin.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The part that says where the leases are. It stands apart because DEL and GC need no more: an
/// attachment must get rid of its addresses whatever has become of the ranges since.
#[derive(Clone, Debug)]
pub struct Pool {
    /// `<dataDir>/<network>`
    pub directory: PathBuf,
    /// How long to wait for the others.
    pub lock_timeout: Duration,
    /// Which proof of death is good enough.
    pub reclaim: Reclaim,
    /// A younger lease may be of an ADD that is still going on.
    pub grace_age: Duration,
    /// What a pod that comes back is known by.
    pub sticky: Option<Sticky>,
}

/// When the leases of others are ended to make room (`reclaim`). What is proven to be dead is known
/// by its boot or by its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reclaim {
    /// When they are of an earlier boot, which no network namespace outlives, or when the link of
    /// the host is gone that goes with the network namespace.
    #[default]
    Boot,
    /// The same. Earlier versions asked for this word before they believed in a link.
    Netns,
    /// Never.
    Never,
}

/// What a pod is known by when it comes back (`sticky`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// Its namespace and its name, as Kubernetes gives them.
    Pod,
    /// Its name alone: `podman run --name`, whatever it tells as its namespace.
    Name,
}

/// What STATUS says when a range set is exhausted (`statusOnFull`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusOnFull {
    /// Nothing but a line on stderr: runtimes take a node out of service whose STATUS fails, while
    /// its pods run, and it is by their end that addresses become free.
    #[default]
    Ignore,
    /// That no ADD can be served.
    Fail,
}

/// Where the leases are and what to hand out; with the addresses that are asked for, if it is for an
/// ADD.
///
/// # Errors
/// Code 7, and 4 for `CNI_ARGS`.
pub fn load(call: &Call) -> Result<(Pool, Plan)> {
    // First: whoever examines a configuration learns our keys from what is read, and ranges that
    // make no sense end that.
    let pool = Pool::load(&call.network)?;
    let plan = match call.verb {
        Verb::Add => Plan::load_with_requests(call)?,
        _ => Plan::load(call)?,
    };
    Ok((pool, plan))
}

impl Pool {
    /// Understands `dataDir`, `lockTimeout`, `reclaim`, `graceAge` and `sticky`.
    ///
    /// # Errors
    /// Code 7.
    pub fn load(network: &Network) -> Result<Self> {
        #[derive(Deserialize)]
        struct Config {
            ipam: Option<Ipam>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Ipam {
            data_dir: Option<String>,
            lock_timeout: Option<Timeout>,
            reclaim: Option<Reclaim>,
            grace_age: Option<Timeout>,
            sticky: Option<Sticky>,
        }
        let config: Config = network.config()?;
        let ipam = config.ipam.ok_or_else(no_ipam)?;
        Ok(Self {
            directory: directory(network, ipam.data_dir),
            lock_timeout: ipam.lock_timeout.map_or(LOCK_TIMEOUT, |timeout| timeout.0),
            reclaim: ipam.reclaim.unwrap_or_default(),
            grace_age: ipam.grace_age.map_or(GRACE_AGE, |age| age.0),
            sticky: ipam.sticky,
        })
    }

    /// The same for DEL and GC: a key that cannot be understood any more counts as absent.
    pub fn load_tolerantly(network: &Network) -> Self {
        let age = |key| network.tolerant::<Timeout>(&["ipam", key]).map(|age| age.0);
        Self {
            directory: directory(network, network.tolerant(&["ipam", "dataDir"])),
            lock_timeout: age("lockTimeout").unwrap_or(LOCK_TIMEOUT),
            reclaim: network.tolerant(&["ipam", "reclaim"]).unwrap_or_default(),
            grace_age: age("graceAge").unwrap_or(GRACE_AGE),
            sticky: network.tolerant(&["ipam", "sticky"]),
        }
    }
}

fn directory(network: &Network, data_dir: Option<String>) -> PathBuf {
    let data_dir = data_dir.filter(|path| !path.is_empty());
    Path::new(data_dir.as_deref().unwrap_or(DATA_DIR)).join(network.name.as_str())
}

/// What to hand out, and what to tell with it.
#[derive(Debug, Default)]
pub struct Plan {
    /// One address is taken from each.
    pub sets: Vec<RangeSet>,
    /// Addresses that must be among those, without duplicates.
    pub requests: Vec<Request>,
    /// Handed on as they are.
    pub routes: Vec<Route>,
    /// The file with the name servers.
    pub resolv_conf: Option<PathBuf>,
    /// What STATUS says when there is no address left.
    pub status_on_full: StatusOnFull,
}

/// An address that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The address.
    pub ip: IpAddr,
    /// Who.
    pub source: Source,
}

/// Where a request came from, which decides about the code of its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `CNI_ARGS`
    Args,
    /// `args.cni.ips` or `runtimeConfig.ips`
    Config,
}

impl Source {
    /// What to answer when the request makes no sense.
    pub fn code(self) -> Code {
        match self {
            Self::Args => Code::BadEnvironment,
            Self::Config => Code::InvalidConfig,
        }
    }
}

impl Plan {
    /// Understands ranges, routes and `resolvConf`; no requests.
    ///
    /// # Errors
    /// Code 7.
    pub fn load(call: &Call) -> Result<Self> {
        Self::read(&call.network, call.version)
    }

    /// The same for whoever is not called as a plugin.
    ///
    /// # Errors
    /// Code 7.
    pub fn read(network: &Network, version: Version) -> Result<Self> {
        Self::new(network.config()?, version, None)
    }

    /// The same with the requested addresses, of which only an ADD knows.
    ///
    /// # Errors
    /// Code 7, and 4 for `CNI_ARGS`.
    pub fn load_with_requests(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let args = call.args()?;
        let requested = args.get("IP").filter(|text| !text.is_empty()).map(|text| {
            text.parse().map_err(|reason: String| {
                let msg = format!("ARGS: error parsing value of pair \"IP={text}\": {reason}");
                Error::new(Code::BadEnvironment, msg)
            })
        });
        Self::new(config, call.version, requested.transpose()?)
    }

    fn new(config: Config, version: Version, argument: Option<RequestedIp>) -> Result<Self> {
        let ipam = config.ipam.ok_or_else(no_ipam)?;
        let requests = merge(argument, &config.args.cni.ips, &config.runtime_config.ips);
        let old_style = ipam.subnet.is_some().then(|| ipam.old_style());
        let sets = config.runtime_config.ip_ranges.into_iter();
        let sets: Vec<Vec<Limits>> = sets
            .chain(old_style.map(|range| vec![range]))
            .chain(ipam.ranges)
            .map(|set| set.into_iter().map(Limits::from).collect())
            .collect();
        if sets.is_empty() {
            return Err(Error::config("no IP ranges specified")
                .details("ipam needs ranges, as \"ranges\": [[{\"subnet\": \"10.1.0.0/24\"}]]"));
        }
        let sets = sets.iter().enumerate().map(|(index, set)| {
            RangeSet::new(set).context(format_args!("invalid range set {index}"))
        });
        let sets = sets.collect::<Result<Vec<_>>>()?;
        check_sets(&sets, version)?;
        let resolv_conf = ipam.resolv_conf.filter(|path| !path.is_empty()).map(PathBuf::from);
        let (routes, status_on_full) = (ipam.routes, ipam.status_on_full);
        Ok(Self { sets, requests, routes, resolv_conf, status_on_full })
    }

    /// What `resolvConf` says.
    ///
    /// # Errors
    /// Code 5 when it cannot be read.
    pub fn read_dns(&self) -> Result<Dns> {
        self.resolv_conf.as_deref().map_or_else(|| Ok(Dns::default()), resolv::read)
    }
}

fn merge(
    argument: Option<RequestedIp>,
    args: &[RequestedIp],
    runtime: &[RequestedIp],
) -> Vec<Request> {
    let config = args.iter().chain(runtime).map(|ip| (ip.0, Source::Config));
    let all = argument.map(|ip| (ip.0, Source::Args)).into_iter().chain(config);
    let mut requests: Vec<Request> = Vec::new();
    for (ip, source) in all {
        if !requests.iter().any(|request| request.ip == ip) {
            requests.push(Request { ip, source });
        }
    }
    requests
}

fn check_sets(sets: &[RangeSet], version: Version) -> Result<()> {
    refuse_untellable(version, sets.iter().map(RangeSet::is_ipv4))?;
    for (index, set) in sets.iter().enumerate() {
        let others = sets.iter().enumerate().skip(index + 1);
        if let Some((other, _)) = others.into_iter().find(|(_, other)| set.overlaps(other)) {
            return Err(Error::config(format!("range set {index} overlaps with {other}")));
        }
    }
    Ok(())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    ipam: Option<Ipam>,
    runtime_config: RuntimeConfig,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    ip_ranges: Vec<Vec<Range>>,
    ips: Vec<RequestedIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    ips: Vec<RequestedIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    ranges: Vec<Vec<Range>>,
    /// These four and `exclude` are the old way to write a single range. The others mean nothing
    /// without a subnet.
    subnet: Option<Cidr>,
    range_start: OptionalIp,
    range_end: OptionalIp,
    gateway: OptionalIp,
    exclude: Vec<Excluded>,
    routes: Vec<Route>,
    resolv_conf: Option<String>,
    status_on_full: StatusOnFull,
}

impl Ipam {
    fn old_style(&self) -> Range {
        Range {
            subnet: self.subnet,
            range_start: self.range_start,
            range_end: self.range_end,
            gateway: self.gateway,
            exclude: self.exclude.clone(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Range {
    subnet: Option<Cidr>,
    range_start: OptionalIp,
    range_end: OptionalIp,
    gateway: OptionalIp,
    exclude: Vec<Excluded>,
}

impl From<Range> for Limits {
    fn from(range: Range) -> Self {
        Self {
            subnet: range.subnet,
            start: range.range_start.0,
            end: range.range_end.0,
            gateway: range.gateway.0,
            exclude: range.exclude.into_iter().map(|excluded| excluded.0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(version: Version, text: &str) -> Result<Plan> {
        let text = format!(r#"{{"name": "n", {text}}}"#);
        let config = Network::parse(text.into_bytes()).unwrap().config()?;
        Plan::new(config, version, None)
    }

    fn plan(text: &str) -> Plan {
        load(Version::V1_0_0, text).unwrap()
    }

    fn refusal(version: Version, text: &str) -> String {
        let error = load(version, text).unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfig);
        error.to_string()
    }

    fn sets(plan: &Plan) -> Vec<String> {
        plan.sets.iter().map(ToString::to_string).collect()
    }

    fn requests(plan: &Plan) -> Vec<String> {
        plan.requests.iter().map(|request| request.ip.to_string()).collect()
    }

    #[test]
    fn parses_an_old_style_config() {
        let plan = plan(
            r#""ipam": {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9",
               "rangeEnd": "10.1.2.20", "gateway": "10.1.2.30", "exclude": ["10.1.2.10"]}"#,
        );
        assert_eq!(sets(&plan), ["10.1.2.9-10.1.2.20"]);
        assert_eq!(plan.sets[0].size(), 11);
        let none = refusal(Version::V1_0_0, r#""ipam": {"rangeStart": "10.1.2.9"}"#);
        assert!(none.starts_with("no IP ranges specified"));
        assert_eq!(refusal(Version::V1_0_0, r#""x": 1"#), "IPAM config missing 'ipam' key");
    }

    #[test]
    fn parses_a_new_style_config() {
        let plan = plan(
            r#""ipam": {"dataDir": "/x", "ranges": [
               [{"subnet": "10.1.2.0/24", "gateway": ""}, {"subnet": "11.1.2.0/24"}],
               [{"Subnet": "fd00::/64", "exclude": ["fd00::/112", "fd00::1:5"]}]],
               "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}, {"dst": "::/0", "gw": "fd00::1"}]}"#,
        );
        assert_eq!(sets(&plan)[0], "10.1.2.1-10.1.2.254,11.1.2.1-11.1.2.254");
        let first = plan.sets[1].after(None)[0].first;
        assert_eq!(crate::range::address(first).to_string(), "fd00::1:0");
        assert_eq!(plan.routes.len(), 2);
    }

    #[test]
    fn parses_a_mixed_config_with_runtime_args() {
        let plan = plan(
            r#""runtimeConfig": {"ipRanges": [[{"subnet": "10.3.0.0/24"}]]},
               "ipam": {"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.2.0.0/24"}]]}"#,
        );
        assert_eq!(
            sets(&plan),
            ["10.3.0.1-10.3.0.254", "10.1.0.1-10.1.0.254", "10.2.0.1-10.2.0.254"]
        );
    }

    #[test]
    fn merges_requested_addresses_with_and_without_prefix() {
        let config = r#"{"name": "n", "args": {"cni": {"ips": ["10.1.2.11/24", "fd00::9", "10.1.2.10"]}},
            "runtimeConfig": {"ips": ["10.1.2.12", "10.1.2.11"]}, "ipam": {"subnet": "10.1.2.0/24"}}"#;
        let config = Network::parse(config.into()).unwrap().config().unwrap();
        let argument = "10.1.2.10/24".parse().ok();
        let plan = Plan::new(config, Version::V1_0_0, argument).unwrap();
        assert_eq!(requests(&plan), ["10.1.2.10", "10.1.2.11", "fd00::9", "10.1.2.12"]);
        assert_eq!(plan.requests[0].source, Source::Args);
        assert_eq!(plan.requests[1].source, Source::Config);
        for bad in ["", "x", "10.1.2.3/33", "10.1.2.03", "10.1.2.3/255.0.0.0"] {
            let text = format!(r#""runtimeConfig": {{"ips": ["{bad}"]}}"#);
            let error = refusal(Version::V1_0_0, &text);
            assert!(error.contains("runtimeConfig.ips[0]: "), "{error}");
        }
    }

    #[test]
    fn detects_overlaps_and_mixed_families() {
        for (ranges, msg) in [
            (
                r#"[{"subnet": "10.1.0.0/16"}], [{"subnet": "10.1.2.0/24"}]"#,
                "range set 0 overlaps with 1",
            ),
            (
                r#"[{"subnet": "10.1.0.0/22"}, {"subnet": "10.1.2.0/24"}]"#,
                "invalid range set 0: subnets 10.1.0.1-10.1.3.254 and 10.1.2.1-10.1.2.254 overlap",
            ),
            (
                r#"[{"subnet": "10.1.0.0/22"}, {"subnet": "fd00::/64"}]"#,
                "invalid range set 0: mixed address families",
            ),
            ("[]", "invalid range set 0: empty range set"),
            (
                r#"[{"subnet": "10.1.0.0/22"}], [{"subnet": "10.9.0.0/24", "exclude": ["10.8.0.1"]}]"#,
                "invalid range set 1: exclude 10.8.0.1/32 is not in network 10.9.0.0/24",
            ),
            (
                r#"[{"subnet": "10.1.0.0/22", "exclude": ["x"]}]"#,
                "failed to load netconf: ipam.ranges[0][0].exclude[0]: ",
            ),
        ] {
            let error = refusal(Version::V1_0_0, &format!(r#""ipam": {{"ranges": [{ranges}]}}"#));
            assert!(error.starts_with(msg), "{error}");
        }
    }

    #[test]
    fn old_versions_have_one_address_of_each_family() {
        let many =
            r#""ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}"#;
        let error = refusal(Version::V0_2_0, many);
        assert!(
            error.starts_with("CNI version 0.2.0 does not support more than 1 address per family")
        );
        assert!(load(Version::V0_3_0, many).is_ok());
        let dual =
            r#""ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}"#;
        assert!(load(Version::V0_2_0, dual).is_ok());
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        for (text, milliseconds) in [("10s", 10_000), ("500ms", 500), ("1.5m", 90_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Timeout(Duration::from_millis(milliseconds))), "{text}");
        }
        for bad in ["", "s", "10", "10h", "-1s", "1e30s", "ms10", "nans", "infs"] {
            assert!(bad.parse::<Timeout>().is_err(), "{bad}");
        }
    }
}
