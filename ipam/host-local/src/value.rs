//! Values of a configuration that are texts with a grammar.

use common::cni::Cidr;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// A value of JSON that is a text with a grammar.
macro_rules! parsed_from_text {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

parsed_from_text!(OptionalIp);
parsed_from_text!(RequestedIp);
parsed_from_text!(Block);

/// An address; an empty text is none, as templates leave it behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionalIp(pub Option<IpAddr>);

impl FromStr for OptionalIp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let ip: IpAddr = text.parse().map_err(|_| format!("invalid IP address: {text}"))?;
        Ok(Self(Some(ip.to_canonical())))
    }
}

/// An address whose prefix length may be given, and means nothing.
#[derive(Clone, Copy, Debug)]
pub struct RequestedIp(pub IpAddr);

impl FromStr for RequestedIp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ip = match text.parse::<Cidr>() {
            Ok(cidr) => Some(cidr.ip()),
            Err(_) => text.parse().ok(),
        };
        ip.map(|ip: IpAddr| Self(ip.to_canonical())).ok_or_else(|| match text {
            "" => "cannot understand ip: it is empty".to_owned(),
            _ => format!("invalid IP address {text}"),
        })
    }
}

/// A network or a single address.
#[derive(Clone, Debug)]
pub struct Block(pub IpNetwork);

impl FromStr for Block {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(ip.to_canonical().into()));
        }
        text.parse::<Cidr>().map(|cidr| Self(*cidr))
    }
}

/// Seconds as a number, or a number with its unit: `2`, `0.5`, `"500ms"`, `"10s"`, `"1m"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeout(pub Duration);

impl Timeout {
    fn from_seconds(seconds: f64) -> Option<Self> {
        Duration::try_from_secs_f64(seconds).ok().map(Self)
    }
}

impl FromStr for Timeout {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit);
        let scale = match unit {
            "ms" => Some(0.001),
            "s" => Some(1.0),
            "m" => Some(60.0),
            _ => None,
        };
        let seconds = scale.zip(number.parse::<f64>().ok()).map(|(scale, number)| scale * number);
        seconds
            .and_then(Self::from_seconds)
            .ok_or_else(|| format!("invalid duration {text:?} (as \"500ms\", \"10s\", \"1m\")"))
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Timeout;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds that is not negative, or a text as \"10s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timeout, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Timeout, E> {
                Ok(Timeout(Duration::from_secs(seconds)))
            }

            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Timeout, E> {
                let invalid = || E::custom(format!("invalid duration of {seconds} seconds"));
                Timeout::from_seconds(seconds).ok_or_else(invalid)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
