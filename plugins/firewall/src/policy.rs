//! What the host forwards to and from an attachment, and what it does not.
//!
//! ```text
//! table ip girder {
//!     set firewall-pods {                   # pods whose connections are let through
//!         type ipv4_addr
//!         elements = { 10.1.0.2 comment "pods c1 eth0" }
//!     }
//!     set firewall-bridges {                # nothing is forwarded between these ...
//!         type ifname
//!         elements = { "cni0" comment "pods" }
//!     }
//!     set firewall-ways {                   # ... but from itself to itself, unless `isolated`
//!         type ifname . ifname
//!         elements = { "cni0" . "cni0" comment "pods" }
//!     }
//!     set firewall-hairpins {               # ... and what comes back to its sender
//!         type ipv4_addr . ipv4_addr
//!         elements = { 10.1.0.2 . 10.1.0.2 comment "pods c1 eth0" }
//!     }
//!     chain firewall {
//!         type filter hook forward priority filter - 1; policy accept;
//!         iifname @firewall-bridges oifname @firewall-bridges iifname . oifname != @firewall-ways \
//!             ip saddr . ip daddr != @firewall-hairpins drop
//!         ip saddr @firewall-pods meta mark set meta mark | 0x1000
//!         ip daddr @firewall-pods ct state established,related meta mark set meta mark | 0x1000
//!     }
//! }
//! table bridge girder {
//!     set firewall-ports {                  # `isolated`: these exchange no frames with others
//!         type ifname
//!         elements = { "veth814c47b8d5e" comment "pods c1 eth0" }
//!     }
//!     set firewall-hairpins { .. }
//!     chain firewall {
//!         type filter hook forward priority filter; policy accept;
//!         iifname @firewall-ports iifname . oifname != @firewall-hairpins drop
//!         oifname @firewall-ports iifname . oifname != @firewall-hairpins drop
//!     }
//! }
//! ```
//!
//! and the same as `table ip6 girder`. There are as many rules for one pod as for a thousand.
//!
//! A drop is final, but an accept is not: every other table sees the packet as well, and may drop it.
//! So what is to be let through bears a mark, and `accept` tells iptables, which drops what it does
//! not know on many hosts, to accept that mark.

mod accept;
mod attachment;
mod foreign;
pub(crate) mod iptables;
mod removal;
mod ruleset;

pub(crate) use attachment::{Accepted, ForwardingPolicy, Ingress, addresses};
pub use foreign::{BlockingChain, Sender};

use accept::MarkAccepted;
use attachment::pod_key;
use common::Undo;
use common::attach::Owner;
use common::cni::{Error, Result, report};
use common::filter::Backend;
use common::filter::elements::{Elements, OwnedElement, Shared, SharedRuleset as _, port_key};
use common::filter::restore::{Expected, ExpectedElements};
use common::net::Family;
use common::net::nft::{Batch, Element, Feature, Key, Make, Nft, concat};
use foreign::Chains;
use ruleset::{ALLOWED_PAIRS, BRIDGES, HAIRPINS, PORT_HAIRPINS, PORTS, isolated, set_of};
use std::net::IpAddr;

/// Our tables about what is forwarded. Drop them late: see [`Nft`].
pub struct ForwardingRules {
    elements: Elements,
}

impl ForwardingRules {
    /// # Errors
    /// When there is no room for a socket.
    pub fn open() -> Result<Self> {
        Ok(Self { elements: Elements::open()? })
    }

