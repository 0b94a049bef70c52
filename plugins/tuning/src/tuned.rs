//! An interface and its namespace as they are found, and as they are to be.

use crate::attributes::{Attributes, mtu_difference};
use crate::backup::{Backup, HostEnd, Own};
use crate::config::Plan;
use crate::sysctls::Sysctl;
use common::attach::{Owner, veth};
use common::cni::NetnsPath;
use common::net::{Link, Netns, sysctl};
use common::{Error, Errors, Host, Result, Sandbox, Success};
use std::collections::BTreeMap;

/// An attachment as it is found.
pub(crate) struct Tuned {
    sandbox: Sandbox,
    owner: Owner,
    /// `None` if no attribute of it is asked for.
    link: Option<Link>,
    /// Its other end, in the host, if its MTU is asked for: a packet that is larger than the MTU of the end
    /// at which it arrives is dropped.
    host_end: Option<(Host, Link)>,
}

/// A sysctl as it is found.
pub(crate) struct FoundSysctl<'a> {
    sysctl: &'a Sysctl,
    path: String,
    /// `None` if it cannot be read.
    found: Option<String>,
}

/// The values of these settings, and of those that the kernel overwrites. Also of one that has its value
/// already: it may lose that by another one, which is for all links.
fn former(settings: &[FoundSysctl<'_>]) -> BTreeMap<String, String> {
    let written = settings.iter().filter(|setting| !setting.is_set());
    let others = written.flat_map(|setting| sysctl::list_overwritten(&setting.path));
    let others = others.filter_map(|path| {
        let found = sysctl::read(&path).ok()??;
        Some((path, found))
    });
    let own = settings.iter().filter_map(|one| Some((one.path.clone(), one.found.clone()?)));
    others.chain(own).collect()
}

impl Tuned {
    /// # Errors
    /// Code 4 when the path is not a network namespace, 999 when the interface is not there.
    pub(crate) fn open(
        netns: &NetnsPath,
        owner: Owner,
        result: &Success,
        attributes: &Attributes,
    ) -> Result<Self> {
        let mut tuned = Self { sandbox: Sandbox::open(netns)?, owner, link: None, host_end: None };
        if attributes.is_empty() {
            return Ok(tuned);
        }
        let ifname = tuned.owner.ifname();
        let Some(link) = tuned.sandbox.netlink.find_link(ifname.as_str())? else {
            return Err(Error::internal(format!("interface {ifname} not found in {netns}"))
                .details("put tuning behind the plugin that makes it"));
        };
        if attributes.mtu.is_some() {
            let host = Host::open()?;
            let end = veth::find_host_end(&host, &link, &tuned.owner, result)?;
            tuned.host_end = end.map(|end| (host, end));
        }
        tuned.link = Some(link);
        Ok(tuned)
    }

    /// The settings as they are now.
    ///
    /// # Errors
    /// Code 7 for one that is not there.
    pub(crate) fn read<'a>(&self, sysctls: &'a [Sysctl]) -> Result<Vec<FoundSysctl<'a>>> {
        if sysctls.is_empty() {
            return Ok(Vec::new());
        }
        let read = |sysctl: &'a Sysctl| {
            let path = sysctl.path(self.owner.ifname());
            let found = match sysctl::read(&path) {
                Ok(None) => {
                    let msg =
                        format!("the container's network namespace has no sysctl {}", sysctl.key);
                    return Err(Error::config(msg)
                        .details("it is a setting of the whole host, or this kernel lacks it"));
                }
                // It can be written only, or has no value yet.
                read => read.ok().flatten(),
            };
            Ok(FoundSysctl { sysctl, path, found })
        };
        self.sandbox.enter(|| sysctls.iter().map(read).collect())?
    }

    /// What there is of all that is to be set.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub(crate) fn backup(&self, plan: &Plan, settings: &[FoundSysctl<'_>]) -> Result<Backup> {
        let path = self.sandbox.path();
        let sysctls = if settings.iter().all(FoundSysctl::is_set) {
            BTreeMap::new()
        } else {
            self.sandbox.enter(|| former(settings))?
        };
        let host_end = self.host_end.as_ref();
        let own = Own {
            owner: self.owner.as_str().to_owned(),
            netns: path.to_string(),
            identity: Netns::identity(path.as_path()),
            link: self.link.as_ref().map(|link| link.index),
            sysctls,
            host_end: host_end.map(|(_, end)| HostEnd { name: end.name.clone(), mtu: end.mtu }),
        };
        let attributes = self.link.as_ref().map(|link| plan.attributes.of(link));
        Ok(Backup { attributes: attributes.unwrap_or_default(), own })
    }

    /// Sets everything.
    ///
    /// # Errors
    /// Naming what the kernel refused.
    pub(crate) fn apply(&self, plan: &Plan, settings: &[FoundSysctl<'_>]) -> Result<()> {
        if !settings.is_empty() {
            self.sandbox.enter(|| settings.iter().try_for_each(FoundSysctl::apply))??;
        }
        Errors::collect(|errors| {
            if let Some(link) = &self.link {
                plan.attributes.apply(&self.sandbox.netlink, link.index, errors);
            }
            if let (Some((host, end)), Some(mtu)) = (&self.host_end, plan.attributes.mtu) {
                errors.note(host.netlink.set_mtu(end.index, mtu));
            }
        })
    }

    /// Every difference between what is there and what is to be.
    pub(crate) fn differences(&self, plan: &Plan) -> Result<Vec<String>> {
        let settings = self.read(&plan.sysctls)?;
        let changed =
            settings.iter().filter(|setting| setting.found.is_some() && !setting.is_set());
        let mut differences: Vec<_> = changed
            .map(|FoundSysctl { sysctl: Sysctl { key, value, .. }, found, .. }| {
                format!("sysctl {key} is {:?}, not {value:?}", found.as_deref().unwrap_or_default())
            })
            .collect();
        if let Some(link) = &self.link {
            differences.extend(plan.attributes.differences(link));
        }
        if let Some((_, end)) = &self.host_end {
            differences.extend(mtu_difference(end, plan.attributes.mtu));
        }
        Ok(differences)
    }
}

impl FoundSysctl<'_> {
    fn is_set(&self) -> bool {
        self.found.as_deref().is_some_and(|found| self.sysctl.is(found))
    }

    fn apply(&self) -> Result<()> {
        let Sysctl { key, value, .. } = self.sysctl;
        sysctl::set(&self.path, value).map_err(|error| {
            if error.is_denied() {
                let msg = format!("sysctl {key} cannot be set in a container's network namespace");
                return Error::config(msg).details("the kernel has it for the whole host");
            }
            error.into()
        })
    }
}
