//! What a lease file says: its lines ([`record`](crate::record)), checked and understood.

use crate::range::RangeSet;
use crate::record::{HEADER, Owner, line};
use common::cni::Context as _;
use common::{Code, Error, Result};
use std::collections::HashSet;
use std::io::BufRead;
use std::net::IpAddr;

/// What a line that says `leased` is about.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    addresses: &'a str,
    owner: &'a str,
}

impl Lease<'_> {
    /// All of its addresses.
    ///
    /// # Errors
    /// Code 6.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let mut addresses = Vec::with_capacity(1);
        self.addresses_into(&mut addresses)?;
        Ok(addresses)
    }

    fn addresses_into(&self, all: &mut Vec<IpAddr>) -> Result<()> {
        for text in self.addresses.split(',') {
            all.push(text.parse().map_err(|_| {
                let msg = format!("{text:?} is no address, in the lease of {:?}", self.owner);
                Error::new(Code::Decode, msg)
            })?);
        }
        Ok(())
    }

    /// The line that ends it.
    pub fn released(&self, time: u64) -> String {
        line(&format!("released {} {} {time}", self.addresses, self.owner))
    }

    /// Whether this attachment holds it.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.owner == owner.as_str()
    }

    /// Whether one of these attachments holds it.
    pub fn is_of_any(&self, owners: &HashSet<Owner>) -> bool {
        owners.contains(self.owner)
    }

    fn address_in(&self, set: &RangeSet) -> Option<IpAddr> {
        let mut addresses = self.addresses.split(',').filter_map(|text| text.parse().ok());
        addresses.find(|ip| set.contains(*ip))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Leased, and not released later.
    Held,
    /// Leased, and released later.
    Past,
    Released,
    Last,
    Extension,
}

/// A line, as far as it matters.
#[derive(Debug)]
struct Event {
    kind: Kind,
    /// Where in the log's text its addresses begin, and where the blank after them is. The owner
    /// goes up to the next event.
    start: usize,
    blank: usize,
}

/// A lease file, understood.
#[derive(Debug, Default)]
pub struct Log {
    /// One for each good line after the first.
    events: Vec<Event>,
    /// Addresses and owner of all events. The rest of a file, which is most of it, is not kept:
    /// making memory for it would cost more than reading it.
    text: String,
    /// How much of the file is good. What follows was not written to its end.
    pub length: u64,
    /// The length of the file.
    pub found: u64,
}

impl Log {
    /// Checks and understands a whole file.
    ///
    /// A machine that crashes leaves at the end of a file lines that are incomplete, or zeros. That
    /// is cut away, and so is one last line with a wrong checksum: at worst, the call that wrote it
    /// was never answered. Anything else that is wrong is refused, because an address that may be
    /// in use must not be handed out again.
    ///
    /// # Errors
    /// Code 6, with the number of the line; 5 when it cannot be read.
    pub fn read(file: &mut dyn BufRead) -> Result<Self> {
        let mut log = Self::default();
        let mut line = Vec::new();
        log.read_line(file, &mut line)?;
        if has_header(&line)? {
            log.length = log.found;
        }
        let mut number = 1;
        let mut bad: Option<usize> = None;
        let mut complete_and_bad = 0;
        while log.read_line(file, &mut line)? {
            number += 1;
            let Some(good) = check(&line) else {
                bad = bad.or(Some(number));
                complete_and_bad += usize::from(line.ends_with(b"\n") && !line.contains(&0));
                continue;
            };
            if let Some(bad) = bad {
                return Err(damaged(bad));
            }
            log.push(good).context(format_args!("line {number}"))?;
            log.length = log.found;
        }
        if let Some(bad) = bad.filter(|_| complete_and_bad > 1) {
            return Err(damaged(bad));
        }
        log.find_held();
        Ok(log)
    }

    /// Whether there was one more line, or a part of one.
    fn read_line(&mut self, file: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        let length = file.read_until(b'\n', line).context("it cannot be read")?;
        self.found += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(length > 0)
    }

