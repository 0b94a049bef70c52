//! Netfilter's subsystems, spoken natively over nfnetlink.

pub mod conntrack;
mod nfnetlink;
pub mod nft;
