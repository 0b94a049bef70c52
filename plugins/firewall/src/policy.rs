//! What of an attachment is forwarded, and what is kept from it.
//!
//! ```text
//! table ip girder {
//!     set firewall-pods {                   # whose connections are let through
//!         type ipv4_addr
//!         elements = { 10.1.0.2 comment "pods c1 eth0" }
//!     }
//!     set firewall-bridges {                # between these nothing is forwarded ..
//!         type ifname
//!         elements = { "cni0" comment "pods" }
//!     }
//!     set firewall-ways {                   # .. but from itself to itself, unless `isolated`
//!         type ifname . ifname
//!         elements = { "cni0" . "cni0" comment "pods" }
//!     }
//!     set firewall-hairpins {               # .. and what comes back to who sent it
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
//!     set firewall-ports {                  # `isolated`: no other port of the bridge hears these
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
//! A drop is final, but an accept is not: every other table is asked as well, and whoever says no
//! wins. So what is to be let through bears a mark, and `forwarding` has the one table that says
//! no on many hosts, that of iptables, accept it.

mod accept;
mod attachment;
mod foreign;
pub mod iptables;
mod removal;
mod ruleset;

pub use attachment::{Accepted, ForwardingPolicy, Ingress, addresses};
pub use foreign::{Refusal, Sender};

use accept::MarkAccepted;
use attachment::place;
use common::Undo;
use common::attach::Owner;
use common::cni::{Code, Error, Result, report};
use common::filter::elements::{Elements, OwnedElement, Shared, SharedRuleset as _, port_key};
use common::filter::restore::{Expected, ExpectedElements};
use common::net::Family;
use common::net::nft::{Batch, Element, Key, Make, concat};
use foreign::Chains;
use ruleset::{ALLOWED_PAIRS, BRIDGES, HAIRPINS, PORT_HAIRPINS, PORTS, apart, set_of};
use std::net::IpAddr;

/// The packet filter, for what is forwarded. Drop it late: see [`Nft`](common::net::nft::Nft).
pub struct Firewall {
    elements: Elements,
}

impl Firewall {
    /// # Errors
    /// When the kernel has no nftables.
    pub fn open() -> Result<Self> {
        Ok(Self { elements: Elements::open()? })
    }

