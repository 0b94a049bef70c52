//! Whose an object in the kernel is, as it is written beside it.

use super::{Attachment, NetworkName};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

impl Attachment {
    /// Who owns what ADD makes in the kernel, as written beside it.
    pub fn owner(&self, network: &NetworkName) -> Owner {
        let network = abbreviate(network.as_str(), NETWORK_LENGTH);
        let container = abbreviate(self.container.as_str(), CONTAINER_LENGTH);
        Owner(format!("{network} {container} {}", self.ifname))
    }
}

/// Longest name of a network in an [`Owner`], in bytes.
const NETWORK_LENGTH: usize = 40;

/// Longest ID of a container in an [`Owner`], in bytes: that of every runtime.
const CONTAINER_LENGTH: usize = 64;

/// Network, container and interface in one line, none of which can hold a blank. It is written
/// beside whatever ADD makes in the kernel, so that DEL and GC find it there without being told
/// anything else. At most 121 bytes: nft(8) reads back comments of up to 128.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(String);

impl Owner {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is written beside an object: the owner, and perhaps a note after it.
    pub fn split(text: &str) -> (&str, Option<&str>) {
        match text.match_indices(' ').nth(2) {
            Some((at, _)) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        }
    }

    /// Whether it is this owner that `text`, with a note or without, is about.
    pub fn is_in(&self, text: &str) -> bool {
        Self::split(text).0 == self.0
    }

    /// Whether `text` names any owner at all.
    pub fn is_any(text: &str) -> bool {
        Self::split(text).0.split(' ').filter(|word| !word.is_empty()).count() == 3
    }

    /// The owner that a text names, as it is written beside something: other words may follow.
    /// None if there are no three words, or if they could not be an owner's.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (network, container, ifname) = (words.next()?, words.next()?, words.next()?);
        let network: NetworkName = network.parse().ok()?;
        let container = container.parse().ok()?;
        let owner = Attachment { container, ifname: ifname.parse().ok()? }.owner(&network);
        owner.is_in(text).then_some(owner)
    }

    /// An attachment that has this owner in the same network. Its container's ID is the true one,
    /// unless that is too long to be written beside something.
    pub fn attachment(&self) -> Option<Attachment> {
        let mut words = self.0.split(' ').skip(1);
        let (container, ifname) = (words.next()?, words.next()?);
        Some(Attachment { container: container.parse().ok()?, ifname: ifname.parse().ok()? })
    }

    /// Whether the owner that `text` names is an attachment to `network`.
    pub fn is_of(text: &str, network: &NetworkName) -> bool {
        Self::is_any(text) && text.split(' ').next() == Some(&*network.label())
    }

    /// The network, as [`NetworkName::label`].
    pub fn network(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// A number that stands for this owner's network where there is room for no more. Never 0.
    pub fn network_mark(&self) -> u32 {
        mark(self.network())
    }

    /// 44 bits that stand for this owner, in hexadecimal: with "veth" before them, a link's name.
    pub fn tag(&self) -> String {
        let mut tag = hex(&Sha256::digest(&self.0)[..6]);
        tag.truncate(11);
        tag
    }

    /// The 32 bits that stood for it before there were 44 of them.
    pub fn former_tag(&self) -> String {
        hex(&Sha256::digest(&self.0)[..4])
    }
}

impl NetworkName {
    /// As it is written beside what belongs to a network.
    pub fn label(&self) -> Cow<'_, str> {
        abbreviate(self.as_str(), NETWORK_LENGTH)
    }

    /// As [`Owner::network_mark`] of every attachment to it.
    pub fn mark(&self) -> u32 {
        mark(&self.label())
    }
}

fn mark(network: &str) -> u32 {
    let digest = Sha256::digest(network);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) | 1
}

/// A name that is too long to be written beside something stands there as its hash.
fn abbreviate(name: &str, length: usize) -> Cow<'_, str> {
    if name.len() <= length {
        return name.into();
    }
    format!("sha256-{}", hex(&Sha256::digest(name)[..16])).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        assert_eq!(owner.network_mark(), short.mark());
        assert!(Owner::is_of("pods c1 eth0", &short) && !Owner::is_of("pods2 c1 eth0", &short));
        assert!(Owner::is_of("pods c1 eth0 a note", &short) && !Owner::is_of("pods", &short));
        for text in ["pods c1 eth0", "pods c1 eth0 1700000000+60", "pods c1 eth0 veth"] {
            assert!(owner.is_in(text) && Owner::read(text).as_ref() == Some(&owner), "{text}");
        }
        for other in ["pods c1 eth01", "pods c1", "pods c12 eth0", "", "uplink to x/y"] {
            assert!(!owner.is_in(other) && Owner::read(other).as_ref() != Some(&owner), "{other}");
        }
        assert_eq!(owner.attachment(), Some(attachment("c1")));
        let owner = attachment(&"c".repeat(300)).owner(&long);
        assert_eq!(Owner::read(owner.as_str()).as_ref(), Some(&owner));
        let alike = owner.attachment().map(|alike| alike.owner(&long));
        assert_eq!(alike, Some(owner.clone()));
        assert!(owner.as_str().len() <= 121, "{owner:?}");
        assert!(Owner::is_of(owner.as_str(), &long));
        assert_eq!(owner.network_mark(), long.mark());
    }
}