    fn push(&mut self, fields: &str) -> Result<()> {
        let understood = if let Some(rest) = fields.strip_prefix("leased ") {
            owned(rest).map(|(blank, owned)| (Kind::Held, blank, owned))
        } else if let Some(rest) = fields.strip_prefix("released ") {
            owned(rest).map(|(blank, owned)| (Kind::Released, blank, owned))
        } else if let Some(rest) = fields.strip_prefix("last ") {
            rest.split(' ').nth(1).map(|address| (Kind::Last, address.len(), address))
        } else {
            fields.starts_with("x-").then_some((Kind::Extension, 0, ""))
        };
        let Some((kind, blank, text)) = understood else {
            let msg = format!("{fields:?} is not understood");
            return Err(Error::new(Code::Decode, msg)
                .details("it seems to be written by a later version of host-local"));
        };
        let start = self.text.len();
        self.text.push_str(text);
        self.events.push(Event { kind, start, blank: start + blank });
        Ok(())
    }

    fn find_held(&mut self) {
        let mut released = HashSet::new();
        let mut end = self.text.len();
        for event in self.events.iter_mut().rev() {
            let owner = self.text.get(event.blank + 1..end).unwrap_or_default();
            match event.kind {
                Kind::Held if released.contains(owner) => event.kind = Kind::Past,
                Kind::Released => drop(released.insert(owner)),
                _ => {}
            }
            end = event.start;
        }
    }

    /// What each line says about addresses and owner, where it does.
    fn lines(&self) -> impl DoubleEndedIterator<Item = (Kind, Lease<'_>)> {
        self.events.iter().enumerate().map(|(index, event)| {
            let end = self.events.get(index + 1).map_or(self.text.len(), |next| next.start);
            let addresses = self.text.get(event.start..event.blank).unwrap_or_default();
            let owner = self.text.get(event.blank + 1..end).unwrap_or_default();
            (event.kind, Lease { addresses, owner })
        })
    }

    /// Every lease that is held.
    pub fn leases(&self) -> impl DoubleEndedIterator<Item = Lease<'_>> {
        self.lines().filter(|(kind, _)| *kind == Kind::Held).map(|(_, lease)| lease)
    }

    /// The leases of this attachment: one, but for mistakes of others.
    pub fn leases_of(&self, owner: &Owner) -> impl Iterator<Item = Lease<'_>> {
        self.leases().filter(move |lease| lease.is_of(owner))
    }

    /// Every address that is held.
    ///
    /// # Errors
    /// Code 6.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let mut addresses = Vec::with_capacity(self.events.len());
        self.leases().try_for_each(|lease| lease.addresses_into(&mut addresses))?;
        Ok(addresses)
    }

    /// The address that was handed out last from this range set.
    pub fn last_of(&self, set: &RangeSet) -> Option<IpAddr> {
        let told = |kind: &Kind| matches!(kind, Kind::Held | Kind::Past | Kind::Last);
        self.lines().rev().filter(|(kind, _)| told(kind)).find_map(|(_, line)| line.address_in(set))
    }

    /// Whether most of the lines say nothing any more.
    pub fn is_mostly_garbage(&self) -> bool {
        let count = |kinds: &[Kind]| self.events.iter().filter(|e| kinds.contains(&e.kind)).count();
        count(&[Kind::Past, Kind::Released]) > count(&[Kind::Held])
    }

    /// The file without what says nothing any more; `file` is the one that the log was read from.
    /// Where the round robin of range sets stands that this call's configuration does not have is
    /// lost; they begin at their first address again.
    pub fn compacted(&self, file: &[u8], sets: &[RangeSet]) -> String {
        let mut text = String::from(HEADER);
        let lines = file.split_inclusive(|byte| *byte == b'\n').skip(1);
        for (event, line) in self.events.iter().zip(lines) {
            if matches!(event.kind, Kind::Held | Kind::Extension) {
                text.push_str(&String::from_utf8_lossy(line));
            }
        }
        for (index, set) in sets.iter().enumerate() {
            let remaining = self.leases().rev().find_map(|lease| lease.address_in(set));
            let last = self.last_of(set);
            if let Some(last) = last.filter(|last| remaining != Some(*last)) {
                text.push_str(&line(&format!("last {index} {last}")));
            }
        }
        text
    }
}

/// Whether this first line is good; if not, the file is to be begun anew.
fn has_header(text: &[u8]) -> Result<bool> {
    if text == HEADER.as_bytes() {
        return Ok(true);
    }
    // Empty, or what a crash leaves of a file whose first line was just being written.
    let zeros = text.iter().rev().take_while(|byte| **byte == 0).count();
    if HEADER.as_bytes().starts_with(text.get(..text.len() - zeros).unwrap_or_default()) {
        return Ok(false);
    }
    let version =
        text.trim_ascii_end().strip_prefix(b"girder leases ").map(String::from_utf8_lossy);
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

/// What a line says, if that is what its checksum is of.
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
    std::str::from_utf8(fields).ok()
}

