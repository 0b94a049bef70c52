//! Numbers of linux/netfilter/nf_tables.h and linux/netfilter/nf_conntrack_common.h, by their names
//! there: those that rules of ours and rules of others are made of.

/// `enum nft_payload_bases`: the header of the link layer.
pub(crate) const NFT_PAYLOAD_LL_HEADER: u32 = 0;
/// The header of IPv4 or IPv6.
pub const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
/// The header of TCP and the like.
pub(crate) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;

/// `enum nft_meta_keys`: the Ethernet type of the packet, in network byte order.
pub const NFT_META_PROTOCOL: u32 = 1;
/// Its mark.
pub const NFT_META_MARK: u32 = 3;
/// The index of the interface that it came in by.
pub const NFT_META_IIF: u32 = 4;
/// The name of that interface: 16 bytes, filled up with NUL.
pub const NFT_META_IIFNAME: u32 = 6;
/// The name of the interface that it leaves by.
pub const NFT_META_OIFNAME: u32 = 7;
/// The family of the table that it would be in: `AF_INET` or `AF_INET6`.
pub const NFT_META_NFPROTO: u32 = 15;
/// The protocol above IP: 6 is TCP.
pub const NFT_META_L4PROTO: u32 = 16;

/// `enum nft_cmp_ops`.
pub const NFT_CMP_EQ: u32 = 0;
/// Not equal.
pub const NFT_CMP_NEQ: u32 = 1;
/// Less than.
pub const NFT_CMP_LT: u32 = 2;
/// Less or equal.
pub const NFT_CMP_LTE: u32 = 3;
/// Greater than.
pub const NFT_CMP_GT: u32 = 4;
/// Greater or equal.
pub const NFT_CMP_GTE: u32 = 5;

/// `enum nft_ct_keys`: the bits of the connection's state.
pub const NFT_CT_STATE: u32 = 0;
/// In which direction the packet goes: 0 is that of the first one.
pub const NFT_CT_DIRECTION: u32 = 1;
/// The bits of `enum ip_conntrack_status`.
pub const NFT_CT_STATUS: u32 = 2;
/// The port that the first packet was sent to.
pub(crate) const NFT_CT_PROTO_DST: u32 = 12;
/// The IPv4 address that the first packet was sent to (kernel 4.17).
pub(crate) const NFT_CT_DST_IP: u32 = 20;
/// The IPv6 address that the first packet was sent to (kernel 4.17).
pub(crate) const NFT_CT_DST_IP6: u32 = 22;

/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`: the connection has been answered.
pub(crate) const STATE_ESTABLISHED: u32 = 1 << 1;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`: the packet is about another connection.
pub(crate) const STATE_RELATED: u32 = 1 << 2;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`: the packet begins a connection.
pub const STATE_NEW: u32 = 1 << 3;
/// Of `NFT_CT_STATUS`: the connection's destination has been translated.
pub(crate) const IPS_DST_NAT: u32 = 1 << 5;
