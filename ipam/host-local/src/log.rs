//! The lines of a lease file: how they are written, checked and understood.
//!
//! The format, from the first line on:
//!
//! ```text
//! girder leases 1
//! 4f1c09aa leased 10.1.0.2,fd00::2 c0ffee eth0 1766102400 7b0c5c3e-... 4026532281 /run/netns/a shop/web-0
//! 90b3d1e2 released 10.1.0.2,fd00::2 c0ffee eth0 1766102460
//! 11d5a3c7 last 0 10.1.0.17
//! ```
//!
//! The first line names the version; a file of a later one is refused and left alone. Every other
//! line says one thing that happened, in the order in which it did, and begins with the CRC-32 of
//! what follows the blank, in eight lower-case hexadecimal digits. Fields are separated by one
//! blank. `-` is an absent field; a byte that is `%`, a blank, or not printable ASCII is written
//! as `%` and two hexadecimal digits.
//!
//! | word | fields |
//! |---|---|
//! | `leased` | all addresses of the attachment, container, interface, time (seconds since 1970), boot ID, inode and path of the network namespace, pod as namespace/name |
//! | `released` | addresses, container, interface, time |
//! | `last` | index of the range set, the address that it handed out last |
//! | `x-...` | ignored and kept, for additions that may be ignored |
//!
//! `released` ends every lease that the attachment, which is container and interface, got before.
//! `last` is written only when a file is rewritten, and only where the lines that remain do not
//! tell it: the address that was handed out last is the one in the last line that has one of the
//! set. Fields that are added to the end of a line are ignored. Any other word needs a later
//! version.

use crate::range::RangeSet;
use common::{Attachment, Code, Error, Result};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::BufRead as _;
use std::net::IpAddr;

/// The first line of a file of our version.
pub(crate) const HEADER: &str = "girder leases 1\n";

/// An attachment as a file names it: container, blank, interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner(String);

impl From<&Attachment> for Owner {
    fn from(attachment: &Attachment) -> Self {
        let mut owner = escape(attachment.container.as_str());
        owner.push(' ');
        owner.push_str(&escape(attachment.ifname.as_str()));
        Self(owner)
    }
}

/// Who holds an address, and how it can be told later whether the holder is still alive.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// A namespace lives no longer than the kernel.
    pub(crate) boot: Option<String>,
    /// A path may be used again, an inode with it hardly so.
    pub(crate) inode: Option<u64>,
    /// Path of the namespace.
    pub(crate) netns: String,
    /// Namespace and name of the pod, if the runtime told.
    pub(crate) pod: Option<(String, String)>,
}

/// The line of a new lease.
pub(crate) fn leased(addresses: &[IpAddr], owner: &Owner, holder: &Holder) -> String {
    let mut fields = String::from("leased ");
    for (index, address) in addresses.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        push(&mut fields, format_args!("{comma}{address}"));
    }
    push(&mut fields, format_args!(" {} {} ", owner.0, holder.time));
    fields.push_str(&escape(holder.boot.as_deref().unwrap_or_default()));
    match holder.inode {
        Some(inode) => push(&mut fields, format_args!(" {inode} ")),
        None => fields.push_str(" - "),
    }
    fields.push_str(&escape(&holder.netns));
    match &holder.pod {
        Some((space, name)) => {
            push(&mut fields, format_args!(" {}/{}", escape(space), escape(name)));
        }
        None => fields.push_str(" -"),
    }
    line(&fields)
}

/// The line that ends a lease.
pub(crate) fn released(lease: &Lease<'_>, time: u64) -> String {
    line(&format!("released {} {} {time}", lease.addresses, lease.owner))
}

fn line(fields: &str) -> String {
    format!("{:08x} {fields}\n", crc32fast::hash(fields.as_bytes()))
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(more);
}

fn escape(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    if text == "-" {
        return "%2d".to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            push(&mut escaped, format_args!("%{byte:02x}"));
        }
    }
    escaped
}

/// A line that says `leased`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease<'a> {
    line: &'a str,
    addresses: &'a str,
    owner: &'a str,
}

