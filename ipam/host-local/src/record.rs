//! The lines of a lease file, as they are written:
//!
//! ```text
//! girder leases 1
//! 4f1c09aa leased 10.1.0.2,fd00::2 c0ffee eth0 1766102400 7b0c5c3e-... 4026532281 /run/netns/a shop/web-0
//! 90b3d1e2 released 10.1.0.2,fd00::2 c0ffee eth0 1766102460
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
//! | `leased` | all addresses of the attachment, container, interface, time (seconds since 1970), boot ID, inode and path of the network namespace, pod as namespace/name, sticky key, link of the host, inode of the network namespace that this is in, name of the ADD |
//! | `released` | addresses, container, interface, time, sticky key |
//! | `last` | ignored, and dropped when the file is rewritten |
//! | `x-...` | ignored and kept, for additions that may be ignored |
//!
//! `leased` makes the attachment, which is container and interface, the holder of the addresses;
//! `released` ends that for the addresses that it names, as far as the attachment is their holder.
//! The last fields are left out where they would be absent. The link is the one that the kernel
//! removes with the network namespace of the container; where it is not told which namespace the link
//! itself is in, it is the one in which the file is read. The name of the ADD is what the plugin that
//! delegates calls it, so that it can roll that one back and no other. The sticky key is the name
//! under which the addresses are kept for a pod that comes back: from `released` on, until the key gets a new lease or
//! somebody else gets the address. An attachment whose interface is `-` is of a file with a
//! container only, as old versions of the Go plugin wrote it; one whose container is `-` as well
//! is of a file that does not tell whose it is. Fields that are added to the end of a line are
//! ignored. Any other word needs a later version.

use common::Attachment;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The first line of a file of our version.
pub const HEADER: &str = "girder leases 1\n";

/// An attachment as a file names it: container, blank, interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lessee(String);

impl From<&Attachment> for Lessee {
    fn from(attachment: &Attachment) -> Self {
        Self::new(attachment.container.as_str(), attachment.ifname.as_str())
    }
}

impl Lessee {
    /// From the names as they are; an empty one is unknown.
    pub fn new(container: &str, ifname: &str) -> Self {
        Self(format!("{} {}", escape(container), escape(ifname)))
    }

    /// The same container in a file that does not name the interface.
    #[must_use]
    pub fn without_interface(&self) -> Self {
        Self(format!("{} -", self.0.split(' ').next().unwrap_or("-")))
    }

    /// As in a line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container's ID; empty if nobody knows it.
    pub fn container(&self) -> String {
        unescape(self.0.split(' ').next().unwrap_or_default())
    }

    /// The interface's name; empty if nobody knows it.
    pub fn ifname(&self) -> String {
        unescape(self.0.split(' ').nth(1).unwrap_or_default())
    }

    /// Whether nobody knows who it is.
    pub fn is_unknown(&self) -> bool {
        self.0.starts_with("- ")
    }
}

/// Who holds an address, and how it can be told later whether the holder is still alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Seconds since 1970.
    pub time: u64,
    /// A namespace lives no longer than the kernel.
    pub boot: Option<String>,
    /// A path may be used again, an inode with it hardly so.
    pub inode: Option<u64>,
    /// Path of the namespace; empty if nobody knows it.
    pub netns: String,
    /// Namespace and name of the pod, if the runtime told.
    pub pod: Option<(String, String)>,
    /// The name under which the addresses are kept after the lease.
    pub sticky: Option<String>,
    /// The link of the host that goes with the namespace, if the plugin that makes it told.
    pub link: Option<HostLink>,
    /// What the delegating plugin calls the ADD.
    pub add: Option<String>,
}

/// A link that goes with the network namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// Inode of the network namespace that it is in itself; earlier versions did not record it.
    pub netns: Option<u64>,
}

/// What an attachment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// All of them at once.
    pub addresses: Vec<IpAddr>,
    /// Whose they are.
    pub lessee: Lessee,
    /// What is known about the lessee.
    pub origin: Origin,
}

impl Lease {
    /// The line that begins it.
    pub fn leased(&self) -> String {
        let origin = &self.origin;
        let mut fields = self.fields("leased", origin.time);
        push(&mut fields, format_args!(" {}", escape(origin.boot.as_deref().unwrap_or_default())));
        match origin.inode {
            Some(inode) => push(&mut fields, format_args!(" {inode} ")),
            None => fields.push_str(" - "),
        }
        fields.push_str(&escape(&origin.netns));
        match &origin.pod {
            Some((space, name)) => {
                push(&mut fields, format_args!(" {}/{}", escape(space), escape(name)));
            }
            None => fields.push_str(" -"),
        }
        let link = origin.link.as_ref();
        let netns = link.and_then(|link| link.netns).map(|inode| inode.to_string());
        let link = link.map(|link| link.name.as_str());
        let mut last = [origin.sticky.as_deref(), link, netns.as_deref(), origin.add.as_deref()]
            .map(|field| format!(" {}", escape(field.unwrap_or_default())))
            .to_vec();
        last.truncate(last.iter().rposition(|field| field != " -").map_or(0, |at| at + 1));
        fields.extend(last);
        line(&fields)
    }

