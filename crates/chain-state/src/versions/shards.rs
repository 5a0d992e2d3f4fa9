//! The cells of a share of the keys, under one lock.

use hashbrown::hash_table::Entry;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::slots::Slots;
use crate::sync::Mutex;

/// Bytes of a key that lie within its cell: those of most maps from addresses do.
const KEY_BYTES: usize = 40;

pub(super) type Key = SmallVec<[u8; KEY_BYTES]>;

/// A key's writers and readers.
#[derive(Debug)]
pub(super) struct Cell {
    hash: u64,
    pub(super) key: Key,
    pub(super) slots: Slots,
}

// Three cache lines at most: whoever finds a cell reads most of it.
const _: () = assert!(std::mem::size_of::<Cell>() <= 192);

/// Cells, and where those of a key lie by its hash.
#[derive(Debug, Default)]
pub(super) struct Shard {
    places: HashTable<u32>,
    /// Each apart, in the order in which they are made as far as the allocator can: transactions
    /// that follow each other meet neighbours. Side by side in their shards, which is by hash,
    /// reads and writes took half as long again.
    #[expect(clippy::vec_box, reason = "neighbours in time, not in their hashes")]
    pub(super) cells: Vec<Box<Cell>>,
}

/// Locks that many take lie on cache lines of their own.
#[repr(align(64))]
#[derive(Debug, Default)]
pub(super) struct Locked(pub(super) Mutex<Shard>);

/// What the memory of a block keeps for the blocks after it: room for as many cells as it had.
#[derive(Debug, Default)]
pub struct Shards(pub(super) Box<[Locked]>);

impl Shards {
    /// These, if they suit so many workers: about four for each keep them apart.
    pub(super) fn suit(self, workers: usize) -> Self {
        let count = (workers * 4).clamp(8, 512).next_power_of_two();
        if self.0.len() == count {
            return self;
        }
        Self((0..count).map(|_| Locked::default()).collect())
    }
}

impl Cell {
    fn is_of(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.key[..] == *key
    }
}

impl Shard {
    /// How many keys somebody may have written.
    pub(super) fn written(&self) -> usize {
        let written = self
            .cells
            .iter()
            .filter(|cell| !cell.slots.slots.is_empty());
        written.count()
    }

    /// Take all cells out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Cell>> + '_ {
        self.places.clear();
        self.cells.drain(..)
    }

    /// Whether the cell there is that of a key.
    pub(super) fn is_at(&self, at: usize, hash: u64, key: &[u8]) -> bool {
        self.cells.get(at).is_some_and(|cell| cell.is_of(hash, key))
    }

    /// Where the cell of a key lies.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let same = |at: &u32| self.cells[*at as usize].is_of(hash, key);
        self.places.find(hash, same).map(|at| *at as usize)
    }

    /// Where the cell of a key lies, and whether it had to be made.
    pub(super) fn find_or_make(&mut self, hash: u64, key: &[u8]) -> (usize, bool) {
        let Self { places, cells } = self;
        let same = |at: &u32| cells[*at as usize].is_of(hash, key);
        match places.entry(hash, same, |at| cells[*at as usize].hash) {
            Entry::Occupied(known) => (*known.get() as usize, false),
            Entry::Vacant(free) => {
                let at = cells.len();
                free.insert(u32::try_from(at).expect("far fewer keys fit into memory"));
                cells.push(Box::new(Cell {
                    hash,
                    key: SmallVec::from_slice(key),
                    slots: Slots::default(),
                }));
                (at, true)
            }
        }
    }
}
