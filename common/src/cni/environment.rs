//! The environment, read once.
//!
//! Beside the variables of the specification there are four that a plugin sets for the one that it
//! runs, the first two for an IPAM plugin only. The Go plugins neither set nor read them, so both sides
//! work without:
//!
//! | variable | value |
//! |---|---|
//! | `GIRDER_LINK` | the name of the host's link that the main plugin will create, and that cannot outlive the container's namespace: as long as it exists, the lease is in use ([`Add::link`](super::Add::link)) |
//! | `GIRDER_SEGMENT` | the layer-2 segment that the container joins, where this host does not route it: an address must be unique within it only ([`Add::segment`](super::Add::segment)) |
//! | `GIRDER_ADD` | a name that no other ADD has, for the ADD ([`Add::name`](super::Add::name)) and for the DEL that rolls it back ([`Del::undoes`](super::Del::undoes)) |
//! | `GIRDER_DEPTH` | how many plugins wait for this one's answer: it ends a configuration that names a plugin as its own delegate |
//!
//! `tap` runs itself with a fifth one, `GIRDER_TAP`: what another process, of another SELinux label, is
//! to make.

use super::{Attachment, Code, ContainerId, Error, IfName, NetnsPath, Others, Result, Verb};
use std::path::PathBuf;
use std::str::FromStr as _;

/// The variable that says which tap a process of another SELinux label is to make.
pub(crate) const TAP: &str = "GIRDER_TAP";

/// The value of [`TAP`].
#[expect(clippy::disallowed_methods, reason = "before there is a call")]
pub(crate) fn requested_tap() -> Option<String> {
    std::env::var(TAP).ok()
}

pub(super) const LINK: &str = "GIRDER_LINK";
pub(super) const SEGMENT: &str = "GIRDER_SEGMENT";
pub(super) const ADD: &str = "GIRDER_ADD";
pub(super) const DEPTH: &str = "GIRDER_DEPTH";

/// The raw environment. An empty variable counts as absent, as in the Go library.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    pub(super) command: Option<String>,
    pub(super) container: Option<String>,
    pub(super) netns: Option<String>,
    pub(super) ifname: Option<String>,
    pub(super) args: Option<String>,
    pub(super) path: Option<String>,
    pub(super) netns_override: Option<String>,
    pub(super) link: Option<String>,
    pub(super) segment: Option<String>,
    pub(super) add: Option<String>,
    pub(super) depth: u32,
    /// What else is in this executable.
    pub(super) others: Option<Others>,
}

impl Environment {
    /// Reads this process's environment, as a program sees it that is run with these changes.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(super) fn read(changes: &[(&str, &str)]) -> Self {
        let variable = |name| {
            let value = match changes.iter().find(|(changed, _)| *changed == name) {
                Some((_, value)) => (*value).to_owned(),
                None => std::env::var_os(name)?.to_string_lossy().into_owned(),
            };
            (!value.is_empty()).then_some(value)
        };
        Self {
            command: variable("CNI_COMMAND"),
            container: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            ifname: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
            path: variable("CNI_PATH"),
            netns_override: variable("CNI_NETNS_OVERRIDE"),
            link: variable(LINK),
            segment: variable(SEGMENT),
            add: variable(ADD),
            depth: variable(DEPTH).and_then(|depth| depth.parse().ok()).unwrap_or(0),
            others: None,
        }
    }

    /// Checks what `CNI_COMMAND` requires, in the order of the Go library: a variable that is
    /// there and invalid is reported at once, those that are missing all together.
    ///
    /// # Errors
    /// Code 4, naming the variables.
    pub(super) fn require(&self, command: &str) -> Result<()> {
        // An unknown verb requires nothing here: like the Go library, it is refused only after stdin
        // has been read.
        let verb = command.parse::<Verb>().ok();
        let needs = |of: fn(Verb) -> bool| verb.is_some_and(of);
        let mut missing = Vec::new();
        let mut note = |name, value: &Option<String>| {
            if value.is_none() {
                missing.push(name);
            }
        };
        if needs(Verb::needs_attachment) {
            note("CNI_CONTAINERID", &self.container);
            self.container.as_deref().map(ContainerId::from_str).transpose()?;
        }
        if needs(Verb::needs_netns) {
            note("CNI_NETNS", &self.netns);
        }
        if needs(Verb::needs_attachment) {
            note("CNI_IFNAME", &self.ifname);
            self.ifname.as_deref().map(IfName::from_str).transpose()?;
        }
        if needs(|verb| verb != Verb::Version) {
            note("CNI_PATH", &self.path);
        }
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(",");
        let msg = format!("required env variables [{missing}] missing");
        Err(Error::new(Code::BadEnvironment, msg))
    }

    /// The attachment that a verb which needs one is about.
    pub(super) fn attachment(&self) -> Result<Attachment> {
        Ok(Attachment {
            container: self.container.as_deref().unwrap_or_default().parse()?,
            ifname: self.ifname.as_deref().unwrap_or_default().parse()?,
        })
    }

    /// The value of `GIRDER_LINK`.
    pub(super) fn link(&self) -> Option<IfName> {
        self.link.as_deref()?.parse().ok()
    }

    /// The namespace, if one was given.
    ///
    /// # Errors
    /// Code 8 if it is the one that this process runs in, which a plugin would then destroy,
    /// unless `CNI_NETNS_OVERRIDE` says that this is meant.
    pub(super) fn netns(&self) -> Result<Option<NetnsPath>> {
        let Some(netns) = &self.netns else { return Ok(None) };
        let netns = NetnsPath::from(PathBuf::from(netns));
        let is_meant = self
            .netns_override
            .as_deref()
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        if !is_meant && netns.is_own() {
            let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
            return Err(Error::new(Code::InvalidNetns, msg)
                .details(format!("{netns} is the namespace that the plugin runs in")));
        }
        Ok(Some(netns))
    }
}
