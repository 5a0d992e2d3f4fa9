//! One key's versions: its writers' slots by position, and who read them.

use smallvec::SmallVec;

use super::escrow::Account;
use super::{Found, Guess, Version};
use crate::number::Form;

/// Additions that a reader sums up before it leaves their sum for the next one.
const WALK_MAX: usize = 64;

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Its transaction does not write the key.
    Empty,
    Put(Vec<u8>),
    Delete,
    Add(Delta, Form),
}

/// What is added. A number of sixteen bytes would have every slot begin at a multiple of them, and
/// be a third longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(8))]
pub(super) struct Delta(i128);

impl Delta {
    pub(super) fn new(delta: i128) -> Self {
        Self(delta)
    }

    pub(super) fn get(self) -> i128 {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) tx: u32,
    pub(super) estimate: bool,
    pub(super) content: Content,
    /// Whether, while it is expected, an addition is.
    pub(super) adds: bool,
    /// What the value below was taken to be; boxed, for few have one.
    pub(super) assumed: Option<Box<Guess>>,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    version: Version,
    /// One above the position of the writer that was read, 0 for the state below the block.
    above: u32,
}

/// A key's versions; those of a key that few touch lie within its cell.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) slots: SmallVec<[Slot; 1]>,
    readers: SmallVec<[Reader; 2]>,
    account: Account,
}

impl Slots {
    pub(super) fn look(&mut self, tx: u32, final_below: u32) -> (Found, u32) {
        let below = self.slots.partition_point(|slot| slot.tx < tx);
        // In the form of the latest: where forms differ, an addition fails and its reader comes
        // again.
        let mut added: Option<(i128, Form)> = None;
        for (at, slot) in self.slots[..below].iter().enumerate().rev() {
            if slot.estimate {
                return (Found::Blocked(slot.tx), 0);
            }
            let value = match &slot.content {
                Content::Empty => continue,
                Content::Add(delta, form) => {
                    let (sum, form) = added.unwrap_or((0, *form));
                    added = Some((sum.wrapping_add(delta.get()), form));
                    continue;
                }
                Content::Put(value) => Some(value),
                Content::Delete => None,
            };
            let found = match (added, value) {
                (Some((sum, form)), value) => Found::Value(form.add(value.map(|v| &v[..]), sum)),
                (None, Some(value)) => Found::Value(value.clone()),
                (None, None) => Found::Absent,
            };
            let above = slot.tx + 1;
            if below - at > WALK_MAX {
                self.leave_sum(final_below);
            }
            return (found, above);
        }
        if below > WALK_MAX {
            self.leave_sum(final_below);
        }
        (Found::Below(added), 0)
    }

    /// Replace the last final addition by what it makes of the number.
    fn leave_sum(&mut self, final_below: u32) {
        let end = self.slots.partition_point(|slot| slot.tx < final_below);
        if let Some((at, value)) = self.sum_of(end) {
            self.slots[at].content = Content::Put(value);
        }
    }

    /// Where the last of the first slots lies that writes, all of them final, and the number then;
    /// none where it replaces the value.
    pub(super) fn sum_of(&self, end: usize) -> Option<(usize, Vec<u8>)> {
        let (form, base) = self.account.base()?;
        let (mut last, mut sum) = (None, 0i128);
        for (at, slot) in self.slots[..end].iter().enumerate().rev() {
            let value = match &slot.content {
                Content::Empty => continue,
                Content::Add(delta, _) => {
                    last.get_or_insert(at);
                    sum = sum.wrapping_add(delta.get());
                    continue;
                }
                Content::Put(value) => Some(&value[..]),
                Content::Delete => None,
            };
            return Some((last?, form.add(value, sum)));
        }
        Some((last?, form.encode(base.wrapping_add(sum))))
    }

    pub(super) fn depend(&mut self, version: Version, above: u32) {
        let recent = self.readers.iter().rev().take(4);
        if !recent
            .clone()
            .any(|reader| reader.version == version && reader.above <= above)
        {
            self.readers.push(Reader { version, above });
        }
    }

    pub(super) fn at(&mut self, tx: u32) -> Option<&mut Slot> {
        let at = self.slots.partition_point(|slot| slot.tx < tx);
        self.slots.get_mut(at).filter(|slot| slot.tx == tx)
    }

    /// What a transaction does to the key from now on; `unsettle` is told of everyone whose
    /// addition has to be settled in order after all.
    pub(super) fn set(
        &mut self,
        tx: u32,
        content: Content,
        guess: Option<Guess>,
        final_below: u32,
        unsettle: &mut dyn FnMut(u32),
    ) -> Set {
        let at = self.slots.partition_point(|slot| slot.tx < tx);
        if self.slots.get(at).is_none_or(|slot| slot.tx != tx) {
            self.slots.insert(at, Slot::new(tx));
        }
        let slot = &mut self.slots[at];
        let certain = self.account.count(&slot.content, &content, guess.as_ref());
        let adds = guess.is_some() || matches!(content, Content::Add(..));
        let through = guess.is_some_and(|guess| self.account.lets_through(&guess));
        let changed = slot.content != content;
        slot.estimate = false;
        slot.content = content;
        slot.assumed = guess.map(Box::new);
        if !certain {
            let guessed = self.slots.iter().filter(|slot| slot.assumed.is_some());
            let open = guessed.filter(|slot| slot.tx >= final_below && slot.tx != tx);
            open.for_each(|slot| unsettle(slot.tx));
        }
        Set {
            changed,
            pending: adds && !through,
        }
    }

    /// Take out the readers that a change at a position proves wrong.
    pub(super) fn break_readers(&mut self, tx: u32, final_below: u32, stale: &mut Vec<Version>) {
        // One above this position or lower: it read this slot or what lies below it.
        self.readers.retain(|reader| {
            let broken = reader.version.tx > tx && reader.above <= tx + 1;
            if broken {
                stale.push(reader.version);
            }
            !broken && reader.version.tx >= final_below
        });
    }
}

impl Slot {
    fn new(tx: u32) -> Self {
        Self {
            tx,
            estimate: false,
            content: Content::Empty,
            adds: false,
            assumed: None,
        }
    }

    /// One that is expected to be written.
    pub(super) fn expected(tx: u32, adds: bool) -> Self {
        Self {
            estimate: true,
            adds,
            ..Self::new(tx)
        }
    }
}

/// What publishing to a key did.
pub(super) struct Set {
    /// The slot holds something else now.
    pub(super) changed: bool,
    /// The addition has to be settled in order.
    pub(super) pending: bool,
}
