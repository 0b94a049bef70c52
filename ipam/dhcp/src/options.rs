//! Which options a configuration asks of the server, and which it tells it.

use common::{Error, Result};
use serde::{Deserialize, Serialize};

/// Subnet mask, router, host name, vendor class, client identifier, user class (RFC 2132, RFC 3004).
const NAMES: [(&str, u8); 6] = [
    ("subnet-mask", SUBNET_MASK),
    ("routers", ROUTERS),
    ("host-name", 12),
    ("vendor-class-identifier", 60),
    ("dhcp-client-identifier", CLIENT_IDENTIFIER),
    ("user-class", 77),
];

pub(crate) const SUBNET_MASK: u8 = 1;
pub(crate) const ROUTERS: u8 = 3;
pub(crate) const STATIC_ROUTES: u8 = 33;
pub(crate) const LEASE_TIME: u8 = 51;
pub(crate) const OVERLOAD: u8 = 52;
pub(crate) const MESSAGE_TYPE: u8 = 53;
pub(crate) const SERVER: u8 = 54;
pub(crate) const RENEWAL_TIME: u8 = 58;
pub(crate) const REBINDING_TIME: u8 = 59;
pub(crate) const CLIENT_IDENTIFIER: u8 = 61;
pub(crate) const CLASSLESS_ROUTES: u8 = 121;

/// What the Go plugin's library asks for when it is told to ask for nothing: 1, 3, domain, name server.
const FALLBACK: [u8; 4] = [SUBNET_MASK, ROUTERS, 15, 6];

/// An entry of `request`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Requested {
    option: String,
    skip_default: bool,
}

/// An entry of `provide`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Provided {
    option: String,
    value: Option<String>,
    from_arg: Option<String>,
}

/// The options beside those of the protocol itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The codes that are asked for, in order of preference (option 55).
    pub request: Vec<u8>,
    /// What is told to the server: codes and values.
    pub provide: Vec<(u8, Vec<u8>)>,
}

impl Options {
    /// # Errors
    /// Code 7 for an option that does not exist, or a value that is too long.
    pub(crate) fn new(request: &[Requested], provide: &[Provided], args: &str) -> Result<Self> {
        let mut codes = Vec::new();
        let is_named = |wanted: &&Requested| !wanted.option.is_empty();
        for wanted in request.iter().filter(is_named) {
            codes.push(code(&wanted.option)?);
        }
        if !request.iter().any(|wanted| wanted.skip_default) {
            codes.extend([ROUTERS, SUBNET_MASK]);
        }
        if codes.is_empty() {
            codes.extend(FALLBACK);
        }
        let mut seen = Vec::new();
        codes.retain(|code| {
            let is_new = !seen.contains(code);
            seen.push(*code);
            is_new
        });
        let mut values = Vec::new();
        for given in provide {
            let own = code(&given.option)?;
            let from_arg = given.from_arg.as_deref().and_then(|key| argument(args, key));
            let Some(value) = from_arg.or(given.value.as_deref()) else { continue };
            if value.len() > 255 {
                let (option, length) = (&given.option, value.len());
                return Err(Error::config(format!(
                    "the value of option {option:?} has {length} bytes, and 255 are the limit"
                )));
            }
            values.push((own, value.as_bytes().to_vec()));
        }
        Ok(Self { request: codes, provide: values })
    }
}

/// The code of an option, which is named, or numbered by a text.
fn code(option: &str) -> Result<u8> {
    let named = NAMES.iter().find(|(name, _)| *name == option).map(|(_, code)| *code);
    named.or_else(|| option.parse().ok()).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        Error::config(format!("cannot parse option {option:?}"))
            .details(format!("there are \"0\" to \"255\", {}", names.join(", ")))
    })
}

/// The value of a key in `CNI_ARGS`, of which other plugins may have keys that nobody here knows.
fn argument<'a>(args: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(option: &str, skip_default: bool) -> Requested {
        Requested { option: option.into(), skip_default }
    }

    fn request(entries: &[Requested]) -> Vec<u8> {
        Options::new(entries, &[], "").unwrap().request
    }

    #[test]
    fn options_have_names_and_numbers() {
        assert_eq!(code("host-name").unwrap(), 12);
        assert_eq!(code("12").unwrap(), 12);
        assert!(code("hostname").unwrap_err().to_string().contains("host-name"));
        assert!(code("256").is_err() && code("").is_err());
    }

    #[test]
    fn routers_and_mask_are_asked_for_unless_told_otherwise() {
        assert_eq!(request(&[]), [3, 1]);
        assert_eq!(request(&[requested("121", false), requested("3", false)]), [121, 3, 1]);
        assert_eq!(request(&[requested("1", true), requested("", false)]), [1]);
        assert_eq!(request(&[requested("", true)]), FALLBACK);
    }

    #[test]
    fn an_argument_wins_over_a_value() {
        let provided = |value: Option<&str>| Provided {
            option: "12".into(),
            value: value.map(Into::into),
            from_arg: Some("K8S_POD_NAME".into()),
        };
        let provide = |value, args| Options::new(&[], &[provided(value)], args).unwrap().provide;
        assert_eq!(provide(Some("fixed"), "A=1;K8S_POD_NAME=web=1"), [(12, b"web=1".to_vec())]);
        assert_eq!(provide(Some("fixed"), "A=1"), [(12, b"fixed".to_vec())]);
        assert_eq!(provide(None, ""), []);
        let long = "x".repeat(256);
        assert!(Options::new(&[], &[provided(Some(&long))], "").is_err());
    }
}
