//! The spoof check (`macspoofchk`): frames of a container are dropped unless their source is the
//! container's own hardware address.
//!
//! ```text
//! table bridge girder {
//!     set checked-ports {                   # an element per pod, with its owner as comment
//!         type ifname
//!         elements = { "veth814c47b8d5e" comment "pods c1 eth0" }
//!     }
//!     set checked-macs {
//!         type ifname . ether_addr
//!         elements = { "veth814c47b8d5e" . 02:00:00:00:00:01 comment "pods c1 eth0" }
//!     }
//!     chain spoofcheck {
//!         type filter hook prerouting priority -300; policy accept;
//!         iifname @checked-ports iifname . ether saddr != @checked-macs drop
//!     }
//! }
//! ```
//!
//! There is one rule for all containers, so its cost does not grow with their number.

use common::Undo;
use common::attach::Kept;
use common::attach::Owner;
use common::attach::host_end::{host_name, link_names};
use common::cni::{Result, Success};
use common::filter::elements::{
    ABOUT, BRIDGE as TABLE, Comment, Elements, OwnedElement, Shared, SharedRuleset, port_key,
};
use common::filter::restore::{Expected, ExpectedElements};
use common::net::Mac;
use common::net::nft::{
    Base, Batch, Chain, ChainKind, Content, Datatype, Element, Expr, Field, Hook, Key, Make, Nft,
    Policy, RAW, Set, SetName, Verdict, concat,
};

const PORTS: Shared = SetName { table: TABLE, name: "checked-ports" };
const MACS: Shared = SetName { table: TABLE, name: "checked-macs" };
const CHAIN: &str = "spoofcheck";

/// The packet filter, for the ports of one network.
///
/// Drop it after the link has been deleted: see [`Nft`].
pub(crate) struct SpoofCheck {
    elements: Elements,
}

impl SpoofCheck {
    /// Opens the packet filter.
    ///
    /// # Errors
    /// When there is no room for a socket.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { elements: Elements::open()? })
    }

    /// Uses an open socket.
    pub(crate) fn new(nft: Nft) -> Self {
        Self { elements: Elements::new(nft) }
    }

    /// Makes the host drop frames from the attachment's veth whose source is not `mac`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn create(&mut self, mac: Mac, owner: &Owner, undo: &mut Undo) -> Result<()> {
        let comment = Comment::new(owner);
        self.elements.create(&elements(&host_name(owner), Some(mac)), &comment, &Rule, undo)
    }

    /// What [`create`](Self::create) made for the attachment of this result.
    ///
    /// # Errors
    /// When it cannot be expressed.
    pub(crate) fn expected(success: &Success, owner: &Owner) -> Result<Expected> {
        let comment = Comment::new(owner);
        let elements = elements(&port_of(success, owner), mac_of(Some(success), owner));
        Ok(Expected::Own(ExpectedElements::new(elements, comment, Rule.declare()?)))
    }

    /// Removes the attachment's elements. `success` gives their keys, so that not all elements have to
    /// be listed; it may be missing or wrong.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn delete(&mut self, success: Option<&Success>, owner: &Owner) -> Result<()> {
        let ours = |comment: &str| owner.is_in(comment);
        let known = mac_of(success, owner);
        let of_name = |name: &String| elements(name, known);
        let names = link_names(owner);
        let all = names.iter().flat_map(of_name).map(|element| (element.set, element.key));
        self.elements.delete(&all.collect::<Vec<_>>(), ours)?;
        if known.is_none() {
            self.elements.delete_where(&[MACS], ours)?;
        }
        Ok(())
    }

    /// Removes the elements that belong to no attachment that GC leaves alone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn sweep(&mut self, kept: &Kept<'_>) -> Result<()> {
        self.elements.sweep(&[PORTS, MACS], kept)
    }

    /// A sentence if other source addresses than the one of the result get through.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn verify(&mut self, success: &Success, owner: &Owner) -> Result<Vec<String>> {
        let port = port_of(success, owner);
        let elements = elements(&port, mac_of(Some(success), owner));
        let missing = self.elements.missing(&elements, owner)?;
        let difference = || format!("source addresses of {port} are not checked");
        let is_there = missing.is_empty() && self.elements.is_whole(&Rule)?;
        Ok((!is_there).then(difference).into_iter().collect())
    }
}

