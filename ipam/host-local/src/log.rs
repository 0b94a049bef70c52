//! What a lease file says: its lines ([`record`](crate::record)), checked and replayed. This is the
//! one place that knows what a line does to what is held and kept.

use crate::file::LeaseFile;
use crate::range::number;
use crate::record::{Brief, Event, HEADER, check};
use crate::table::Table;
use common::cni::Context as _;
use common::{Code, Error, Result};
use std::io::{BufRead, Read as _};
use std::ops::RangeInclusive;

/// A longer line is damage. The lease of an attachment that has a whole /16 is shorter.
pub(crate) const LONGEST_LINE: u64 = 16 << 20;

/// 64 bits that stand for a text (FNV-1a), the same in every build.
pub fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // 0xff is in no UTF-8 text: ("a", "b") and ("ab", "") differ.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Stands for an attachment, by [`Lessee::as_str`](crate::record::Lessee::as_str).
pub fn hash_of_lessee(lessee: &str) -> u64 {
    hash(&[lessee])
}

/// Stands for a sticky key, which is one per interface.
pub fn hash_of_key(lessee: &str, key: &str) -> u64 {
    hash(&["sticky", lessee.split(' ').nth(1).unwrap_or_default(), key])
}

/// What is known about an address, and where in the file the line is that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is in use.
    Held {
        /// Of a `leased`.
        line: u64,
        /// [`hash_of_lessee`].
        lessee: u64,
    },
    /// It is free, but kept for a pod.
    Kept {
        /// Of a `released`.
        line: u64,
        /// [`hash_of_key`].
        key: u64,
    },
}

impl Mark {
    /// Where the line is.
    pub fn line(self) -> u64 {
        let (Self::Held { line, .. } | Self::Kept { line, .. }) = self;
        line
    }

    /// Whether the address is in use.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Held { .. })
    }

    fn encode(self) -> [u64; 2] {
        match self {
            Self::Held { line, lessee } => [line << 1, lessee],
            Self::Kept { line, key } => [line << 1 | 1, key],
        }
    }

    fn decode([line, hash]: [u64; 2]) -> Self {
        match line & 1 {
            0 => Self::Held { line: line >> 1, lessee: hash },
            _ => Self::Kept { line: line >> 1, key: hash },
        }
    }
}

/// A lease file, replayed: all of it, or what follows after what the index says. Addresses are
/// [`number`]s.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// [`Mark`]s by address. One that is kept under a key of which [`Log::keys`] knows a later line
    /// counts as free: nobody has to look for it then.
    pub(crate) addresses: Table,
    /// Sticky keys by [`hash_of_key`]: the line of the latest lease, `leased` or `released`, and how
    /// many addresses are kept by it.
    pub(crate) keys: Table,
    /// How many lines must stay whatever becomes of the leases.
    pub(crate) extensions: u64,
    /// How many lines it has.
    pub(crate) lines: u64,
    /// How much of the file is good. What follows was not written to its end.
    pub length: u64,
    /// The length of the file.
    pub found: u64,
    /// The number of the first line that is damaged, if one is that is not just the torn end.
    pub damage: Option<usize>,
}

impl Log {
    /// Checks and replays a whole file.
    ///
    /// A machine that crashes leaves at the end of a file lines that are incomplete, or zeros. That
    /// is not counted as damage, and neither is one last line with a wrong checksum: at worst, the
    /// call that wrote it was never answered. Anything else that is wrong is left out, and
    /// remembered as [`Log::damage`].
    ///
    /// # Errors
    /// Code 6 for a file of a later version; 5 when it cannot be read.
    pub fn read(file: &mut dyn BufRead) -> Result<Self> {
        let mut log = Self::default();
        let mut line = Vec::new();
        log.read_line(file, &mut line)?;
        match first_line(&line)? {
            FirstLine::Good => log.length = log.found,
            FirstLine::Torn => {}
            FirstLine::Bad => log.damage = Some(1),
        }
        log.replay(file)?;
        Ok(log)
    }

