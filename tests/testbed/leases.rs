//! Which addresses are held, read from the files that a plugin leaves, and a line of such a file.

use std::{collections::BTreeMap, fs, net::IpAddr};

use crate::bed::Testbed;

/// Where host-local keeps its networks unless told otherwise.
pub const DATA_DIR: &str = "/var/lib/cni/networks";

/// Address -> `container interface`.
pub type Leases = BTreeMap<IpAddr, String>;

impl Testbed {
    /// The addresses held in `network`: of the log if there is one, else of the files.
    #[must_use]
    pub fn leases(&self, network: &str) -> Leases {
        let log = self.file(format!("{DATA_DIR}/{network}/leases"));
        match fs::read_to_string(log) {
            Ok(log) => replay(&log),
            Err(_) => self.lease_files(network),
        }
    }

    /// The addresses held in `network` as the reference sees it: one file per address.
    #[must_use]
    pub fn lease_files(&self, network: &str) -> Leases {
        let dir = self.file(format!("{DATA_DIR}/{network}"));
        let Ok(entries) = fs::read_dir(dir) else { return Leases::new() };
        let lease = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.expect("read a data directory");
            let address = entry.file_name().to_str()?.parse().ok()?;
            let owner = fs::read_to_string(entry.path()).expect("read a lease");
            Some((address, owner.split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        entries.filter_map(lease).collect()
    }
}

/// A line is a checksum, what happened, to which addresses, and whose they are; the first line
/// names the format.
fn replay(log: &str) -> Leases {
    let mut held = Leases::new();
    for line in log.lines().skip(1) {
        let mut words = line.split(' ').skip(1);
        let mut word = || words.next().unwrap_or_default();
        let (event, addresses, container, ifname) = (word(), word(), word(), word());
        let addresses = addresses.split(',').map(|address| {
            let bare = address.split('/').next().unwrap_or_default();
            bare.parse::<IpAddr>().unwrap_or_else(|error| panic!("lease {line:?}: {error}"))
        });
        match event {
            "leased" => {
                held.extend(addresses.map(|address| (address, format!("{container} {ifname}"))));
            }
            "released" => {
                for address in addresses {
                    held.remove(&address);
                }
            }
            // What was handed out last, and what may be ignored.
            "last" => {}
            addition if addition.starts_with("x-") => {}
            other => panic!("a lease line says {other:?}: {line:?}"),
        }
    }
    held
}

/// A line of the log as host-local writes it: the fields behind their checksum.
#[must_use]
pub fn line(fields: &str) -> String {
    format!("{:08x} {fields}\n", checksum(fields))
}

/// CRC-32 as of IEEE 802.3, bit by bit.
#[must_use]
pub fn checksum(text: &str) -> u32 {
    !text.bytes().fold(!0, |sum, byte| {
        let step = |sum: u32, _| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
        (0..8).fold(sum ^ u32::from(byte), step)
    })
}
