//! Who is alive, as the kernel tells.

use crate::cache::Cached;
use crate::chain::Runtime;
use crate::leases;
use crate::list::ConfigList;
use common::Result;
use common::attach::Owner;
use common::cni::{Attachment, Interface, Success, Version};
use common::net::{Link, Netlink, Netns};
use std::collections::BTreeSet;
use std::path::Path;

/// The links of this host, at one time.
#[derive(Debug)]
pub struct Living {
    links: Vec<Link>,
}

impl Living {
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn look() -> Result<Self> {
        Ok(Self { links: Netlink::open()?.list_links()? })
    }

    /// Whether an attachment is alive: a link of the host names it. That one of the name which ADD
    /// has answered with is there proves nothing, for it may be another attachment's by now.
    ///
    /// Links that other plugins make name nobody. Then the interface has to be in the container's
    /// namespace, with the address that it had, and at the other end of the host's.
    pub fn has(&self, cached: &Cached) -> bool {
        let owner = cached.target.attachment.owner(&cached.network);
        if self.owners().any(|other| other == owner) {
            return true;
        }
        // Whoever needs the result says why it cannot be read.
        let Ok(result) = Success::decode(&cached.result, Version::V0_1_0) else { return true };
        let of_host = result.interfaces.iter().filter(|interface| !interface.is_in_sandbox());
        let find = |interface: &Interface| self.links.iter().find(|l| l.name == interface.name);
        let Some(found) = of_host.map(find).collect::<Option<Vec<_>>>() else { return false };
        !found.iter().any(|link| owner_of(link).is_some())
            && is_in_namespace(cached, &result, &found)
    }

    /// Everybody who is attached to a network and alive, or whose death is not proven: by the
    /// cache, by the links of the host, by the leases.
    ///
    /// # Errors
    /// When one of them cannot be read: then nobody knows who else is alive.
    pub fn attachments(&self, runtime: &Runtime, list: &ConfigList) -> Result<Vec<Attachment>> {
        let cached = runtime.cache.list(&list.name)?.into_iter().filter(|cached| self.has(cached));
        let mut all: Vec<_> = cached.map(|cached| cached.target.attachment).collect();
        let own = self.owners().filter(|owner| owner.label() == list.name.label());
        all.extend(own.map(|owner| owner.attachment().clone()));
        if let Some(leased) = leases::of_list(list)? {
            all.extend(leases::attachments(&leased)?);
        }
        all.sort_by(|a, b| (&a.container, &a.ifname).cmp(&(&b.container, &b.ifname)));
        all.dedup();
        Ok(all)
    }

    /// Everybody who is alive: who is named by a link of the host, and who is recorded.
    ///
    /// # Errors
    /// Code 5 when the cache cannot be read.
    pub fn everybody(&self, runtime: &Runtime) -> Result<BTreeSet<Owner>> {
        let cached = runtime.cache.all()?.into_iter().filter(|cached| self.has(cached));
        let recorded = cached.map(|cached| cached.target.attachment.owner(&cached.network));
        Ok(self.owners().chain(recorded).collect())
    }

    /// Who is named by a link.
    fn owners(&self) -> impl Iterator<Item = Owner> {
        self.links.iter().filter_map(owner_of)
    }
}

fn is_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth")
}

/// Whom a link names as the one that it was made for.
fn owner_of(link: &Link) -> Option<Owner> {
    Owner::read(link.alias.as_deref().filter(|_| is_veth(link))?)
}

/// Whether the container's interface is where it was recorded. Where nobody recorded that, and
/// where the namespace is there and cannot be opened, it counts as living.
fn is_in_namespace(cached: &Cached, result: &Success, of_host: &[&Link]) -> bool {
    let path = cached.target.netns.as_str();
    if path.is_empty() {
        return true;
    }
    let ifname = cached.target.attachment.ifname.as_str();
    let find = || -> Result<Option<Link>> {
        Ok(Netlink::open_in(&Netns::open(Path::new(path))?)?.find_link(ifname)?)
    };
    let link = match find() {
        Ok(Some(link)) => link,
        Ok(None) => return false,
        Err(_) => return !is_gone(Path::new(path)),
    };
    let mut ends = of_host.iter().filter(|end| is_veth(end)).peekable();
    if ends.peek().is_some() {
        return ends.any(|end| link.peer == Some(end.index));
    }
    let mut own = result.interfaces.iter().filter(|one| one.is_in_sandbox() && one.name == ifname);
    let mac = own.find_map(|interface| interface.mac.as_deref());
    mac.is_none_or(|mac| link.mac.is_some_and(|own| own.to_string().eq_ignore_ascii_case(mac)))
}

/// Whether a path leads to no namespace: nothing is there, or the file that one was mounted on.
fn is_gone(path: &Path) -> bool {
    Netns::open(path).is_err_and(|error| error.is_gone() || error.errno().is_none())
}
