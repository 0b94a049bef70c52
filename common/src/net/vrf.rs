//! VRFs: links that give the links below them a routing table of their own (ip-link(8)).

use netlink_packet_route::link::{InfoData, InfoVrf};

use super::{Link, LinkKind, Netlink, Result};

/// Whether a link is a VRF.
fn is_vrf(link: &Link) -> bool {
    link.kind.as_deref() == Some(LinkKind::Vrf { table: 0 }.name())
}

impl Netlink {
    /// The number of a VRF's table; `None` if the link is no VRF.
    ///
    /// # Errors
    /// [`Error::is_gone`](super::Error::is_gone) if there is no such link.
    pub fn read_vrf_table(&self, index: u32) -> Result<Option<u32>> {
        let Some(InfoData::Vrf(data)) = self.read_data(index)? else { return Ok(None) };
        Ok(data.into_iter().find_map(|info| match info {
            InfoVrf::TableId(table) => Some(table),
            _ => None,
        }))
    }

    /// The tables of all VRFs.
    pub(super) fn list_vrf_tables(&self) -> Result<Vec<u32>> {
        let mut tables = Vec::new();
        for link in self.list_links()?.iter().filter(|link| is_vrf(link)) {
            tables.extend(self.read_vrf_table(link.index)?);
        }
        Ok(tables)
    }
}
