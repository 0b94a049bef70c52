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

    /// Whether the owner that `text` names is an attachment to `network`.
    pub fn is_of(text: &str, network: &NetworkName) -> bool {
        text.split(' ').next() == Some(&*network.label()) && text.split(' ').count() == 3
    }

    /// The network, as [`NetworkName::label`].
    pub fn network(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// A number that stands for this owner's network where there is room for no more. Never 0.
    pub fn network_mark(&self) -> u32 {
        mark(self.network())
    }

    /// 32 bits that stand for this owner, in hexadecimal, where there is room for no more.
    pub fn tag(&self) -> String {
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
        assert_eq!(owner.tag(), "814c47b8");
        assert_eq!(owner.network_mark(), short.mark());
        assert!(Owner::is_of("pods c1 eth0", &short) && !Owner::is_of("pods2 c1 eth0", &short));
        assert!(!Owner::is_of("pods of mine", &long) && !Owner::is_of("pods", &short));
        let owner = attachment(&"c".repeat(300)).owner(&long);
        assert!(owner.as_str().len() <= 121, "{owner:?}");
        assert!(Owner::is_of(owner.as_str(), &long));
        assert_eq!(owner.network_mark(), long.mark());
    }
}
