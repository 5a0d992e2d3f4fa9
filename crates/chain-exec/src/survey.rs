//! What samples of a block say: how long its chains are, and how often its transactions meet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::gate::Forecast;
use crate::scheduler::Hint;

/// Takes a key's hash for what it is.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are hashed")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What is looked at of neighbouring transactions. Apart from their hints and dense: one worker looks
/// while the others wait, and hints lie all over the memory of those who made them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    shapes: Vec<Shape>,
    /// Of the keys of each transaction in turn: read, written, added to.
    hashes: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    reads: u32,
    writes: u32,
    deltas: u32,
    is_complete: bool,
}

impl Outline {
    pub(crate) fn of<'a>(hints: impl IntoIterator<Item = &'a Hint>) -> Self {
        let mut outline = Self::default();
        for hint in hints {
            let lists = [&hint.reads, &hint.writes, &hint.deltas];
            let [reads, writes, deltas] = lists.map(|keys| keys.len() as u32);
            outline.shapes.push(Shape {
                reads,
                writes,
                deltas,
                is_complete: hint.is_complete(),
            });
            for keys in lists {
                outline.hashes.extend(keys.iter().map(|key| key.hash));
            }
        }
        outline
    }

    pub(crate) fn len(&self) -> usize {
        self.shapes.len()
    }
}

/// Stretches of a block being looked at.
pub(crate) struct Survey {
    /// In which stretch the last writer of a key lies, and where it ends there. By hash alone: two keys
    /// of one hash make a path look longer and a block less quiet, nothing else.
    ends: HashMap<u64, (u32, u64), BuildHasherDefault<AsIs>>,
    stretch: u32,
    longest_ns: u64,
    count: usize,
    work_ns: u64,
    path_ns: u64,
    complete: usize,
    conflicts: usize,
}

impl Survey {
    /// Of about so many transactions.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            ends: HashMap::with_capacity_and_hasher(2 * count, BuildHasherDefault::default()),
            stretch: 0,
            longest_ns: 0,
            count: 0,
            work_ns: 0,
            path_ns: 0,
            complete: 0,
            conflicts: 0,
        }
    }

    /// What follows does not lie behind what came before.
    pub(crate) fn begin_stretch(&mut self) {
        self.path_ns += std::mem::take(&mut self.longest_ns);
        self.stretch += 1;
    }

    /// Look at the next transactions; `cost_ns` gives the cost of the one in a place.
    pub(crate) fn look(&mut self, outline: &Outline, cost_ns: impl Fn(usize) -> u64) {
        let mut hashes = &outline.hashes[..];
        let mut next = |length: u32| {
            let (own, rest) = hashes.split_at(length as usize);
            hashes = rest;
            own
        };
        for shape in &outline.shapes {
            let (mut start, mut meets) = (0, false);
            for hash in next(shape.reads) {
                let Some((stretch, end)) = self.ends.get(hash) else {
                    continue;
                };
                meets = true;
                if *stretch == self.stretch {
                    start = start.max(*end);
                }
            }
            let cost_ns = cost_ns(self.count);
            let end = (self.stretch, start + cost_ns);
            for hash in next(shape.writes) {
                self.ends.insert(*hash, end);
            }
            for hash in next(shape.deltas) {
                let latest = self.ends.entry(*hash).or_default();
                *latest = end.max(*latest);
            }
            self.longest_ns = self.longest_ns.max(end.1);
            self.count += 1;
            self.work_ns += cost_ns;
            self.complete += usize::from(shape.is_complete);
            self.conflicts += usize::from(meets);
        }
    }

    /// What it says of a block of so many of which these are samples.
    pub(crate) fn forecast(mut self, count: usize) -> Forecast {
        self.begin_stretch();
        let seen = self.count.max(1) as f64;
        let scaled = |time_ns: u64| (time_ns as f64 * count as f64 / seen) as u64;
        Forecast {
            count,
            work_ns: scaled(self.work_ns),
            path_ns: scaled(self.path_ns),
            complete_share: self.complete as f64 / seen,
            conflict_share: self.conflicts as f64 / seen,
        }
    }
}
