//! What a block left in the memory, collected by several workers.

use std::ops::Range;

use super::shards::{Key, Locked, Shards};
use super::slots::{Content, Slots};
use super::Memory;
use crate::sync::Mutex;
use crate::workers::{share_out, Place, Places, Workers};
use crate::BlockOverlay;

/// A key with the value it is left with; none deletes.
type NetWrite = (Vec<u8>, Option<Vec<u8>>);

/// Keys with the value each is left with; none deletes.
pub type NetWrites = Vec<NetWrite>;

impl Memory {
    /// The block so far as it was, and what the block's transactions left above it, sorted by key;
    /// only what `kept` says of a key and its value. The shards are for the next block.
    ///
    /// Each worker empties shards of its own, drops what it has no use for and deals the rest out
    /// to stretches of keys; each stretch is then sorted on its own, and put in its place.
    ///
    /// # Panics
    /// When a transaction has not become final.
    pub fn into_writes(
        self,
        workers: &dyn Workers,
        kept: impl Fn(&[u8], Option<&[u8]>) -> bool + Sync,
    ) -> (BlockOverlay, NetWrites, Shards) {
        drop(self.order);
        let shards = &self.shards.0;
        let borders = Borders::new(&self.drawn.into_inner(), workers.count());
        let stretches: Vec<Mutex<NetWrites>> = (0..=borders.firsts.len())
            .map(|_| Mutex::default())
            .collect();
        let ranges = crate::stretches(shards.len(), workers.count());
        let parts = ranges.into_iter().enumerate().collect();
        share_out(workers, parts, |(part, range): (usize, Range<usize>)| {
            // A first look at all fetches them side by side, not each after the one before it.
            let touched = |shard: &Locked| shard.0.lock().written();
            let mut found = Vec::with_capacity(shards[range.clone()].iter().map(touched).sum());
            for shard in &shards[range] {
                for cell in shard.0.lock().drain() {
                    let Some(value) = left(cell.slots) else {
                        continue;
                    };
                    if kept(&cell.key, value.as_deref()) {
                        let write = (cell.key.to_vec(), value);
                        found.push((borders.stretch(&cell.key), write));
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
        (self.under, writes.into_list(), self.shards)
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

/// Where stretches of keys begin.
struct Borders {
    /// What the keys begin with that were drawn.
    beginning: Key,
    /// The first keys of all stretches but the first, after the words that follow the beginning.
    firsts: Vec<(u64, Key)>,
}

impl Borders {
    /// Stretches of about one length, going by keys that were drawn.
    fn new(drawn: &[Key], stretches: usize) -> Self {
        let shared = shared(drawn.iter().map(|key| &key[..]));
        let mut words: Vec<(u64, &[u8])> = drawn
            .iter()
            .map(|key| (word(key, shared), &key[..]))
            .collect();
        words.sort_unstable();
        let every = words.len().div_ceil(stretches.max(1)).max(1);
        let firsts = words.iter().step_by(every).skip(1);
        Self {
            beginning: drawn.first().map_or(&[][..], |key| &key[..shared]).into(),
            firsts: firsts.map(|(word, key)| (*word, (*key).into())).collect(),
        }
    }

    /// Which stretch a key lies in.
    fn stretch(&self, key: &[u8]) -> usize {
        if !key.starts_with(&self.beginning) {
            return if key < &self.beginning[..] {
                0
            } else {
                self.firsts.len()
            };
        }
        let word = word(key, self.beginning.len());
        let below = |(first_word, first): &(u64, Key)| {
            *first_word < word || *first_word == word && first[..] <= *key
        };
        self.firsts.partition_point(below)
    }
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
    let mut beginning = keys.next().unwrap_or_default();
    for key in keys {
        // At once for most keys: the beginning is soon what all have.
        if !key.starts_with(beginning) {
            let pairs = beginning.iter().zip(key);
            let same = pairs.take_while(|(left, right)| left == right).count();
            beginning = &beginning[..same];
        }
    }
    beginning.len()
}

/// The first eight bytes of a key after some: words that differ are in the order of their keys.
fn word(key: &[u8], after: usize) -> u64 {
    let mut word = [0; 8];
    word.iter_mut()
        .zip(&key[after..])
        .for_each(|(byte, own)| *byte = *own);
    u64::from_be_bytes(word)
}

/// What the last transaction that wrote a key left under it, if any did.
fn left(mut slots: Slots) -> Option<Option<Vec<u8>>> {
    if let Some((_, sum)) = slots.sum_of(slots.slots.len()) {
        return Some(Some(sum));
    }
    while let Some(slot) = slots.slots.pop() {
        match slot.content {
            Content::Empty => {}
            Content::Put(value) => return Some(Some(value)),
            Content::Delete => return Some(None),
            Content::Add(..) => unreachable!("settled, or on a number that is known"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Effect, Written};
    use super::*;
    use crate::view::Write;

    /// So many workers, one after another.
    struct InTurn(usize);

    impl Workers for InTurn {
        fn count(&self) -> usize {
            self.0
        }

        fn each(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
            (0..parts).for_each(work);
        }
    }

    /// Keys of two maps, the longer ones too long to lie within a cell.
    fn key(number: u32) -> Vec<u8> {
        let spread = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let map =
            [&b"m/balances/"[..], b"m/a map whose keys are rather long/"][number as usize % 2];
        [map, &spread, &[7; 8][..number as usize % 9]].concat()
    }

    #[test]
    fn writes_are_the_same_whatever_was_drawn_by_any_number_of_workers_on_kept_shards() {
        let mut shards = Shards::default();
        for (round, workers) in [1, 2, 96, 96, 3, 96].into_iter().enumerate() {
            for drawn in [0, 1, 2, 50] {
                let memory = Memory::over(shards, BlockOverlay::default(), workers);
                let mut expected = BTreeMap::new();
                for tx in 0..500u32 {
                    let key = key(tx / 2 + round as u32);
                    let value = (tx % 7 > 0).then(|| tx.to_be_bytes().to_vec());
                    let write = value.clone().map_or(Write::Delete, Write::Put);
                    expected.insert(key.clone(), value);
                    let (mut written, mut stale) = (Written::new(), Vec::new());
                    let effects = vec![Effect::new(key, write)];
                    memory.publish(tx, effects, &mut written, &mut stale, &mut |_| {});
                    if tx < drawn {
                        memory.draw(written[0]);
                    }
                }
                let (_, writes, kept) = memory.into_writes(&InTurn(workers), |_, _| true);
                assert!(writes.into_iter().eq(expected));
                shards = kept;
            }
        }
    }

    #[test]
    fn stretches_by_keys_that_were_drawn_are_of_about_one_length() {
        let drawn: Vec<Key> = (0..192).map(|number| key(100 * number).into()).collect();
        let borders = Borders::new(&drawn, 96);
        let mut lengths = vec![0; 96];
        for number in 0..19_200 {
            lengths[borders.stretch(&key(2 * number))] += 1;
        }
        let longest = lengths.iter().max().unwrap();
        assert!((200..1_000).contains(longest), "{lengths:?}");
        // Those that begin with nothing drawn go to the ends.
        assert_eq!(borders.stretch(b"a"), 0);
        assert_eq!(borders.stretch(b"m/"), 0);
        assert_eq!(borders.stretch(b"z"), 95);
    }

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