    /// Goes on with what follows in the file.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn replay(&mut self, file: &mut dyn BufRead) -> Result<()> {
        let mut line = Vec::new();
        let mut number = 1;
        let mut bad: Option<usize> = None;
        let mut complete_and_bad = 0;
        loop {
            let offset = self.found;
            if !self.read_line(file, &mut line)? {
                break;
            }
            number += 1;
            let Some(good) = check(&line) else {
                bad = bad.or(Some(number));
                complete_and_bad += usize::from(line.ends_with(b"\n") && !line.contains(&0));
                continue;
            };
            self.damage = self.damage.or(bad);
            if self.length == 0 {
                self.damage = self.damage.or(Some(1));
            }
            self.apply(offset, good).context(format_args!("line {number}"))?;
            self.length = self.found;
        }
        if complete_and_bad > 1 {
            self.damage = self.damage.or(bad);
        }
        Ok(())
    }

    /// Whether there was one more line, or a part of one.
    fn read_line(&mut self, file: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        let length =
            file.take(LONGEST_LINE).read_until(b'\n', line).context("it cannot be read")?;
        self.found += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(length > 0)
    }

    /// Replays one more line, which is at `offset`.
    ///
    /// # Errors
    /// Code 6 when it is not understood.
    pub fn apply(&mut self, offset: u64, fields: &str) -> Result<()> {
        self.lines += 1;
        let understood = match Event::parse(fields) {
            Some(Event::Leased(brief)) => self.lease(offset, brief),
            Some(Event::Released(brief)) => self.release(offset, brief),
            Some(Event::Nothing) => Some(()),
            Some(Event::Extension) => {
                self.extensions += 1;
                Some(())
            }
            None => None,
        };
        understood.ok_or_else(|| {
            Error::new(Code::Decode, format!("{fields:?} is not understood"))
                .details("it seems to be written by a later version of host-local")
        })
    }

    /// Adds a whole line at the end of the file that the log is of.
    ///
    /// # Errors
    /// As [`Log::apply`]; then nothing was added.
    pub fn append(&mut self, line: &str, file: &mut LeaseFile) -> Result<()> {
        if let Some(fields) = check(line.as_bytes()) {
            self.apply(file.end(), fields)?;
        }
        file.push(line);
        Ok(())
    }

    fn lease(&mut self, line: u64, brief: Brief<'_>) -> Option<()> {
        let lessee = hash_of_lessee(brief.lessee);
        for address in brief.addresses()? {
            self.set(number(address), Some(Mark::Held { line, lessee }));
        }
        if let Some(key) = brief.sticky {
            self.keys.set(hash_of_key(brief.lessee, key).into(), Some([line, 0]));
        }
        Some(())
    }

    fn release(&mut self, line: u64, brief: Brief<'_>) -> Option<()> {
        let lessee = hash_of_lessee(brief.lessee);
        let mut ended = Vec::new();
        let mut addresses: Vec<_> = brief.addresses()?.into_iter().map(number).collect();
        addresses.retain(|address| match self.mark_of(*address) {
            Some(Mark::Held { line, lessee: holder }) if holder == lessee => {
                ended.push(line);
                self.set(*address, None);
                true
            }
            // Where a file has been rewritten, the line of the lease is gone.
            found => !matches!(found, Some(Mark::Held { .. })),
        });
        let Some(key) = brief.sticky.map(|key| hash_of_key(brief.lessee, key)) else {
            return Some(());
        };
        // A pod that has got another lease meanwhile does not come back to this one.
        if self.keys.get(key.into()).is_some_and(|[latest, _]| !ended.contains(&latest)) {
            return Some(());
        }
        addresses.sort_unstable();
        addresses.dedup();
        for address in &addresses {
            self.set(*address, Some(Mark::Kept { line, key }));
        }
        let kept = u64::try_from(addresses.len()).unwrap_or(u64::MAX);
        self.keys.set(key.into(), Some([line, kept]));
        Some(())
    }

    /// Whoever an address was kept for has lost it, and the key with the last one.
    fn set(&mut self, address: u128, mark: Option<Mark>) {
        if let Some(Mark::Kept { line, key }) = self.mark_of(address) {
            let left = self.keys.get(key.into()).map_or(0, |[_, kept]| kept.saturating_sub(1));
            self.keys.set(key.into(), (left > 0).then_some([line, left]));
        }
        self.addresses.set(address, mark.map(Mark::encode));
    }

    /// What is known about an address; nothing if it is free for anybody.
    pub fn mark_of(&self, address: u128) -> Option<Mark> {
        self.addresses.get(address).map(Mark::decode).filter(|mark| self.counts(*mark))
    }

    /// Every address of these that is not free for anybody, in order.
    pub fn marks(&self, range: RangeInclusive<u128>) -> impl Iterator<Item = (u128, Mark)> + '_ {
        let marks = self.addresses.range(range).map(|(key, values)| (key, Mark::decode(values)));
        marks.filter(|(_, mark)| self.counts(*mark))
    }

    /// The same of all addresses.
    pub fn all(&self) -> impl Iterator<Item = (u128, Mark)> + '_ {
        self.marks(0..=u128::MAX)
    }

    /// The first address from the first to the last one that is free for anybody.
    pub fn first_free(&self, first: u128, last: u128) -> Option<u128> {
        let mut free = first;
        for (address, _) in self.marks(first..=last) {
            if address > free {
                break;
            }
            free = address.checked_add(1)?;
        }
        (free <= last).then_some(free)
    }

    /// Whether it is not outdated.
    fn counts(&self, mark: Mark) -> bool {
        counts(mark, &self.keys)
    }

    /// The lines of what this attachment may hold, by [`hash_of_lessee`], in order.
    pub fn lines_of(&self, lessee: u64) -> Vec<u64> {
        let found = self.addresses.find(lessee).into_iter();
        in_order(found.filter_map(|(_, values)| match Mark::decode(values) {
            Mark::Held { line, .. } => Some(line),
            Mark::Kept { .. } => None,
        }))
    }

    /// The line of the latest lease under a key, by [`hash_of_key`].
    pub fn latest(&self, key: u64) -> Option<u64> {
        self.keys.get(key.into()).map(|[line, _]| line)
    }

    /// Where the lines are that say what is held, in order.
    pub fn held_lines(&self) -> Vec<u64> {
        in_order(self.all().filter(|(_, mark)| mark.is_held()).map(|(_, mark)| mark.line()))
    }

    /// Where the lines are that say what is kept, in order.
    pub fn kept_lines(&self) -> Vec<u64> {
        in_order(self.all().filter(|(_, mark)| !mark.is_held()).map(|(_, mark)| mark.line()))
    }

    /// Where the lines are that still say something, but for extensions, in order.
    pub fn live_lines(&self) -> Vec<u64> {
        in_order(self.all().map(|(_, mark)| mark.line()))
    }

    /// Sorts what is known, and drops what is outdated.
    pub fn merge(&mut self) {
        let keys = &self.keys;
        self.addresses.merge(|_, values| counts(Mark::decode(values), keys));
        self.keys.merge(|_, _| true);
    }

    /// Whether most lines of the file say nothing any more, after [`Log::merge`]: there are no more
    /// that do than addresses.
    pub fn is_mostly_garbage(&self) -> bool {
        self.lines > 2 * (self.addresses.sorted_len() + self.extensions)
    }

    /// The file without what says nothing any more; `file` is the one that the log is of.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn compacted(&self, file: &mut dyn BufRead) -> std::io::Result<Vec<u8>> {
        let mut text = HEADER.as_bytes().to_vec();
        let mut live = self.live_lines().into_iter().peekable();
        let (mut offset, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let length = file.read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            let is_live = live.next_if_eq(&offset).is_some();
            if is_live || check(&line).and_then(Event::parse) == Some(Event::Extension) {
                text.extend_from_slice(&line);
            }
            offset += u64::try_from(length).unwrap_or(u64::MAX);
        }
        Ok(text)
    }
}