/// The hardware address of the container's interface in a result.
fn mac_of(success: Option<&Success>, owner: &Owner) -> Option<Mac> {
    let ifname = owner.as_str().rsplit(' ').next();
    let mut interfaces = success?.interfaces.iter();
    let own = interfaces
        .find(|interface| interface.is_in_sandbox() && Some(interface.name.as_str()) == ifname);
    own?.mac.as_deref()?.parse().ok()
}

/// The name of the host's end in a result, which may be the former one.
fn port_of(success: &Success, owner: &Owner) -> String {
    let names = link_names(owner);
    let is_named = |name: &&String| success.interfaces.iter().any(|entry| entry.name == **name);
    names.iter().find(is_named).map_or_else(|| host_name(owner), Clone::clone)
}

fn elements(port: &str, mac: Option<Mac>) -> Vec<OwnedElement> {
    let port = port_key(port);
    let own = mac.map(|mac| (MACS, concat(&[&port, &mac.0]).into()));
    let all = std::iter::once((PORTS, Key::from(port))).chain(own);
    all.map(|(set, key)| OwnedElement { set, key, data: None }).collect()
}

/// The rule, and the sets that it looks up.
struct Rule;

impl SharedRuleset for Rule {
    fn declare(&self) -> Result<Batch> {
        let set = |set: Shared, key| Set {
            table: TABLE,
            name: set.name,
            key,
            content: Content::Keys,
            intervals: false,
        };
        let base = Base {
            kind: ChainKind::Filter,
            hook: Hook::Prerouting,
            priority: RAW,
            policy: Policy::Accept,
        };
        let rule = [
            Expr::In(&[Field::Input], PORTS.name),
            Expr::NotIn(&[Field::Input, Field::SourceMac], MACS.name),
            Expr::Verdict(Verdict::Drop),
        ];
        let mut batch = Batch::new();
        batch
            .table(Make::Ensure, TABLE, ABOUT)
            .set(Make::Ensure, &set(PORTS, &[Datatype::IfName]))
            .set(Make::Ensure, &set(MACS, &[Datatype::IfName, Datatype::EtherAddr]))
            .empty_chain(&Chain { base: Some(base), ..Chain::named(TABLE, CHAIN) })
            .rule(TABLE, CHAIN, &rule, None);
        Ok(batch)
    }

    /// The key is the name of the attachment's own link, so an element of it is left from an earlier
    /// attachment and may always be replaced.
    fn may_replace(&self, _: &OwnedElement, _: &Element) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::cni::Attachment;

    #[test]
    fn the_containers_address_is_that_of_its_own_interface() {
        let attachment =
            Attachment { container: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() };
        let owner = attachment.owner(&"pods".parse().unwrap());
        let interface = |name: &str, sandbox: Option<&str>, mac: &str| common::cni::Interface {
            name: name.to_owned(),
            sandbox: sandbox.map(str::to_owned),
            mac: Some(mac.to_owned()),
            ..Default::default()
        };
        let interfaces = vec![
            interface("eth0", None, "02:00:00:00:00:01"),
            interface("eth1", Some("/run/netns/pod"), "02:00:00:00:00:02"),
            interface("eth0", Some("/run/netns/pod"), "02:00:00:00:00:03"),
        ];
        let success = Success { interfaces, ..Success::default() };
        assert_eq!(mac_of(Some(&success), &owner).unwrap().to_string(), "02:00:00:00:00:03");
        assert_eq!(port_of(&success, &owner), host_name(&owner));
        assert_eq!(elements("veth1", None).len(), 1);
        assert_eq!(elements("veth1", Some(Mac([2; 6])))[1].key.first().len(), 24);
    }
}
