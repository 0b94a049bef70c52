//! What a plugin gets for each verb. What the specification makes optional for a verb is an `Option`.

use super::config::Keys;
use super::environment::Environment;
use super::{
    Attachment, CniArgs, Delegate, Error, IfName, NetnsPath, Network, Result, Success, Verb,
    Version,
    delegate::{self, Program},
};
use std::path::PathBuf;
use std::rc::Rc;

/// How many plugins may wait for each other. The deepest useful chain is a wrapper (Multus), flannel,
/// bridge and host-local; a configuration that names a plugin as its own IPAM plugin would start
/// processes without end.
const MAX_DEPTH: u32 = 8;

/// What every call has.
#[derive(Debug)]
pub struct Call {
    /// What is to be done.
    pub verb: Verb,
    /// The configuration from stdin.
    pub network: Network,
    /// The version that it is written in, and that answers are given in.
    pub version: Version,
    pub(super) environment: Environment,
}

impl Call {
    /// A CHECK whose stdin was recorded, for which there is no environment.
    ///
    /// # Errors
    /// Codes 6 and 7 as for any call; code 7 without `prevResult`.
    pub fn recorded(stdin: Vec<u8>) -> Result<(Self, Success)> {
        let call = Self::without_environment(Verb::Check, stdin)?;
        let result = call.network.prev_result(call.version)?;
        let result = result.ok_or_else(|| Error::config("Required prevResult missing"))?;
        Ok((call, result))
    }

    pub(super) fn without_environment(verb: Verb, stdin: Vec<u8>) -> Result<Self> {
        let keys = Keys::parse(stdin)?;
        let version = keys.version()?;
        let network = Network::new(keys)?;
        Ok(Self { verb, network, version, environment: Environment::default() })
    }

    /// `CNI_ARGS`; none for STATUS, which is about no attachment.
    ///
    /// # Errors
    /// Code 4 when they are malformed, or unknown and not to be ignored.
    pub fn args(&self) -> Result<CniArgs> {
        if self.verb == Verb::Status {
            return Ok(CniArgs::default());
        }
        self.environment.args.as_deref().unwrap_or_default().parse()
    }

    /// `CNI_ARGS` as they came, for plugins that take any key.
    pub fn raw_args(&self) -> &str {
        self.environment.args.as_deref().unwrap_or_default()
    }

    /// The container's namespace, if the runtime gave one.
    ///
    /// # Errors
    /// Code 8 if it is the one that this process runs in.
    pub(super) fn netns(&self) -> Result<Option<NetnsPath>> {
        self.environment.netns()
    }

    /// Another plugin, to be run with the environment and the configuration of this one.
    ///
    /// # Errors
    /// Code 7 when `CNI_PATH` has no such plugin.
    pub(crate) fn delegate(&self, kind: &str) -> Result<Delegate> {
        self.delegate_with(kind, Rc::clone(self.network.bytes()))
    }

    /// Another plugin, to be run with the environment of this one and the configuration `stdin`.
    ///
    /// # Errors
    /// Code 7 when `CNI_PATH` has no such plugin.
    pub fn delegate_with(&self, kind: &str, stdin: impl Into<Rc<Vec<u8>>>) -> Result<Delegate> {
        let path = self.environment.path.as_deref().unwrap_or_default();
        let directories: Vec<_> = path.split(':').map(PathBuf::from).collect();
        let executable = delegate::find(kind, &directories)?;
        let depth = self.environment.depth + 1;
        if depth > MAX_DEPTH {
            let msg = format!("plugins delegate to each other without end: {kind:?} is the latest");
            return Err(Error::config(msg).details(format!(
                "more than {MAX_DEPTH} of them wait for each other; look at the \"type\" of \"ipam\" and \"delegate\""
            )));
        }
        let program = Program::new(executable, kind, self.environment.others);
        Ok(Delegate::new(program, stdin.into(), self.version, depth))
    }

    /// The IPAM plugin that the configuration names, if it names one, for DEL and GC.
    ///
    /// # Errors
    /// Code 7 when `CNI_PATH` has no such plugin.
    pub(crate) fn tolerant_ipam(&self) -> Result<Option<Delegate>> {
        let kind = self.network.tolerant::<String>(&["ipam", "type"]);
        kind.filter(|kind| !kind.is_empty()).map(|kind| self.delegate(&kind)).transpose()
    }
}

/// ADD (specification, section "ADD").
#[derive(Debug)]
pub struct Add<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// The name of the plugin itself.
    pub plugin: &'static str,
    /// Whom to attach.
    pub attachment: Attachment,
    /// The container's namespace.
    pub netns: NetnsPath,
    /// The result of the plugin before this one in the chain.
    pub prev_result: Option<Success>,
    /// The name of the link that the main plugin, which runs this one as its IPAM plugin, will create
    /// in the host. The kernel removes it with the container's namespace, so as long as it exists,
    /// the attachment does.
    pub link: Option<IfName>,
    /// The layer-2 segment (a bridge, a VLAN of one, the link below a macvlan) to which the main
    /// plugin attaches, if this host does not route it: the same address may then be in use in
    /// another segment. `None` if addresses must be unique on the host.
    pub segment: Option<String>,
    /// The main plugin's name for this ADD, which no other ADD has.
    pub name: Option<String>,
}

impl Add<'_> {
    /// Refuses an ADD of a main plugin that takes this one for an IPAM plugin.
    ///
    /// # Errors
    /// Code 7.
    pub fn refuse_as_ipam(&self) -> Result<()> {
        let kind = self.call.network.tolerant::<String>(&["ipam", "type"]).unwrap_or_default();
        // Not every main plugin names a link; and another program may stand between that one and this.
        if self.link.is_none() && kind != self.plugin {
            return Ok(());
        }
        let msg = format!("{kind} hands out no addresses: \"ipam\" names it as its \"type\"");
        Err(Error::config(msg))
    }

    /// What the plugins before this one have answered, for a plugin that only works behind others; `msg`
    /// is what the Go plugin says when there are none.
    ///
    /// # Errors
    /// Code 7 when there are none.
    pub fn chained(&self, msg: &str) -> Result<&Success> {
        let way_out = || format!("put {} behind the plugin that makes the interface", self.plugin);
        self.prev_result.as_ref().ok_or_else(|| Error::config(msg).details(way_out()))
    }
}

/// DEL (specification, section "DEL"). The namespace may be gone, and the runtime may have lost the
/// result: so both are optional.
#[derive(Debug)]
pub struct Del<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// Whom to detach.
    pub attachment: Attachment,
    /// The container's namespace, if it may still exist.
    pub netns: Option<NetnsPath>,
    /// The final result of ADD, if the runtime still has it.
    pub prev_result: Option<Success>,
    /// The [name](Add::name) of the ADD that the main plugin rolls back by this DEL, because that ADD was
    /// not answered. What another ADD of the same attachment has made must then stay.
    pub undoes: Option<String>,
}

/// CHECK (specification, section "CHECK").
#[derive(Debug)]
pub struct Check<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// Whose attachment.
    pub attachment: Attachment,
    /// The container's namespace.
    pub netns: NetnsPath,
    /// The final result of ADD.
    pub prev_result: Success,
}

/// GC (specification, section "GC").
#[derive(Debug)]
pub struct Gc<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// The attachments that are valid; everything else of this network is to be removed.
    pub valid: Vec<Attachment>,
}

/// STATUS (specification, section "STATUS").
#[derive(Debug)]
pub struct Status<'a> {
    /// What every call has.
    pub call: &'a Call,
}
