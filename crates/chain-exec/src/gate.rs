//! Which engine a block gets, from what it is predicted to hold. Node-local: results are the same.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::graph::Access;
use crate::parts::Parts;
use crate::scheduler::Hint;

/// Total work below which no block is worth waking anyone.
const WORK_MIN_NS: u64 = 200_000;
/// Least parallelism (work over critical path) worth tracking versions for.
const PARALLELISM_MIN: f64 = 1.3;
/// Share of transactions with complete hints from which their edges are followed.
const COMPLETE_SHARE_MIN: f64 = 0.95;
/// What tracking adds to each transaction, as far as the choice is concerned.
const OVERHEAD_NS: u64 = 2_000;
/// Predicted share of the serial time above which serial is kept.
const TIME_SHARE_MAX: f64 = 0.95;

/// Stretches of a long block that are looked at, and their length.
const SAMPLES: usize = 8;
const SAMPLE: usize = 64;
/// Critical path over work above which samples leave open whether a block is worth it.
const PATH_SHARE_SAMPLED_MAX: f64 = 0.5;

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

/// Positions of a block's samples: of a short one all.
fn samples(count: usize) -> Vec<std::ops::Range<usize>> {
    if count <= SAMPLES * SAMPLE {
        return std::iter::once(0..count).collect();
    }
    let start = |sample| sample * (count - SAMPLE) / (SAMPLES - 1);
    (0..SAMPLES)
        .map(|sample| start(sample)..start(sample) + SAMPLE)
        .collect()
}

/// How a block is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One after another, nothing tracked.
    Serial,
    /// In parallel, each waiting for the producers its hint names.
    HintDag,
    /// In parallel, speculating.
    Stm,
}

/// What a block is expected to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Number of transactions.
    pub count: usize,
    /// T1: serial time in nanoseconds.
    pub work_ns: u64,
    /// T-infinity: longest read-after-write path in nanoseconds.
    pub path_ns: u64,
    /// Share of the transactions whose hints are complete.
    pub complete_share: f64,
}

impl Forecast {
    /// Predict from hints and the cost of each transaction in nanoseconds.
    ///
    /// Of transactions without hints nothing is known; they count as work alone.
    pub fn from_hints<'a>(
        hints: impl IntoIterator<Item = &'a Hint>,
        cost_ns: impl Fn(usize) -> u64,
    ) -> Self {
        // By hash alone: two keys of one hash make a path look longer, nothing else.
        let mut ends: HashMap<u64, u64, BuildHasherDefault<AsIs>> = HashMap::default();
        let (mut work_ns, mut path_ns, mut complete, mut count) = (0, 0, 0, 0);
        for (index, hint) in hints.into_iter().enumerate() {
            count += 1;
            let cost = cost_ns(index);
            let end_of = |hash| ends.get(&hash).copied().unwrap_or(0);
            let start = hint.reads.iter().map(|key| end_of(key.hash)).max();
            let end = start.unwrap_or(0) + cost;
            work_ns += cost;
            path_ns = path_ns.max(end);
            complete += u32::from(hint.is_complete());
            for key in &hint.writes {
                ends.insert(key.hash, end);
            }
            for key in &hint.deltas {
                let latest = ends.entry(key.hash).or_default();
                *latest = end.max(*latest);
            }
        }
        Self {
            count,
            work_ns,
            path_ns,
            complete_share: f64::from(complete) / count.max(1) as f64,
        }
    }

    /// Predict a long block from samples, all transactions at one cost in nanoseconds.
    ///
    /// Of stretches of a block the paths together are no shorter than the block's own, so that a
    /// block whose samples are worth it is: only of one whose are not must everything be looked at.
    pub(crate) fn sampled(hints: &Parts<Hint>, cost_ns: u64) -> Self {
        let mut sum = Self::default();
        for range in samples(hints.len()) {
            let one = Self::from_hints(hints.range(range), |_| cost_ns);
            sum.complete_share += one.complete_share * one.count as f64;
            sum.path_ns += one.path_ns;
            sum.count += one.count;
        }
        let scale = hints.len() as f64 / sum.count.max(1) as f64;
        Self {
            count: hints.len(),
            work_ns: cost_ns * hints.len() as u64,
            path_ns: (sum.path_ns as f64 * scale) as u64,
            complete_share: sum.complete_share / sum.count.max(1) as f64,
        }
    }

    /// Predicted time on so many workers, tracking included, in nanoseconds.
    pub fn time_ns(&self, workers: usize) -> u64 {
        let overhead = OVERHEAD_NS * self.count as u64;
        ((self.work_ns + overhead) / workers.max(1) as u64).max(self.path_ns)
    }

    /// The engine for so many workers.
    pub fn engine(&self, workers: usize) -> Engine {
        let parallelism = self.work_ns as f64 / self.path_ns.max(1) as f64;
        let share = self.time_ns(workers) as f64 / self.work_ns.max(1) as f64;
        if workers <= 1
            || self.work_ns < WORK_MIN_NS
            || parallelism < PARALLELISM_MIN
            || share > TIME_SHARE_MAX
        {
            Engine::Serial
        } else if self.complete_share >= COMPLETE_SHARE_MIN {
            Engine::HintDag
        } else {
            Engine::Stm
        }
    }
}

