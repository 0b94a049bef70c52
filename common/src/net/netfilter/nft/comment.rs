//! Comments. The kernel keeps them as opaque user data; what is in there is nft's own convention
//! (libnftnl's `udata.h`): type, length, value, where type 0 is a NUL-terminated comment on
//! tables, chains, rules and elements alike. So `nft list ruleset` shows ours.
//!
//! nft lists longer comments than it reads: `nft -f` reads a listing only if no comment in it is
//! longer than 128 bytes or has a double quote in it.

use crate::net::{Error, Result};

const COMMENT: u8 = 0;

/// The kernel takes 256 bytes of user data (`NFT_USERDATA_MAXLEN`), but counts those of an element,
/// with a length byte of its own, in a `u8`, and silently drops what is longer. So 255 for that
/// byte, type, length, text and NUL; and one limit for all objects.
const LONGEST: usize = 251;

pub(super) fn encode(comment: &str) -> Result<Vec<u8>> {
    let refused = |reason: String| Error::new("comment", reason);
    if comment.contains('\0') {
        return Err(refused("it cannot hold a NUL".to_owned()));
    }
    let length = u8::try_from(comment.len() + 1)
        .ok()
        .filter(|_| comment.len() <= LONGEST)
        .ok_or_else(|| refused(format!("{} bytes long, {LONGEST} is the most", comment.len())))?;
    let mut userdata = vec![COMMENT, length];
    userdata.extend(comment.as_bytes());
    userdata.push(0);
    Ok(userdata)
}

/// None if there is no comment, or none that is text. What follows the comment is nft's business.
pub(super) fn decode(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let (value, next) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        userdata = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_survives_the_way_there_and_back() {
        assert_eq!(encode("pod a").unwrap(), b"\x00\x06pod a\x00");
        for text in ["", "pod a", "näme", &"x".repeat(LONGEST)] {
            assert_eq!(decode(&encode(text).unwrap()).as_deref(), Some(text));
        }
    }

    #[test]
    fn too_long_is_a_sentence() {
        let error = encode(&"x".repeat(LONGEST + 1)).unwrap_err();
        assert!(error.to_string().ends_with("comment: 252 bytes long, 251 is the most"), "{error}");
        assert!(encode("a\0b").is_err());
    }

    #[test]
    fn foreign_user_data_is_skipped_and_never_trusted() {
        assert_eq!(decode(b"\x07\x02ab\x00\x02c\x00").as_deref(), Some("c"));
        for broken in [&b""[..], b"\x00", b"\x00\x09ab\x00", b"\x05\x02ab", b"\x00\x02\xff\x00"] {
            assert_eq!(decode(broken), None, "{broken:?}");
        }
    }
}
