//! DHCPv6 (RFC 8415): one address, by an IA_NA.
//!
//! | module | job |
//! |---|---|
//! | [`message`] | what the packets say |
//! | [`exchange`] | the packets between one client and the servers of its segment |
//! | [`lease`] | what a server has granted |

pub(crate) mod exchange;
pub(crate) mod lease;
pub(crate) mod message;
