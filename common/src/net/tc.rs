//! What becomes of the packets of a link (tc(8)): queueing disciplines hold back those that it sends,
//! and filters pick out packets.

mod shaper;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, Nla as _};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcFilterU32Option, TcHandle, TcHeader, TcMessage, TcMirror,
    TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use nix::libc;

use super::{Error, Netlink, Result};
pub use shaper::{Remote, Shaped, Shaper};

/// The place of our filter among those that look at what a link receives: the last one. Those of
/// others, as of network policies, must see a packet before it is redirected, for none does later.
const LAST: u16 = u16::MAX;

/// The number of our filter among those of that place, by which it is told from those of others.
const NODE: u16 = 0x764;

/// What the kernel says instead of the link that packets are redirected to, when that is gone.
const GONE: u32 = 0;

/// Every protocol, as [`libc::ETH_P_IP`] is one.
const ALL: u16 = 0x0003;

/// `TCA_OPTIONS` of linux/rtnetlink.h, for disciplines whose options are no list of attributes.
const OPTIONS: u16 = 2;

/// Where in the path of a link's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Where it queues what it sends.
    Root,
    /// Where filters see what it receives, and what it sends.
    Filters,
}

impl Hook {
    fn handle(self) -> TcHandle {
        match self {
            Self::Root => TcHandle::ROOT,
            Self::Filters => TcHandle::CLSACT,
        }
    }
}

/// A queueing discipline or a class of one, as the kernel described it.
#[derive(Debug)]
struct Qdisc {
    handle: TcHandle,
    kind: String,
    options: Vec<u8>,
}

impl Qdisc {
    fn from_message(message: TcMessage) -> Self {
        let (mut kind, mut options) = (String::new(), Vec::new());
        for attribute in message.attributes {
            match attribute {
                TcAttribute::Kind(text) => kind = text,
                // Of kinds that the crate does not know, it is one attribute.
                TcAttribute::Options(list) => {
                    if let [TcOption::Other(all)] = &list[..] {
                        options = vec![0; all.value_len()];
                        all.emit_value(&mut options);
                    }
                }
                _ => {}
            }
        }
        Self { handle: message.header.handle, kind, options }
    }
}

impl Netlink {
    /// The kind of the queueing discipline that somebody has given a link, as `tbf` or `clsact`; `None`
    /// for the kernel's own.
    pub fn read_qdisc(&self, index: u32, hook: Hook) -> Result<Option<String>> {
        Ok(self.find_qdisc(index, hook)?.map(|qdisc| qdisc.kind))
    }

    fn find_qdisc(&self, index: u32, hook: Hook) -> Result<Option<Qdisc>> {
        let message = TcMessage::from_parts(header(index, hook.handle()), Vec::new());
        let message = RouteNetlinkMessage::GetQueueDiscipline(message);
        let what = || format!("read the qdisc of {}", self.name_of(index));
        // The kernel answers as it does for a change, and so only if an echo is asked for.
        match self.change(message, NLM_F_ECHO, what) {
            Err(error) if error.is_gone() => Ok(None),
            answer => {
                let found = answer?.into_iter().find_map(|message| match message {
                    RouteNetlinkMessage::NewQueueDiscipline(message) => {
                        Some(Qdisc::from_message(message))
                    }
                    _ => None,
                });
                // What the kernel has put there by itself has no number.
                Ok(found.filter(|qdisc| qdisc.handle != TcHandle::UNSPEC))
            }
        }
    }