    /// From now on the attachment's connections are let through, and what is to be kept from it
    /// is. The bridge's part of that is shared, and stays.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(
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
            for is_ipv6 in policy.families() {
                accept::ensure_accepted(self.elements.nft(), family(is_ipv6), admin_chain)?;
            }
            let refusals = foreign::find(self.elements.nft(), &senders(policy), Chains::Usual)?;
            for refusal in distinct(refusals).into_iter().filter(|refusal| refusal.is_certain) {
                report(refusal);
            }
        }
        Ok(())
    }

    /// What [`create`](Self::create) makes.
    ///
    /// # Errors
    /// When it cannot be expressed.
    pub fn expected_state(policy: &ForwardingPolicy, owner: &Owner) -> Result<Vec<Expected>> {
        let mut declaration = policy.declare()?;
        let bridge = policy.bridge.iter().filter(|_| policy.ingress != Ingress::Open);
        for (bridge, is_ipv6) in bridge.flat_map(|one| policy.families().map(move |v6| (one, v6))) {
            let [closed, pair] = bridge_keys(bridge, is_ipv6);
            shared_element(&mut declaration, &closed, owner.label());
            if policy.ingress == Ingress::SameBridge {
                shared_element(&mut declaration, &pair, owner.label());
            }
        }
        let own = ExpectedElements::new(policy.elements(), policy.comment(owner), declaration);
        let mut expected = vec![Expected::Own(own)];
        if let Accepted::Here { admin_chain } = &policy.accepted {
            expected.extend(policy.families().map(|is_ipv6| {
                let (family, admin_chain) = (family(is_ipv6), admin_chain.clone());
                Expected::External(Box::new(MarkAccepted { family, admin_chain }))
            }));
        }
        Ok(expected)
    }

    /// Makes the policy of the bridge that of the policy. A bridge of two networks has the
    /// stricter one of theirs.
    fn ensure_policy(&mut self, policy: &ForwardingPolicy, network: &str) -> Result<()> {
        // Another ADD may be faster.
        const ATTEMPTS: usize = 3;
        for attempt in 1.. {
            let (batch, gone) = self.plan_policy(policy, network)?;
            match self.elements.nft().commit(batch) {
                Err(error) if error.is_gone() && attempt < ATTEMPTS => {}
                outcome => {
                    outcome?;
                    self.elements.nft().delete_elements(&gone)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// What has to come, and what has to go.
    fn plan_policy(
        &mut self,
        policy: &ForwardingPolicy,
        network: &str,
    ) -> Result<(Batch, Vec<(Shared, Key)>)> {
        let (mut batch, mut gone) = (Batch::new(), Vec::new());
        let Some(bridge) = &policy.bridge else { return Ok((batch, gone)) };
        for is_ipv6 in policy.families() {
            let [closed, pair] = bridge_keys(bridge, is_ipv6);
            let holder = self.find(&closed)?;
            let is_own = holder.as_deref().is_none_or(|comment| comment == network);
            match policy.ingress {
                Ingress::Open if is_own && holder.is_some() => gone.extend([closed, pair]),
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
                    gone.extend(is_laxer.then_some(pair));
                }
                Ingress::Open | Ingress::SameBridge => {}
            }
        }
        Ok((batch, gone))
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
    pub fn verify(&mut self, policy: &ForwardingPolicy, owner: &Owner) -> Result<Vec<String>> {
        let mut elements = policy.elements();
        // Who lets them through elsewhere is asked there.
        elements.retain(|element| {
            apart().contains(&element.set) || policy.accepted != Accepted::External
        });
        let missing = self.elements.missing(&elements, owner)?;
        let mut differences: Vec<_> = missing.into_iter().map(describe).collect();
        if !elements.is_empty() && !self.elements.is_whole(policy)? {
            differences.push("rules about what is forwarded are missing".to_owned());
        }
        let bridge = policy.bridge.iter().filter(|_| policy.ingress != Ingress::Open);
        for bridge in bridge {
            for is_ipv6 in policy.families() {
                let [closed, pair] = bridge_keys(bridge, is_ipv6);
                let is_closed = self.find(&closed)?.is_some();
                let is_same = policy.ingress == Ingress::SameBridge;
                // Another network may be stricter.
                if !is_closed || (!is_same && self.find(&pair)?.is_some()) {
                    differences.push(format!("the ingressPolicy of bridge {bridge} is not kept"));
                }
            }
        }
        differences.dedup();
        if let Accepted::Here { admin_chain } = &policy.accepted {
            for is_ipv6 in policy.families() {
                let (nft, family) = (self.elements.nft(), family(is_ipv6));
                differences.extend(accept::verify_accepted(nft, family, admin_chain)?);
            }
        }
        Ok(differences)
    }

    /// The chains of others that do not let through what pods send. Whether our own chain marks
    /// that is asked of the packet filter.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find_refusals(&mut self, mut senders: Vec<Sender>) -> Result<Vec<Refusal>> {
        for sender in &mut senders {
            if let Some(address) = sender.address {
                sender.is_marked = self.find(&place(address))?.is_some();
            }
        }
        foreign::find(self.elements.nft(), &senders, Chains::All)
    }

    /// Whether connections could be let through at all. Who else on this host drops them is said on
    /// stderr: that is no reason to take all other pods from it.
    ///
    /// # Errors
    /// Code 50 when the kernel has no nftables.
    pub fn probe(&mut self) -> Result<()> {
        let unavailable = |error: Error| Error::new(Code::Unavailable, error.to_string());
        self.find(&place(std::net::Ipv4Addr::UNSPECIFIED.into())).map_err(unavailable)?;
        if let Some(sentence) = accept::why_blocked(self.elements.nft())? {
            report(sentence);
        }
        let anybody = Family::ALL.map(Sender::anybody);
        for refusal in distinct(foreign::find(self.elements.nft(), &anybody, Chains::All)?) {
            report(refusal);
        }
        Ok(())
    }
}

/// A chain is named once, however many it refuses.
fn distinct(refusals: Vec<Refusal>) -> Vec<Refusal> {
    let mut all: Vec<Refusal> = Vec::new();
    for refusal in refusals {
        if !all.iter().any(|other| other.is_same(&refusal)) {
            all.push(refusal);
        }
    }
    all
}

/// Who sends, of an attachment whose elements are there.
fn senders(policy: &ForwardingPolicy) -> Vec<Sender> {
    let sender = |ip: &IpAddr| Sender {
        family: Family::of(*ip),
        address: Some(*ip),
        input: policy.bridge.clone(),
        is_marked: true,
    };
    policy.addresses().iter().map(sender).collect()
}

fn family(is_ipv6: bool) -> Family {
    if is_ipv6 { Family::V6 } else { Family::V4 }
}

fn shared_element(batch: &mut Batch, (set, key): &(Shared, Key), network: &str) {
    let element = Element { key: key.clone(), data: None, comment: Some(network.to_owned()) };
    batch.element(Make::Ensure, set.table, set.name, &element);
}

/// Where a bridge is closed, and where it is open for itself.
fn bridge_keys(bridge: &str, is_ipv6: bool) -> [(Shared, Key); 2] {
    let key = port_key(bridge);
    let pair = concat(&[&key, &key]);
    [(set_of(BRIDGES, is_ipv6), key.into()), (set_of(ALLOWED_PAIRS, is_ipv6), pair.into())]
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
