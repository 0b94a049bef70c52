//! Who lets connections through: our own tables, iptables, or firewalld.

use crate::config::{Backend, Plan};
use crate::firewalld::Firewalld;
use common::cni::{Owner, report};
use common::firewall::{Accepted, Ingress, Passage, iptables};
use common::{Code, Error, Errors, Firewall, Result, Success, Undo};
use std::net::IpAddr;

/// One of them, found.
pub(crate) enum Gate {
    Nftables,
    Iptables,
    Firewalld(Firewalld),
}

/// What of the attachment our own tables have to do.
pub(crate) fn own_part(backend: Backend, success: &Success, plan: &Plan) -> Result<Passage> {
    let admin_chain = plan.admin_chain.clone();
    match backend {
        Backend::Any | Backend::Nftables => {
            Passage::new(success, plan.ingress, Accepted::Here { admin_chain })
        }
        Backend::Firewalld => Passage::new(success, plan.ingress, Accepted::Elsewhere),
        Backend::Iptables => Passage::new(success, Ingress::Open, Accepted::Elsewhere),
    }
}

impl Gate {
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

    fn own_part(&self, success: &Success, plan: &Plan) -> Result<Passage> {
        let backend = match self {
            Self::Nftables => Backend::Nftables,
            Self::Firewalld(_) => Backend::Firewalld,
            Self::Iptables => Backend::Iptables,
        };
        own_part(backend, success, plan)
    }

    pub(crate) fn create(
        &self,
        success: &Success,
        plan: &Plan,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        let own = self.own_part(success, plan)?;
        let whole = Passage::new(success, plan.ingress, Accepted::Elsewhere)?;
        let made = Firewall::open().and_then(|mut own_tables| own_tables.create(&own, owner, undo));
        match self {
            Self::Nftables => made,
            Self::Firewalld(firewalld) => {
                made?;
                let mut all = whole.addresses().iter();
                all.try_for_each(|ip| firewalld.create_source(*ip, undo))
            }
            Self::Iptables => {
                // It works without; DEL needs the result then.
                made.unwrap_or_else(report);
                iptables::create(&whole, &plan.admin_chain, undo)
            }
        }
    }

    pub(crate) fn verify(
        &self,
        success: &Success,
        plan: &Plan,
        owner: &Owner,
    ) -> Result<Vec<String>> {
        let own = self.own_part(success, plan)?;
        let whole = Passage::new(success, plan.ingress, Accepted::Elsewhere)?;
        match self {
            Self::Nftables => Firewall::open()?.verify(&own, owner),
            Self::Firewalld(firewalld) => {
                let mut differences = Firewall::open()?.verify(&own, owner)?;
                for ip in whole.addresses() {
                    differences.extend(firewalld.verify_source(*ip)?);
                }
                Ok(differences)
            }
            Self::Iptables => iptables::verify(&whole, &plan.admin_chain),
        }
    }

    pub(crate) fn probe(&self) -> Result<()> {
        match self {
            Self::Nftables => Firewall::open()?.probe(),
            Self::Firewalld(_) => Ok(()),
            Self::Iptables => iptables::probe(),
        }
    }

    /// Takes back what others were asked to let through, whoever asked them, in whatever way.
    pub(crate) fn delete(addresses: &[IpAddr], plan: &Plan, errors: &mut Errors) {
        iptables::delete(addresses, errors);
        let is_asked = matches!(plan.backend, Backend::Any | Backend::Firewalld);
        if addresses.is_empty() || !is_asked {
            return;
        }
        match Firewalld::find(&plan.zone) {
            Ok(Some(firewalld)) => addresses.iter().for_each(|ip| firewalld.delete_source(*ip)),
            Ok(None) => {}
            // Without it nothing is let through by it.
            Err(error) => report(error),
        }
    }
}
