//! One key's versions: its writers' slots by position, and who read them.

use super::{Found, Version};
use crate::number::{Form, Room};
use crate::sync::Mutex;

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Its transaction does not write the key.
    Empty,
    Put(Vec<u8>),
    Delete,
    Add(i128, Form),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) tx: u32,
    pub(super) estimate: bool,
    pub(super) content: Content,
    /// Whether, while it is expected, an addition is.
    pub(super) adds: bool,
    /// What the value below was taken to be; boxed, for few have one.
    pub(super) assumed: Option<Box<Room>>,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    version: Version,
    /// One above the position of the writer that was read, 0 for the state below the block.
    above: u32,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) slots: Vec<Slot>,
    readers: Vec<Reader>,
}

/// A key's writers and readers.
#[derive(Debug)]
pub struct Cell {
    pub(super) hash: u64,
    pub(super) key: Box<[u8]>,
    pub(super) slots: Mutex<Slots>,
}

impl Slots {
    pub(super) fn look(&self, tx: u32) -> (Found, u32) {
        let below = self.slots.partition_point(|slot| slot.tx < tx);
        // In the form of the latest: where forms differ, an addition fails and its reader comes
        // again.
        let mut added: Option<(i128, Form)> = None;
        for slot in self.slots[..below].iter().rev() {
            if slot.estimate {
                return (Found::Blocked(slot.tx), 0);
            }
            let value = match &slot.content {
                Content::Empty => continue,
                Content::Add(delta, form) => {
                    let (sum, form) = added.unwrap_or((0, *form));
                    added = Some((sum.wrapping_add(*delta), form));
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
            return (found, slot.tx + 1);
        }
        (Found::Below(added), 0)
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

    pub(super) fn set(
        &mut self,
        tx: u32,
        content: Content,
        final_below: u32,
        stale: &mut Vec<Version>,
    ) -> bool {
        let at = self.slots.partition_point(|slot| slot.tx < tx);
        let changed = match self.slots.get_mut(at).filter(|slot| slot.tx == tx) {
            Some(slot) => {
                slot.estimate = false;
                let changed = slot.content != content;
                slot.content = content;
                changed
            }
            None => {
                let changed = content != Content::Empty;
                let slot = Slot {
                    tx,
                    estimate: false,
                    content,
                    adds: false,
                    assumed: None,
                };
                self.slots.insert(at, slot);
                changed
            }
        };
        if changed && !self.readers.is_empty() {
            // One above this position or lower: it read this slot or what lies below it.
            self.readers.retain(|reader| {
                let broken = reader.version.tx > tx && reader.above <= tx + 1;
                if broken {
                    stale.push(reader.version);
                }
                !broken && reader.version.tx >= final_below
            });
        }
        changed
    }
}
