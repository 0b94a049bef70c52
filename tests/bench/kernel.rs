//! The bare kernel: what of an ADD and a DEL no plugin can save. One message each, by bytes that
//! are put together before the clock starts.

use std::{
    fs::File,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
        socket,
    },
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const REQUEST_ACK: u16 = 1 | 4;
const CREATE_EXCLUSIVE: u16 = 0x400 | 0x200;
const IFF_UP: u32 = 1;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const NAME: &[u8] = b"veth-bare\0";

/// Makes a veth pair, of which one end is up here and the other in the namespace `path`.
pub(crate) fn create(path: &str) -> Result<Duration, String> {
    let namespace = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let create = message(RTM_NEWLINK, REQUEST_ACK | CREATE_EXCLUSIVE, &veth(&namespace));
    ask(&create).map_err(|error| format!("create a veth pair: {error}"))
}

/// Deletes it.
pub(crate) fn delete() -> Result<Duration, String> {
    let delete = message(RTM_DELLINK, REQUEST_ACK, &attribute(IFLA_IFNAME, NAME));
    ask(&delete).map_err(|error| format!("delete a veth pair: {error}"))
}

fn open() -> Result<OwnedFd, Errno> {
    let netlink = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, netlink)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

fn ask(message: &[u8]) -> Result<Duration, Errno> {
    let socket = open()?;
    let mut answer = [0; 4096];
    let start = Instant::now();
    sendto(socket.as_raw_fd(), message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let took = start.elapsed();
    // After the header, an acknowledgement is an error number, of which zero is none.
    let [.., a, b, c, d] = answer[..20] else { return Err(Errno::EBADMSG) };
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(took),
        error => Err(Errno::from_raw(-error)),
    }
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    const SEQUENCE: u32 = 1;
    let mut body = Vec::new();
    body.extend(kind.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(SEQUENCE.to_ne_bytes());
    body.extend([0; 4]); // from whom
    body.extend(link(IFF_UP));
    body.extend(attributes);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_ne_bytes(), body.as_slice()].concat()
}

/// `struct ifinfomsg`: any family, kind and index; flags, and which of them are meant.
fn link(flags: u32) -> Vec<u8> {
    [[0; 4], [0; 4], flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

fn veth(namespace: &File) -> Vec<u8> {
    let fd = namespace.as_raw_fd().to_ne_bytes();
    // The peer cannot be made up: its other end is not there yet.
    let peer = [link(0), attribute(IFLA_IFNAME, b"eth0\0"), attribute(IFLA_NET_NS_FD, &fd)];
    let data = attribute(VETH_INFO_PEER, &peer.concat());
    let info = [attribute(IFLA_INFO_KIND, b"veth\0"), attribute(IFLA_INFO_DATA, &data)];
    [attribute(IFLA_IFNAME, NAME), attribute(IFLA_LINKINFO, &info.concat())].concat()
}

/// `struct nlattr`: length, kind, payload, padded to four bytes that the length leaves out.
fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