    /// The line that ends it.
    pub fn released(&self, time: u64) -> String {
        let mut fields = self.fields("released", time);
        if let Some(key) = &self.origin.sticky {
            push(&mut fields, format_args!(" {}", escape(key)));
        }
        line(&fields)
    }

    fn fields(&self, word: &str, time: u64) -> String {
        let mut fields = format!("{word} ");
        for (index, address) in self.addresses.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            push(&mut fields, format_args!("{comma}{address}"));
        }
        push(&mut fields, format_args!(" {} {time}", self.lessee.0));
        fields
    }

    /// What the fields of a line, as [`check`] returns them, say; `None` for another word than
    /// `leased` and `released`. Of the latter, addresses, lessee, time and key are all there is.
    pub fn parse(fields: &str) -> Option<Self> {
        let mut words = fields.split(' ');
        let is_leased = match words.next()? {
            "leased" => true,
            "released" => false,
            _ => return None,
        };
        let addresses = words.next()?.split(',').map(|text| text.parse().ok());
        let addresses = addresses.collect::<Option<Vec<_>>>()?;
        let lessee = Lessee(format!("{} {}", words.next()?, words.next()?));
        let time = words.next().and_then(|time| time.parse().ok()).unwrap_or(0);
        let mut origin = Origin { time, ..Origin::default() };
        let mut text = || words.next().map(unescape).filter(|text| !text.is_empty());
        if is_leased {
            origin.boot = text();
            origin.inode = text().and_then(|inode| inode.parse().ok());
            origin.netns = text().unwrap_or_default();
            let pod = words.next().and_then(|pod| pod.split_once('/'));
            origin.pod = pod.map(|(space, name)| (unescape(space), unescape(name)));
        }
        let mut text = || words.next().map(unescape).filter(|text| !text.is_empty());
        origin.sticky = text();
        if is_leased {
            let (name, netns) = (text(), text().and_then(|inode| inode.parse().ok()));
            origin.link = name.map(|name| HostLink { name, netns });
            origin.add = text();
        }
        Some(Self { addresses, lessee, origin })
    }
}

/// What a line says, as far as it matters for who holds what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Addresses got a holder.
    Leased(Brief<'a>),
    /// Addresses lost it.
    Released(Brief<'a>),
    /// To be dropped.
    Nothing,
    /// To be ignored and kept.
    Extension,
}

/// The fields of a line that matter most, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief<'a> {
    addresses: &'a str,
    /// See [`Lessee::as_str`].
    pub lessee: &'a str,
    /// The sticky key, escaped.
    pub sticky: Option<&'a str>,
}

impl Brief<'_> {
    /// All of its addresses; none of them is `None` for a text that is no address.
    pub fn addresses(&self) -> Option<Vec<IpAddr>> {
        self.addresses.split(',').map(|text| text.parse().ok()).collect()
    }
}

impl<'a> Event<'a> {
    /// Understands the fields of a line, as [`check`] returns them.
    pub fn parse(fields: &'a str) -> Option<Self> {
        let (word, rest) = fields.split_once(' ').unwrap_or((fields, ""));
        // How many fields stand between the interface and the sticky key.
        let between = match word {
            "leased" => 5,
            "released" => 1,
            "last" => return Some(Self::Nothing),
            _ => return word.starts_with("x-").then_some(Self::Extension),
        };
        // Three short words, a hundred thousand times: a plain loop is faster than str::split.
        let end_of_word = |from: usize| {
            let rest = rest.as_bytes().get(from..)?;
            let length = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            (length > 0).then_some(from + length)
        };
        let blank = end_of_word(0)?;
        let end = end_of_word(end_of_word(blank + 1)? + 1)?;
        let sticky = rest.get(end..)?.split(' ').skip(1).nth(between);
        let brief = Brief {
            addresses: rest.get(..blank)?,
            lessee: rest.get(blank + 1..end)?,
            sticky: sticky.filter(|key| !matches!(*key, "" | "-")),
        };
        Some(if between == 1 { Self::Released(brief) } else { Self::Leased(brief) })
    }
}

/// Any line: its checksum, and what it says.
pub fn line(fields: &str) -> String {
    format!("{:08x} {fields}\n", crc32fast::hash(fields.as_bytes()))
}

/// What a line says, if that is what its checksum is of.
pub fn check(line: &[u8]) -> Option<&str> {
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

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(more);
}

