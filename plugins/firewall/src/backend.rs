//! What lets connections through: our own tables, iptables, or firewalld.

use crate::config::{BackendKey, Plan};
use crate::firewalld::Firewalld;
use crate::policy::{self, Accepted, ForwardingPolicy, ForwardingRules, Ingress, iptables};
use common::attach::Owner;
use common::cni::report;
use common::filter::backend::{Backend, create_instead};
use common::filter::elements::SharedRuleset as _;
use common::filter::restore::{Expected, External};
use common::{Code, Error, Errors, Result, Success, Undo};
use std::net::IpAddr;

/// What an attachment should have in iptables.
struct IptablesRules {
    policy: ForwardingPolicy,
    admin_chain: String,
}

impl External for IptablesRules {
    fn verify(&self) -> Result<Vec<String>> {
        iptables::verify(&self.policy, &self.admin_chain)
    }

    fn create(&self, undo: &mut Undo) -> Result<()> {
        iptables::create(&self.policy, &self.admin_chain, undo)
    }
}

/// What an attachment should have in firewalld.
struct ZoneSources {
    policy: ForwardingPolicy,
    firewalld: Firewalld,
}

impl External for ZoneSources {
    fn verify(&self) -> Result<Vec<String>> {
        let of_one = |ip: &IpAddr| self.firewalld.verify_source(*ip).transpose();
        self.policy.addresses().iter().filter_map(of_one).collect()
    }

    fn create(&self, undo: &mut Undo) -> Result<()> {
        self.policy.addresses().iter().try_for_each(|ip| self.firewalld.create_source(*ip, undo))
    }
}

/// The part of the policy that is in our own tables.
fn own_part(backend: BackendKey, success: &Success, plan: &Plan) -> Result<ForwardingPolicy> {
    let admin_chain = plan.admin_chain.clone();
    match backend {
        BackendKey::Any | BackendKey::Nftables => {
            ForwardingPolicy::new(success, plan.ingress, Accepted::Here { admin_chain })
        }
        BackendKey::Firewalld => {
            let policy = ForwardingPolicy::new(success, plan.ingress, Accepted::External)?;
            Ok(policy.in_zone(&plan.zone))
        }
        BackendKey::Iptables => ForwardingPolicy::new(success, Ingress::Open, Accepted::External),
    }
}

/// What an attachment should have in our own tables. Where firewalld runs and the configuration does
/// not name it, they are restored as if it did not: letting through twice is once.
pub(crate) fn expected_state(
    success: &Success,
    plan: &Plan,
    owner: &Owner,
) -> Result<Vec<Expected>> {
    let mut own = own_part(plan.backend, success, plan)?;
    if lacks(&own, plan)? {
        own = own_part(BackendKey::Iptables, success, plan)?;
    }
    ForwardingRules::expected_state(&own, owner)
}

/// Whether the kernel lacks what our own tables need, so that iptables is used.
fn lacks(own: &ForwardingPolicy, plan: &Plan) -> Result<bool> {
    Ok(plan.backend().find_lack(&own.declare()?)?.is_some())
}

/// What lets connections through on this host, for this configuration.
pub(crate) enum ForwardingBackend {
    Nftables,
    Iptables,
    Firewalld(Firewalld),
}

impl ForwardingBackend {
    /// The one that the configuration names, or the one that is there.
    ///
    /// # Errors
    /// Code 50 when firewalld is named, and does not run.
    pub(crate) fn find(plan: &Plan) -> Result<Self> {
        let found = match plan.backend {
            BackendKey::Nftables => return Ok(Self::Nftables),
            BackendKey::Iptables => return Ok(Self::Iptables),
            BackendKey::Firewalld => Firewalld::find(&plan.zone)?,
            // A bus that does not answer says nothing about firewalld.
            BackendKey::Any => Firewalld::find(&plan.zone).unwrap_or_else(|error| {
                report(error);
                None
            }),
        };
        match found {
            Some(firewalld) => Ok(Self::Firewalld(firewalld)),
            None if plan.backend == BackendKey::Any => Ok(Self::Nftables),
            None => Err(Error::new(Code::Unavailable, "firewalld does not run")
                .details("start it, or take backend out of the configuration")),
        }
    }

    fn own_part(&self, success: &Success, plan: &Plan) -> Result<ForwardingPolicy> {
        let backend = match self {
            Self::Nftables => BackendKey::Nftables,
            Self::Firewalld(_) => BackendKey::Firewalld,
            Self::Iptables => BackendKey::Iptables,
        };
        own_part(backend, success, plan)
    }

    /// The part of the policy that is in iptables or firewalld.
    fn external(self, success: &Success, plan: &Plan) -> Result<Option<Box<dyn External>>> {
        let policy = ForwardingPolicy::new(success, plan.ingress, Accepted::External)?;
        let admin_chain = plan.admin_chain.clone();
        Ok(match self {
            Self::Nftables => None,
            Self::Iptables => Some(Box::new(IptablesRules { policy, admin_chain })),
            Self::Firewalld(firewalld) => Some(Box::new(ZoneSources { policy, firewalld })),
        })
    }

    pub(crate) fn create(
        self,
        success: &Success,
        plan: &Plan,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        let own = self.own_part(success, plan)?;
        let made = ForwardingRules::open().and_then(|mut tables| tables.create(&own, owner, undo));
        match (made, &self) {
            // A kernel without nftables may have iptables. Without our tables, DEL finds the addresses
            // in prevResult only.
            (Err(error), Self::Iptables) => report(error),
            (Err(refused), Self::Nftables) => {
                let lack = plan.backend().find_lack(&own.declare()?)?;
                return create_instead(refused, lack, "lets connections through", || {
                    Self::Iptables.create(success, plan, owner, undo)
                });
            }
            (made, _) => made?,
        }
        self.external(success, plan)?.map_or(Ok(()), |external| external.create(undo))
    }

    pub(crate) fn verify(
        self,
        success: &Success,
        plan: &Plan,
        owner: &Owner,
    ) -> Result<Vec<String>> {
        let own = self.own_part(success, plan)?;
        let verified = match &self {
            Self::Iptables => Ok(Vec::new()),
            _ => ForwardingRules::open().and_then(|mut tables| tables.verify(&own, owner)),
        };
        let is_there = verified.as_ref().is_ok_and(Vec::is_empty);
        if !is_there && matches!(self, Self::Nftables) && lacks(&own, plan)? {
            return Self::Iptables.verify(success, plan, owner);
        }
        let mut differences = verified?;
        if let Some(external) = self.external(success, plan)? {
            differences.extend(external.verify()?);
        }
        Ok(differences)
    }

    pub(crate) fn probe(&self, plan: &Plan) -> Result<()> {
        match self {
            Self::Firewalld(_) => Ok(()),
            Self::Iptables => policy::probe(Backend::Iptables).map(drop),
            Self::Nftables if policy::probe(plan.backend())?.is_some() => Ok(()),
            Self::Nftables => ForwardingRules::open()?.probe(),
        }
    }

    /// Has iptables and firewalld let these addresses through no longer, whichever plugin or
    /// configuration had them do it.
    pub(crate) fn delete(addresses: &[IpAddr], zones: &[String], errors: &mut Errors) {
        iptables::delete(addresses, errors);
        if addresses.is_empty() {
            return;
        }
        for zone in zones {
            match Firewalld::find(zone) {
                Ok(Some(firewalld)) => addresses.iter().for_each(|ip| firewalld.delete_source(*ip)),
                Ok(None) => {}
                // A firewalld that does not answer lets nothing through either.
                Err(error) => report(error),
            }
        }
    }
}