/// Critical path over work, every transaction taken to cost the same: of a long block from samples,
/// unless they leave it open whether it is worth it.
pub(crate) fn path_share(accesses: &[Access]) -> f64 {
    let ranges = samples(accesses.len());
    let seen: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    let links: u64 = ranges
        .into_iter()
        .map(|range| longest(&accesses[range]))
        .sum();
    let share = links as f64 / seen.max(1) as f64;
    if share > PATH_SHARE_SAMPLED_MAX && seen < accesses.len() {
        return longest(accesses) as f64 / accesses.len() as f64;
    }
    share
}

/// Links of the longest chain.
fn longest(accesses: &[Access]) -> u64 {
    let mut ends: HashMap<&[u8], u64> = HashMap::new();
    let mut longest = 0;
    for access in accesses {
        let end_of = |key: &Vec<u8>| ends.get(&key[..]).copied().unwrap_or(0);
        let end = access.reads.keys.iter().map(end_of).max().unwrap_or(0) + 1;
        longest = longest.max(end);
        for key in &access.writes {
            ends.insert(key, end);
        }
        for key in &access.deltas {
            let latest = ends.entry(key).or_default();
            *latest = end.max(*latest);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::{HintClass, HintKey};

    fn block(count: usize, key: impl Fn(usize) -> usize) -> Parts<Hint> {
        let hint = |index| {
            let key = HintKey::new(key(index).to_be_bytes());
            Hint {
                class: HintClass::Complete,
                reads: vec![key.clone()],
                writes: vec![key],
                deltas: Vec::new(),
            }
        };
        Parts::from((0..count).map(hint).collect::<Vec<_>>())
    }

    #[test]
    fn samples_never_make_a_block_look_more_parallel_than_it_is() {
        for count in [1, 100, 512, 513, 5_000] {
            let blocks = [
                block(count, |index| index),
                block(count, |_| 0),
                block(count, |index| index % 40),
                block(count, |index| index / 100),
                block(
                    count,
                    |index| if index.is_multiple_of(3) { 0 } else { index },
                ),
            ];
            for (number, hints) in blocks.iter().enumerate() {
                let exact = Forecast::from_hints(hints.iter(), |_| 20_000);
                let sampled = Forecast::sampled(hints, 20_000);
                assert_eq!(
                    (sampled.count, sampled.work_ns),
                    (exact.count, exact.work_ns)
                );
                assert!((sampled.complete_share - exact.complete_share).abs() < 1e-9);
                let least = exact.path_ns * 95 / 100;
                assert!(sampled.path_ns >= least, "block {number} of {count}");
                if count <= SAMPLES * SAMPLE {
                    assert_eq!(sampled, exact);
                }
            }
        }
    }

    #[test]
    fn samples_lie_within_the_block_and_apart() {
        for count in [0, 1, 512, 513, 600, 10_000] {
            let all: Vec<usize> = samples(count).into_iter().flatten().collect();
            assert!(all.iter().all(|at| *at < count));
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(all.len(), count.min(512));
            assert!(count == 0 || (all[0] == 0 && all[all.len() - 1] == count - 1));
        }
    }
}
