//! A set of plugins on a host of its own, and the clock.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use testbed::{SYSTEM_PATH, Sandbox, Testbed, bin_dir, dhcp::Running, linked::LINKED};

use crate::{
    cases::{Case, Load, portmap},
    kernel, machine,
};

/// [`SYSTEM_PATH`] on a host that has no iptables but nft. (Where it finds iptables, the DEL of 1.9.1 fails, for it
/// asks for chains that its ADD has not made.)
const ONLY_NFT: &str = "/run/only-nft";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Our plugins.
    Ours,
    /// The same in one executable.
    Linked,
    /// The Go plugins, where they are installed: with iptables.
    Reference,
    /// A later version of them, where `tests/prepare` has found one: with nft.
    Later,
    /// A veth pair and nothing else.
    Kernel,
}

/// How long ADD and DEL took.
pub(crate) type Pair = [Duration; 2];

/// A sandbox that is attached.
#[derive(Debug)]
pub(crate) struct Attached<'contender, 'case> {
    contender: &'contender Contender,
    case: &'case Case,
    sandbox: Sandbox,
    /// For DEL: with the results of ADD.
    chain: Vec<Value>,
    add: Duration,
}

impl Attached<'_, '_> {
    pub(crate) fn who(&self) -> Who {
        self.contender.who
    }

    /// Detaches it: how long ADD and DEL took.
    pub(crate) fn detach(self) -> Result<Pair, String> {
        let Self { contender, case, sandbox, chain, add } = self;
        let del = contender.inside(|| match contender.who {
            Who::Kernel => kernel::delete(),
            _ => {
                let del = |config| Ok(contender.call(case, "DEL", config, &sandbox)?.0);
                chain.iter().rev().map(del).sum()
            }
        })?;
        Ok([add, del])
    }
}

/// On a host of its own, nobody meets what another left.
#[derive(Debug)]
pub(crate) struct Contender {
    who: Who,
    bin: PathBuf,
    /// What runs on the host, and ends before it does.
    running: Vec<Running>,
    bed: Testbed,
    /// Sandboxes made so far. None is removed before the end: the kernel would do that in the
    /// background, while somebody else is measured.
    sandboxes: AtomicUsize,
}

impl Contender {
    /// Everybody who can take part on this machine, each on a host that is like the case wants it.
    pub(crate) fn all(case: &Case) -> Result<Vec<Self>, String> {
        let reference = Path::new(testbed::REFERENCE);
        let mut all = vec![Self::new(Who::Ours, bin_dir())];
        if bin_dir().join("girder").exists() {
            let linked = Self::new(Who::Linked, Path::new(LINKED));
            linked.bed.link_plugins();
            all.push(linked);
        }
        // It would be hours until these are there.
        let takes_ages = matches!(case.load, Load::Ports(_) | Load::Rules(_));
        let filters = |config: &Value| {
            config["ipMasq"] == true
                || ["firewall", "portmap"].iter().any(|it| config["type"] == *it)
        };
        let is_able = machine::has_iptables() || !case.chain.iter().any(filters);
        let has_all = |bin: &Path| case.kinds().all(|kind| bin.join(kind).exists());
        if has_all(reference) && !takes_ages && is_able {
            all.push(Self::new(Who::Reference, reference));
        }
        // Its firewall knows no nft.
        let knows_nft = case.kinds().all(|kind| kind != "firewall");
        let later = testbed::later_reference().map(Path::new).filter(|later| has_all(later));
        if let Some(later) = later.filter(|_| !takes_ages && knows_nft) {
            all.push(Self::new(Who::Later, later));
        }
        if case.has_link {
            all.push(Self::new(Who::Kernel, Path::new("/")));
        }
        all.iter_mut().try_for_each(|contender| contender.fill(case))?;
        Ok(all)
    }

    fn new(who: Who, bin: &Path) -> Self {
        let bed = Testbed::new();
        let link = format!(
            "mkdir {ONLY_NFT} && for tool in nft ip; do ln -s \"$(command -v $tool)\" {ONLY_NFT}; done"
        );
        bed.succeed("sh", &["-c", &link]);
        let (bin, sandboxes) = (bin.to_owned(), AtomicUsize::new(0));
        Self { who, bin, running: Vec::new(), bed, sandboxes }
    }

    pub(crate) fn who(&self) -> Who {
        self.who
    }