fn counts(mark: Mark, keys: &Table) -> bool {
    match mark {
        Mark::Held { .. } => true,
        Mark::Kept { line, key } => keys.get(key.into()).is_some_and(|[latest, _]| latest == line),
    }
}

fn in_order(lines: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

enum FirstLine {
    Good,
    /// Empty, or what a crash leaves of a file whose first line was just being written.
    Torn,
    Bad,
}

fn first_line(text: &[u8]) -> Result<FirstLine> {
    if text == HEADER.as_bytes() {
        return Ok(FirstLine::Good);
    }
    let zeros = text.iter().rev().take_while(|byte| **byte == 0).count();
    if HEADER.as_bytes().starts_with(text.get(..text.len() - zeros).unwrap_or_default()) {
        return Ok(FirstLine::Torn);
    }
    let version =
        text.trim_ascii_end().strip_prefix(b"girder leases ").map(String::from_utf8_lossy);
    if version.and_then(|version| version.parse::<u64>().ok()).is_some_and(|version| version > 1) {
        return Err(Error::new(Code::Decode, "it was written by a later version of host-local")
            .details("install that version again; the file has not been touched"));
    }
    Ok(FirstLine::Bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::address;
    use crate::record::tests::{a_lease, lease, release};
    use crate::record::{Lease, line};

    fn file(lines: &[String]) -> String {
        format!("{HEADER}{}", lines.concat())
    }

    fn read(mut text: &[u8]) -> Result<Log> {
        Log::read(&mut text)
    }

    fn texts(numbers: impl IntoIterator<Item = u128>) -> Vec<String> {
        let mut numbers: Vec<_> = numbers.into_iter().collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| address(number).to_string()).collect()
    }

    fn held(log: &Log) -> Vec<String> {
        texts(log.all().filter(|(_, mark)| mark.is_held()).map(|(address, _)| address))
    }

    fn kept(log: &Log) -> Vec<String> {
        texts(log.all().filter(|(_, mark)| !mark.is_held()).map(|(address, _)| address))
    }

    fn sticky(addresses: &str, container: &str, key: &str) -> Lease {
        let mut lease = a_lease(addresses, container);
        lease.origin.sticky = Some(key.into());
        lease
    }

    #[test]
    fn a_release_ends_what_the_same_attachment_got_before() {
        let text = file(&[
            lease("10.1.0.2,fd00::2", "a"),
            lease("10.1.0.3", "b"),
            release("10.1.0.2,fd00::2", "a"),
            lease("10.1.0.4", "a"),
            release("10.1.0.3", "b"),
            release("10.1.0.4", "unknown"),
        ]);
        let log = read(text.as_bytes()).unwrap();
        assert_eq!(held(&log), ["10.1.0.4"]);
        assert_eq!((log.lines, log.live_lines().len(), log.damage), (6, 1, None));
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
                assert_eq!(usize::try_from(log.length).unwrap(), good.len(), "{cut}");
                assert_eq!((held(&log), log.damage), (vec!["10.1.0.2".to_owned()], None));
            }
        }
        for cut in 0..HEADER.len() {
            let mut text = HEADER.as_bytes()[..cut].to_vec();
            assert_eq!((read(&text).unwrap().length, read(&text).unwrap().damage), (0, None));
            text.resize(8192, 0);
            assert_eq!((read(&text).unwrap().length, read(&text).unwrap().damage), (0, None));
        }
    }

    #[test]
    fn a_flipped_bit_never_stays_unnoticed() {
        let (one, two) = (lease("10.1.0.2", "a"), lease("10.1.0.3", "b"));
        let text = file(&[one.clone(), two]);
        let last = HEADER.len() + one.len();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut text = text.clone().into_bytes();
                text[at] ^= 1 << bit;
                // A later version is refused.
                let Ok(log) = read(&text) else { continue };
                // Without the line break between them, two lines are one bad line.
                if at < HEADER.len() {
                    assert_eq!(log.damage, Some(1));
                } else if at < last - 1 {
                    assert_eq!((held(&log), log.damage), (vec!["10.1.0.3".to_owned()], Some(2)));
                } else {
                    assert!(log.length <= u64::try_from(last).unwrap(), "{at}");
                }
            }
        }
    }

    #[test]
    fn a_later_version_is_refused_and_anything_else_is_damaged() {
        let refusal = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert!(refusal("girder leases 2\n").contains("later version"));
        assert!(refusal("girder leases 99\nwhatever").contains("later version"));
        let unknown = file(&[line("moved 10.1.0.2 a eth0")]);
        assert!(
            refusal(&unknown).starts_with("line 2: \"moved 10.1.0.2 a eth0\" is not understood")
        );
        assert!(refusal(&file(&[line("leased 10.1.0.256 a eth0")])).contains("not understood"));
        for text in ["girder leases 0\n", "girder leases 1\r\n", "girder leases x\n", "hello"] {
            assert_eq!(read(text.as_bytes()).unwrap().damage, Some(1), "{text:?}");
        }
        let text =
            file(&[line("x-note of nothing"), line("leased 10.1.0.2 a eth0 0 - - - - - new")]);
        assert_eq!(held(&read(text.as_bytes()).unwrap()), ["10.1.0.2"]);
    }

    #[test]
    fn a_sticky_address_is_kept_until_somebody_gets_it() {
        let (one, two) = (sticky("10.1.0.2", "a", "shop/web"), sticky("10.1.0.3", "b", "shop/db"));
        let mut lines = vec![one.leased(), two.leased(), one.released(1), two.released(2)];
        let log = read(file(&lines).as_bytes()).unwrap();
        assert_eq!((held(&log).len(), kept(&log)), (0, vec!["10.1.0.2".into(), "10.1.0.3".into()]));
        let text = file(&lines);
        let small = log.compacted(&mut text.as_bytes()).unwrap();
        assert_eq!(small, file(&[one.released(1), two.released(2)]).as_bytes());
        assert_eq!(kept(&read(&small).unwrap()), kept(&log));
        // Another container gets the one, the same pod another address instead of the other.
        lines.push(lease("10.1.0.2", "c"));
        lines.push(sticky("10.1.0.9", "d", "shop/db").leased());
        let log = read(file(&lines).as_bytes()).unwrap();
        assert_eq!((held(&log), kept(&log)), (vec!["10.1.0.2".into(), "10.1.0.9".into()], vec![]));
        // It comes back to the later one, whatever ends first.
        lines.push(sticky("10.1.0.5", "e", "shop/db").leased());
        lines.push(sticky("10.1.0.9", "d", "shop/db").released(3));
        assert_eq!(kept(&read(file(&lines).as_bytes()).unwrap()).len(), 0);
        lines.push(sticky("10.1.0.5", "e", "shop/db").released(3));
        assert_eq!(kept(&read(file(&lines).as_bytes()).unwrap()), ["10.1.0.5"]);
    }

    #[test]
    fn nothing_that_a_file_may_hold_makes_it_panic() {
        let whole = file(&[
            lease("10.1.0.2", "a"),
            release("10.1.0.2", "a"),
            sticky("10.1.0.2", "a", "k").released(1),
        ]);
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
                drop(log.compacted(&mut text.as_slice()));
            }
            let fields = String::from_utf8_lossy(&text[HEADER.len().min(text.len())..]);
            let summed = file(&fields.split('\n').map(line).collect::<Vec<_>>());
            if let Ok(log) = read(summed.as_bytes()) {
                drop(log.compacted(&mut summed.as_bytes()));
            }
            for line in summed.lines() {
                drop(Lease::parse(line));
            }
        }
    }

    #[test]
    fn compaction_keeps_leases_and_extensions() {
        let text = file(&[
            lease("10.1.0.2,fd00::2", "a"),
            line("x-note"),
            lease("10.1.0.3,fd00::3", "b"),
            line("last 0 10.1.0.3"),
            lease("10.1.0.4", "c"),
            release("10.1.0.4", "c"),
        ]);
        let log = read(text.as_bytes()).unwrap();
        let small = log.compacted(&mut text.as_bytes()).unwrap();
        let expected =
            file(&[lease("10.1.0.2,fd00::2", "a"), line("x-note"), lease("10.1.0.3,fd00::3", "b")]);
        assert_eq!(String::from_utf8(small).unwrap(), expected);
    }
}
