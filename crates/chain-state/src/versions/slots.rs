//! One key's versions: its writers' slots by position, and who read them.

use super::{Found, Version};
use crate::sync::Mutex;
use crate::view::{counter, CounterError};

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Its transaction does not write the key.
    Empty,
    Put(Vec<u8>),
    Delete,
    Add(i128),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) tx: u32,
    pub(super) estimate: bool,
    pub(super) content: Content,
    /// Whether, while it is expected, an addition is.
    pub(super) adds: bool,
    /// Smallest and largest sum that was taken to fit on the value below; boxed, for few have one.
    pub(super) assumed: Option<Box<(i128, i128)>>,
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
        let mut added: Option<i128> = None;
        for slot in self.slots[..below].iter().rev() {
            if slot.estimate {
                return (Found::Blocked(slot.tx), 0);
            }
            let sum = |below: Result<i128, CounterError>| {
                // Of a value that is no counter the addition above fails; its reader comes again.
                let sum = below.unwrap_or(0).wrapping_add(added.unwrap_or(0));
                Found::Value(sum.to_be_bytes().to_vec())
            };
            let found = match &slot.content {
                Content::Empty => continue,
                Content::Add(delta) => {
                    added = Some(added.unwrap_or(0).wrapping_add(*delta));
                    continue;
                }
                Content::Put(value) if added.is_some() => sum(counter(Some(value))),
                Content::Delete if added.is_some() => sum(Ok(0)),
                Content::Put(value) => Found::Value(value.clone()),
                Content::Delete => Found::Absent,
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