impl Lease<'_> {
    /// All of its addresses.
    ///
    /// # Errors
    /// Code 6.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>> {
        let mut addresses = Vec::with_capacity(1);
        self.addresses_into(&mut addresses)?;
        Ok(addresses)
    }

    fn addresses_into(&self, all: &mut Vec<IpAddr>) -> Result<()> {
        for text in self.addresses.split(',') {
            all.push(text.parse().map_err(|_| {
                let msg = format!("{text:?} is no address in {:?}", self.line.trim_end());
                Error::new(Code::Decode, msg)
            })?);
        }
        Ok(())
    }

    /// Whether this attachment holds it.
    pub(crate) fn is_of(&self, owner: &Owner) -> bool {
        self.owner == owner.0
    }

    /// Whether one of these attachments holds it.
    pub(crate) fn is_of_any(&self, owners: &HashSet<Owner>) -> bool {
        owners.contains(&Owner(self.owner.to_owned()))
    }
}

#[derive(Debug)]
enum Event<'a> {
    Leased(Lease<'a>),
    Released(&'a str),
    Last(&'a str),
    Extension(&'a str),
}

/// A lease file, understood.
#[derive(Debug)]
pub(crate) struct Log<'a> {
    events: Vec<Event<'a>>,
    /// Parallel to `events`: whether it is a lease that was not released later.
    is_live: Vec<bool>,
    /// How much of the file is good. What follows was not written to its end.
    pub(crate) length: usize,
}

impl<'a> Log<'a> {
    /// Checks and understands a whole file.
    ///
    /// A machine that crashes leaves at the end of a file lines that are incomplete, or zeros. That
    /// is cut away, and so is one last line with a wrong checksum: at worst, the call that wrote it
    /// was never answered. Anything else that is wrong is refused, because an address that may be
    /// in use must not be handed out again.
    ///
    /// # Errors
    /// Code 6, with the number of the line.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self> {
        let mut log = Self { events: Vec::new(), is_live: Vec::new(), length: header(text)? };
        log.events.reserve(text.len() / 128);
        let mut rest = text.get(log.length..).unwrap_or_default();
        let mut bad: Option<usize> = None;
        let mut complete_and_bad = 0;
        let (mut offset, mut number) = (log.length, 1);
        while !rest.is_empty() {
            let length = rest.skip_until(b'\n').unwrap_or(rest.len());
            let line = text.get(offset..offset + length).unwrap_or_default();
            offset += length;
            number += 1;
            let Some(line) = check(line) else {
                bad = bad.or(Some(number));
                complete_and_bad += usize::from(line.ends_with(b"\n") && !line.contains(&0));
                continue;
            };
            if let Some(bad) = bad {
                return Err(damaged(bad));
            }
            log.events.push(
                parse_event(line).map_err(|error| error.context(format_args!("line {number}")))?,
            );
            log.length = offset;
        }
        if let Some(bad) = bad.filter(|_| complete_and_bad > 1) {
            return Err(damaged(bad));
        }
        log.find_live();
        Ok(log)
    }

    fn find_live(&mut self) {
        let mut released = HashSet::new();
        let mut is_live = vec![false; self.events.len()];
        for (event, is_live) in self.events.iter().zip(&mut is_live).rev() {
            match event {
                Event::Leased(lease) => {
                    *is_live = released.is_empty() || !released.contains(lease.owner);
                }
                Event::Released(owner) => drop(released.insert(*owner)),
                Event::Last(_) | Event::Extension(_) => {}
            }
        }
        self.is_live = is_live;
    }

    /// Every lease that is held.
    pub(crate) fn leases(&self) -> impl DoubleEndedIterator<Item = &Lease<'a>> {
        self.events.iter().zip(&self.is_live).filter_map(|(event, is_live)| match event {
            Event::Leased(lease) if *is_live => Some(lease),
            _ => None,
        })
    }

    /// The leases of this attachment: one, but for mistakes of others.
    pub(crate) fn leases_of(&self, owner: &Owner) -> impl Iterator<Item = &Lease<'a>> {
        self.leases().filter(move |lease| lease.is_of(owner))
    }

    /// Every address that is held.
    ///
    /// # Errors
    /// Code 6.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>> {
        let mut addresses = Vec::with_capacity(self.events.len());
        self.leases().try_for_each(|lease| lease.addresses_into(&mut addresses))?;
        Ok(addresses)
    }

    /// The address that was handed out last from this range set.
    pub(crate) fn last_of(&self, set: &RangeSet) -> Option<IpAddr> {
        self.events.iter().rev().find_map(|event| {
            let addresses = match event {
                Event::Leased(lease) => lease.addresses,
                Event::Last(address) => address,
                Event::Released(_) | Event::Extension(_) => return None,
            };
            addresses.split(',').filter_map(|text| text.parse().ok()).find(|ip| set.contains(*ip))
        })
    }

    /// How many lines of the file say nothing any more.
    pub(crate) fn garbage(&self) -> usize {
        let says_nothing = |(event, is_live): &(&Event<'_>, &bool)| match event {
            Event::Leased(_) => !**is_live,
            Event::Released(_) => true,
            Event::Last(_) | Event::Extension(_) => false,
        };
        self.events.iter().zip(&self.is_live).filter(says_nothing).count()
    }

    /// How many leases are held.
    pub(crate) fn live(&self) -> usize {
        self.leases().count()
    }

    /// The file without what says nothing any more. Where the round robin of range sets stands that
    /// this call's configuration does not have is lost; they begin at their first address again.
    pub(crate) fn compacted(&self, sets: &[RangeSet]) -> String {
        let mut text = String::with_capacity(self.length);
        text.push_str(HEADER);
        for (event, is_live) in self.events.iter().zip(&self.is_live) {
            match event {
                Event::Leased(lease) if *is_live => text.push_str(lease.line),
                Event::Extension(line) => text.push_str(line),
                _ => {}
            }
        }
        for (index, set) in sets.iter().enumerate() {
            let remaining = self
                .leases()
                .rev()
                .find_map(|lease| lease.addresses().ok()?.into_iter().find(|ip| set.contains(*ip)));
            let last = self.last_of(set);
            if let Some(last) = last.filter(|last| remaining != Some(*last)) {
                text.push_str(&line(&format!("last {index} {last}")));
            }
        }
        text
    }
}

