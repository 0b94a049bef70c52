//! What each plugin understands, as a table. A plugin that is not in it is held to the common keys
//! only.

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    /// A whole number between two bounds.
    Int(i64, i64),
    Text,
    /// One of these; the empty text chooses the default.
    Word(&'static [&'static str]),
    /// Yes, no, or one of these.
    Switch(&'static [&'static str]),
    /// The empty text is the same as absent.
    Ip,
    Cidr,
    List(&'static Kind),
    Object(&'static [Key]),
    /// Any keys.
    Map(&'static Kind),
    Any,
}

/// A key and what it holds.
pub(super) type Key = (&'static str, Kind);

/// What a plugin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Makes an interface; `true` when it cannot do without addresses.
    Interface(bool),
    /// Changes what a plugin before it has made.
    Chained,
    /// Takes part in either place.
    Anywhere,
    /// Is named in `ipam`, not in the chain.
    Ipam,
}

#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) kind: &'static str,
    pub(super) role: Role,
    pub(super) keys: &'static [Key],
    /// What of the runtime's data it takes.
    pub(super) capabilities: &'static [&'static str],
}

/// The plugin's row, if it is one of those that we know.
pub(super) fn plugin(kind: &str) -> Option<&'static Plugin> {
    PLUGINS.iter().find(|plugin| plugin.kind == kind)
}

const INT: Kind = Kind::Int(i64::MIN, i64::MAX);
const U32: Kind = Kind::Int(0, 4_294_967_295);
const MTU: Key = ("mtu", Kind::Int(0, 65_535));
const TEXTS: Kind = Kind::List(&Kind::Text);
const VLAN_ID: Kind = Kind::Int(1, 4094);
const MASQUERADE_BACKEND: Kind = Kind::Word(&["iptables", "nftables"]);
const IN_CONTAINER: Key = ("linkInContainer", Kind::Bool);

const DNS: Key = (
    "dns",
    Kind::Object(&[
        ("nameservers", TEXTS),
        ("domain", Kind::Text),
        ("search", TEXTS),
        ("options", TEXTS),
    ]),
);

const ROUTES: Key = (
    "routes",
    Kind::List(&Kind::Object(&[
        ("dst", Kind::Cidr),
        ("gw", Kind::Ip),
        ("mtu", U32),
        ("advmss", U32),
        ("priority", INT),
        ("table", U32),
        ("scope", Kind::Int(0, 255)),
    ])),
);

const RANGE: Kind = Kind::Object(&[
    ("subnet", Kind::Cidr),
    ("rangeStart", Kind::Ip),
    ("rangeEnd", Kind::Ip),
    ("gateway", Kind::Ip),
    ("exclude", TEXTS),
]);

/// Keys of a list.
pub(super) const LIST: &[Key] = &[
    ("cniVersion", Kind::Text),
    ("cniVersions", TEXTS),
    ("name", Kind::Text),
    ("disableCheck", Kind::Any),
    ("disableGC", Kind::Any),
    ("loadOnlyInlinedPlugins", Kind::Any),
    ("plugins", Kind::Any),
];

/// Keys that every plugin may have. Those of the runtime's side are its own affair.
pub(super) const COMMON: &[Key] = &[
    ("type", Kind::Text),
    ("name", Kind::Text),
    ("cniVersion", Kind::Text),
    ("capabilities", Kind::Map(&Kind::Bool)),
    ("args", Kind::Map(&Kind::Any)),
    ("runtimeConfig", Kind::Map(&Kind::Any)),
    ("prevResult", Kind::Map(&Kind::Any)),
    DNS,
];

/// Addresses; its own keys depend on its type.
pub(super) const IPAM: Key = ("ipam", Kind::Map(&Kind::Any));

