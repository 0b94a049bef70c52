//! Durations, as configurations write them.

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

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
