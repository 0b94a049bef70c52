//! What a main plugin's attachments may have in the packet filter, whatever their configuration says
//! by now.

use super::{Legacy, Masquerade};
use crate::attach::{Kept, Owner};
use crate::cni::{Errors, Success};
use crate::net::nft::Nft;

/// The packet filter, for DEL and GC.
///
/// Drop it after the link has been deleted: a socket that is closed after a deletion waits for the
/// kernel, which the deletion of the link does anyway.
pub struct Filters {
    nft: Nft,
    masquerade: Masquerade,
    legacy: Legacy,
}

impl Filters {
    /// `None` where it cannot be opened. A kernel without nftables may have rules of iptables.
    pub fn open(errors: &mut Errors) -> Option<Self> {
        let nft = errors.note(Nft::open())?;
        let masquerade = Masquerade::new(nft.clone());
        Some(Self { masquerade, legacy: Legacy::new(nft.clone()), nft })
    }

    /// The socket that all of it is deleted by.
    pub fn nft(&self) -> Nft {
        self.nft.clone()
    }

    /// Deletes what the attachment has, and what the Go plugins have made for it before the node was
    /// upgraded. `result` saves a look at all elements, if it is there.
    pub fn delete(&mut self, result: Option<&Success>, owner: &Owner, errors: &mut Errors) {
        errors.note(self.masquerade.delete(result, owner));
        self.legacy.delete_masquerade(owner, errors);
    }

    /// Deletes what belongs to nobody who is kept.
    pub fn sweep(&mut self, kept: &Kept<'_>, errors: &mut Errors) {
        errors.note(self.masquerade.sweep(kept));
        self.legacy.sweep_masquerade(kept, errors);
    }
}