    /// As [`open`](Self::open). None if this kernel has no nftables.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn open_available() -> Result<Option<Self>> {
        Ok(Nft::open_available()?.map(|nft| Self { elements: Elements::new(nft) }))
    }

    /// Lets the attachment's connections through, and makes its ingress policy. The bridge's part of
    /// that is shared by its attachments, and is not undone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn create(
        &mut self,
        policy: &ForwardingPolicy,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        let elements = policy.elements();
        if elements.is_empty() {
            return Ok(());
        }
        self.elements.create(&elements, &policy.comment(owner), policy, undo)?;
        self.ensure_policy(policy, owner.label())?;
        if let Accepted::Here { admin_chain } = &policy.accepted {
            for family in policy.families() {
                accept::ensure_accepted(&mut self.elements.nft(), family, admin_chain)?;
            }
            let blocking =
                foreign::find(&mut self.elements.nft(), &senders(policy), Chains::Usual)?;
            for one in distinct(blocking).into_iter().filter(|one| one.is_certain) {
                report(one);
            }
        }
        Ok(())
    }

    /// What [`create`](Self::create) makes.
    ///
    /// # Errors
    /// When it cannot be expressed.
    pub(crate) fn expected_state(
        policy: &ForwardingPolicy,
        owner: &Owner,
    ) -> Result<Vec<Expected>> {
        let mut declaration = policy.declare()?;
        let bridge = policy.bridge.iter().filter(|_| policy.ingress != Ingress::Open);
        for (bridge, family) in bridge.flat_map(|one| policy.families().map(move |of| (one, of))) {
            let [closed, pair] = bridge_keys(bridge, family);
            shared_element(&mut declaration, &closed, owner.label());
            if policy.ingress == Ingress::SameBridge {
                shared_element(&mut declaration, &pair, owner.label());
            }
        }
        let own = ExpectedElements::new(policy.elements(), policy.comment(owner), declaration);
        let mut expected = vec![Expected::Own(own)];
        if let Accepted::Here { admin_chain } = &policy.accepted {
            expected.extend(policy.families().map(|family| {
                let admin_chain = admin_chain.clone();
                Expected::External(Box::new(MarkAccepted { family, admin_chain }))
            }));
        }
        Ok(expected)
    }

    /// Gives the bridge the ingress policy of the attachment. A bridge of two networks has the
    /// stricter one of theirs.
    fn ensure_policy(&mut self, policy: &ForwardingPolicy, network: &str) -> Result<()> {
        // Another ADD may delete what is to be deleted here.
        const ATTEMPTS: usize = 3;
        for attempt in 1.. {
            let (batch, surplus) = self.plan_policy(policy, network)?;
            match self.elements.nft().commit(batch) {
                Err(error) if error.is_gone() && attempt < ATTEMPTS => {}
                outcome => {
                    outcome?;
                    self.elements.nft().delete_elements(&surplus)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// What has to be made, and the elements that have to be deleted then.
    fn plan_policy(
        &mut self,
        policy: &ForwardingPolicy,
        network: &str,
    ) -> Result<(Batch, Vec<(Shared, Key)>)> {
        let (mut batch, mut surplus) = (Batch::new(), Vec::new());
        let Some(bridge) = &policy.bridge else { return Ok((batch, surplus)) };
        for family in policy.families() {
            let [closed, pair] = bridge_keys(bridge, family);
            let found = self.find(&closed)?;
            let is_own = found.as_deref().is_none_or(|comment| comment == network);
            match policy.ingress {
                Ingress::Open if is_own && found.is_some() => surplus.extend([closed, pair]),
                Ingress::SameBridge if is_own => {
                    shared_element(&mut batch, &closed, network);
                    shared_element(&mut batch, &pair, network);
                }
                Ingress::Isolated => {
                    let is_laxer = self.find(&pair)?.is_some();
                    if is_laxer && !is_own {
                        batch.delete_element(closed.0.table, closed.0.name, &closed.1);
                    }
                    shared_element(&mut batch, &closed, network);
                    surplus.extend(is_laxer.then_some(pair));
                }
                Ingress::Open | Ingress::SameBridge => {}
            }
        }
        Ok((batch, surplus))
    }

    /// The comment of an element that is there.
    fn find(&mut self, (set, key): &(Shared, Key)) -> Result<Option<String>> {
        let element = self.elements.find(*set, key)?;
        Ok(element.map(|element| element.comment.unwrap_or_default()))
    }

    /// Everything of the policy that is not as it should be.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn verify(
        &mut self,
        policy: &ForwardingPolicy,
        owner: &Owner,
    ) -> Result<Vec<String>> {
        let mut elements = policy.elements();
        // iptables or firewalld is asked about addresses that it lets through.
        elements.retain(|element| {
            isolated().contains(&element.set) || policy.accepted != Accepted::External
        });
        let missing = self.elements.missing(&elements, owner)?;
        let mut differences: Vec<_> = missing.into_iter().map(describe).collect();
        if !elements.is_empty() && !self.elements.is_whole(policy)? {
            differences.push("rules about what is forwarded are missing".to_owned());
        }
        let bridge = policy.bridge.iter().filter(|_| policy.ingress != Ingress::Open);
        for bridge in bridge {
            for family in policy.families() {
                let [closed, pair] = bridge_keys(bridge, family);
                let is_closed = self.find(&closed)?.is_some();
                let is_same = policy.ingress == Ingress::SameBridge;
                // `isolated` on one network is right for `same-bridge` on another one.
                if !is_closed || (!is_same && self.find(&pair)?.is_some()) {
                    differences.push(format!("the ingressPolicy of bridge {bridge} is not kept"));
                }
            }
        }
        differences.dedup();
        if let Accepted::Here { admin_chain } = &policy.accepted {
            for family in policy.families() {
                let mut nft = self.elements.nft();
                differences.extend(accept::verify_accepted(&mut nft, family, admin_chain)?);
            }
        }
        Ok(differences)
    }

    /// The chains of others that do not let through what pods send. Whether our own chain marks that
    /// is looked up, whatever a sender says.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find_blocking_chains(&mut self, mut senders: Vec<Sender>) -> Result<Vec<BlockingChain>> {
        for sender in &mut senders {
            if let Some(address) = sender.address {
                sender.is_marked = self.find(&pod_key(address))?.is_some();
            }
        }
        foreign::find(&mut self.elements.nft(), &senders, Chains::All)
    }

    /// Whether connections could be let through at all. Chains of others that drop them are named on
    /// stderr: an error would have the runtime take the whole node out.
    ///
    /// # Errors
    /// Code 50 when the kernel has no nftables.
    pub(crate) fn probe(&mut self) -> Result<()> {
        let key = pod_key(std::net::Ipv4Addr::UNSPECIFIED.into());
        self.find(&key).map_err(Error::unavailable)?;
        if let Some(sentence) = accept::why_blocked(&mut self.elements.nft())? {
            report(sentence);
        }
        let anybody = Family::ALL.map(Sender::anybody);
        for one in distinct(foreign::find(&mut self.elements.nft(), &anybody, Chains::All)?) {
            report(one);
        }
        Ok(())
    }
}

/// Whether connections could be let through by this backend: what the kernel lacks, where iptables
/// would do it for a configuration that names none.
///
/// # Errors
/// Code 50 when they could not.
pub fn probe(backend: Backend) -> Result<Option<Feature>> {
    let mut declaration = Batch::new();
    ruleset::declare(&mut declaration, Family::V4);
    backend.probe(&declaration, iptables::TABLE)
}

/// A chain is named once, however many senders it refuses.
fn distinct(blocking: Vec<BlockingChain>) -> Vec<BlockingChain> {
    let mut all: Vec<BlockingChain> = Vec::new();
    for one in blocking {
        if !all.iter().any(|other| other.is_same(&one)) {
            all.push(one);
        }
    }
    all
}

/// The pod of an attachment whose elements are there.
fn senders(policy: &ForwardingPolicy) -> Vec<Sender> {
    let sender = |ip: &IpAddr| Sender {
        family: Family::of(*ip),
        address: Some(*ip),
        input: policy.bridge.clone(),
        is_marked: true,
    };
    policy.addresses().iter().map(sender).collect()
}

fn shared_element(batch: &mut Batch, (set, key): &(Shared, Key), network: &str) {
    let element = Element { key: key.clone(), data: None, comment: Some(network.to_owned()) };
    batch.element(Make::Ensure, set.table, set.name, &element);
}

/// The key by which a bridge is closed, and the one by which it is open for its own pods.
fn bridge_keys(bridge: &str, family: Family) -> [(Shared, Key); 2] {
    let key = port_key(bridge);
    let pair = concat(&[&key, &key]);
    [(set_of(BRIDGES, family), key.into()), (set_of(ALLOWED_PAIRS, family), pair.into())]
}

fn describe(element: &OwnedElement) -> String {
    if [PORTS, PORT_HAIRPINS].contains(&element.set) {
        let name = element.key.first().iter().take_while(|byte| **byte != 0).copied().collect();
        let name = String::from_utf8(name).unwrap_or_default();
        return format!("port {name} is not kept from the other ports of its bridge");
    }
    if element.set.name == HAIRPINS {
        let pod = Key::from(element.key.first()[..element.key.first().len() / 2].to_vec());
        return format!("what {pod} sends to itself is not let through");
    }
    format!("connections of {} are not let through", element.key)
}