const PLUGINS: &[Plugin] = &[
    Plugin { kind: "loopback", role: Role::Anywhere, keys: &[], capabilities: &[] },
    Plugin { kind: "bridge", role: Role::Interface(false), keys: BRIDGE, capabilities: &["mac"] },
    Plugin {
        kind: "ptp",
        role: Role::Interface(true),
        keys: &[("ipMasq", Kind::Bool), ("ipMasqBackend", MASQUERADE_BACKEND), MTU],
        capabilities: &[],
    },
    Plugin {
        kind: "macvlan",
        role: Role::Interface(false),
        keys: &[
            ("master", Kind::Text),
            ("mode", Kind::Word(&["bridge", "private", "vepa", "passthru"])),
            ("mac", Kind::Text),
            ("bcqueuelen", U32),
            MTU,
            IN_CONTAINER,
        ],
        capabilities: &["mac"],
    },
    Plugin {
        kind: "ipvlan",
        role: Role::Interface(false),
        keys: &[
            ("master", Kind::Text),
            ("mode", Kind::Word(&["l2", "l3", "l3s"])),
            MTU,
            IN_CONTAINER,
        ],
        capabilities: &[],
    },
    Plugin {
        kind: "vlan",
        role: Role::Interface(true),
        keys: &[("master", Kind::Text), ("vlanId", Kind::Int(0, 4094)), MTU, IN_CONTAINER],
        capabilities: &[],
    },
    Plugin {
        kind: "host-device",
        role: Role::Interface(false),
        keys: &[
            ("device", Kind::Text),
            ("hwaddr", Kind::Text),
            ("kernelpath", Kind::Text),
            ("pciBusID", Kind::Text),
            ("DPDKMode", Kind::Bool),
        ],
        capabilities: &["deviceID"],
    },
    Plugin { kind: "dummy", role: Role::Interface(true), keys: &[], capabilities: &[] },
    Plugin {
        kind: "tap",
        role: Role::Interface(false),
        keys: &[
            ("multiQueue", Kind::Bool),
            ("mac", Kind::Text),
            ("owner", U32),
            ("group", U32),
            ("selinuxContext", Kind::Text),
            ("bridge", Kind::Text),
            MTU,
        ],
        capabilities: &["mac"],
    },
    Plugin {
        kind: "portmap",
        role: Role::Chained,
        keys: &[
            ("backend", MASQUERADE_BACKEND),
            ("snat", Kind::Bool),
            ("masqAll", Kind::Bool),
            ("markMasqBit", Kind::Int(0, 31)),
            ("externalSetMarkChain", Kind::Text),
            ("conditionsV4", TEXTS),
            ("conditionsV6", TEXTS),
        ],
        capabilities: &["portMappings"],
    },
    Plugin {
        kind: "firewall",
        role: Role::Chained,
        keys: &[
            ("backend", Kind::Word(&["iptables", "nftables", "firewalld"])),
            ("iptablesAdminChainName", Kind::Text),
            ("firewalldZone", Kind::Text),
            ("ingressPolicy", Kind::Word(&["open", "same-bridge", "isolated"])),
        ],
        capabilities: &[],
    },
    Plugin {
        kind: "tuning",
        role: Role::Chained,
        keys: &[
            ("sysctl", Kind::Map(&Kind::Text)),
            ("mac", Kind::Text),
            ("promisc", Kind::Bool),
            ("txQLen", U32),
            ("allmulti", Kind::Bool),
            ("dataDir", Kind::Text),
            MTU,
        ],
        capabilities: &["mac"],
    },
    Plugin {
        kind: "bandwidth",
        role: Role::Chained,
        keys: &[
            ("ingressRate", Kind::Int(0, i64::MAX)),
            ("ingressBurst", Kind::Int(0, i64::MAX)),
            ("egressRate", Kind::Int(0, i64::MAX)),
            ("egressBurst", Kind::Int(0, i64::MAX)),
        ],
        capabilities: &["bandwidth"],
    },
    Plugin {
        kind: "sbr",
        role: Role::Chained,
        keys: &[("table", U32), ("gateways", TEXTS), ("addSourceHints", Kind::Bool)],
        capabilities: &[],
    },
    Plugin {
        kind: "vrf",
        role: Role::Chained,
        keys: &[("vrfname", Kind::Text), ("table", U32)],
        capabilities: &[],
    },
    Plugin {
        kind: "host-local",
        role: Role::Ipam,
        keys: &[
            ("ranges", Kind::List(&Kind::List(&RANGE))),
            ("subnet", Kind::Cidr),
            ("rangeStart", Kind::Ip),
            ("rangeEnd", Kind::Ip),
            ("gateway", Kind::Ip),
            ("exclude", TEXTS),
            ("resolvConf", Kind::Text),
            ("dataDir", Kind::Text),
            ("lockTimeout", Kind::Any),
            ("reclaim", Kind::Word(&["boot", "netns", "never"])),
            ("graceAge", Kind::Any),
            ("sticky", Kind::Word(&["pod", "name"])),
            ("statusOnFull", Kind::Word(&["ignore", "fail"])),
            ROUTES,
        ],
        capabilities: &["ips", "ipRanges"],
    },
    Plugin {
        kind: "static",
        role: Role::Ipam,
        keys: &[
            (
                "addresses",
                Kind::List(&Kind::Object(&[("address", Kind::Cidr), ("gateway", Kind::Ip)])),
            ),
            ROUTES,
            DNS,
        ],
        capabilities: &["ips"],
    },
    Plugin {
        kind: "dhcp",
        role: Role::Ipam,
        keys: &[
            ("daemonSocketPath", Kind::Text),
            (
                "request",
                Kind::List(&Kind::Object(&[("option", Kind::Text), ("skipDefault", Kind::Bool)])),
            ),
            (
                "provide",
                Kind::List(&Kind::Object(&[
                    ("option", Kind::Text),
                    ("value", Kind::Text),
                    ("fromArg", Kind::Text),
                ])),
            ),
            ("priority", INT),
        ],
        capabilities: &[],
    },
];

const BRIDGE: &[Key] = &[
    ("bridge", Kind::Text),
    ("isGateway", Kind::Bool),
    ("isDefaultGateway", Kind::Bool),
    ("forceAddress", Kind::Bool),
    ("ipMasq", Kind::Switch(&["v4", "v6"])),
    ("ipMasqExclude", Kind::List(&Kind::Cidr)),
    ("ipMasqBackend", MASQUERADE_BACKEND),
    MTU,
    ("hairpinMode", Kind::Bool),
    ("promiscMode", Kind::Bool),
    ("vlan", Kind::Int(0, 4094)),
    (
        "vlanTrunk",
        Kind::List(&Kind::Object(&[("minID", VLAN_ID), ("maxID", VLAN_ID), ("id", VLAN_ID)])),
    ),
    ("preserveDefaultVlan", Kind::Bool),
    ("macspoofchk", Kind::Bool),
    ("enabledad", Kind::Bool),
    ("disableContainerInterface", Kind::Bool),
    ("portIsolation", Kind::Bool),
];

/// Every plugin of the table.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|plugin| plugin.kind)
}

/// The plugin of the table that takes a capability.
pub(super) fn taker(capability: &str) -> Option<&'static str> {
    let takes = |plugin: &&Plugin| plugin.capabilities.contains(&capability);
    PLUGINS.iter().find(takes).map(|plugin| plugin.kind)
}

/// Every capability that somebody takes, also those of the specification that no plugin here does.
pub(super) fn capabilities() -> impl Iterator<Item = &'static str> {
    let others = ["dns", "infinibandGUID", "aliases", "cgroupPath"];
    PLUGINS.iter().flat_map(|plugin| plugin.capabilities).copied().chain(others)
}
