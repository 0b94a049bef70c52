//! What an interface and its namespace were like before: a file for each attachment, as the Go plugin
//! has them, so that either of the two restores what the other has changed.
//!
//! It is `<dataDir>/<container>_<interface>.json`. What the Go plugin does not write down is below the key
//! `girder`, which it ignores. It has no file where only sysctls are set; ours is in `sysctl` then.

use crate::Tuning;
use crate::attributes::Attributes;
use crate::sysctls::rank;
use common::attach::Owner;
use common::attach::running::announce_chained_del;
use common::cni::{Attachment, Context as _, IfName, NetnsPath, NetworkName, report};
use common::net::{Netns, sysctl};
use common::{Del, Errors, Host, Network, Plugin as _, Result, Sandbox, Undo, file};
use serde::{Deserialize, Serialize};
use serde_json::Serializer;
use serde_json::ser::PrettyFormatter;
use std::cell::LazyCell;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

const DATA_DIR: &str = "/run/cni/tuning";

/// Where the file is if it has nothing but sysctls.
const SYSCTL: &str = "sysctl";

/// More than a file ever has.
const LIMIT: u64 = 1 << 20;

/// What there was before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Backup {
    #[serde(flatten)]
    pub(crate) attributes: Attributes,
    #[serde(rename = "girder")]
    pub(crate) own: Own,
}

/// What the Go plugin does not write down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Own {
    /// As on links: `pods c1 eth0`.
    pub(crate) owner: String,
    /// The container's namespace, and what tells it from a later one of the same path.
    pub(crate) netns: String,
    pub(crate) identity: Option<String>,
    /// The number of the interface, if it was changed.
    pub(crate) link: Option<u32>,
    /// By their paths below /proc/sys.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// The other end of the interface, if that is in the host and was changed.
    pub(crate) host_end: Option<HostEnd>,
}

/// The end of a pair that is in the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostEnd {
    pub(crate) name: String,
    pub(crate) mtu: u32,
}

impl Own {
    /// Whether it was written for this interface of this container; the Go plugin's does not say.
    fn is_of(&self, attachment: &Attachment) -> bool {
        let suffix = format!(" {} {}", attachment.container, attachment.ifname);
        self.owner.is_empty() || self.owner.ends_with(&suffix)
    }
}

impl Backup {
    fn restore_at(&self, netns: Option<&NetnsPath>, ifname: &IfName) -> Result<()> {
        match Sandbox::find(netns)? {
            Some(sandbox) => Errors::collect(|errors| self.restore(&sandbox, ifname, errors)),
            None => Ok(()),
        }
    }

    /// Registers that all of this is given back.
    pub(crate) fn undo(&self, netns: &NetnsPath, ifname: &IfName, undo: &mut Undo) {
        let (backup, netns, ifname) = (self.clone(), netns.clone(), ifname.clone());
        undo.push(format!("tuning of {ifname}"), move || backup.restore_at(Some(&netns), &ifname));
    }

    /// Gives the interface and the namespace back what they had, as far as they are still there.
    fn restore(&self, sandbox: &Sandbox, ifname: &IfName, errors: &mut Errors) {
        let own = &self.own;
        let link = errors.note(sandbox.netlink.find_link(ifname.as_str())).flatten();
        // Another one may have the name by now.
        let link = link.filter(|link| own.link.is_none_or(|index| index == link.index));
        if let Some(link) = &link {
            self.attributes.apply(&sandbox.netlink, link.index, errors);
        }
        if let (Some(link), Some(HostEnd { name, mtu })) = (link, &own.host_end) {
            let restored = Host::open().and_then(|host| {
                match host.netlink.find_link(name)?.filter(|end| end.peer == Some(link.index)) {
                    Some(end) => Ok(host.netlink.set_mtu(end.index, *mtu)?),
                    None => Ok(()),
                }
            });
            errors.note(restored);
        }
        // Somebody else may have written the file.
        let mut sysctls: Vec<_> =
            own.sysctls.iter().filter(|(path, _)| is_of_a_namespace(path)).collect();
        sysctls.sort_by_cached_key(|(path, _)| rank(path));
        let restored = sandbox.enter(|| {
            for (path, value) in sysctls {
                match sysctl::set(path, value) {
                    Err(error) if error.is_gone() => {}
                    outcome => drop(errors.note(outcome)),
                }
            }
        });
        errors.note(restored);
    }