/// The length of the first line; 0 if the file is to be begun anew.
fn header(text: &[u8]) -> Result<usize> {
    if text.starts_with(HEADER.as_bytes()) {
        return Ok(HEADER.len());
    }
    // Empty, or what a crash leaves of a file whose first line was just being written.
    let zeros = text.iter().rev().take_while(|byte| **byte == 0).count();
    if HEADER.as_bytes().starts_with(text.get(..text.len() - zeros).unwrap_or_default()) {
        return Ok(0);
    }
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let version = first.strip_prefix(b"girder leases ").map(String::from_utf8_lossy);
    if version.and_then(|version| version.parse::<u64>().ok()).is_some_and(|version| version > 1) {
        return Err(Error::new(Code::Decode, "it was written by a later version of host-local")
            .details("install that version again; the file has not been touched"));
    }
    Err(Error::new(Code::Decode, "it is not a lease file").details(format!(
        "its first line is not {:?}; move it away when no container of the network is running",
        HEADER.trim_end()
    )))
}

fn damaged(number: usize) -> Error {
    Error::new(Code::Decode, format!("line {number} is damaged: its checksum is wrong")).details(
        "no address is handed out while it is unknown which are in use; \
         restore the line, or move the file away when no container of the network is running",
    )
}

/// The whole line, if it is what its checksum says.
fn check(line: &[u8]) -> Option<&str> {
    let (sum, rest) = line.split_at_checked(8)?;
    let fields = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let sum = sum.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'9' => Some(sum << 4 | u32::from(digit - b'0')),
        b'a'..=b'f' => Some(sum << 4 | u32::from(digit - b'a' + 10)),
        _ => None,
    })?;
    if crc32fast::hash(fields) != sum {
        return None;
    }
    std::str::from_utf8(line).ok()
}

fn parse_event(line: &str) -> Result<Event<'_>> {
    let fields = line.get(9..).unwrap_or_default().trim_end_matches('\n');
    let (word, rest) = fields.split_once(' ').unwrap_or((fields, ""));
    let event = match word {
        "leased" => {
            owned(rest).map(|(addresses, owner)| Event::Leased(Lease { line, addresses, owner }))
        }
        "released" => owned(rest).map(|(_, owner)| Event::Released(owner)),
        "last" => rest.split(' ').nth(1).map(Event::Last),
        _ if word.starts_with("x-") => Some(Event::Extension(line)),
        _ => None,
    };
    event.ok_or_else(|| {
        Error::new(Code::Decode, format!("{fields:?} is not understood"))
            .details("it seems to be written by a later version of host-local")
    })
}

