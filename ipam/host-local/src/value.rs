//! Values of a configuration that are texts with a grammar.

use common::cni::Cidr;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::net::IpAddr;
use std::str::FromStr;

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

parsed_from_text!(RequestedIp);
parsed_from_text!(Excluded);

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
pub struct Excluded(pub IpNetwork);

impl FromStr for Excluded {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(ip.to_canonical().into()));
        }
        text.parse::<Cidr>().map(|cidr| Self(*cidr))
    }
}
