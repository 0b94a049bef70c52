//! A tap of the container: a link whose other end is a program, as a virtual machine.

use super::{Owner, Sandbox, Site, link};
use crate::cni::environment::{TAP, requested_tap};
use crate::cni::{Del, Error, Result, Undo, delegate};
use crate::net::{Link, LinkChange, Mac, Tap, label_next_program};
use std::cell::Cell;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

/// What the kernel calls taps.
pub const KIND: &str = "tun";

/// A tap that is to be made.
#[derive(Debug)]
pub struct ContainerTap<'a> {
    /// What only a tap has.
    pub tap: Tap,
    /// Its hardware address; `None` leaves it to the kernel.
    pub mac: Option<Mac>,
    /// In bytes; `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// The bridge of the container that it becomes a port of.
    pub bridge: Option<&'a Link>,
    /// The SELinux label that it has, as the process that makes it.
    pub label: Option<&'a str>,
}

impl ContainerTap<'_> {
    /// Makes the tap in the container, and leaves it down. Under its final name it is only ever seen
    /// complete: /dev/net/tun would take an existing tap of that name for the one that is asked for.
    ///
    /// # Errors
    /// When the kernel refuses, or the name is taken.
    pub fn create(&self, site: &Site, undo: &mut Undo) -> Result<Link> {
        let (inside, unfinished) = (&site.sandbox, unfinished_name(&site.owner));
        let (path, made) = (inside.path().clone(), Rc::new(Cell::new(None)));
        let (name, index) = (unfinished.clone(), Rc::clone(&made));
        undo.push(format!("interface {}", site.owner.ifname()), move || {
            let Some(sandbox) = Sandbox::find(Some(&path))? else { return Ok(()) };
            let link = match index.get() {
                Some(index) => Some(index),
                None => sandbox.netlink.find_link(&name)?.map(|link| link.index),
            };
            link.map_or(Ok(()), |index| Ok(sandbox.netlink.delete_link(index)?))
        });
        // Of an ADD that was killed: /dev/net/tun would take it, with the user that it has.
        if let Some(left) = inside.netlink.find_link(&unfinished)? {
            inside.netlink.delete_link(left.index)?;
        }
        inside.netns.enter(|| match self.label {
            None => Ok(self.tap.create(&unfinished)?),
            Some(label) => create_as(label, &unfinished, &self.tap),
        })??;
        let missing = || Error::internal(format!("{unfinished:?} was deleted again"));
        let link = inside.netlink.find_link(&unfinished)?.ok_or_else(missing)?;
        made.set(Some(link.index));
        let change = LinkChange {
            name: Some(site.owner.ifname().as_str()),
            alias: Some(site.owner.as_str()),
            mac: self.mac,
            mtu: self.mtu,
            master: self.bridge.map(|bridge| bridge.index),
            ..LinkChange::default()
        };
        inside.netlink.change_link(link.index, &change)?;
        Ok(inside.netlink.read_link(link.index)?)
    }
}

/// Has this program, run with an SELinux label, make the tap: the kernel gives it that of the process
/// (`selinux_tun_dev_alloc_security` in security/selinux/hooks.c).
fn create_as(label: &str, name: &str, tap: &Tap) -> Result<()> {
    label_next_program(Some(label)).map_err(|error| {
        Error::config(error.to_string()).details("\"selinuxContext\" needs a host with SELinux")
    })?;
    let id = |id: Option<u32>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let request = format!("{name} {} {} {}", id(tap.owner), id(tap.group), tap.multi_queue);
    let made = delegate::execute(Path::new("/proc/self/exe"), &[(TAP, &request)], b"");
    label_next_program(None)?;
    made.map(drop)
}

/// Makes the tap that the plugin has run this process for, if that is so.
pub fn serve() -> Option<ExitCode> {
    let request = requested_tap()?;
    let words: Vec<_> = request.split(' ').collect();
    let made = match words[..] {
        [name, owner, group, multi_queue] => {
            let (owner, group) = (owner.parse().ok(), group.parse().ok());
            Tap { owner, group, multi_queue: multi_queue == "true" }.create(name)
        }
        _ => return None,
    };
    Some(match made.map_err(Error::from).map_err(|error| serde_json::to_string(&error)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(answer) => {
            // Nobody can be told that nobody listens.
            drop(writeln!(std::io::stdout(), "{}", answer.unwrap_or_default()));
            ExitCode::FAILURE
        }
    })
}

/// Whether taps can be made here.
///
/// # Errors
/// Code 50 when they cannot.
pub fn probe() -> Result<()> {
    Tap::probe().map_err(|error| Error::from(error).unavailable())
}

/// Deletes the owner's tap, and what an ADD that was killed has left of one. Programs in the container
/// make such links as well, so one without an alias must be in the result of ADD.
///
/// # Errors
/// When the kernel refuses.
pub fn delete(request: &Del<'_>, owner: &Owner) -> Result<()> {
    link::delete(request, owner, KIND, |link| link::is_listed(request, link))?;
    let Some(sandbox) = Sandbox::find(request.netns.as_ref())? else { return Ok(()) };
    if let Some(link) = sandbox.netlink.find_link(&unfinished_name(owner))? {
        sandbox.netlink.delete_link(link.index)?;
    }
    Ok(())
}

/// What the owner's tap is called until all of it is made.
fn unfinished_name(owner: &Owner) -> String {
    format!("tap{}", owner.tag())
}