    /// Whether it was made for an interface of the same namespace; one of the Go plugin's does not say.
    fn is_of(&self, later: &Self) -> bool {
        let is_same = self.own.netns == later.own.netns && self.own.identity == later.own.identity;
        self.own == Own::default() || is_same
    }

    /// This one, and of a later one what it does not have.
    fn or(self, later: Self) -> Self {
        let mut own = later.own;
        own.sysctls.extend(self.own.sysctls);
        own.link = self.own.link.or(own.link);
        own.host_end = self.own.host_end.or(own.host_end);
        Self { attributes: self.attributes.or(later.attributes), own }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let formatter = PrettyFormatter::with_indent(b" ");
        let mut text = Vec::new();
        self.serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
        file::replace(path, &unfinished(path), 0o600, |file| file.write_all(&text)).map(drop)
    }
}

/// Where the files are: in the directory that the configuration names, and for DEL and GC also in the
/// default one, because the key may have been removed since ADD.
pub(crate) struct Store {
    directories: Vec<PathBuf>,
}

impl Store {
    pub(crate) fn new(data_dir: Option<String>) -> Self {
        let mut directories = vec![PathBuf::from(DATA_DIR)];
        if let Some(given) = data_dir.filter(|given| !given.is_empty() && given != DATA_DIR) {
            directories.insert(0, given.into());
        }
        Self { directories }
    }

    pub(crate) fn find(network: &Network) -> Self {
        Self::new(network.tolerant(&["dataDir"]))
    }

    /// Directories that files are in, those of sysctls after the others.
    fn places(&self) -> impl Iterator<Item = PathBuf> {
        self.directories.iter().flat_map(|directory| [directory.clone(), directory.join(SYSCTL)])
    }

    /// Writes down what there was before an ADD. What an earlier ADD of the attachment has written is
    /// kept: it has seen the values that were nobody's.
    ///
    /// # Errors
    /// Code 5.
    pub(crate) fn keep(
        &self,
        attachment: &Attachment,
        backup: &Backup,
        undo: &mut Undo,
    ) -> Result<()> {
        let of_sysctls = backup.attributes.is_empty();
        if of_sysctls && backup.own.sysctls.is_empty() {
            return Ok(());
        }
        let place = self.places().nth(usize::from(of_sysctls)).unwrap_or_default();
        let path = place.join(file_name(attachment));
        let what = format!("failed to write backup file {}", path.display());
        let first = match read(&path) {
            Err(error) if is_nothing(&error) || error.kind() == ErrorKind::InvalidData => None,
            read => Some(read.context(&what)?).filter(|first| first.is_of(backup)),
        };
        let kept = match &first {
            Some(first) => first.clone().or(backup.clone()),
            None => backup.clone(),
        };
        if first.as_ref() == Some(&kept) {
            return Ok(());
        }
        if first.is_none() {
            let path = path.clone();
            undo.push(format!("backup file {}", path.display()), move || remove(&path));
        }
        file::make_directory(&place).context(&what)?;
        kept.write(&path).context(&what)
    }

