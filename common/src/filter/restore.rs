//! What attachments have in the packet filter, made anew after somebody has flushed it:
//! `nft flush ruleset`, a restart of nftables, a reload of firewalld.

mod leftover;

pub use leftover::leftovers;

use crate::attach::Owner;
use crate::cni::Undo;
use crate::cni::{Attachment, Call, Errors, Plugin, Result, Success};
use crate::filter::elements::{Comment, Elements, OwnedElement, Shared};
use crate::net::nft::{Batch, Element, Make};
use std::collections::BTreeSet;
use std::fmt::{self, Display};

/// A plugin whose attachments have something in the packet filter.
pub trait Filtering: Plugin {
    /// What is to be there for an attachment whose ADD answered with this result.
    ///
    /// # Errors
    /// When the result does not tell, or the kernel cannot be asked.
    fn expected_state(&self, owner: &Owner, result: &Success) -> Result<Vec<Expected>>;

    /// Whether an attachment may have something in an external backend, which CHECK of the plugin's own
    /// program tells, and its ADD makes. The ADD of such a plugin may be repeated.
    fn uses_external_backend(&self) -> bool {
        false
    }
}

/// What an attachment should have in the packet filter.
pub enum Expected {
    /// In our own tables.
    Own(Box<ExpectedElements>),
    /// In an external backend: a program or a daemon.
    External(Box<dyn External>),
}

/// Elements, with the shared ruleset that looks them up.
#[derive(Debug)]
pub struct ExpectedElements {
    elements: Vec<OwnedElement>,
    comment: Comment,
    declaration: Batch,
}

impl ExpectedElements {
    /// `declaration` is what makes the shared ruleset.
    pub fn new(elements: Vec<OwnedElement>, comment: Comment, declaration: Batch) -> Box<Self> {
        Box::new(Self { elements, comment, declaration })
    }
}

/// What an external backend makes: a program or a daemon.
pub trait External {
    /// A name for what several attachments expect alike: it is made once. None for what is one
    /// attachment's own.
    fn shared(&self) -> Option<String> {
        None
    }

    /// What is missing, as sentences.
    ///
    /// # Errors
    /// When the backend cannot be asked.
    fn verify(&self) -> Result<Vec<String>>;

    /// Makes it. What is there already stays.
    ///
    /// # Errors
    /// When the backend refuses.
    fn create(&self, undo: &mut Undo) -> Result<()>;
}

/// What an attachment should have, as the plugin tells from what CHECK would read from stdin; and
/// [`Filtering::uses_external_backend`].
///
/// # Errors
/// Those of CHECK for a configuration, and of [`Filtering::expected_state`].
pub fn expected_state<P: Filtering>(
    stdin: Vec<u8>,
    attachment: &Attachment,
) -> Result<(Vec<Expected>, bool)> {
    let (call, result) = Call::recorded(stdin)?;
    let plugin = P::load(&call)?;
    let expected_state = plugin.expected_state(&attachment.owner(&call.network.name), &result)?;
    Ok((expected_state, plugin.uses_external_backend()))
}

/// What attachments should have, and have not.
pub struct Missing {
    filter: Elements,
    batch: Batch,
    external: Vec<Box<dyn External>>,
    /// Whose elements are to be made, and in which sets.
    coming: BTreeSet<(Owner, Shared)>,
    /// How many declarations have rules that are missing.
    pub rules: usize,
    /// How many elements are missing.
    pub elements: usize,
    /// Elements that are another attachment's by now, as sentences. They are left alone.
    pub taken: Vec<String>,
}

impl Missing {
    /// Compares what attachments should have with what is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn look(expected: Vec<Expected>) -> Result<Self> {
        let mut missing = Self {
            filter: Elements::open()?,
            batch: Batch::new(),
            external: Vec::new(),
            coming: BTreeSet::new(),
            rules: 0,
            elements: 0,
            taken: Vec::new(),
        };
        let (mut own, mut external, mut shared) = (Vec::new(), Vec::new(), BTreeSet::new());
        for one in expected {
            match one {
                Expected::Own(elements) => own.push(*elements),
                Expected::External(one) if one.shared().is_none_or(|name| shared.insert(name)) => {
                    external.push(one);
                }
                Expected::External(_) => {}
            }
        }
        missing.look_at_elements(own)?;
        // A backend that cannot be asked stays in the list: `restore` fails with its reason.
        external.retain(|one| one.verify().map_or(true, |missing| !missing.is_empty()));
        missing.rules += external.len();
        missing.external = external;
        Ok(missing)
    }

    fn look_at_elements(&mut self, expected: Vec<ExpectedElements>) -> Result<()> {
        let (mut declarations, mut absent) = (Vec::new(), Batch::new());
        let mut coming = BTreeSet::new();
        for ExpectedElements { elements, comment, declaration } in expected {
            // Many attachments share one ruleset.
            if !declarations.contains(&declaration) {
                declarations.push(declaration);
            }
            for element in elements {
                match self.filter.find(element.set, &element.key)? {
                    // Of siblings that are told of the same ports, the first one has them.
                    None if !coming.insert((element.set, element.key.clone())) => {}
                    None => {
                        self.elements += 1;
                        self.coming.insert((comment.owner.clone(), element.set));
                        element.make(Make::Ensure, &comment, &mut absent);
                    }
                    Some(found) => self.taken.extend(difference(&element, &comment.owner, &found)),
                }
            }
        }
        for declaration in declarations {
            let is_whole = self.filter.is_declared(&declaration)?;
            self.rules += usize::from(!is_whole);
            // A declaration without rules is whole even where its sets are missing.
            if !is_whole || self.elements > 0 {
                self.batch.append(declaration);
            }
        }
        self.batch.append(absent);
        Ok(())
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.rules == 0 && self.elements == 0
    }

    /// Makes it: in our own tables all at once or not at all, so that no packet meets half of it.
    /// External backends come last, attachment by attachment: what they let through is restricted by
    /// our own tables.
    ///
    /// `who_lives` is asked when the elements are there. An attachment may have been deleted since it
    /// was looked at, and its DEL has not found what was made after it: that is deleted here. A DEL
    /// that is still running may leave something, which GC deletes.
    ///
    /// # Errors
    /// When the kernel or an external backend refuses.
    pub fn restore(mut self, who_lives: impl FnOnce() -> Result<BTreeSet<Owner>>) -> Result<()> {
        self.filter.commit(self.batch)?;
        let mut errors = Errors::default();
        let living = who_lives()?;
        for (owner, set) in self.coming.iter().filter(|(owner, _)| !living.contains(owner)) {
            errors.note(self.filter.delete_where(&[*set], |comment| owner.is_in(comment)));
        }
        for external in self.external {
            let mut undo = Undo::new();
            if errors.note(external.create(&mut undo)).is_some() {
                undo.commit();
            }
        }
        errors.into_result()
    }
}

impl Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: usize, one: &str| match number {
            1 => format!("1 {one}"),
            _ => format!("{number} {one}s"),
        };
        let (rules, elements) = (count(self.rules, "group"), count(self.elements, "element"));
        write!(f, "{rules} of rules and {elements} are missing")
    }
}

fn difference(element: &OwnedElement, owner: &Owner, found: &Element) -> Option<String> {
    let comment = found.comment.as_deref().unwrap_or_default();
    // What a sibling has, the container has.
    if owner.is_in(comment) && found.data == element.data || owner.is_sibling(comment) {
        return None;
    }
    let (set, key, owner) = (element.set.name, &element.key, owner.as_str());
    Some(format!("{key} of {set} is not {owner:?}'s but {:?}'s", Owner::split(comment).0))
}
