//! What a block left in the memory, collected by several workers.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;

use super::slots::{Cell, Content};
use super::Memory;
use crate::sync::Mutex;
use crate::workers::{share_out, Place, Places, Workers};
use crate::BlockOverlay;

/// Keys drawn for each stretch to find where stretches of about one length begin.
const DRAWN_PER_STRETCH: usize = 2;
/// Written keys to make room for at once: four shards a worker share what a large block writes.
const KEYS_PER_SHARD: usize = 32;

/// A key with the value it is left with; none deletes.
type NetWrite = (Vec<u8>, Option<Vec<u8>>);

/// Keys with the value each is left with; none deletes.
pub type NetWrites = Vec<NetWrite>;

type Shard = HashTable<Arc<Cell>>;

impl Memory {
    /// The block so far as it was, and what the block's transactions left above it, sorted by key;
    /// only what `kept` says of a key and its value.
    ///
    /// Each worker empties shards of its own, drops what it has no use for and deals the rest out
    /// to stretches of keys; each stretch is then sorted on its own, and put in its place.
    ///
    /// # Panics
    /// When a transaction has not become final, or its record still holds cells.
    pub fn into_writes(
        self,
        workers: &dyn Workers,
        kept: impl Fn(&[u8], Option<&[u8]>) -> bool + Sync,
    ) -> (BlockOverlay, NetWrites) {
        drop(self.order);
        let ranges = crate::stretches(self.shards.len(), workers.count());
        let shards = self.shards.into_vec().into_iter();
        let shards: Vec<Shard> = shards.map(Mutex::into_inner).collect();
        let firsts = firsts(&shards, workers.count());
        let stretches: Vec<Mutex<NetWrites>> =
            (0..=firsts.len()).map(|_| Mutex::default()).collect();
        let mut shards = shards.into_iter();
        let own = |(part, range): (usize, Range<usize>)| {
            let own: Vec<Shard> = shards.by_ref().take(range.len()).collect();
            (part, own)
        };
        let parts = ranges.into_iter().enumerate().map(own).collect();
        share_out(workers, parts, |(part, shards): (usize, Vec<Shard>)| {
            let mut found = Vec::with_capacity(shards.len() * KEYS_PER_SHARD);
            for cell in shards.into_iter().flatten() {
                let cell = Arc::into_inner(cell).expect("the records were emptied");
                if let Some((key, value)) = left(cell) {
                    if kept(&key, value.as_deref()) {
                        let stretch = firsts.partition_point(|first| **first <= *key);
                        found.push((stretch, (key, value)));
                    }
                }
            }
            deal(found, part, &stretches);
        });
        let stretches: Vec<NetWrites> = stretches.into_iter().map(Mutex::into_inner).collect();
        let mut writes = Places::new(stretches.iter().map(Vec::len).sum());
        let places = writes.cut(stretches.iter().map(Vec::len));
        let places = places.into_iter().zip(stretches).collect();
        share_out(workers, places, |(mut place, stretch): (Place<_>, _)| {
            place.extend(sorted(stretch));
        });
        (self.under, writes.into_list())
    }
}

/// Give each stretch what was found of its keys. Each part begins with another stretch, so that
/// they do not queue.
fn deal(mut found: Vec<(usize, NetWrite)>, part: usize, stretches: &[Mutex<NetWrites>]) {
    found.sort_unstable_by_key(|(stretch, _)| *stretch);
    let later = found.split_off(found.partition_point(|(stretch, _)| *stretch < part));
    let mut rest = later.into_iter().chain(found).peekable();
    while let Some((own, write)) = rest.next() {
        let mut stretch = stretches[own].lock();
        stretch.push(write);
        while let Some((_, write)) = rest.next_if(|(other, _)| *other == own) {
            stretch.push(write);
        }
    }
}

/// Where all stretches but the first begin. Shards hold keys by their hash: the first ones met are
/// as good as drawn by lot.
fn firsts(shards: &[Shard], stretches: usize) -> Vec<Box<[u8]>> {
    if stretches < 2 {
        return Vec::new();
    }
    let cells = shards.iter().flatten();
    let drawn: Vec<&[u8]> = cells
        .take(stretches * DRAWN_PER_STRETCH)
        .map(|cell| &*cell.key)
        .collect();
    let shared = shared(drawn.iter().copied());
    let mut drawn: Vec<(u64, &[u8])> = drawn
        .into_iter()
        .map(|key| (word(key, shared), key))
        .collect();
    drawn.sort_unstable();
    let every = drawn.len().div_ceil(stretches).max(1);
    let firsts = drawn.into_iter().step_by(every).skip(1);
    firsts.map(|(_, key)| key.into()).collect()
}

/// The writes by key. Keys of a stretch begin alike: a word of what follows tells most apart.
fn sorted(writes: NetWrites) -> impl Iterator<Item = NetWrite> {
    let shared = shared(writes.iter().map(|(key, _)| &key[..]));
    let mut writes: Vec<(u64, NetWrite)> = writes
        .into_iter()
        .map(|write| (word(&write.0, shared), write))
        .collect();
    writes.sort_unstable_by(|(left_word, (left, _)), (right_word, (right, _))| {
        left_word.cmp(right_word).then_with(|| left.cmp(right))
    });
    writes.into_iter().map(|(_, write)| write)
}

/// How many bytes all keys begin with.
fn shared<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> usize {
    let first = keys.next().unwrap_or_default();
    keys.fold(first.len(), |shared, key| {
        let pairs = first[..shared].iter().zip(key);
        pairs.take_while(|(left, right)| left == right).count()
    })
}

/// The first eight bytes of a key after some: words that differ are in the order of their keys.
fn word(key: &[u8], after: usize) -> u64 {
    let mut word = [0; 8];
    word.iter_mut()
        .zip(&key[after..])
        .for_each(|(byte, own)| *byte = *own);
    u64::from_be_bytes(word)
}

/// A key and what the last transaction that wrote it left, if any did.
fn left(cell: Cell) -> Option<NetWrite> {
    let mut slots = cell.slots.into_inner();
    if let Some((_, sum)) = slots.sum_of(slots.slots.len()) {
        return Some((cell.key.into_vec(), Some(sum)));
    }
    while let Some(slot) = slots.slots.pop() {
        let value = match slot.content {
            Content::Empty => continue,
            Content::Put(value) => Some(value),
            Content::Delete => None,
            Content::Add(..) => unreachable!("settled, or on a number that is known"),
        };
        return Some((cell.key.into_vec(), value));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_sort_keys_as_their_bytes_do() {
        let tails = [
            &b""[..],
            b"\0",
            b"\0\0",
            b"a",
            b"a\0",
            b"abcdefgh",
            b"abcdefgh\0",
            b"abcdefgi",
        ];
        for beginning in [&b""[..], b"m/", b"a long beginning of many bytes"] {
            let key = |tail: &&[u8]| [beginning, tail].concat();
            let keys: Vec<Vec<u8>> = tails.iter().map(key).collect();
            for turn in 0..keys.len() {
                let mut turned = keys.clone();
                turned.rotate_left(turn);
                turned.reverse();
                let writes = turned.into_iter().map(|key| (key, None)).collect();
                assert!(sorted(writes).map(|(key, _)| key).eq(keys.clone()));
            }
        }
        assert_eq!(sorted(Vec::new()).count(), 0);
    }
}
