//! Who depends on whom in a block, drawn from what was read and written; equal on every engine.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use chain_state::{AccessSet, Write};

/// Most edges that are drawn: a block of deltas read over and over has them in the square.
pub const DEPENDENCIES_MAX: usize = 1_000_000;

/// What one transaction read and, when it succeeded, wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Keys and ranges.
    pub reads: AccessSet,
    /// Full keys put or deleted, sorted.
    pub writes: Vec<Vec<u8>>,
    /// Full keys added to without being read, sorted.
    pub deltas: Vec<Vec<u8>>,
}

impl Access {
    pub(crate) fn new(reads: AccessSet, writes: &BTreeMap<Vec<u8>, Write>, ok: bool) -> Self {
        let mut access = Self {
            reads,
            ..Self::default()
        };
        for (key, write) in writes.iter().filter(|_| ok) {
            match write {
                Write::Add(..) => access.deltas.push(key.clone()),
                Write::Put(_) | Write::Delete => access.writes.push(key.clone()),
            }
        }
        access
    }

    /// Bytes it takes in memory, about.
    pub fn size_bytes(&self) -> usize {
        let ranges = self.reads.ranges.iter();
        let ranges = ranges.map(|(start, end)| start.len() + end.len() + 2 * KEY_SIZE_BYTES);
        let written = self.writes.iter().chain(&self.deltas);
        let keys = self.reads.keys.iter().chain(written);
        let keys = keys.map(|key| key.len() + KEY_SIZE_BYTES);
        std::mem::size_of::<Self>() + ranges.chain(keys).sum::<usize>()
    }
}

/// What a key takes besides its bytes: the vector and the allocator's share.
const KEY_SIZE_BYTES: usize = 40;

/// Why one transaction comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It reads what the other wrote.
    Read,
    /// It overwrites what the other wrote.
    Write,
    /// It overwrites what the other read.
    Anti,
}

/// An edge: `later` depends on `earlier`, by positions in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// The transaction that comes after.
    pub later: u32,
    /// The transaction it depends on.
    pub earlier: u32,
    /// Why.
    pub cause: Cause,
}

#[derive(Default)]
struct Key {
    writers: Vec<u32>,
    readers: Vec<u32>,
}

/// The edges of a block in the order of `later`, at most [`DEPENDENCIES_MAX`]; O(edges), by
/// last-writer lists. Two additions to a counter do not depend on each other.
pub fn dependencies(accesses: &[Access]) -> Vec<Dependency> {
    let mut keys: BTreeMap<&[u8], Key> = BTreeMap::new();
    let mut ranges: Vec<(&[u8], &[u8], u32)> = Vec::new();
    let mut edges = Vec::new();
    for (access, later) in accesses.iter().zip(0u32..) {
        let first = edges.len();
        let mut edge = |earlier: &u32, cause| {
            if *earlier != later {
                edges.push(Dependency {
                    later,
                    earlier: *earlier,
                    cause,
                });
            }
        };
        for key in &access.reads.keys {
            let key = keys.entry(key).or_default();
            key.writers.iter().for_each(|tx| edge(tx, Cause::Read));
            key.readers.push(later);
        }
        for (start, end) in &access.reads.ranges {
            if end.is_empty() || start < end {
                let inside = keys.range(&start[..]..);
                let inside = inside.take_while(|(key, _)| end.is_empty() || ***key < end[..]);
                for (_, key) in inside {
                    key.writers.iter().for_each(|tx| edge(tx, Cause::Read));
                }
                ranges.push((start, end, later));
            }
        }
        let writes = access.writes.iter().map(|key| (key, true));
        for (name, puts) in writes.chain(access.deltas.iter().map(|key| (key, false))) {
            let scanned = ranges.iter().filter(|(start, end, _)| {
                **start <= name[..] && (end.is_empty() || name[..] < **end)
            });
            scanned.for_each(|(.., tx)| edge(tx, Cause::Anti));
            let key = keys.entry(name).or_default();
            key.readers.iter().for_each(|tx| edge(tx, Cause::Anti));
            if puts {
                key.writers.iter().for_each(|tx| edge(tx, Cause::Write));
                key.writers.clear();
                key.readers.clear();
            }
            key.writers.push(later);
        }
        edges[first..].sort_unstable();
        let mut last = None;
        let mut kept = first;
        for at in first..edges.len() {
            if last != Some(edges[at]) {
                last = Some(edges[at]);
                edges[kept] = edges[at];
                kept += 1;
            }
        }
        edges.truncate(kept);
        if edges.len() >= DEPENDENCIES_MAX {
            edges.truncate(DEPENDENCIES_MAX);
            break;
        }
    }
    edges
}

