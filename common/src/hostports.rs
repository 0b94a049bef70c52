//! Ports of the host that lead to an attachment.
//!
//! ```text
//! table ip girder {
//!     set hostports {                       # who holds which single port
//!         type inet_proto . inet_service
//!         elements = { tcp . 8080 comment "pods c1 eth0 veth 3" }
//!     }
//!     set hostports-at {                    # the same for one address of the host
//!         type ipv4_addr . inet_proto . inet_service
//!     }
//!     set hostport-spans {                  # who holds which range
//!         type ipv4_addr . inet_proto . inet_service
//!         elements = { 0.0.0.0/0 . udp . 10000-19999 comment "pods c1 eth0 veth 3" }
//!     }
//!     map hostport-targets {                # where single ports lead to
//!         type inet_proto . inet_service : ipv4_addr . inet_service
//!         elements = { tcp . 8080 comment .. : 10.1.0.2 . 80 }
//!     }
//!     map hostport-targets-at {             # the same for one address of the host
//!         type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
//!     }
//!     map hostport-ranges {                 # where ranges lead to, port by port
//!         type ipv4_addr . inet_proto . inet_service : ipv4_addr
//!         elements = { 0.0.0.0/0 . udp . 10000-19999 comment .. : 10.1.0.2 }
//!     }
//!     map hostport-gates {                  # ports that not everybody may use
//!         type ipv4_addr . inet_proto . inet_service : verdict
//!         elements = { 0.0.0.0/0 . tcp . 8080 comment .. : jump hostports-if-4f2a.. }
//!     }
//!     map hostport-sources {                # who comes back by the host's address only
//!         type ipv4_addr : verdict
//!         elements = { 10.1.0.2 comment .. : goto hostport-sources-10.1.0.0/24 }
//!     }
//!     chain hostport-sources-10.1.0.0/24 {  # a chain per subnet
//!         ip saddr 10.1.0.0/24 masquerade
//!         ip saddr 127.0.0.1 masquerade
//!     }
//! }
//! ```
//!
//! and the same as `table ip6 girder`; the rules are in `ruleset`. How many there are depends on
//! neither pods nor ports.

mod conditions;
mod flows;
mod ground;
pub mod iptables;
mod ruleset;
mod shadows;
mod span;

pub use conditions::Condition;
pub use span::{At, Mapping, SCTP, TCP, UDP, protocol};

use crate::claims::{Claim, Claims, FEW, Shared, TABLES, is_same_attachment};
use crate::cni::{Attachment, Cidr, Code, Error, NetworkName, Owner, Result};
use crate::kept::{Kept, link_names};
use crate::net::nft::{Batch, Data, Element, Key, SetName, Verdict};
use crate::net::{has_link, sysctl};
use crate::restore::{Elements, Holding};
use crate::sandbox::Host;
use crate::undo::Undo;
use conditions::chain_name;
pub(crate) use ground::has_veth_note;
use ground::{Ports, claimant, count, has_veth};
use ruleset::{ALL, GATES, PORTS, SOURCES};
use span::{PROTOCOLS, Span, address_of, sources_claim, sources_place, spans};
use std::net::IpAddr;

/// What is to be reached through the host.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The container's addresses, one of each family at most.
    pub addresses: Vec<Cidr>,
    /// Its ports.
    pub mappings: Vec<Mapping>,
    /// Whose source address is translated on the way, too.
    pub masquerade: Sources,
    /// What is asked of those who use them, over IPv4 and over IPv6. Empty: nothing.
    pub conditions: [Vec<Condition>; 2],
}

/// Whose source address is translated on the way to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// Nobody's: its neighbours, and the host by 127.0.0.1, do not get an answer.
    None,
    /// That of those who would not get an answer otherwise.
    Needed,
    /// Everybody's.
    All,
}

impl Publication {
    /// # Errors
    /// Code 7 when one port is to lead to two places.
    pub fn refuse_overlaps(mappings: &[Mapping]) -> Result<()> {
        span::refuse_overlaps(mappings)
    }

    fn spans(&self) -> impl Iterator<Item = (Cidr, Vec<Span>)> {
        self.addresses.iter().map(|pod| (*pod, spans(&self.mappings, pod.is_ipv6())))
    }

    fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (pod, spans) in self.spans().filter(|(_, spans)| !spans.is_empty()) {
            claims.extend(spans.iter().flat_map(|span| span.claims(pod.ip())));
            claims.extend(self.gates(&spans, pod.is_ipv6()));
            if self.masquerade != Sources::None {
                claims.push(sources_claim(&pod, self.masquerade == Sources::All));
            }
        }
        claims
    }

    fn conditions(&self, is_ipv6: bool) -> &[Condition] {
        &self.conditions[usize::from(is_ipv6)]
    }

    fn gates(&self, spans: &[Span], is_ipv6: bool) -> impl Iterator<Item = Claim> {
        let conditions = self.conditions(is_ipv6);
        let data = Data::Verdict(Verdict::Jump(chain_name(conditions)));
        let gated = spans.iter().filter(|_| !conditions.is_empty());
        gated.map(move |span| {
            let (set, key) = span.gate(is_ipv6);
            Claim { set, key, data: Some(data.clone()) }
        })
    }

    /// The pod that the host itself reaches by 127.0.0.1, if there is one. Over
    /// IPv6 it does not: the kernel has no such setting for `::1`.
    fn localhost(&self) -> Option<IpAddr> {
        let is_open = |span: &Span| span.address.is_none_or(|address| address.is_loopback());
        let mut open =
            self.spans().filter(|(pod, spans)| pod.is_ipv4() && spans.iter().any(is_open));
        open.next().filter(|_| self.masquerade != Sources::None).map(|(pod, _)| pod.ip())
    }
}

/// The packet filter, for the ports of attachments.
pub struct HostPorts {
    claims: Claims,
    host: Host,
}

impl HostPorts {
    /// # Errors
    /// When the kernel has no nftables.
    pub fn open() -> Result<Self> {
        Ok(Self { claims: Claims::open()?, host: Host::open()? })
    }

    /// Makes the ports lead to the attachment, all of them or none.
    ///
    /// # Errors
    /// When another attachment holds one of them, and may be alive; when the kernel refuses.
    pub fn create(
        &mut self,
        publication: &Publication,
        (network, attachment): (&NetworkName, &Attachment),
        undo: &mut Undo,
    ) -> Result<()> {
        let claims = publication.claims();
        if claims.is_empty() {
            return Ok(());
        }
        self.clear_shadows(publication, network, attachment)?;
        let owner = attachment.owner(network);
        let claimant = claimant(&owner, has_veth(&self.host.netlink, &owner)?, &claims);
        let ground = Ports::new(publication, &owner, &self.host.netlink);
        self.claims.create(&claims, &claimant, &ground, undo)?;
        self.open_ways(publication)
    }

    /// What [`create`](Self::create) makes in the packet filter, for an attachment that lives.
    pub fn holding(publication: &Publication, owner: &Owner) -> Holding {
        let (claims, declaration) = (publication.claims(), ground::declare(publication));
        let has_veth = link_names(owner).iter().any(|name| has_link(name));
        let claimant = claimant(owner, has_veth, &claims);
        Holding::Own(Elements::new(claims, claimant, declaration))
    }

    /// What comes last: only now is there what makes a way for 127.0.0.1 safe, and where
    /// connections are to lead.
    fn open_ways(&self, publication: &Publication) -> Result<()> {
        if let Some(key) = self.localnet(publication)? {
            sysctl::set(&key, "1").map_err(|error| {
                Error::internal(format!("unable to enable route_localnet: {error}"))
            })?;
        }
        for (pod, spans) in publication.spans() {
            flows::forget_before(&self.host.netlink, pod.ip(), &spans);
        }
        Ok(())
    }

    fn localhost_difference(&self, publication: &Publication) -> Result<Option<String>> {
        let Some(key) = self.localnet(publication)? else { return Ok(None) };
        let is_open = sysctl::read(&key)?.as_deref() == Some("1");
        let difference = || format!("{key} is not 1: 127.0.0.1 does not lead to the container");
        Ok((!is_open).then(difference))
    }

    /// The setting that lets 127.0.0.1 through to the attachment, on the one link there.
    fn localnet(&self, publication: &Publication) -> Result<Option<String>> {
        let Some(pod) = publication.localhost() else { return Ok(None) };
        let route = self.host.netlink.find_route_to(pod)?;
        let Some(index) = route.and_then(|route| route.oif) else { return Ok(None) };
        let link = self.host.netlink.read_link(index)?;
        Ok(Some(format!("net/ipv4/conf/{}/route_localnet", link.name)))
    }

