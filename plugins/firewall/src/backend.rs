//! Who lets connections through: our own tables, iptables, or firewalld.

use crate::config::{Backend, Plan};
use crate::firewalld::Firewalld;
use crate::policy::{Accepted, Firewall, ForwardingPolicy, Ingress, iptables};
use common::attach::Owner;
use common::cni::report;
use common::filter::restore::{Expected, External};
use common::{Code, Error, Errors, Result, Success, Undo};
use std::net::IpAddr;

/// What an attachment has in iptables.
struct Rules {
    policy: ForwardingPolicy,
    admin_chain: String,
}

impl External for Rules {
    fn verify(&self) -> Result<Vec<String>> {
        iptables::verify(&self.policy, &self.admin_chain)
    }

    fn create(&self, undo: &mut Undo) -> Result<()> {
        iptables::create(&self.policy, &self.admin_chain, undo)
    }
}

/// What it has in firewalld.
struct Sources {
    policy: ForwardingPolicy,
    firewalld: Firewalld,
}

impl External for Sources {
    fn verify(&self) -> Result<Vec<String>> {
        let of_one = |ip: &IpAddr| self.firewalld.verify_source(*ip).transpose();
        self.policy.addresses().iter().filter_map(of_one).collect()
    }

    fn create(&self, undo: &mut Undo) -> Result<()> {
        self.policy.addresses().iter().try_for_each(|ip| self.firewalld.create_source(*ip, undo))
    }
}

/// What of an attachment our own tables have to do.
fn own_part(backend: Backend, success: &Success, plan: &Plan) -> Result<ForwardingPolicy> {
    let admin_chain = plan.admin_chain.clone();
    match backend {
        Backend::Any | Backend::Nftables => {
            ForwardingPolicy::new(success, plan.ingress, Accepted::Here { admin_chain })
        }
        Backend::Firewalld => {
            let policy = ForwardingPolicy::new(success, plan.ingress, Accepted::External)?;
            Ok(policy.in_zone(&plan.zone))
        }
        Backend::Iptables => ForwardingPolicy::new(success, Ingress::Open, Accepted::External),
    }
}

/// What of an attachment is in our own tables. Where firewalld runs, and is not named, they let
/// through the same once more.
pub(crate) fn expected_state(
    success: &Success,
    plan: &Plan,
    owner: &Owner,
) -> Result<Vec<Expected>> {
    Firewall::expected_state(&own_part(plan.backend, success, plan)?, owner)
}

/// One of them, found.
pub(crate) enum ActiveBackend {
    Nftables,
    Iptables,
    Firewalld(Firewalld),
}

impl ActiveBackend {
    /// The one that the configuration names, or the one that is there.
    ///
    /// # Errors
    /// Code 50 when firewalld is named, and does not run.
    pub(crate) fn find(plan: &Plan) -> Result<Self> {
        let found = match plan.backend {
            Backend::Nftables => return Ok(Self::Nftables),
            Backend::Iptables => return Ok(Self::Iptables),
            Backend::Firewalld => Firewalld::find(&plan.zone)?,
            // A bus that does not answer says nothing about firewalld.
            Backend::Any => Firewalld::find(&plan.zone).unwrap_or_else(|error| {
                report(error);
                None
            }),
        };
        match found {
            Some(firewalld) => Ok(Self::Firewalld(firewalld)),
            None if plan.backend == Backend::Any => Ok(Self::Nftables),
            None => Err(Error::new(Code::Unavailable, "firewalld does not run")
                .details("start it, or take backend out of the configuration")),
        }
    }

    fn own_part(&self, success: &Success, plan: &Plan) -> Result<ForwardingPolicy> {
        let backend = match self {
            Self::Nftables => Backend::Nftables,
            Self::Firewalld(_) => Backend::Firewalld,
            Self::Iptables => Backend::Iptables,
        };
        own_part(backend, success, plan)
    }

    /// What somebody else has to do.
    fn external(self, success: &Success, plan: &Plan) -> Result<Option<Box<dyn External>>> {
        let policy = ForwardingPolicy::new(success, plan.ingress, Accepted::External)?;
        let admin_chain = plan.admin_chain.clone();
        Ok(match self {
            Self::Nftables => None,
            Self::Iptables => Some(Box::new(Rules { policy, admin_chain })),
            Self::Firewalld(firewalld) => Some(Box::new(Sources { policy, firewalld })),
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
        match (Firewall::open().and_then(|mut tables| tables.create(&own, owner, undo)), &self) {
            // It works without; DEL needs the result then.
            (Err(error), Self::Iptables) => report(error),
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
        let mut differences = match &self {
            Self::Iptables => Vec::new(),
            _ => Firewall::open()?.verify(&self.own_part(success, plan)?, owner)?,
        };
        if let Some(external) = self.external(success, plan)? {
            differences.extend(external.verify()?);
        }
        Ok(differences)
    }

    pub(crate) fn probe(&self) -> Result<()> {
        match self {
            Self::Nftables => Firewall::open()?.probe(),
            Self::Firewalld(_) => Ok(()),
            Self::Iptables => iptables::probe(),
        }
    }

    /// Takes back what others were asked to let through, whoever asked them, in whatever way.
    pub(crate) fn delete(addresses: &[IpAddr], zones: &[String], errors: &mut Errors) {
        iptables::delete(addresses, errors);
        if addresses.is_empty() {
            return;
        }
        for zone in zones {
            match Firewalld::find(zone) {
                Ok(Some(firewalld)) => addresses.iter().for_each(|ip| firewalld.delete_source(*ip)),
                Ok(None) => {}
                // Without it nothing is let through by it.
                Err(error) => report(error),
            }
        }
    }
}