    fn fill(&mut self, case: &Case) -> Result<(), String> {
        match case.load {
            _ if self.who == Who::Kernel => Ok(()),
            Load::Nothing => Ok(()),
            Load::Leases(number) => self.fill_leases(case, number),
            Load::Ports(number) => self.fill_ports(case, number),
            Load::Rules(number) => self.fill_rules(number),
            Load::Link(name) => {
                self.bed.ip(&format!("link add {name} up type veth peer name {name}-peer"));
                self.bed.ip(&format!("link set {name}-peer up"));
                Ok(())
            }
            Load::Dhcp(name) => {
                let server = self.sandbox();
                let there = server.path().trim_start_matches("/run/netns/");
                let words = format!("link add {name} up type veth peer name {name} netns {there}");
                self.bed.ip(&words);
                server.ip(&format!("addr add 10.85.0.1/16 dev {name}"));
                server.ip(&format!("link set {name} up"));
                // The RELEASE of some does not get there, so that there have to be enough for all rounds.
                let range = "10.85.1.0,10.85.255.254,255.255.0.0,1h";
                let more = ["--dhcp-lease-max=60000"];
                self.running.push(self.bed.dnsmasq_runs(&server, name, range, &more));
                self.running.push(self.bed.dhcp_daemon_of(&self.bin));
                Ok(())
            }
        }
    }

    /// Addresses of others, as files that every contender understands: every third one, so that
    /// what is free is among them, and then the rest.
    fn fill_leases(&self, case: &Case, leases: u32) -> Result<(), String> {
        let network = case.chain[0]["name"].as_str().unwrap_or_default();
        let directory = self.bed.file(format!("/var/lib/cni/networks/{network}"));
        let fill = || {
            fs::create_dir_all(&directory)?;
            let mut numbers = (0..3).flat_map(|first| (2 + first..65_535).step_by(3));
            numbers.by_ref().take(usize::try_from(leases).unwrap_or(0)).try_for_each(|number| {
                let [_, _, high, low] = u32::to_be_bytes(number);
                let file = directory.join(format!("10.85.{high}.{low}"));
                fs::write(file, format!("filler-{number}\r\neth0"))
            })
        };
        fill().map_err(|error| format!("{}: {error}", directory.display()))
    }

    /// Ports of another pod, of which no two are so alike that they become one range.
    fn fill_ports(&self, case: &Case, ports: u16) -> Result<(), String> {
        let entry = |number: u16| json!({"hostPort": 20_000 + number, "containerPort": 80, "protocol": "tcp"});
        let entries: Vec<_> = (0..ports).map(entry).collect();
        let mut portmap = portmap(&json!(entries));
        portmap["prevResult"] =
            json!({"cniVersion": portmap["cniVersion"], "ips": [{"address": "10.85.255.254/16"}]});
        let sandbox = self.sandbox();
        self.inside(|| self.call(case, "ADD", &portmap, &sandbox).map(drop))
    }