    /// Removes what the container's interface has, whatever its network is called by now. What
    /// the mappings name saves a look at all elements; they need not be true, nor all.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, mappings: &[Mapping], owner: &Owner) -> Result<()> {
        let ours = |comment: &str| is_same_attachment(owner, comment);
        let mut found = self.find_known(mappings, &ours)?;
        let counted = |(_, one): &(Shared, Element)| count(one.comment.as_deref()?);
        if found.is_empty() || found.iter().any(|one| counted(one) != Some(found.len())) {
            found = self.claims.list_where(&all_sets(), ours)?;
        }
        self.claims.delete_judged(&found, ours)?;
        flows::forget_after(&found);
        Ok(())
    }

    /// None of them, where a list of everything is cheaper than a question for each.
    fn find_known(
        &mut self,
        mappings: &[Mapping],
        ours: &impl Fn(&str) -> bool,
    ) -> Result<Vec<(Shared, Element)>> {
        let spans = [false, true].map(|is_ipv6| (is_ipv6, spans(mappings, is_ipv6)));
        if spans.iter().map(|(_, spans)| spans.len()).sum::<usize>() > FEW {
            return Ok(Vec::new());
        }
        let (mut found, mut pods) = (Vec::new(), Vec::new());
        for (is_ipv6, spans) in spans {
            for span in spans {
                for (set, key) in span.places(is_ipv6).into_iter().chain([span.gate(is_ipv6)]) {
                    self.note(set, &key, ours, &mut found)?;
                }
            }
        }
        for (_, element) in &found {
            pods.extend(pod_of(element).filter(|pod| !pods.contains(pod)));
        }
        for pod in pods {
            let (set, key) = sources_place(pod);
            self.note(set, &key, ours, &mut found)?;
        }
        Ok(found)
    }

    fn note(
        &mut self,
        set: Shared,
        key: &Key,
        ours: &impl Fn(&str) -> bool,
        found: &mut Vec<(Shared, Element)>,
    ) -> Result<()> {
        let element = self.claims.find(set, key)?;
        let element = element.filter(|one| one.comment.as_deref().is_some_and(ours));
        found.extend(element.map(|element| (set, element)).filter(|one| !found.contains(one)));
        Ok(())
    }

    /// Removes what belongs to nobody who is kept, and chains that nobody's elements lead to.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sweep(&mut self, kept: &Kept<'_>) -> Result<()> {
        self.claims.sweep(&all_sets(), kept)?;
        let (sources, conditions) = (format!("{SOURCES}-"), format!("{PORTS}-if-"));
        self.claims.delete_unused_chains(|name| {
            name.starts_with(&sources) || name.starts_with(&conditions)
        })
    }

    /// Every port that does not lead where it should.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn verify(&mut self, publication: &Publication, owner: &Owner) -> Result<Vec<String>> {
        let claims = publication.claims();
        let missing = self.claims.missing(&claims, owner)?;
        let mut differences: Vec<_> = missing.into_iter().map(describe).collect();
        differences.dedup();
        let ground = Ports::new(publication, owner, &self.host.netlink);
        if !claims.is_empty() && !self.claims.is_whole(&ground)? {
            differences.push("rules that ask for host ports are missing".to_owned());
        }
        differences.extend(self.localhost_difference(publication)?);
        Ok(differences)
    }

    /// Whether ports could be published at all.
    ///
    /// # Errors
    /// Code 50 when the kernel has no nftables, or none that is young enough.
    pub fn probe() -> Result<()> {
        let probed = Claims::open().and_then(|mut claims| {
            // Where it was made once, it can be made.
            if claims.nft().find_chain(TABLES[0], PORTS)?.is_some() {
                return Ok(());
            }
            let mut batch = Batch::new();
            ruleset::declare(&mut batch, TABLES[0]);
            Ok(claims.nft().rehearse(TABLES[0], batch)?)
        });
        probed.map_err(|error| Error::new(Code::Unavailable, error.to_string()))
    }
}

fn all_sets() -> Vec<Shared> {
    let of_table = |table| ALL.map(|name| SetName { table, name });
    TABLES.into_iter().flat_map(of_table).collect()
}

/// Where an element of a map leads to.
fn pod_of(element: &Element) -> Option<IpAddr> {
    match &element.data {
        Some(Data::Value(value)) => address_of(value),
        _ => None,
    }
}

fn describe(claim: &Claim) -> String {
    match Span::from_key(&claim.key) {
        Some(span) if claim.set.name == GATES => {
            format!("host port {} lacks its conditions", ports(&span))
        }
        Some(span) if claim.set.name != SOURCES => {
            format!("host port {} does not lead to the container", ports(&span))
        }
        _ => format!("connections of {} are not masqueraded", claim.key),
    }
}

fn ports(span: &Span) -> String {
    let at = span.address.map_or_else(String::new, |address| format!(" of {address}"));
    let protocol = span::name(span.protocol);
    if span.first == span.last {
        return format!("{}/{protocol}{at}", span.first);
    }
    format!("{}-{}/{protocol}{at}", span.first, span.last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn only_ipv4_needs_a_way_for_localhost() {
        let publication = |pod: &str, at, masquerade| Publication {
            addresses: vec![pod.parse().unwrap()],
            mappings: vec![Mapping { at, protocol: TCP, host_port: 80, container_port: 80 }],
            masquerade,
            conditions: Default::default(),
        };
        let pod = "10.1.0.2/24";
        let needed = Sources::Needed;
        assert!(publication(pod, At::Anywhere, needed).localhost().is_some());
        assert!(
            publication(pod, At::Address(Ipv4Addr::LOCALHOST.into()), needed).localhost().is_some()
        );
        for publication in [
            publication(pod, At::Anywhere, Sources::None),
            publication(pod, At::Address("10.0.0.1".parse().unwrap()), needed),
            publication("fd00::2/64", At::Anywhere, needed),
        ] {
            assert!(publication.localhost().is_none());
        }
    }
}