    /// Restores what an ADD has changed, and forgets it. What cannot be restored is told, and does not
    /// keep the container from being removed: the interface is about to go.
    pub(crate) fn restore(&self, request: &Del<'_>, errors: &mut Errors) {
        let (attachment, owner) = (&request.attachment, request.owner());
        let running = LazyCell::new(|| announce_chained_del(Tuning::NAME, &owner));
        for path in self.places().map(|place| place.join(file_name(attachment))) {
            match read(&path) {
                Err(error) if is_nothing(&error) && !unfinished(&path).exists() => continue,
                // Container and interface of another one may make the same file name.
                Ok(backup) if !backup.own.is_of(attachment) => continue,
                // An ADD that runs would set what nobody could give back then.
                _ if errors.note(running.require_alone(&owner)).is_none() => return,
                Err(error) if is_nothing(&error) => {}
                Err(error) => report(format_args!("{}: {error}", path.display())),
                Ok(backup) => {
                    let netns = request.netns.as_ref();
                    if let Err(error) = backup.restore_at(netns, &attachment.ifname) {
                        report(format_args!("not restored: {error}"));
                    }
                }
            }
            errors.note(remove(&path));
        }
    }

    /// Removes the files of a network's attachments that are not valid and whose namespace is gone.
    /// Those of the Go plugin do not tell their network, and stay.
    pub(crate) fn sweep(&self, network: &NetworkName, valid: &[Attachment], errors: &mut Errors) {
        let valid: HashSet<_> =
            valid.iter().map(|it| it.owner(network).as_str().to_owned()).collect();
        for place in self.places() {
            let entries = match fs::read_dir(&place) {
                Err(error) if is_nothing(&error) => continue,
                entries => entries.context(format_args!("failed to read {}", place.display())),
            };
            let entries = errors.note(entries).into_iter().flatten();
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                let Ok(Backup { own, .. }) = read(&path) else { continue };
                let found = Netns::identity(own.netns.as_ref());
                let is_here = found.is_some() && found == own.identity;
                if Owner::is_of(&own.owner, network) && !valid.contains(&own.owner) && !is_here {
                    errors.note(remove(&path));
                }
            }
        }
    }
}

/// Whether a path below /proc/sys is one that ADD may have written down.
fn is_of_a_namespace(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some("net") && parts.all(|part| !matches!(part, "" | "." | ".."))
}

fn file_name(attachment: &Attachment) -> String {
    format!("{}_{}.json", attachment.container, attachment.ifname)
}

fn read(path: &Path) -> io::Result<Backup> {
    let opened = file::open_own(path, OpenOptions::new().read(true))?;
    let decode = |error| io::Error::new(ErrorKind::InvalidData, error);
    serde_json::from_slice::<Backup>(&file::read(opened, LIMIT)?).map_err(decode)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Where a file is while it is written.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Removes a file, and what a killed ADD has begun to write in its stead.
fn remove(path: &Path) -> Result<()> {
    for path in [path, &unfinished(path)] {
        match file::remove(path) {
            Err(error) if is_nothing(&error) => {}
            outcome => outcome.context(format_args!("failed to remove {}", path.display()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_plugins_files_are_read_and_written() {
        let go = "{\n \"mac\": \"02:00:00:00:00:01\",\n \"promisc\": false,\n \"mtu\": 1500,\n \"allmulti\": true,\n \"txQLen\": 0\n}";
        let backup: Backup = serde_json::from_str(go).unwrap();
        assert_eq!((backup.attributes.mtu, backup.attributes.tx_queue_len), (Some(1500), Some(0)));
        let path = std::env::temp_dir().join(format!("tuning-{}", std::process::id()));
        backup.write(&path).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        remove(&path).unwrap();
        let keys = go.strip_suffix("\n}").unwrap();
        assert!(written.starts_with(&format!("{keys},\n \"girder\": {{\n")), "{written}");
    }

    #[test]
    fn the_first_backup_counts() {
        let attributes =
            |mtu, queue| Attributes { mtu, tx_queue_len: queue, ..Attributes::default() };
        let first = Backup { attributes: attributes(Some(1500), None), ..Backup::default() };
        let later = Backup { attributes: attributes(Some(1400), Some(7)), ..Backup::default() };
        assert_eq!(first.or(later).attributes, attributes(Some(1500), Some(7)));
    }
}
