//! Who depends on whom in a block, drawn from what was read and written; equal on every engine.

use std::collections::{BTreeMap, HashMap};

use chain_state::{AccessSet, Write};

use crate::scheduler::HintClass;
use crate::trace::{Trace, TraceTransaction};

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
                Write::Add(_) => access.deltas.push(key.clone()),
                Write::Put(_) | Write::Delete => access.writes.push(key.clone()),
            }
        }
        access
    }
}

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

/// A recorded block as a trace, keys numbered in their order so that ranges hold.
pub fn trace(accesses: &[Access], costs_ns: &[u64]) -> Trace {
    let all = accesses.iter().flat_map(|access| {
        let ranges = access.reads.ranges.iter();
        let edges = ranges.flat_map(|(start, end)| [start, end]);
        let reads = access.reads.keys.iter().chain(&access.writes);
        reads.chain(&access.deltas).chain(edges)
    });
    let sorted: std::collections::BTreeSet<&Vec<u8>> = all.collect();
    let numbers: HashMap<&Vec<u8>, u64> = sorted.into_iter().zip(1..).collect();
    let list = |keys: &[Vec<u8>]| keys.iter().map(|key| numbers[key]).collect();
    let transaction = |(access, cost_ns): (&Access, &u64)| TraceTransaction {
        cost_ns: *cost_ns,
        reads: access
            .reads
            .keys
            .iter()
            .map(|key| (numbers[key], 0))
            .collect(),
        writes: list(&access.writes),
        deltas: list(&access.deltas),
        ranges: access
            .reads
            .ranges
            .iter()
            .map(|(start, end)| match end.is_empty() {
                true => (numbers[start], u64::MAX),
                false => (numbers[start], numbers[end]),
            })
            .collect(),
        hint_class: HintClass::Complete,
        ..TraceTransaction::default()
    };
    Trace {
        transactions: accesses.iter().zip(costs_ns).map(transaction).collect(),
    }
}
