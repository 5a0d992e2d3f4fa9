//! What samples of a block say: how long its chains are, and how often its transactions meet.

use crate::gate::Forecast;
use crate::scheduler::Hint;

/// What is looked at of neighbouring transactions. Apart from their hints and dense: one worker
/// looks while the others wait, and hints lie all over the memory of those who made them.
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

    pub(crate) fn keys(&self) -> usize {
        self.hashes.len()
    }
}

/// The last writer of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Writer {
    /// Half of the key's hash, and not 0: two keys that share it make a path look longer and a
    /// block less quiet, nothing else.
    tag: u32,
    stretch: u32,
    /// Where it ends within its stretch.
    end_ns: u64,
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

/// Writers by key, one after another from where the hash points. As large as the survey needs and
/// kept from block to block: a map that grows asks for memory, and a larger one is cold, while all
/// wait.
#[derive(Debug, Default)]
pub(crate) struct Writers(Vec<Writer>);

impl Writers {
    /// None, and room for those of so many keys.
    fn begin(&mut self, keys: usize) {
        let length = (2 * keys).next_power_of_two();
        self.0.clear();
        self.0.resize(length, Writer::default());
    }

    /// The writer of a key, or where it belongs.
    fn of(&mut self, hash: u64) -> &mut Writer {
        let tag = tag(hash);
        let mask = self.0.len() - 1;
        let mut at = hash as usize & mask;
        // Half of the places are free.
        while self.0[at].tag != tag && self.0[at].tag != 0 {
            at = (at + 1) & mask;
        }
        &mut self.0[at]
    }
}

/// Stretches of a block being looked at.
pub(crate) struct Survey<'a> {
    writers: &'a mut Writers,
    stretch: u32,
    longest_ns: u64,
    count: usize,
    work_ns: u64,
    path_ns: u64,
    complete: usize,
    conflicts: usize,
}

impl<'a> Survey<'a> {
    /// Of so many keys, with the room of an earlier one.
    pub(crate) fn over(writers: &'a mut Writers, keys: usize) -> Self {
        writers.begin(keys);
        Self {
            writers,
            stretch: 1,
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
                let writer = self.writers.of(*hash);
                meets |= writer.tag != 0;
                if writer.stretch == self.stretch {
                    start = start.max(writer.end_ns);
                }
            }
            let cost_ns = cost_ns(self.count);
            let end_ns = start + cost_ns;
            let stretch = self.stretch;
            for hash in next(shape.writes) {
                *self.writers.of(*hash) = Writer {
                    tag: tag(*hash),
                    stretch,
                    end_ns,
                };
            }
            for hash in next(shape.deltas) {
                let writer = self.writers.of(*hash);
                let latest = if writer.stretch == stretch {
                    writer.end_ns
                } else {
                    0
                };
                *writer = Writer {
                    tag: tag(*hash),
                    stretch,
                    end_ns: end_ns.max(latest),
                };
            }
            self.longest_ns = self.longest_ns.max(end_ns);
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
