//! Transport protocols by their numbers (`IPPROTO_` of linux/in.h), as far as they have ports.

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_SCTP`.
pub const SCTP: u8 = 132;

const NAMES: [(&str, u8); 3] = [("tcp", TCP), ("udp", UDP), ("sctp", SCTP)];

/// The number of a name in lower case.
pub fn number(name: &str) -> Option<u8> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name in lower case; `unknown` for other numbers.
pub fn name(number: u8) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == number).map_or("unknown", |(name, _)| name)
}
