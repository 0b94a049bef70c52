//! The lines of a lease file, as they are written:
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

use common::Attachment;
use std::borrow::Borrow;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The first line of a file of our version.
pub const HEADER: &str = "girder leases 1\n";

/// An attachment as a file names it: container, blank, interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner(String);

impl From<&Attachment> for Owner {
    fn from(attachment: &Attachment) -> Self {
        let mut owner = escape(attachment.container.as_str());
        owner.push(' ');
        owner.push_str(&escape(attachment.ifname.as_str()));
        Self(owner)
    }
}

impl Owner {
    /// As in a line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Owner {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Who holds an address, and how it can be told later whether the holder is still alive.
#[derive(Debug, Default)]
pub struct Holder {
    /// Seconds since 1970.
    pub time: u64,
    /// A namespace lives no longer than the kernel.
    pub boot: Option<String>,
    /// A path may be used again, an inode with it hardly so.
    pub inode: Option<u64>,
    /// Path of the namespace.
    pub netns: String,
    /// Namespace and name of the pod, if the runtime told.
    pub pod: Option<(String, String)>,
}

/// The line of a new lease.
pub fn leased(addresses: &[IpAddr], owner: &Owner, holder: &Holder) -> String {
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

/// Any line: its checksum, and what it says.
pub fn line(fields: &str) -> String {
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
        assert!(lease("10.1.0.2", "a").ends_with(" a eth0 0 - - - -\n"));
        assert_eq!(escape("-"), "%2d");
    }
}