/// Addresses and owner of a line with these two, whatever follows, and the length of the former.
fn owned(fields: &str) -> Option<(usize, &str)> {
    // Three short words, a hundred thousand times: a plain loop is faster than str::split.
    let word = |from: usize| {
        let rest = fields.as_bytes().get(from..)?;
        let length = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        (length > 0).then_some(from + length)
    };
    let addresses = word(0)?;
    let ifname = word(word(addresses + 1)? + 1)?;
    Some((addresses, fields.get(..ifname)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::Limits;
    use crate::record::tests::{lease, owner, release};

    fn set(subnet: &str) -> RangeSet {
        RangeSet::new(&[Limits { subnet: subnet.parse().ok(), ..Limits::default() }]).unwrap()
    }

    fn size(text: &str) -> u64 {
        u64::try_from(text.len()).unwrap()
    }

    fn file(lines: &[String]) -> String {
        format!("{HEADER}{}", lines.concat())
    }

    fn read(mut text: &[u8]) -> Result<Log> {
        Log::read(&mut text)
    }

    fn held(text: &[u8]) -> Vec<String> {
        let log = read(text).unwrap();
        log.addresses().unwrap().iter().map(ToString::to_string).collect()
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
        let log = read(text.as_bytes()).unwrap();
        assert_eq!(log.leases_of(&owner("a")).count(), 1);
        assert_eq!(log.leases_of(&owner("b")).count(), 0);
        assert!(log.is_mostly_garbage());
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
                let log = read(&text).unwrap();
                assert_eq!(log.length, size(&good), "{cut}");
                assert_eq!(held(&text), ["10.1.0.2"]);
            }
        }
        for cut in 0..HEADER.len() {
            let mut text = HEADER.as_bytes()[..cut].to_vec();
            assert_eq!(read(&text).unwrap().length, 0);
            text.resize(8192, 0);
            assert_eq!(read(&text).unwrap().length, 0);
        }
    }

    #[test]
    fn a_flipped_bit_is_cut_from_the_end_and_refused_in_the_middle() {
        let (one, two) = (lease("10.1.0.2", "a"), lease("10.1.0.3", "b"));
        let text = file(&[one.clone(), two]);
        let text_to_last = format!("{HEADER}{one}");
        let last = text_to_last.len();
        for at in HEADER.len()..text.len() {
            for bit in 0..8 {
                let mut text = text.clone().into_bytes();
                text[at] ^= 1 << bit;
                let outcome = read(&text);
                // Without the line break between them, two lines are one bad line.
                if at >= last - 1 {
                    assert!(outcome.unwrap().length <= size(&text_to_last), "{at}");
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
        assert!(read(edited.as_bytes()).is_err());
    }

    #[test]
    fn knows_what_it_does_not_know() {
        let refusal = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
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
        assert!(read(text.as_bytes()).unwrap().addresses().is_err());
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
            if let Ok(log) = read(&text) {
                assert!(log.length <= log.found);
                drop(log.addresses());
                drop(log.compacted(&text, &[set("10.1.0.0/24")]));
            }
            let fields = String::from_utf8_lossy(&text[HEADER.len().min(text.len())..]);
            let summed = file(&fields.split('\n').map(line).collect::<Vec<_>>());
            if let Ok(log) = read(summed.as_bytes()) {
                drop(log.addresses());
                drop(log.compacted(&text, &[set("10.1.0.0/24")]));
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
        let log = read(text.as_bytes()).unwrap();
        let small = log.compacted(text.as_bytes(), &sets);
        let expected = file(&[
            lease("10.1.0.2,fd00::2", "a"),
            line("x-note"),
            lease("10.1.0.3,fd00::3", "b"),
            line("last 1 10.1.0.4"),
        ]);
        assert_eq!(small, expected);
        let again = read(small.as_bytes()).unwrap();
        assert_eq!(again.addresses().unwrap(), log.addresses().unwrap());
        for set in &sets {
            assert_eq!(again.last_of(set), log.last_of(set));
        }
        assert_eq!(again.compacted(small.as_bytes(), &sets), small);
    }
}
