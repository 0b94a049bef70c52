//! A transaction: the operations that it is made of, and how it is put on the wire.

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterMessage, NetfilterProtoFamily, NetfilterSubsystem};
use nix::libc::EINVAL;

use super::feature::{self, Feature, Kind};
use super::set::{element_message, key_attributes};
use super::{Chain, ChainKind, Element, Expr, Key, Set, Table, TableFamily, checked, comment};
use crate::net::netfilter::nfnetlink::{append, request};
use crate::net::{Error, Result};

/// Changes that the kernel makes together or not at all, in the order in which they were added.
///
/// The first change that cannot even be written down (a name too long, an address in a table of
/// the other family) is what [`super::Nft::commit`] returns, before the kernel hears of anything.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    operations: Vec<Operation>,
    refused: Option<Error>,
    /// The chains that the batch gives rules.
    filled: Vec<Filled>,
}

/// Batches that make the same changes in the same order.
impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        let messages = |batch: &'_ Self| -> Vec<_> {
            batch.operations.iter().map(|one| one.message.clone()).collect()
        };
        self.refused.is_none() && other.refused.is_none() && messages(self) == messages(other)
    }
}

/// A chain, and how many rules a batch gives it.
#[derive(Debug, Clone)]
pub(super) struct Filled {
    pub(super) family: TableFamily,
    pub(super) table: String,
    pub(super) chain: String,
    pub(super) rules: usize,
}

impl Filled {
    fn is(&self, table: Table<'_>, chain: &str) -> bool {
        self.family == table.family && self.table == table.name && self.chain == chain
    }
}

#[derive(Debug, Clone)]
struct Operation {
    /// For the error, should the kernel refuse it.
    what: String,
    /// What a kernel is too old for that does not understand the message.
    needs: Option<&'static str>,
    /// What a kernel may lack that refuses it.
    features: Vec<Feature>,
    message: NetlinkMessage<NetfilterMessage>,
}

/// What to do if the object is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// Leave it, if it is the same. Comments are not compared, and the old one stays. The policy
    /// of a base chain is set to the new one; any other difference is refused with EEXIST, EBUSY
    /// or EOPNOTSUPP, depending on object and kernel.
    Ensure,
    /// Refuse the whole batch with EEXIST.
    Create,
}

impl Make {
    fn flags(self) -> u16 {
        match self {
            Self::Ensure => NLM_F_CREATE,
            Self::Create => NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Ensure => "ensure",
            Self::Create => "create",
        }
    }
}

impl Batch {
    /// An empty batch, which commits without a word to the kernel.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a table.
    pub fn table(&mut self, make: Make, table: Table<'_>, comment: Option<&str>) -> &mut Self {
        let message = table.message(comment).map(NfTablesMessage::NewTable);
        self.push(format!("{} {table}", make.verb()), table.family, make.flags(), message)
            .uses(table.family, vec![Kind::Family])
    }

    /// Makes a chain.
    pub fn chain(&mut self, make: Make, chain: &Chain<'_>) -> &mut Self {
        let message = chain.message().map(NfTablesMessage::NewChain);
        let is_nat = chain.base.is_some_and(|base| base.kind == ChainKind::Nat);
        self.push(format!("{} {chain}", make.verb()), chain.table.family, make.flags(), message)
            .uses(chain.table.family, is_nat.then_some(Kind::NatChain).into_iter().collect())
    }

    /// Makes a chain, or empties it, for the rules that follow: a batch that fills its chains so
    /// has the same outcome however often, and by however many, it is committed. See
    /// [`super::Nft::is_whole`].
    pub fn empty_chain(&mut self, chain: &Chain<'_>) -> &mut Self {
        let Chain { table, name, .. } = *chain;
        let (family, rules) = (table.family, 0);
        let filled = Filled { family, table: table.name.into(), chain: name.into(), rules };
        self.filled.push(filled);
        self.chain(Make::Ensure, chain).delete_rules(table, name)
    }