    /// Takes away what somebody has given a link to queue packets by, or to filter them, if there is
    /// anything.
    pub fn delete_qdisc(&self, index: u32, hook: Hook) -> Result<()> {
        let message = TcMessage::from_parts(header(index, hook.handle()), Vec::new());
        let what = || format!("delete the qdisc of {}", self.name_of(index));
        match self.change(RouteNetlinkMessage::DelQueueDiscipline(message), 0, what) {
            Err(error) if error.is_gone() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Lets filters see the packets of a link. The discipline `clsact` serves everybody: where another
    /// program has put it, or `ingress`, that one is used.
    pub fn ensure_filters(&self, index: u32) -> Result<()> {
        let place = Place { index, handle: FILTERS, parent: Hook::Filters.handle() };
        match self.create_qdisc(place, "clsact", Vec::new()) {
            Err(error) if error.is_exists() => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether any filter sees packets of a link.
    pub fn has_filters(&self, index: u32) -> Result<bool> {
        let sides = [RECEIVED, SENT];
        let lists = sides.map(|side| self.list_filters(index, side));
        lists.into_iter().try_fold(false, |any, list| Ok(any || !list?.is_empty()))
    }

    /// Has every packet that a link receives sent by another one, unless a filter of somebody else's
    /// decides before that. [`ensure_filters`](Self::ensure_filters) comes first.
    pub fn create_redirect(&self, index: u32, to: u32) -> Result<()> {
        let mut generic = TcActionGeneric::default();
        generic.action = TcActionType::Stolen;
        let mut mirror = TcMirror::default();
        (mirror.generic, mirror.ifindex) = (generic, to);
        let parameters = TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror));
        let mut action = TcAction::default();
        action.attributes = vec![
            TcActionAttribute::Kind("mirred".to_owned()),
            TcActionAttribute::Options(vec![parameters]),
        ];
        let filter = Filter { parent: RECEIVED, priority: LAST, protocol: ALL, keys: Vec::new() };
        let mut message = filter.message(index, TcFilterU32Option::Action(vec![action]));
        message.header.handle.minor = NODE;
        let what =
            || format!("redirect packets from {} to {}", self.name_of(index), self.name_of(to));
        self.create_filter(message, "cls_u32 or act_mirred", what)
    }

    /// The indexes of the links by which packets that a link receives are sent.
    pub fn list_redirects(&self, index: u32) -> Result<Vec<u32>> {
        let targets = self.list_filters(index, RECEIVED)?.into_iter().flat_map(targets);
        Ok(targets.filter(|to| *to != GONE).collect())
    }

    /// Takes back [`create_redirect`](Self::create_redirect) to a link: deletes the filters that lead
    /// there, be they the Go plugin's, and those of either plugin whose link is gone, which would drop
    /// every packet.
    pub fn delete_redirects(&self, index: u32, to: Option<u32>) -> Result<()> {
        let filters = self.list_filters(index, RECEIVED)?;
        let is_due = |filter: &TcMessage| {
            let found = targets(filter.clone());
            to.is_some_and(|to| found.contains(&to))
                || found.contains(&GONE) && is_of_a_plugin(filter.clone())
        };
        for TcMessage { header, .. } in filters.iter().filter(|filter| is_due(filter)) {
            // Those who share a place have one list there, of which each has a number. Without that, the
            // list is deleted as well, which the kernel keeps while it has others (`u32_delete`).
            let is_shared = filters.iter().any(|other| {
                number(other) != 0 && other.header.info == header.info && !is_due(other)
            });
            let handle = if is_shared { header.handle } else { TcHandle::UNSPEC };
            let header = TcHeader { handle, ..header.clone() };
            let message = TcMessage::from_parts(header, vec![kind("u32")]);
            let what = || format!("delete the redirection of {}", self.name_of(index));
            match self.change(RouteNetlinkMessage::DelTrafficFilter(message), 0, what) {
                // EINVAL: there is neither clsact nor ingress any more.
                Err(error) if error.is_gone() || error.errno() == Some(libc::EINVAL) => {}
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }

    fn create_qdisc(&self, place: Place, name: &str, options: Vec<TcAttribute>) -> Result<()> {
        let message = place.message(name, options);
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        let what = || format!("give {} the qdisc {name}", self.name_of(place.index));
        let made = self.change(message, NLM_F_CREATE | NLM_F_EXCL, what);
        made.map(drop).map_err(|error| explain(error, &format!("sch_{name}")))
    }

    fn create_class(&self, place: Place, name: &str, options: Vec<TcAttribute>) -> Result<()> {
        let message = RouteNetlinkMessage::NewTrafficClass(place.message(name, options));
        let what = || format!("give {} the class {}", self.name_of(place.index), place.handle);
        self.change(message, NLM_F_CREATE | NLM_F_EXCL, what).map(drop)
    }

    fn create_filter(
        &self,
        message: TcMessage,
        needs: &str,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        let message = RouteNetlinkMessage::NewTrafficFilter(message);
        let made = self.change(message, NLM_F_CREATE | NLM_F_EXCL, what);
        made.map(drop).map_err(|error| explain(error, needs))
    }

    fn list_classes(&self, index: u32) -> Result<Vec<Qdisc>> {
        let message = TcMessage::from_parts(header(index, TcHandle::UNSPEC), Vec::new());
        let what = || format!("list the classes of {}", self.name_of(index));
        let answer = self.dump(&RouteNetlinkMessage::GetTrafficClass(message), what)?;
        let classes = answer.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficClass(message) => Some(message),
            _ => None,
        });
        Ok(classes.map(Qdisc::from_message).collect())
    }

    fn list_filters(&self, index: u32, parent: TcHandle) -> Result<Vec<TcMessage>> {
        let message = TcMessage::from_parts(header(index, parent), Vec::new());
        let what = || format!("list the filters of {}", self.name_of(index));
        let answer = self.dump(&RouteNetlinkMessage::GetTrafficFilter(message), what)?;
        let filters = answer.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        });
        Ok(filters.collect())
    }
}

/// The handle of `clsact`.
const FILTERS: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// The filters that see what a link receives, be it `clsact` that has them or `ingress`.
const RECEIVED: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };

/// Those that see what it sends.
const SENT: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_EGRESS };

/// Where a queueing discipline or a class is put, and under which number.
#[derive(Debug, Clone, Copy)]
struct Place {
    index: u32,
    handle: TcHandle,
    parent: TcHandle,
}

impl Place {
    fn message(self, name: &str, options: Vec<TcAttribute>) -> TcMessage {
        let header = TcHeader { handle: self.handle, ..header(self.index, self.parent) };
        let attributes = std::iter::once(kind(name)).chain(options);
        TcMessage::from_parts(header, attributes.collect())
    }
}

/// A filter of the kind `u32`, which compares words of the packet's network header; without any it
/// picks every packet.
#[derive(Debug, Clone)]
struct Filter {
    parent: TcHandle,
    /// Lower ones decide first.
    priority: u16,
    /// An ETH_P number of linux/if_ether.h.
    protocol: u16,
    keys: Vec<TcU32Key>,
}

impl Filter {
    fn header(&self, index: u32) -> TcHeader {
        let info = u32::from(self.priority) << 16 | u32::from(self.protocol.to_be());
        TcHeader { info, ..header(index, self.parent) }
    }

    /// What it compares. The kernel wants at least one word, whose bits need not matter.
    fn keys(&self) -> Vec<TcU32Key> {
        if self.keys.is_empty() { vec![TcU32Key::default()] } else { self.keys.clone() }
    }

    /// The message that makes it, with what is to become of the packets that it picks.
    fn message(&self, index: u32, fate: TcFilterU32Option) -> TcMessage {
        let mut selector = TcU32Selector::default();
        (selector.flags, selector.keys) = (TcU32SelectorFlags::Terminal, self.keys());
        // The kernel counts in a byte, and no address has more than four words.
        selector.nkeys = u8::try_from(selector.keys.len()).unwrap_or(u8::MAX);
        let options = [fate, TcFilterU32Option::Selector(selector)];
        let options = TcAttribute::Options(options.map(TcOption::U32).into());
        TcMessage::from_parts(self.header(index), vec![kind("u32"), options])
    }
}

fn header(index: u32, parent: TcHandle) -> TcHeader {
    TcHeader { index: index.cast_signed(), parent, ..TcHeader::default() }
}

fn kind(name: &str) -> TcAttribute {
    TcAttribute::Kind(name.to_owned())
}

/// Options that are a list of attributes.
fn options(list: Vec<(u16, Vec<u8>)>) -> Vec<TcAttribute> {
    let options = list.into_iter().map(|(kind, value)| DefaultNla::new(kind, value));
    vec![TcAttribute::Options(options.map(TcOption::Other).collect())]
}

/// Options that are a structure.
fn structure(value: Vec<u8>) -> Vec<TcAttribute> {
    vec![TcAttribute::Other(DefaultNla::new(OPTIONS, value))]
}

/// The indexes of the links by which a filter has packets sent.
fn targets(filter: TcMessage) -> Vec<u32> {
    let actions = u32_options(filter.attributes).filter_map(|option| match option {
        TcFilterU32Option::Action(actions) => Some(actions),
        _ => None,
    });
    let attributes = actions.flatten().flat_map(|action| action.attributes);
    let options = attributes.filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    let targets = options.flatten().filter_map(|option| match option {
        TcActionOption::Mirror(TcActionMirrorOption::Parms(to)) => Some(to.ifindex),
        _ => None,
    });
    targets.collect()
}

/// Whether a filter is one of ours, or as the Go plugin makes them: the first one, which gives packets
/// the class 1:1.
fn is_of_a_plugin(filter: TcMessage) -> bool {
    const FIRST: u32 = 1;
    let class = TcHandle { major: 1, minor: 1 };
    let priority = filter.header.info >> 16;
    priority == u32::from(LAST) && number(&filter) == NODE
        || priority == FIRST
            && u32_options(filter.attributes).any(|it| it == TcFilterU32Option::ClassId(class))
}

/// The number of a filter among those of its list (`TC_U32_NODE` of linux/pkt_cls.h); 0 for the list.
fn number(filter: &TcMessage) -> u16 {
    filter.header.handle.minor & 0xfff
}

fn u32_options(attributes: Vec<TcAttribute>) -> impl Iterator<Item = TcFilterU32Option> {
    let lists = attributes.into_iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    lists.flatten().filter_map(|option| match option {
        TcOption::U32(option) => Some(option),
        _ => None,
    })
}

/// Gives the reason for an error of a kernel that has no such discipline, filter or action.
fn explain(error: Error, needs: &str) -> Error {
    match error.errno() {
        Some(libc::ENOENT) => error.because(&format!("this kernel has no {needs}")),
        _ => error,
    }
}