/// A field as it is written.
pub fn escape(text: &str) -> String {
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

/// A field as it was meant; an absent one is empty.
pub fn unescape(field: &str) -> String {
    if field == "-" {
        return String::new();
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn lessee(container: &str) -> Lessee {
        Lessee::new(container, "eth0")
    }

    pub(crate) fn a_lease(addresses: &str, container: &str) -> Lease {
        let addresses = addresses.split(',').map(|ip| ip.parse().unwrap()).collect();
        Lease { addresses, lessee: lessee(container), origin: Origin::default() }
    }

    pub(crate) fn lease(addresses: &str, container: &str) -> String {
        a_lease(addresses, container).leased()
    }

    pub(crate) fn release(addresses: &str, container: &str) -> String {
        a_lease(addresses, container).released(0)
    }

    #[test]
    fn a_line_says_everything_in_readable_text() {
        let origin = Origin {
            time: 1_766_102_400,
            boot: Some("7b0c".into()),
            inode: Some(4_026_532_281),
            netns: "/run/a b\n".into(),
            pod: Some(("shop".into(), "web-0".into())),
            ..Origin::default()
        };
        let addresses = vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let mut lease = Lease { addresses, lessee: Lessee::new("c0ffee", "é%0"), origin };
        let fields = "leased 10.1.0.2,fd00::2 c0ffee %c3%a9%250 1766102400 7b0c 4026532281 \
                      /run/a%20b%0a shop/web-0";
        let text = lease.leased();
        assert_eq!(text, format!("{:08x} {fields}\n", crc32fast::hash(fields.as_bytes())));
        assert_eq!(Lease::parse(check(text.as_bytes()).unwrap()).unwrap(), lease);
        assert_eq!(lease.lessee.ifname(), "é%0");
        lease.origin.sticky = Some("shop/web 0".into());
        let text = lease.leased();
        assert!(text.ends_with(" shop/web-0 shop/web%200\n"), "{text}");
        assert_eq!(Lease::parse(check(text.as_bytes()).unwrap()).unwrap(), lease);
        lease.origin.link = Some(HostLink { name: "veth01234567".into(), netns: None });
        let text = lease.leased();
        assert!(text.ends_with(" shop/web%200 veth01234567\n"), "{text}");
        assert_eq!(Lease::parse(check(text.as_bytes()).unwrap()).unwrap(), lease);
        let sticky = lease.origin.sticky.take();
        let text = lease.leased();
        assert!(text.ends_with(" shop/web-0 - veth01234567\n"), "{text}");
        assert_eq!(Lease::parse(check(text.as_bytes()).unwrap()).unwrap(), lease);
        lease.origin.link = Some(HostLink { name: "veth01234567".into(), netns: Some(40) });
        let text = lease.leased();
        assert!(text.ends_with(" shop/web-0 - veth01234567 40\n"), "{text}");
        assert_eq!(Lease::parse(check(text.as_bytes()).unwrap()).unwrap(), lease);
        lease.origin.add = Some("17".into());
        let text = lease.leased();
        assert!(text.ends_with(" shop/web-0 - veth01234567 40 17\n"), "{text}");
        assert_eq!(Lease::parse(check(text.as_bytes()).unwrap()).unwrap(), lease);
        lease.origin.link = None;
        let text = lease.leased();
        assert!(text.ends_with(" shop/web-0 - - - 17\n"), "{text}");
        assert_eq!(Lease::parse(check(text.as_bytes()).unwrap()).unwrap(), lease);
        lease.origin.sticky = sticky;
        let text = lease.released(5);
        assert!(text.ends_with(" c0ffee %c3%a9%250 5 shop/web%200\n"), "{text}");
        let fields = check(text.as_bytes()).unwrap();
        assert_eq!(Lease::parse(fields).unwrap().origin.sticky.as_deref(), Some("shop/web 0"));
        let Some(Event::Released(brief)) = Event::parse(fields) else { panic!("{fields}") };
        assert_eq!((brief.lessee, brief.sticky), ("c0ffee %c3%a9%250", Some("shop/web%200")));
        assert!(tests::lease("10.1.0.2", "a").ends_with(" a eth0 0 - - - -\n"));
        for odd in ["-", "", "%", "%2", "a%zz", "%2d"] {
            assert_eq!(unescape(&escape(odd)), odd);
        }
        assert_eq!(lessee("a").without_interface(), Lessee::new("a", ""));
        assert!(Lessee::new("", "").is_unknown() && !Lessee::new("-", "").is_unknown());
    }

    #[test]
    fn knows_what_it_does_not_know() {
        for odd in ["leased", "leased 10.1.0.2", "leased 10.1.0.2 a", "released x ", "", "moved x"]
        {
            assert_eq!(Event::parse(odd), None, "{odd:?}");
        }
        assert_eq!(Event::parse("x-note of nothing"), Some(Event::Extension));
        assert_eq!(Event::parse("last 0 10.1.0.2"), Some(Event::Nothing));
    }
}
