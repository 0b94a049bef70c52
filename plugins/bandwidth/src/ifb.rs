//! The link of the host by which the kernel queues what a container sends: it can hold back what a link
//! sends, not what it receives. Unlike the pair of veth links it does not die with the container's
//! namespace, so its alias names its owner.

use common::attach::host_end::{alias, is_unfinished, is_young_by};
use common::attach::kept::GRACE_AGE;
use common::attach::owner::{digest, go_hash};
use common::attach::running::{announce_link, is_being_added};
use common::attach::{Kept, Owner};
use common::net::tc::Shaper;
use common::net::{Link, LinkChange, LinkKind, LinkSpec, Mac, Netlink};
use common::{Code, Error, Host, Result, Success, Undo};

/// What the names begin with, in the Go plugin too.
pub(crate) const PREFIX: &str = "bwp";

/// The names that it may have. The first is that of the Go plugin, which another interface of the
/// container may have on this network; the second one depends on the interface.
fn names(owner: &Owner) -> [String; 2] {
    let words = [owner.network().as_str(), owner.attachment().container.as_str()];
    [go_hash(&words, 12), digest(owner.as_str(), 6)].map(|hash| format!("{PREFIX}{hash}"))
}

/// Makes it for what `host_end` receives, and switches it on.
pub(crate) fn create(
    host: &Host,
    owner: &Owner,
    host_end: &Link,
    shaper: &Shaper,
    undo: &mut Undo,
) -> Result<Link> {
    let netlink = &host.netlink;
    for name in names(owner) {
        match netlink.find_link(&name)? {
            Some(link) if is_of(&link, owner) => {
                return Err(Error::internal(format!("{name} of this attachment already exists"))
                    .details("if this attachment was made before, DEL it first"));
            }
            Some(_) => continue,
            None => {}
        }
        match announce_link(&name, owner, undo) {
            Err(error) if error.code() == Code::TryAgain => continue,
            outcome => outcome?,
        }
        let mac = Mac::random()?;
        let spec = LinkSpec {
            name: &name,
            mac: Some(mac),
            mtu: Some(host_end.mtu),
            master: None,
            // If this process is killed before it has set the alias, GC finds the network by this.
            group: owner.network().group(),
            kind: LinkKind::Ifb,
        };
        let own_name = name.clone();
        // The random address tells that this call made it.
        undo.push(format!("ifb {name}"), move || {
            let netlink = Host::open()?.netlink;
            if let Some(link) = netlink.find_link(&own_name)?.filter(|link| link.mac == Some(mac)) {
                netlink.delete_link(link.index)?;
            }
            Ok(())
        });
        let link = netlink.create_link(&spec)?;
        // Before it is on: the kernel would wait for the packets of the queue that it has then.
        netlink.create_shaper(link.index, shaper)?;
        let alias = format!("{} {}", alias(owner, GRACE_AGE), host_end.name);
        let (alias, group) = (Some(alias.as_str()), Some(0));
        let change = LinkChange { alias, up: true, group, ..LinkChange::default() };
        netlink.change_link(link.index, &change)?;
        return Ok(link);
    }
    let [first, second] = names(owner);
    Err(Error::internal(format!("both {first} and {second} are names of other links"))
        .details("delete the links that do not belong there, or the attachments that they are of"))
}

/// Whether its alias names this owner.
pub(crate) fn is_of(link: &Link, owner: &Owner) -> bool {
    link.alias.as_deref().is_some_and(|alias| owner.is_in(alias))
}

/// The attachment's, if it exists. The Go plugin gives it no alias, and it may be of another interface of
/// the container: the result of ADD tells, or else whose packets are redirected to it. Where nobody's
/// are any more, nobody misses it.
pub(crate) fn find(
    netlink: &Netlink,
    owner: &Owner,
    end: Option<&Link>,
    result: Option<&Success>,
) -> Result<Option<Link>> {
    let names = names(owner);
    let mut links = Vec::new();
    for name in &names {
        let link = netlink.find_link(name)?;
        links.extend(link.filter(|link| link.kind.as_deref() == Some(LinkKind::Ifb.name())));
    }
    if let Some(own) = links.iter().find(|link| is_of(link, owner)) {
        return Ok(Some(own.clone()));
    }
    for link in links.into_iter().filter(|link| link.alias.is_none()) {
        let is_own = if is_unfinished(&link, owner.network()) {
            !is_being_added(&link.name)
        } else if let Some(result) = result {
            link.name == names[0] && result.interfaces.iter().any(|one| one.name == link.name)
        } else {
            link.name == names[0] && !is_of_another(netlink, &link, end)?
        };
        if is_own {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Whether packets of another link than `end` are redirected to it.
fn is_of_another(netlink: &Netlink, ifb: &Link, end: Option<&Link>) -> Result<bool> {
    for link in netlink.list_links()? {
        let is_end = end.is_some_and(|end| end.index == link.index);
        if !is_end && netlink.list_redirects(link.index)?.contains(&ifb.index) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes those of a network that belong to no attachment that GC leaves alone.
pub(crate) fn sweep(host: &Host, kept: &Kept<'_>) -> Result<()> {
    let links = host.netlink.list_links()?;
    // Whoever made the host's end, the kernel deletes it with the container's namespace.
    let is_there = |name: &str| links.iter().any(|link| link.name == name);
    let is_young =
        |alias: &str| is_young_by(alias) && alias.rsplit(' ').next().is_some_and(is_there);
    let stale = links.iter().filter(|link| {
        let is_spared = link.alias.as_deref().is_some_and(is_young);
        link.kind.as_deref() == Some(LinkKind::Ifb.name())
            && kept.is_stale_link(link, PREFIX)
            && !is_spared
    });
    let stale: Vec<_> = stale.collect();
    for ifb in &stale {
        let end = ifb.alias.as_deref().and_then(|alias| alias.rsplit(' ').next());
        if let Some(end) = links.iter().find(|link| Some(&*link.name) == end) {
            host.netlink.delete_redirects(end.index, Some(ifb.index))?;
        }
    }
    let stale: Vec<_> = stale.iter().map(|link| link.index).collect();
    Ok(host.netlink.delete_links(&stale)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::Attachment;

    #[test]
    fn the_first_name_is_that_of_the_go_plugin() {
        let of = |ifname: &str| {
            let attachment =
                Attachment { container: "dummy".parse().unwrap(), ifname: ifname.parse().unwrap() };
            names(&attachment.owner(&"cni-plugin-bandwidth-test".parse().unwrap()))
        };
        let [[first, second], [other_first, other_second]] = ["eth0", "eth1"].map(of);
        assert_eq!((&*first, &*other_first), ("bwpa8eda89404b7", "bwpa8eda89404b7"));
        assert_ne!(second, other_second);
        assert_eq!(second.len(), 15);
    }
}
