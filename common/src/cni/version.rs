//! The seven versions of the specification, and results converted from and to each of them.

use super::ipam::empty_is_none;
use super::json;
use super::{Code, Error, Ip, Result, Route, Success};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::{self, Display};
use std::str::FromStr;

/// A supported version of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1.0
    V0_1_0,
    /// 0.2.0: the VERSION verb
    V0_2_0,
    /// 0.3.0: chains, interfaces, several addresses
    V0_3_0,
    /// 0.3.1: 0.3.0 with a typing error corrected
    V0_3_1,
    /// 0.4.0: CHECK, `prevResult` for DEL
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0: GC, STATUS
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// As in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let supported = Self::ALL.map(|version| format!("{:?}", version.as_str())).join(" ");
            Error::new(Code::IncompatibleVersion, "incompatible CNI versions")
                .details(format!("config is {text:?}, plugin supports [{supported}]"))
        })
    }
}

/// `ip4` and `ip6` of 0.1.0 and 0.2.0.
#[derive(Deserialize)]
struct LegacyIp {
    ip: super::Cidr,
    #[serde(default, deserialize_with = "empty_is_none")]
    gateway: Option<std::net::IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct LegacySuccess {
    ip4: Option<LegacyIp>,
    ip6: Option<LegacyIp>,
    #[serde(default)]
    dns: super::Dns,
}

impl From<LegacySuccess> for Success {
    fn from(legacy: LegacySuccess) -> Self {
        let mut success = Self { dns: legacy.dns, ..Self::default() };
        for ip in [legacy.ip4, legacy.ip6].into_iter().flatten() {
            success.ips.push(Ip { address: ip.ip, gateway: ip.gateway, interface: None });
            success.routes.extend(ip.routes);
        }
        success
    }
}

impl Success {
    /// Reads a result of any version; `default` is for one that does not name its own.
    ///
    /// # Errors
    /// Code 1 for an unknown version, 6 for a shape that is not that version's, as that of an error.
    pub fn decode(value: &Value, default: Version) -> Result<Self> {
        if let Ok(error) = json::from_value::<Error>(value) {
            return Err(Error::new(Code::Decode, format!("it is an error, no result: {error}")));
        }
        let version = match value.get("cniVersion") {
            None | Some(Value::Null) => default,
            Some(Value::String(version)) if version.is_empty() => default,
            Some(Value::String(version)) => version.parse().map_err(|_| {
                let msg = format!("unsupported CNI result version {version:?}");
                Error::new(Code::IncompatibleVersion, msg)
            })?,
            Some(_) => return Err(Error::new(Code::Decode, "cniVersion: must be a string")),
        };
        let decoded = if version <= Version::V0_2_0 {
            json::from_value::<LegacySuccess>(value).map(Self::from)
        } else {
            json::from_value(value)
        };
        decoded.map_err(|error| Error::new(Code::Decode, format!("not a CNI result: {error}")))
    }

    /// The result in the shape of `version`.
    ///
    /// # Errors
    /// 0.1.0 and 0.2.0 cannot express a result without addresses.
    pub fn encode(&self, version: Version) -> Result<Value> {
        let mut value = if version <= Version::V0_2_0 { self.legacy()? } else { self.to_value()? };
        value["cniVersion"] = version.as_str().into();
        if version >= Version::V1_0_0 {
            return Ok(value);
        }
        // Up to 0.4.0 the specification requires the key.
        if value.get("dns").is_none() {
            value["dns"] = json!({});
        }
        let ips = value.get_mut("ips").and_then(Value::as_array_mut);
        for (written, ip) in ips.into_iter().flatten().zip(&self.ips) {
            written["version"] = ip.address.ip_version().into();
        }
        let interfaces = value.get_mut("interfaces").and_then(Value::as_array_mut);
        for interface in interfaces.into_iter().flatten().filter_map(Value::as_object_mut) {
            interface.retain(|key, _| ["name", "mac", "sandbox"].contains(&key.as_str()));
        }
        Ok(value)
    }

    fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| Error::internal(error.to_string()))
    }

    /// The first address of each family with the routes of its family: these versions have no place
    /// for more.
    fn legacy(&self) -> Result<Value> {
        if self.ips.is_empty() {
            return Err(Error::config("cannot convert: no valid IP addresses").details(
                "cniVersion 0.1.0 and 0.2.0 cannot express a network without addresses; \
                 use 0.3.0 or later",
            ));
        }
        let mut value = json!({ "dns": self.dns });
        for (key, version) in [("ip4", "4"), ("ip6", "6")] {
            let is_of = |address: &super::Cidr| address.ip_version() == version;
            let Some(ip) = self.ips.iter().find(|ip| is_of(&ip.address)) else { continue };
            let routes = self.routes.iter().filter(|route| is_of(&route.dst));
            let routes: Vec<_> = routes.map(|route| Route::new(route.dst, route.gw)).collect();
            let mut entry = json!({ "ip": ip.address });
            if let Some(gateway) = ip.gateway {
                entry["gateway"] = json!(gateway);
            }
            if !routes.is_empty() {
                entry["routes"] = json!(routes);
            }
            value[key] = entry;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Value {
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mtu": 1400, "sandbox": "/run/netns/a", "pciID": "x"}
            ],
            "ips": [
                {"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1},
                {"address": "fd00::2/64", "interface": 0}
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300, "table": 0, "scope": 0},
                {"dst": "::/0"}
            ],
            "dns": {"nameservers": ["10.1.0.53"]}
        })
    }

    #[test]
    fn the_newest_version_is_lossless() {
        let success = Success::decode(&full(), Version::V0_1_0).unwrap();
        assert_eq!(success.encode(Version::V1_1_0).unwrap(), full());
    }

    #[test]
    fn each_version_reads_its_own_and_says_what_it_is() {
        let success = Success::decode(&full(), Version::V1_1_0).unwrap();
        for version in Version::ALL {
            let value = success.encode(version).unwrap();
            assert_eq!(value["cniVersion"], version.as_str());
            assert_eq!(value.get("ip4").is_some(), version <= Version::V0_2_0);
            assert_eq!(value["ips"][0].get("version").is_some(), {
                Version::V0_2_0 < version && version < Version::V1_0_0
            });
            let again = Success::decode(&value, Version::V1_1_0).unwrap();
            assert_eq!(again.ips[0].address, success.ips[0].address);
            assert_eq!(again.ips[1].address, success.ips[1].address);
            assert_eq!(again.routes.len(), 2);
            assert_eq!(again.dns, success.dns);
            assert_eq!(again.encode(version).unwrap(), value, "{version}");
        }
    }

    #[test]
    fn old_versions_drop_what_they_cannot_say() {
        let success = Success::decode(&full(), Version::V1_1_0).unwrap();
        let value = success.encode(Version::V0_4_0).unwrap();
        assert_eq!(value["interfaces"][1], json!({"name": "eth0", "sandbox": "/run/netns/a"}));
        let error = Success::default().encode(Version::V0_2_0).unwrap_err();
        assert!(error.to_string().starts_with("cannot convert: no valid IP addresses"));
        assert_eq!(
            Success::default().encode(Version::V0_4_0).unwrap(),
            json!({"cniVersion": "0.4.0", "dns": {}})
        );
        assert_eq!(
            Success::default().encode(Version::V1_0_0).unwrap(),
            json!({"cniVersion": "1.0.0"})
        );
    }

    #[test]
    fn unknown_versions_are_refused() {
        let error = Success::decode(&json!({"cniVersion": "9.9.9"}), Version::V1_1_0).unwrap_err();
        assert_eq!(error.code(), Code::IncompatibleVersion);
        let refused = json!({"cniVersion": "1.1.0", "code": 11, "msg": "later"});
        let error = Success::decode(&refused, Version::V1_1_0).unwrap_err();
        assert_eq!(error.to_string(), "it is an error, no result: later");
        assert!("1.1".parse::<Version>().is_err());
    }
}
