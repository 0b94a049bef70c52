//! The owner of an object in the kernel, as the object's alias or comment names it.

use crate::cni::{Add, Attachment, Check, Del, IfName, NetworkName};
use sha2::{Digest as _, Sha256, Sha512};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

impl Attachment {
    /// The owner of what the ADD of this attachment makes in the kernel.
    pub fn owner(&self, network: &NetworkName) -> Owner {
        let container = abbreviate(self.container.as_str(), CONTAINER_LENGTH);
        let text = format!("{} {container} {}", network.label(), self.ifname);
        Owner { network: network.clone(), attachment: self.clone(), text }
    }
}

impl Add<'_> {
    /// Who owns what this ADD makes.
    pub fn owner(&self) -> Owner {
        self.attachment.owner(&self.call.network.name)
    }
}

impl Check<'_> {
    /// Who owns what is checked.
    pub fn owner(&self) -> Owner {
        self.attachment.owner(&self.call.network.name)
    }
}

impl Del<'_> {
    /// Who owns what is to be deleted.
    pub fn owner(&self) -> Owner {
        self.attachment.owner(&self.call.network.name)
    }
}

/// Longest name of a network in an [`Owner`], in bytes.
const NETWORK_LENGTH: usize = 40;

/// Longest ID of a container in an [`Owner`], in bytes: runtimes use 64 hexadecimal digits.
const CONTAINER_LENGTH: usize = 64;

/// An attachment to a network, as the owner of what ADD makes in the kernel. The alias or comment of
/// each such object is network, container and interface, separated by blanks, which none of them can
/// contain; so DEL and GC find the object without the result of ADD and without the namespace. It
/// has at most 121 bytes, because nft(8) reads back comments of up to 128. Two owners are equal if
/// they are written alike.
#[derive(Clone, Debug)]
pub struct Owner {
    network: NetworkName,
    attachment: Attachment,
    text: String,
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Ord for Owner {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for Owner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Owner {
    /// The text, as `pods c1 eth0`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The network. In an owner that was [read](Self::read), a name that was too long is its hash.
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// The attachment, with the same exception for the container's ID.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The interface in the container.
    pub fn ifname(&self) -> &IfName {
        &self.attachment.ifname
    }

    /// Splits an alias or comment into the owner and the note that may follow it.
    pub(crate) fn split(text: &str) -> (&str, Option<&str>) {
        match text.match_indices(' ').nth(2) {
            Some((at, _)) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        }
    }

    /// Whether `text`, an owner with or without a note, names this owner.
    pub fn is_in(&self, text: &str) -> bool {
        Self::split(text).0 == self.text
    }

    /// Whether `text` names the same container and interface, of any network: an administrator may
    /// rename a network, but no container has two interfaces of one name.
    pub fn is_same_interface(&self, text: &str) -> bool {
        let interface = |text: &'_ str| text.split_once(' ').map(|(_, rest)| rest.to_owned());
        interface(Self::split(text).0) == interface(&self.text)
    }

    /// Whether `text` names another interface of the same container.
    pub fn is_sibling(&self, text: &str) -> bool {
        let container = |text: &'_ str| text.split(' ').nth(1).map(str::to_owned);
        container(text) == container(&self.text) && !self.is_same_interface(text)
    }

    /// Whether `text` has the form of an owner, with or without a note.
    pub(crate) fn is_any(text: &str) -> bool {
        Self::split(text).0.split(' ').filter(|word| !word.is_empty()).count() == 3
    }

    /// The owner that an alias or comment names; a note may follow it. `None` if it does not begin with
    /// three words that an owner could consist of.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (network, container, ifname) = (words.next()?, words.next()?, words.next()?);
        let network: NetworkName = network.parse().ok()?;
        let container = container.parse().ok()?;
        let owner = Attachment { container, ifname: ifname.parse().ok()? }.owner(&network);
        owner.is_in(text).then_some(owner)
    }

    /// Whether the owner that `text` names is an attachment to `network`.
    pub fn is_of(text: &str, network: &NetworkName) -> bool {
        Self::is_any(text) && text.split(' ').next() == Some(&*network.label())
    }

    /// The network, as [`NetworkName::label`].
    pub fn label(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// A hash of the network's name, never 0: the group of a link that has no alias yet.
    pub(crate) fn network_group(&self) -> u32 {
        group(self.label())
    }

    /// 32 bits of the owner's hash, never 0: for objects of the kernel that have no room for a text.
    pub fn number(&self) -> u32 {
        group(&self.text)
    }

    /// 44 bits of the owner's hash, in hexadecimal: with "veth" before them they fill a link's name.
    pub(crate) fn tag(&self) -> String {
        let mut tag = digest(&self.text, 6);
        tag.truncate(11);
        tag
    }

    /// The 32 bits of the hash that earlier versions used.
    pub(crate) fn former_tag(&self) -> String {
        digest(&self.text, 4)
    }
}

impl NetworkName {
    /// The name as aliases and comments have it: a long one is replaced by its hash.
    pub fn label(&self) -> Cow<'_, str> {
        abbreviate(self.as_str(), NETWORK_LENGTH)
    }

    /// A hash of the name, never 0: the group of a link of this network that has no alias yet.
    pub fn group(&self) -> u32 {
        group(&self.label())
    }
}

fn group(network: &str) -> u32 {
    let digest = Sha256::digest(network);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) | 1
}

