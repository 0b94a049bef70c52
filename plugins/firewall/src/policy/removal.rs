//! What an attachment has, found again and deleted.

use super::ForwardingRules;
use super::attachment::{ZONE, addresses, hairpin_key, pod_key, port_keys};
use super::ruleset::{ALLOWED_PAIRS, BRIDGES, isolated, pods, set_of};
use common::attach::Owner;
use common::attach::kept::Kept;
use common::cni::{NetworkName, Result, Success};
use common::filter::elements::notes;
use common::net::Family;
use common::net::nft::{Element, address};
use std::net::IpAddr;

impl ForwardingRules {
    /// The addresses that the container's interface has, as far as they are not somebody else's
    /// by now. `success` saves a look at all elements; it need be neither there nor right.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn list_addresses(
        &mut self,
        success: Option<&Success>,
        owner: &Owner,
    ) -> Result<Vec<IpAddr>> {
        let ours = |comment: &str| owner.is_same_interface(comment);
        let known = success.map(addresses).unwrap_or_default();
        let (mut own, mut count) = (Vec::new(), 0);
        for ip in &known {
            let comment = self.find(&pod_key(*ip))?;
            count += usize::from(comment.as_deref().is_some_and(ours));
            if comment.as_deref().is_none_or(ours) {
                own.push(*ip);
            }
        }
        if count == 0 || count < known.len() {
            own.extend(self.addresses_where(ours)?);
        }
        own.sort();
        own.dedup();
        Ok(own)
    }

    /// The zones of firewalld that stand beside these addresses.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn list_zones(&mut self, addresses: &[IpAddr]) -> Result<Vec<String>> {
        let mut zones = Vec::new();
        for ip in addresses {
            let comment = self.find(&pod_key(*ip))?.unwrap_or_default();
            zones.extend(
                notes(&comment).filter_map(|note| note.strip_prefix(ZONE)).map(str::to_owned),
            );
        }
        zones.sort();
        zones.dedup();
        Ok(zones)
    }

    /// The addresses of attachments that nobody keeps.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn list_stale_addresses(&mut self, kept: &Kept<'_>) -> Result<Vec<IpAddr>> {
        self.addresses_where(|comment| kept.is_stale(comment))
    }

    fn addresses_where(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Vec<IpAddr>> {
        let found = self.elements.list_where(&pods(), wanted)?;
        Ok(found.iter().filter_map(|(_, element)| address_of(element)).collect())
    }

    /// Deletes what the container's interface has, whatever its network is called by now.
    /// `addresses` are what [`ForwardingRules::list_addresses`] says.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn delete(
        &mut self,
        success: Option<&Success>,
        addresses: &[IpAddr],
        owner: &Owner,
    ) -> Result<()> {
        let ours = |comment: &str| owner.is_same_interface(comment);
        let of_address = |ip: &IpAddr| [pod_key(*ip), hairpin_key(*ip)];
        let keys: Vec<_> = addresses.iter().flat_map(of_address).collect();
        self.elements.delete(&keys, ours)?;
        let listed = success.into_iter().flat_map(|success| &success.interfaces);
        let host = listed.filter(|interface| !interface.is_in_sandbox());
        let ports: Vec<_> = host.flat_map(|interface| port_keys(&interface.name)).collect();
        if self.elements.delete(&ports, ours)? == 0 {
            self.elements.delete_where(&isolated(), ours)?;
        }
        Ok(())
    }

    /// Deletes what belongs to attachments of the network that are not valid any more. Where none
    /// is left, the network's bridges are open again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn sweep(&mut self, network: &NetworkName, kept: &Kept<'_>) -> Result<()> {
        let owned: Vec<_> = pods().into_iter().chain(isolated()).collect();
        self.elements.sweep(&owned, kept)?;
        let others = self.elements.list_where(&owned, |comment| Owner::is_of(comment, network))?;
        if others.is_empty() {
            let of_family = |family| [BRIDGES, ALLOWED_PAIRS].map(|name| set_of(name, family));
            let bridges = Family::ALL.map(of_family).concat();
            self.elements.delete_where(&bridges, |comment| comment == network.label())?;
        }
        Ok(())
    }
}

fn address_of(element: &Element) -> Option<IpAddr> {
    address(element.key.first())
}