    /// Makes a set or a map.
    pub fn set(&mut self, make: Make, set: &Set<'_>) -> &mut Self {
        let message = set.message().map(NfTablesMessage::NewSet);
        self.push(format!("{} {set}", make.verb()), set.table.family, make.flags(), message);
        if let Some(operation) = self.operations.last_mut() {
            operation.needs = set.needs();
        }
        let intervals = set.needs().map(|_| Kind::Intervals);
        self.uses(set.table.family, [Kind::Sets].into_iter().chain(intervals).collect())
    }

    /// Adds the changes of another batch.
    pub(crate) fn append(&mut self, mut other: Self) -> &mut Self {
        self.operations.append(&mut other.operations);
        self.filled.append(&mut other.filled);
        self.refused = self.refused.take().or(other.refused);
        self
    }

    /// Makes an element of a set or a map.
    pub fn element(
        &mut self,
        make: Make,
        table: Table<'_>,
        set: &str,
        element: &Element,
    ) -> &mut Self {
        let what = format!("{} element {} of {set} in {table}", make.verb(), element.key);
        let message = element
            .encode()
            .and_then(|element| element_message(table, set, Some(element)))
            .map(NfTablesMessage::NewSetElement);
        self.push(what, table.family, make.flags(), message)
    }

    /// Appends a rule to a chain. There is no "if it is missing" for rules: two are two.
    pub fn rule(
        &mut self,
        table: Table<'_>,
        chain: &str,
        exprs: &[Expr<'_>],
        comment: Option<&str>,
    ) -> &mut Self {
        if let Some(filled) = self.filled.iter_mut().find(|filled| filled.is(table, chain)) {
            filled.rules += 1;
        }
        let message = rule(table, chain, exprs, comment).map(NfTablesMessage::NewRule);
        let what = format!("append a rule to {}", Chain::named(table, chain));
        self.push(what, table.family, NLM_F_CREATE | NLM_F_APPEND, message)
            .uses(table.family, exprs.iter().flat_map(feature::needs).collect())
    }

    /// Deletes a chain with its rules. ENOENT if there is none, EBUSY while anything still leads
    /// to it.
    pub(crate) fn delete_chain(&mut self, table: Table<'_>, name: &str) -> &mut Self {
        let chain = Chain::named(table, name);
        let message = chain.message().map(NfTablesMessage::DeleteChain);
        self.push(format!("delete {chain}"), table.family, 0, message)
    }

    /// Deletes the rules of a chain, not the chain. ENOENT if there is no such chain.
    pub(crate) fn delete_rules(&mut self, table: Table<'_>, chain: &str) -> &mut Self {
        let message = rule_attributes(table, chain).map(|attributes| RuleMessage { attributes });
        let what = format!("delete the rules of {}", Chain::named(table, chain));
        self.push(what, table.family, 0, message.map(NfTablesMessage::DeleteRule))
    }

    /// Deletes one rule, by its handle. ENOENT if there is none.
    pub(crate) fn delete_rule(&mut self, table: Table<'_>, chain: &str, handle: u64) -> &mut Self {
        let message = rule_attributes(table, chain).map(|mut attributes| {
            attributes.push(RuleAttribute::Handle(handle));
            NfTablesMessage::DeleteRule(RuleMessage { attributes })
        });
        let what = format!("delete rule {handle} of {}", Chain::named(table, chain));
        self.push(what, table.family, 0, message)
    }

    /// Deletes an element. ENOENT if there is none; [`super::Nft::delete_elements`] forgives that.
    pub fn delete_element(&mut self, table: Table<'_>, set: &str, key: &Key) -> &mut Self {
        let what = format!("delete element {key} of {set} in {table}");
        let message = element_message(table, set, Some(key_attributes(key)));
        self.push(what, table.family, 0, message.map(NfTablesMessage::DeleteSetElement))
    }

    fn push(
        &mut self,
        what: String,
        family: TableFamily,
        flags: u16,
        message: Result<NfTablesMessage>,
    ) -> &mut Self {
        match message {
            Ok(message) => {
                let message = request(family.into(), 0, flags, message);
                let (needs, features) = (None, Vec::new());
                self.operations.push(Operation { what, needs, features, message });
            }
            Err(error) => {
                self.refused.get_or_insert_with(|| Error::new(what, error.to_string()));
            }
        }
        self
    }

    /// What a kernel has to have for the last operation.
    fn uses(&mut self, family: TableFamily, kinds: Vec<Kind>) -> &mut Self {
        if let Some(operation) = self.operations.last_mut() {
            operation.features = kinds.into_iter().map(|kind| Feature { kind, family }).collect();
        }
        self
    }

    /// What a kernel has to have for all of it.
    pub(super) fn features(&self) -> Vec<Feature> {
        self.operations.iter().flat_map(|operation| operation.features.clone()).collect()
    }

    /// The same for the operation of this number.
    pub(super) fn features_of(&self, sequence: u32) -> Vec<Feature> {
        self.operation(sequence).map(|one| one.features.clone()).unwrap_or_default()
    }

    pub(super) fn filled(&self) -> &[Filled] {
        &self.filled
    }

    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn operation(&self, sequence: u32) -> Option<&Operation> {
        self.operations.get(usize::try_from(sequence).ok()?.checked_sub(1)?)
    }

    /// What a reply with this sequence number is about.
    pub(super) fn what(&self, sequence: u32) -> &str {
        self.operation(sequence).map_or("change the packet filter", |operation| &operation.what)
    }

    /// The error of an operation, with the reason where the kernel is too old: one that does not know a
    /// flag says EINVAL.
    pub(super) fn explain(&self, sequence: u32, error: Error) -> Error {
        let is_unknown = error.errno() == Some(EINVAL) || error.is_unsupported();
        let needs =
            self.operation(sequence).and_then(|operation| operation.needs).filter(|_| is_unknown);
        match needs {
            Some(needs) => error.because(needs),
            None => error,
        }
    }

    /// The number of the last operation.
    pub(super) fn last(&self) -> u32 {
        u32::try_from(self.operations.len()).unwrap_or(u32::MAX)
    }

    /// The batch as the kernel reads it. Sequence number 0 is the batch as such, then they count
    /// the operations.
    ///
    /// Only the last operation asks for an answer: the kernel reports failures unasked, and delivers
    /// that one answer after the transaction is through. An answer to each of 10,000 operations would
    /// overrun the socket's buffer. (Asking at the end mark instead needs kernel 6.10.)
    ///
    /// With a generation, the kernel refuses all of it (ERESTART) where somebody has changed the
    /// ruleset since that one.
    pub(super) fn into_bytes(mut self, generation: Option<u32>) -> Result<(Vec<u8>, Self)> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        if let Some(last) = self.operations.last_mut() {
            last.message.header.flags |= NLM_F_ACK;
        }
        let mut bytes = Vec::new();
        append(&mut bytes, &mut mark(ControlMessage::BatchBegin), 0);
        if let Some(generation) = generation {
            // NFNL_BATCH_GENID: the wire crate has no type for this message's only attribute.
            bytes.extend([8_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
            bytes.extend(generation.to_be_bytes());
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            bytes.splice(..4, length.to_ne_bytes());
        }
        let mut sequence = 0;
        for operation in &mut self.operations {
            sequence += 1;
            append(&mut bytes, &mut operation.message, sequence);
        }
        append(&mut bytes, &mut mark(ControlMessage::BatchEnd), sequence + 1);
        Ok((bytes, self))
    }
}

/// All rules of a chain, for a question about them.
pub(super) fn rules_message(table: Table<'_>, chain: &str) -> Result<RuleMessage> {
    Ok(RuleMessage { attributes: rule_attributes(table, chain)? })
}

fn rule_attributes(table: Table<'_>, chain: &str) -> Result<Vec<RuleAttribute>> {
    Ok(vec![
        RuleAttribute::Table(checked("table", table.name)?),
        RuleAttribute::Chain(checked("chain", chain)?),
    ])
}

fn rule(
    table: Table<'_>,
    chain: &str,
    exprs: &[Expr<'_>],
    comment: Option<&str>,
) -> Result<RuleMessage> {
    let mut attributes = rule_attributes(table, chain)?;
    let mut list = Vec::new();
    for expr in exprs {
        list.extend(expr.compile(table.family)?.into_iter().map(ListAttribute::from));
    }
    attributes.push(RuleAttribute::Expressions(list));
    if let Some(comment) = comment {
        attributes.push(RuleAttribute::UserData(comment::encode(comment)?));
    }
    Ok(RuleMessage { attributes })
}

fn mark(mark: ControlMessage) -> NetlinkMessage<NetfilterMessage> {
    request(NetfilterProtoFamily::Unspec, NetfilterSubsystem::NfTables.into(), 0, mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table<'_> = Table { family: TableFamily::Ip, name: "t" };

    #[test]
    fn an_error_names_the_operation() {
        let mut batch = Batch::new();
        batch.table(Make::Create, TABLE, None).delete_element(
            TABLE,
            "masq",
            &vec![10, 1, 0, 5].into(),
        );
        assert_eq!(batch.what(1), "create table ip t");
        assert_eq!(batch.what(2), "delete element 10.1.0.5 of masq in table ip t");
        for beyond in [0, 3, u32::MAX] {
            assert_eq!(batch.what(beyond), "change the packet filter");
        }
    }

    #[test]
    fn a_kernel_that_is_too_old_is_named() {
        use super::super::{Content, Datatype};
        let set = |intervals| Set {
            table: TABLE,
            name: "s",
            key: &[Datatype::InetProto, Datatype::InetService],
            content: Content::Keys,
            intervals,
        };
        let mut batch = Batch::new();
        batch.set(Make::Ensure, &set(false)).set(Make::Ensure, &set(true));
        let said = |sequence, errno| {
            let error = Error::from_errno(batch.what(sequence), errno, None);
            batch.explain(sequence, error).to_string()
        };
        assert!(said(2, EINVAL).starts_with("ensure set s in table ip t: this needs Linux 5.6"));
        assert!(said(1, EINVAL).ends_with("Invalid argument"));
        assert!(said(2, nix::libc::EEXIST).ends_with("File exists"));
    }

    #[test]
    fn a_set_tells_what_a_kernel_may_lack() {
        use super::super::{Content, Datatype};
        let features = |intervals| {
            let key = &[Datatype::InetProto, Datatype::InetService];
            let mut batch = Batch::new();
            let set = Set { table: TABLE, name: "s", key, content: Content::Keys, intervals };
            batch.set(Make::Ensure, &set);
            let words = |feature: &Feature| feature.to_string();
            batch.features().iter().map(words).collect::<Vec<_>>()
        };
        assert!(features(false)[0].contains("CONFIG_NF_TABLES_SET") && features(false).len() == 1);
        assert!(features(true)[1].ends_with("intervals of concatenations in nftables (Linux 5.6)"));
    }

    #[test]
    fn what_cannot_be_written_down_is_refused_before_the_kernel_is_asked() {
        let mut batch = Batch::new();
        batch.chain(Make::Ensure, &Chain::named(TABLE, "")).table(
            Make::Ensure,
            TABLE,
            Some(&"x".repeat(300)),
        );
        let error = batch.into_bytes(None).unwrap_err().to_string();
        assert!(error.starts_with("ensure chain  in table ip t: chain"), "{error}");
    }

    #[test]
    fn only_the_last_operation_is_acknowledged() {
        let mut batch = Batch::new();
        batch.table(Make::Ensure, TABLE, None).delete_chain(TABLE, "c");
        let (_, batch) = batch.into_bytes(None).unwrap();
        let acknowledged: Vec<_> =
            batch.operations.iter().map(|one| one.message.header.flags & NLM_F_ACK != 0).collect();
        assert_eq!(acknowledged, [false, true]);
    }
}
