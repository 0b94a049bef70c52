//! The comment of an element: its owner, and perhaps notes after it.

use crate::attach::Owner;

/// The note of owners that have a veth pair of ours, whose absence proves that they are gone.
pub const VETH: &str = "veth";

/// The longest comment, in bytes, that nft(8) reads back from what it has listed.
const LONGEST: usize = 128;

/// The comment of an owner's elements.
#[derive(Clone, Debug)]
pub struct Comment {
    /// The owner.
    pub owner: Owner,
    /// Single words, each of which is left out where there is no room for it.
    pub notes: Vec<String>,
}

impl Comment {
    /// One without notes.
    pub fn new(owner: &Owner) -> Self {
        Self { owner: owner.clone(), notes: Vec::new() }
    }

    /// As it is written.
    pub(super) fn text(&self) -> String {
        let mut text = self.owner.as_str().to_owned();
        for note in &self.notes {
            if text.len() + 1 + note.len() <= LONGEST {
                text = format!("{text} {note}");
            }
        }
        text
    }
}

/// The notes of a comment.
pub fn notes(comment: &str) -> impl Iterator<Item = &str> {
    Owner::split(comment).1.unwrap_or_default().split(' ')
}

/// Whether a comment says that its owner has a veth pair of ours.
pub fn has_veth_note(comment: &str) -> bool {
    notes(comment).any(|note| note == VETH)
}