/// Who touches a key, and how heavy they are together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// The full key.
    pub key: Vec<u8>,
    /// Transactions that read it.
    pub readers: u32,
    /// Transactions that put or delete it.
    pub writers: u32,
    /// Transactions that add to it without reading it.
    pub adders: u32,
    /// Weights of all of them.
    pub gas: u64,
}

/// What a block's graph comes to. A transaction weighs its gas, or 1 where it used none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// T1: the weights of all transactions.
    pub work_gas: u64,
    /// T-infinity: the heaviest read-after-write path in block order.
    pub path_gas: u64,
    /// The transactions on that path, in block order.
    pub path: Vec<u32>,
    /// Changed keys that several transactions touch, the heaviest first.
    pub hot_keys: Vec<HotKey>,
}

/// The summary of a block; a delta waits for nobody, whoever reads a counter waits for every delta.
pub fn summary(accesses: &[Access], gas: &[u64], hot_keys_max: usize) -> Summary {
    let weights = || gas.iter().map(|gas| (*gas).max(1));
    let (path_gas, path) = heaviest_path(accesses, weights());
    Summary {
        work_gas: weights().fold(0, u64::saturating_add),
        path_gas,
        path,
        hot_keys: hot_keys(accesses, weights(), hot_keys_max),
    }
}

fn heaviest_path(accesses: &[Access], weights: impl Iterator<Item = u64>) -> (u64, Vec<u32>) {
    // Where each key's latest writers end, and which of them last.
    let mut ends: BTreeMap<&[u8], (u64, u32)> = BTreeMap::new();
    let mut before: Vec<Option<u32>> = Vec::with_capacity(accesses.len());
    let mut last: Option<(u64, u32)> = None;
    for ((access, weight), tx) in accesses.iter().zip(weights).zip(0u32..) {
        let reads = access
            .reads
            .keys
            .iter()
            .filter_map(|key| ends.get(&key[..]));
        let ranges = access.reads.ranges.iter();
        let ranges = ranges.filter(|(start, end)| end.is_empty() || start < end);
        let scanned = ranges.flat_map(|(start, end)| {
            let end = match end.is_empty() {
                true => Bound::Unbounded,
                false => Bound::Excluded(&end[..]),
            };
            let inside = ends.range::<[u8], _>((Bound::Included(&start[..]), end));
            inside.map(|(_, end)| end)
        });
        let from = reads.chain(scanned).max().copied();
        before.push(from.map(|(_, tx)| tx));
        let end = (from.map_or(0, |(end, _)| end).saturating_add(weight), tx);
        last = last.max(Some(end));
        for key in &access.writes {
            ends.insert(key, end);
        }
        for key in &access.deltas {
            let latest = ends.entry(key).or_insert(end);
            *latest = end.max(*latest);
        }
    }
    let Some((path_gas, mut tx)) = last else {
        return (0, Vec::new());
    };
    let mut path = vec![tx];
    while let Some(earlier) = before[tx as usize] {
        tx = earlier;
        path.push(tx);
    }
    path.reverse();
    (path_gas, path)
}

fn hot_keys(
    accesses: &[Access],
    weights: impl Iterator<Item = u64>,
    hot_keys_max: usize,
) -> Vec<HotKey> {
    let mut keys: HashMap<&[u8], HotKey> = HashMap::new();
    for (access, weight) in accesses.iter().zip(weights) {
        let reads = access.reads.keys.iter().map(|key| (key, [1, 0, 0]));
        let writes = access.writes.iter().map(|key| (key, [0, 1, 0]));
        let adds = access.deltas.iter().map(|key| (key, [0, 0, 1]));
        for (key, [reads, writes, adds]) in reads.chain(writes).chain(adds) {
            let hot = keys.entry(key).or_insert_with(|| HotKey {
                key: key.clone(),
                readers: 0,
                writers: 0,
                adders: 0,
                gas: 0,
            });
            hot.readers += reads;
            hot.writers += writes;
            hot.adders += adds;
            // Whoever reads and writes it counts once.
            if writes == 0 || !access.reads.keys.contains(key) {
                hot.gas = hot.gas.saturating_add(weight);
            }
        }
    }
    let shared = |hot: &HotKey| {
        let changes = hot.writers + hot.adders;
        changes > 0 && hot.readers.max(hot.writers) + hot.adders > 1
    };
    let mut hot: Vec<HotKey> = keys.into_values().filter(shared).collect();
    hot.sort_unstable_by(|one, other| (other.gas, &one.key).cmp(&(one.gas, &other.key)));
    hot.truncate(hot_keys_max);
    hot
}