/// The name, or its hash if it is too long.
fn abbreviate(name: &str, length: usize) -> Cow<'_, str> {
    if name.len() <= length {
        return name.into();
    }
    format!("sha256-{}", digest(name, 16)).into()
}

/// The first digits of a SHA-512 in hexadecimal, by which the Go plugins name things after several
/// words, which they join without anything between them.
pub fn go_hash(words: &[&str], digits: usize) -> String {
    let digest = Sha512::digest(words.concat());
    let mut text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

/// The first bytes of a SHA-256 in hexadecimal.
pub fn digest(text: impl AsRef<[u8]>, bytes: usize) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_fits_beside_anything() {
        let attachment = |container: &str| Attachment {
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let (short, long): (NetworkName, NetworkName) =
            ("pods".parse().unwrap(), "n".repeat(255).parse().unwrap());
        let owner = attachment("c1").owner(&short);
        assert_eq!(owner.as_str(), "pods c1 eth0");
        assert_eq!((owner.tag().len(), owner.former_tag().as_str()), (11, "814c47b8"));
        assert!(owner.tag().starts_with("814c47b8"));
        assert_eq!(Owner::split("pods c1 eth0 a note"), ("pods c1 eth0", Some("a note")));
        assert!(owner.is_in("pods c1 eth0") && owner.is_in("pods c1 eth0 a note"));
        assert!(!owner.is_in("pods c1 eth01") && !owner.is_in("other c1 eth0"));
        assert!(Owner::is_any("a b c") && !Owner::is_any("a b ") && !Owner::is_any("uplink"));
        assert_eq!(owner.network_group(), short.group());
        assert!(Owner::is_of("pods c1 eth0", &short) && !Owner::is_of("pods2 c1 eth0", &short));
        assert!(Owner::is_of("pods c1 eth0 a note", &short) && !Owner::is_of("pods", &short));
        for text in ["pods c1 eth0", "pods c1 eth0 1700000000+60", "pods c1 eth0 veth"] {
            assert!(owner.is_in(text) && Owner::read(text).as_ref() == Some(&owner), "{text}");
        }
        for other in ["pods c1 eth01", "pods c1", "pods c12 eth0", "", "uplink to x/y"] {
            assert!(!owner.is_in(other) && Owner::read(other).as_ref() != Some(&owner), "{other}");
        }
        assert!(owner.is_same_interface("other c1 eth0 veth"));
        assert!(!owner.is_same_interface("pods c2 eth0") && !owner.is_same_interface(""));
        assert!(owner.is_sibling("other c1 eth1 veth") && !owner.is_sibling("other c1 eth0"));
        assert!(!owner.is_sibling("pods c2 eth1") && !owner.is_sibling(""));
        assert_eq!(Owner::read("pods c1 eth0").unwrap().attachment(), &attachment("c1"));
        let owner = attachment(&"c".repeat(300)).owner(&long);
        assert_eq!(Owner::read(owner.as_str()).as_ref(), Some(&owner));
        let read = Owner::read(owner.as_str()).unwrap();
        assert_eq!(read.attachment().owner(read.network()), owner);
        assert!(owner.as_str().len() <= 121, "{owner:?}");
        assert!(Owner::is_of(owner.as_str(), &long));
        assert_eq!(owner.network_group(), long.group());
    }
}