    fn fill_rules(&self, rules: u32) -> Result<(), String> {
        // What nft can send at once.
        const PART: u32 = 10_000;
        let mut script = "add table ip others\nadd chain ip others theirs\n".to_owned();
        for number in 0..rules {
            let [_, b, c, d] = number.to_be_bytes();
            let _ = writeln!(script, "add rule ip others theirs ip saddr 10.{b}.{c}.{d} drop");
            if number % PART == PART - 1 || number == rules - 1 {
                let output = self.bed.feed("nft", &["-f", "-"], script.as_bytes());
                if !output.status.success() {
                    return Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr)));
                }
                script.clear();
            }
        }
        Ok(())
    }

    fn sandbox(&self) -> Sandbox {
        self.bed.sandbox(&format!("s{}", self.sandboxes.fetch_add(1, Ordering::Relaxed)))
    }

    /// Attaches a fresh sandbox.
    pub(crate) fn attach<'case>(&self, case: &'case Case) -> Result<Attached<'_, 'case>, String> {
        let sandbox = self.sandbox();
        let (add, chain) = self.inside(|| match self.who {
            Who::Kernel => Ok((kernel::create(sandbox.path())?, Vec::new())),
            _ => self.attach_chain(case, &sandbox),
        })?;
        Ok(Attached { contender: self, case, sandbox, chain, add })
    }

    /// The case's configurations, with the backend that this contender is there for.
    fn chain(&self, case: &Case) -> Vec<Value> {
        let mut chain = case.chain.clone();
        for config in chain.iter_mut().filter(|_| self.who == Who::Later) {
            match config["type"].as_str() {
                Some("bridge" | "ptp") => config["ipMasqBackend"] = json!("nftables"),
                Some("portmap") => config["backend"] = json!("nftables"),
                _ => {}
            }
        }
        chain
    }

    fn attach_chain(
        &self,
        case: &Case,
        sandbox: &Sandbox,
    ) -> Result<(Duration, Vec<Value>), String> {
        let (mut took, mut chain) = (Duration::ZERO, self.chain(case));
        for place in 0..chain.len() {
            let (add, output) = self.call(case, "ADD", &chain[place], sandbox)?;
            took += add;
            let result = result(case, &output)?;
            // The next one reads it, and both do for DEL.
            for config in chain.iter_mut().skip(place).take(2) {
                config["prevResult"] = result.clone();
            }
        }
        Ok((took, chain))
    }

    /// Attaches many fresh sandboxes at once, and then detaches them at once.
    pub(crate) fn crowd(&self, case: &Case, number: usize) -> Result<Pair, String> {
        let sandboxes: Vec<_> = (0..number).map(|_| self.sandbox()).collect();
        let configs = vec![self.chain(case)[0].clone(); number];
        self.inside(|| {
            let (add, results) = self.call_all(case, "ADD", &configs, &sandboxes)?;
            let mut configs = configs;
            for (config, output) in configs.iter_mut().zip(&results) {
                config["prevResult"] = result(case, output)?;
            }
            let addresses: BTreeSet<_> =
                configs.iter().map(|config| config["prevResult"]["ips"].to_string()).collect();
            if addresses.len() != number {
                return Err(format!("{number} ADD got {} addresses", addresses.len()));
            }
            let (del, _) = self.call_all(case, "DEL", &configs, &sandboxes)?;
            Ok([add, del])
        })
    }

    /// Runs `visit` on a thread that lives in the host, so that what it starts is there at once.
    fn inside<T: Send>(
        &self,
        visit: impl FnOnce() -> Result<T, String> + Send,
    ) -> Result<T, String> {
        self.bed.enter(|| {
            // Of the host's /proc, in which its first process is found.
            let processes = File::open("/proc/1/ns/pid").map_err(|error| error.to_string())?;
            setns(processes, CloneFlags::CLONE_NEWPID).map_err(|error| error.to_string())?;
            visit()
        })
    }

    fn call(
        &self,
        case: &Case,
        verb: &str,
        config: &Value,
        sandbox: &Sandbox,
    ) -> Result<(Duration, Output), String> {
        let mut command = self.command(case, verb, config, sandbox);
        let config = config.to_string();
        let start = Instant::now();
        let child = start_with(&mut command, config.as_bytes());
        let output = child.and_then(Child::wait_with_output);
        let took = start.elapsed();
        Ok((took, self.succeeded(case, verb, output)?))
    }

    /// One thread starts them all: no pipe is so small that one had to wait for being read.
    fn call_all(
        &self,
        case: &Case,
        verb: &str,
        configs: &[Value],
        sandboxes: &[Sandbox],
    ) -> Result<(Duration, Vec<Output>), String> {
        let prepared: Vec<_> = configs
            .iter()
            .zip(sandboxes)
            .map(|(config, sandbox)| {
                (self.command(case, verb, config, sandbox), config.to_string())
            })
            .collect();
        let start = Instant::now();
        let children: Vec<_> = prepared
            .into_iter()
            .map(|(mut command, config)| start_with(&mut command, config.as_bytes()))
            .collect();
        let outputs: Vec<_> =
            children.into_iter().map(|child| child.and_then(Child::wait_with_output)).collect();
        let took = start.elapsed();
        let outputs: Result<_, _> =
            outputs.into_iter().map(|output| self.succeeded(case, verb, output)).collect();
        Ok((took, outputs?))
    }

    fn command(&self, case: &Case, verb: &str, config: &Value, sandbox: &Sandbox) -> Command {
        let id = sandbox.path().rsplit('/').next().unwrap_or_default();
        let mut command = Command::new(self.bin.join(config["type"].as_str().unwrap_or_default()));
        command
            .env_clear()
            .env("PATH", if self.who == Who::Later { ONLY_NFT } else { SYSTEM_PATH })
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", sandbox.path())
            .env("CNI_IFNAME", case.ifname)
            .env("CNI_PATH", &self.bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn succeeded(
        &self,
        case: &Case,
        verb: &str,
        output: std::io::Result<Output>,
    ) -> Result<Output, String> {
        let place = format!("{:?}: {} {verb}", self.who, case.name);
        match output {
            Ok(output) if output.status.success() => Ok(output),
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                Err(format!("{place}: {}: {}", output.status, String::from_utf8_lossy(&said)))
            }
            Err(error) => Err(format!("{place}: {error}")),
        }
    }
}

/// Nothing is set that would need a fork: this is `posix_spawn`, as of a runtime in Go.
fn start_with(command: &mut Command, stdin: &[u8]) -> std::io::Result<Child> {
    let mut child = command.spawn()?;
    // Who fails without reading says why on stdout.
    child.stdin.take().map(|mut pipe| pipe.write_all(stdin)).transpose().ok();
    Ok(child)
}

fn result(case: &Case, output: &Output) -> Result<Value, String> {
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{}: the result is not JSON: {error}", case.name))
}
