//! What a block left in the memory, collected by several workers.

use std::sync::Arc;

use hashbrown::HashTable;

use super::slots::{Cell, Content};
use super::Memory;
use crate::sync::Mutex;
use crate::workers::{join, share_out, Workers};
use crate::BlockOverlay;

/// Keys drawn for each stretch to find where stretches of about one length begin.
const DRAWN_PER_STRETCH: usize = 4;

/// Keys with the value each is left with; none deletes.
pub type NetWrites = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Memory {
    /// The block so far as it was, and what the block's transactions left above it, sorted by key;
    /// only what `kept` says of a key and its value.
    ///
    /// Each worker empties shards of its own, drops what it has no use for and deals the rest out
    /// to stretches of keys; each stretch is then sorted on its own.
    ///
    /// # Panics
    /// When a transaction has not become final.
    pub fn into_writes(
        self,
        workers: &dyn Workers,
        kept: impl Fn(&[u8], Option<&[u8]>) -> bool + Sync,
    ) -> (BlockOverlay, NetWrites) {
        drop(self.order);
        let firsts = firsts(&self.shards, workers.count());
        let stretches: Vec<Mutex<NetWrites>> =
            (0..=firsts.len()).map(|_| Mutex::default()).collect();
        let mut shards = self.shards.into_vec();
        let size = shards.len().div_ceil(workers.count());
        let mut parts = Vec::new();
        while !shards.is_empty() {
            let rest = shards.split_off(size.min(shards.len()));
            parts.push((parts.len(), std::mem::replace(&mut shards, rest)));
        }
        share_out(workers, parts, |(part, shards)| {
            let mut dealt = vec![NetWrites::new(); stretches.len()];
            for cell in shards.into_iter().flat_map(Mutex::into_inner) {
                if let Some(value) = left(&cell).filter(|value| kept(&cell.key, value.as_deref())) {
                    let stretch = firsts.partition_point(|first| **first <= *cell.key);
                    dealt[stretch].push((cell.key.to_vec(), value));
                }
            }
            // Each begins with another stretch, so that they do not queue.
            for at in (part..stretches.len()).chain(0..part.min(stretches.len())) {
                if !dealt[at].is_empty() {
                    stretches[at].lock().append(&mut dealt[at]);
                }
            }
        });
        let sorted = share_out(workers, stretches, |stretch| {
            let mut writes = stretch.into_inner();
            writes.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
            writes
        });
        (self.under, join(workers, sorted))
    }
}

/// Where all stretches but the first begin. Shards hold keys by their hash: the first ones met are
/// as good as drawn by lot.
fn firsts(shards: &[Mutex<HashTable<Arc<Cell>>>], stretches: usize) -> Vec<Box<[u8]>> {
    if stretches < 2 {
        return Vec::new();
    }
    let mut drawn: Vec<Box<[u8]>> = Vec::new();
    for shard in shards {
        let wanted = stretches * DRAWN_PER_STRETCH - drawn.len();
        let shard = shard.lock();
        drawn.extend(shard.iter().take(wanted).map(|cell| cell.key.clone()));
    }
    drawn.sort_unstable();
    let every = drawn.len().div_ceil(stretches).max(1);
    drawn.into_iter().step_by(every).skip(1).collect()
}

/// What the last transaction that wrote a key left, if any did.
fn left(cell: &Cell) -> Option<Option<Vec<u8>>> {
    let mut slots = std::mem::take(&mut cell.slots.lock().slots);
    while let Some(slot) = slots.pop() {
        match slot.content {
            Content::Empty => {}
            Content::Put(value) => return Some(Some(value)),
            Content::Delete => return Some(None),
            Content::Add(..) => unreachable!("settled when it became final"),
        }
    }
    None
}