/// Addresses and owner of a line with these two, whatever follows.
fn owned(fields: &str) -> Option<(&str, &str)> {
    let (addresses, rest) = fields.split_once(' ')?;
    let (container, after) = rest.split_once(' ')?;
    let ifname = after.split(' ').next().filter(|ifname| !ifname.is_empty())?;
    Some((addresses, rest.get(..container.len() + 1 + ifname.len())?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::range::Limits;

    pub(crate) fn owner(container: &str) -> Owner {
        Owner(format!("{container} eth0"))
    }

    pub(crate) fn lease(addresses: &str, container: &str) -> String {
        let addresses: Vec<_> = addresses.split(',').map(|ip| ip.parse().unwrap()).collect();
        leased(&addresses, &owner(container), &Holder::default())
    }

    pub(crate) fn release(addresses: &str, container: &str) -> String {
        line(&format!("released {addresses} {container} eth0 0"))
    }

    fn set(subnet: &str) -> RangeSet {
        RangeSet::new(&[Limits { subnet: subnet.parse().ok(), ..Limits::default() }]).unwrap()
    }

    fn file(lines: &[String]) -> String {
        format!("{HEADER}{}", lines.concat())
    }

    fn held(text: &[u8]) -> Vec<String> {
        let log = Log::parse(text).unwrap();
        log.addresses().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_says_everything_in_readable_text() {
        let attachment =
            Attachment { container: "c0ffee".parse().unwrap(), ifname: "é%0".parse().unwrap() };
        let holder = Holder {
            time: 1_766_102_400,
            boot: Some("7b0c".into()),
            inode: Some(4_026_532_281),
            netns: "/run/a b\n".into(),
            pod: Some(("shop".into(), "web-0".into())),
        };
        let addresses = ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let text = leased(&addresses, &Owner::from(&attachment), &holder);
        let fields = "leased 10.1.0.2,fd00::2 c0ffee %c3%a9%250 1766102400 7b0c 4026532281 \
                      /run/a%20b%0a shop/web-0";
        assert_eq!(text, format!("{:08x} {fields}\n", crc32fast::hash(fields.as_bytes())));
        let text = file(&[text]);
        let log = Log::parse(text.as_bytes()).unwrap();
        let found = log.leases_of(&Owner::from(&attachment)).next().unwrap();
        assert_eq!(found.addresses().unwrap(), addresses);
        assert!(lease("10.1.0.2", "a").ends_with(" a eth0 0 - - - -\n"));
        assert_eq!(escape("-"), "%2d");
    }

    #[test]
    fn a_release_ends_the_leases_before_it() {
        let text = file(&[
            lease("10.1.0.2,fd00::2", "a"),
            lease("10.1.0.3", "b"),
            release("10.1.0.2,fd00::2", "a"),
            lease("10.1.0.4", "a"),
            release("10.1.0.3", "b"),
            release("10.1.0.9", "unknown"),
        ]);
        assert_eq!(held(text.as_bytes()), ["10.1.0.4"]);
        let log = Log::parse(text.as_bytes()).unwrap();
        assert_eq!(log.leases_of(&owner("a")).count(), 1);
        assert_eq!(log.leases_of(&owner("b")).count(), 0);
        assert_eq!((log.live(), log.garbage()), (1, 5));
        assert_eq!(log.last_of(&set("10.1.0.0/24")).unwrap().to_string(), "10.1.0.4");
        assert_eq!(log.last_of(&set("fd00::/64")).unwrap().to_string(), "fd00::2");
        assert_eq!(log.last_of(&set("10.2.0.0/24")), None);
    }

    #[test]
    fn a_tail_that_is_torn_at_any_byte_or_zeroed_is_left_out() {
        let good = file(&[lease("10.1.0.2", "a")]);
        let whole = format!("{good}{}", lease("10.1.0.3", "b"));
        for cut in good.len()..whole.len() {
            let mut text = whole.as_bytes()[..cut].to_vec();
            for zeros in [0, 1, 4096] {
                text.resize(cut + zeros, 0);
                let log = Log::parse(&text).unwrap();
                assert_eq!(log.length, good.len(), "{cut}");
                assert_eq!(held(&text), ["10.1.0.2"]);
            }
        }
        for cut in 0..HEADER.len() {
            let mut text = HEADER.as_bytes()[..cut].to_vec();
            assert_eq!(Log::parse(&text).unwrap().length, 0);
            text.resize(8192, 0);
            assert_eq!(Log::parse(&text).unwrap().length, 0);
        }
    }

    #[test]
    fn a_flipped_bit_is_cut_from_the_end_and_refused_in_the_middle() {
        let (one, two) = (lease("10.1.0.2", "a"), lease("10.1.0.3", "b"));
        let text = file(&[one.clone(), two]);
        let last = HEADER.len() + one.len();
        for at in HEADER.len()..text.len() {
            for bit in 0..8 {
                let mut text = text.clone().into_bytes();
                text[at] ^= 1 << bit;
                let outcome = Log::parse(&text);
                // Without the line break between them, two lines are one bad line.
                if at >= last - 1 {
                    assert!(outcome.unwrap().length <= last, "{at}");
                } else {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.code(), Code::Decode);
                    assert!(error.to_string().starts_with("line 2 is damaged"), "{error}");
                }
            }
        }
    }

    #[test]
    fn an_edited_file_is_refused() {
        let text = file(&[lease("10.1.0.2", "a"), lease("10.1.0.3", "b")]);
        let (header, lines) = text.split_at(HEADER.len());
        let edited = format!("{header}{}", lines.replace('\n', "\r\n"));
        assert!(Log::parse(edited.as_bytes()).is_err());
    }

    #[test]
    fn knows_what_it_does_not_know() {
        let refusal = |text: &str| Log::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(refusal("girder leases 2\n").contains("later version"));
        assert!(refusal("girder leases 99\nwhatever").contains("later version"));
        for text in ["girder leases 0\n", "girder leases 1\r\n", "girder leases x\n", "hello"] {
            assert!(refusal(text).contains("not a lease file"), "{text:?}");
        }
        let unknown = file(&[line("moved 10.1.0.2 a eth0")]);
        assert!(
            refusal(&unknown).starts_with("line 2: \"moved 10.1.0.2 a eth0\" is not understood")
        );
        for odd in ["leased", "leased 10.1.0.2", "leased 10.1.0.2 a", "released x ", "last", ""] {
            assert!(refusal(&file(&[line(odd)])).contains("not understood"), "{odd:?}");
        }
        let text = file(&[line("x-note of nothing"), line("leased 10.1.0.2 a eth0 0 - - - - new")]);
        assert_eq!(held(text.as_bytes()), ["10.1.0.2"]);
        let text = file(&[line("leased 10.1.0.256 a eth0")]);
        assert!(Log::parse(text.as_bytes()).unwrap().addresses().is_err());
    }

    #[test]
    fn nothing_that_a_file_may_hold_makes_it_panic() {
        let whole = file(&[lease("10.1.0.2", "a"), release("10.1.0.2", "a"), line("last 0 x")]);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap()
        };
        for _ in 0..20_000 {
            let mut text = whole.clone().into_bytes();
            for _ in 0..random() % 4 {
                let at = random() % text.len();
                match random() % 3 {
                    0 => text[at] = random().to_le_bytes()[0],
                    1 => text.truncate(at + 1),
                    _ => text.insert(at, b" \n\0-%,"[random() % 6]),
                }
            }
            if let Ok(log) = Log::parse(&text) {
                assert!(log.length <= text.len());
                drop(log.addresses());
                drop(log.compacted(&[set("10.1.0.0/24")]));
            }
            let fields = String::from_utf8_lossy(&text[HEADER.len().min(text.len())..]);
            let summed = file(&fields.split('\n').map(line).collect::<Vec<_>>());
            if let Ok(log) = Log::parse(summed.as_bytes()) {
                drop(log.addresses());
                drop(log.compacted(&[set("10.1.0.0/24")]));
            }
        }
    }

    #[test]
    fn compaction_keeps_leases_extensions_and_the_round_robin() {
        let text = file(&[
            lease("10.1.0.2,fd00::2", "a"),
            line("x-note"),
            lease("10.1.0.3,fd00::3", "b"),
            lease("10.1.0.4", "c"),
            release("10.1.0.4", "c"),
        ]);
        let sets = [set("fd00::/64"), set("10.1.0.0/24"), set("10.2.0.0/24")];
        let log = Log::parse(text.as_bytes()).unwrap();
        let small = log.compacted(&sets);
        let expected = file(&[
            lease("10.1.0.2,fd00::2", "a"),
            line("x-note"),
            lease("10.1.0.3,fd00::3", "b"),
            line("last 1 10.1.0.4"),
        ]);
        assert_eq!(small, expected);
        let again = Log::parse(small.as_bytes()).unwrap();
        assert_eq!(again.addresses().unwrap(), log.addresses().unwrap());
        for set in &sets {
            assert_eq!(again.last_of(set), log.last_of(set));
        }
        assert_eq!(again.compacted(&sets), small);
    }
}
