//! The rules of an attachment. Each has its owner's number, by which DEL finds it although the interface
//! may have lost its addresses, or may be gone.

use common::cni::Ip;
use common::net::{MAIN_TABLE, Netlink, OUR_PROTOCOL, Rule};
use common::{Error, Errors, Owner, Result, Sandbox, Undo};
use std::net::IpAddr;

/// The bit of a rule's tag that tells whose the table is: set, it is the attachment's own. The others
/// are of the owner's number.
const OWN_TABLE: u32 = 1 << 31;

/// What the Go plugin's rules have as their protocol.
const UNSPECIFIED: u8 = 0;

/// The rules of one attachment.
pub(crate) struct SourceRules<'a> {
    sandbox: &'a Sandbox,
    owner: Owner,
}

impl<'a> SourceRules<'a> {
    pub(crate) fn of(sandbox: &'a Sandbox, owner: Owner) -> Self {
        Self { sandbox, owner }
    }

    pub(crate) fn netlink(&self) -> &'a Netlink {
        &self.sandbox.netlink
    }

    /// The number of the interface, if it is there.
    fn find_link(&self) -> Result<Option<u32>> {
        let link = self.netlink().find_link(self.owner.ifname().as_str())?;
        Ok(link.map(|link| link.index))
    }

    /// Refuses an interface whose routes are not in the main table, but in that of a VRF. Copies of them
    /// in other tables the kernel would refuse: they name an address that only the VRF has.
    pub(crate) fn refuse_member_of_vrf(&self) -> Result<()> {
        let (netlink, ifname) = (self.netlink(), self.owner.ifname().as_str());
        let Some(master) = netlink.find_link(ifname)?.and_then(|link| link.master) else {
            return Ok(());
        };
        if netlink.read_vrf_table(master)?.is_none() {
            return Ok(());
        }
        let vrf = netlink.read_link(master)?.name;
        Err(Error::config(format!(
            "interface {ifname} is in VRF {vrf}, whose table has its routes"
        ))
        .details("take sbr out of the chain; or, by its key \"table\", lead into the VRF's table"))
    }

    /// The number of the interface.
    pub(crate) fn link(&self) -> Result<u32> {
        self.find_link()?.ok_or_else(|| {
            let (ifname, path) = (self.owner.ifname(), self.sandbox.path());
            Error::internal(format!("interface {ifname} not found in {path}"))
                .details("sbr comes behind the plugin that makes it")
        })
    }

    /// Those that this plugin made for the owner.
    fn list(&self) -> Result<Vec<Rule>> {
        let mut rules = self.netlink().list_rules()?;
        rules.retain(|rule| rule.tag.is_some_and(|tag| tag | OWN_TABLE == self.tag() | OWN_TABLE));
        Ok(rules)
    }

    fn tag(&self) -> u32 {
        self.owner.number() & !OWN_TABLE
    }

    pub(crate) fn refuse_existing(&self) -> Result<()> {
        let Some(rule) = self.list()?.pop() else { return Ok(()) };
        let (owner, table) = (self.owner.as_str(), rule.table.unwrap_or_default());
        Err(Error::internal(format!(
            "this attachment ({owner}) has a rule to table {table} already"
        ))
        .details("if this attachment was made before, DEL it first"))
    }

    pub(crate) fn undo_later(&self, undo: &mut Undo) {
        let (path, owner) = (self.sandbox.path().clone(), self.owner.clone());
        undo.push(format!("rules of {}", owner.as_str()), move || {
            let Some(sandbox) = Sandbox::find(Some(&path))? else { return Ok(()) };
            Errors::collect(|errors| SourceRules::of(&sandbox, owner).delete(errors))
        });
    }

    /// Sends what comes from an address into a table that is somebody else's.
    pub(crate) fn create_to_given(&self, source: IpAddr, table: u32) -> Result<()> {
        Ok(self.netlink().create_rule(&Rule::from_source(source, table, self.tag()))?)
    }

    /// Sends what comes from an address into a table of its own.
    pub(crate) fn create_to_own(&self, source: IpAddr, table: u32) -> Result<()> {
        let rule = Rule::from_source(source, table, self.tag() | OWN_TABLE);
        Ok(self.netlink().create_rule(&rule)?)
    }

    /// Empties the tables that are the owner's own: what was in the main table goes back there, and names
    /// no address to leave with that it did not name before. Then deletes the rules, for by them alone the
    /// tables are found again by a DEL that comes after one that was killed.
    pub(crate) fn delete(&self, errors: &mut Errors) {
        let Some(rules) = errors.note(self.list()) else { return };
        for rule in &rules {
            let is_own = rule.tag == Some(self.tag() | OWN_TABLE);
            if let Some(table) = rule.table.filter(|_| is_own) {
                errors.note(self.empty(table));
            }
        }
        for rule in &rules {
            errors.note(self.netlink().delete_rule(rule));
        }
    }

    fn empty(&self, table: u32) -> Result<()> {
        let Some(index) = self.find_link()? else { return Ok(()) };
        let netlink = self.netlink();
        for route in netlink.list_link_routes(index, table)? {
            if route.protocol != Some(OUR_PROTOCOL) {
                let before = route.clone().in_table(MAIN_TABLE);
                for found in netlink.list_link_routes(index, MAIN_TABLE)? {
                    let is_hint = found.prefsrc.is_some() && before.prefsrc.is_none();
                    if is_hint && before == found.clone().with_source(None) {
                        netlink.delete_route(&found)?;
                    }
                }
                netlink.append_route(&before)?;
            }
            netlink.delete_route(&route)?;
        }
        Ok(())
    }

    /// Deletes rules as the Go plugin makes them, from one of these addresses or of the interface's.
    pub(crate) fn delete_legacy(&self, told: impl Iterator<Item = IpAddr>, errors: &mut Errors) {
        let mut addresses: Vec<_> = told.collect();
        if let Some(Some(index)) = errors.note(self.find_link()) {
            let found = errors.note(self.netlink().list_addresses(index)).unwrap_or_default();
            addresses.extend(found.iter().map(|found| found.address.ip()));
        }
        let Some(rules) = errors.note(self.netlink().list_rules()) else { return };
        // What names its maker, or is for some packets only, is not theirs.
        let is_theirs =
            |rule: &&Rule| rule.protocol == UNSPECIFIED && rule.is_plain && rule.table.is_some();
        for rule in rules.iter().filter(is_theirs) {
            if addresses.iter().any(|address| rule.is_from(*address)) {
                errors.note(self.netlink().delete_rule(rule));
            }
        }
    }

    /// The tables that packets from an address look into, first one first: the owner's, or those of the
    /// Go plugin.
    ///
    /// # Errors
    /// A sentence of CHECK, if there is none, or the packets are dropped before.
    pub(crate) fn find_tables(&self, source: IpAddr) -> Result<Result<Vec<u32>, String>> {
        let rules = self.netlink().list_rules()?;
        let is_its = |rule: &&Rule| rule.drops(source) || rule.is_plain && rule.is_from(source);
        let tables: Vec<_> = rules.iter().filter(is_its).map(|rule| rule.table).collect();
        let reached: Vec<_> = tables.iter().map_while(|table| *table).collect();
        Ok(match tables.first() {
            None => Err(format!("no rule is for packets from {source}")),
            Some(None) => Err(format!("a rule drops packets from {source}")),
            Some(Some(_)) => Ok(reached),
        })
    }

    /// A sentence for each address without a rule to the table.
    pub(crate) fn verify_to_given(&self, ips: &[Ip], table: u32) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for ip in ips.iter().map(|ip| ip.address.ip()) {
            differences.extend(match self.find_tables(ip)? {
                Ok(tables) if tables.contains(&table) => None,
                Ok(_) => Some(format!("no rule leads packets from {ip} into table {table}")),
                Err(difference) => Some(difference),
            });
        }
        Ok(differences)
    }
}
