//! Which engine a block gets, from what it is predicted to hold. Node-local: results are the same.

use std::collections::HashMap;
use std::ops::Range;

use crate::graph::Access;
use crate::scheduler::Hint;
use crate::survey::{Outline, Survey, Writers};

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

/// Share of the transactions looked at that read what earlier ones of them write, up to which a
/// block is quiet. Of 256 drawn from a block, 1 % mean that one of 12,800 pairs conflicts: with 96
/// in flight fewer than one in a hundred is executed twice, and preparing hints costs more than
/// that.
const CONFLICT_SHARE_QUIET_MAX: f64 = 0.01;

/// Stretches of a long block that are looked at, and their length.
const SAMPLES: usize = 8;
const SAMPLE: usize = 32;
pub(crate) const DRAWN: usize = SAMPLES * SAMPLE;
/// All others wait for what is known of them: a few are worth a worker.
pub(crate) const DRAWN_PER_WORKER_MIN: usize = 8;
/// Critical path over work above which samples leave open whether a block is worth it.
const PATH_SHARE_SAMPLED_MAX: f64 = 0.5;

/// Positions of a block's samples: of a short one all.
pub(crate) fn samples(count: usize) -> Vec<Range<usize>> {
    if count <= DRAWN {
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
    /// In parallel, speculating, with nothing prepared.
    Blind,
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
    /// Share of the transactions looked at that read what earlier ones of them write.
    pub conflict_share: f64,
}

impl Forecast {
    /// Predict from hints and the cost of each transaction in nanoseconds.
    ///
    /// Of transactions without hints nothing is known; they count as work alone.
    pub fn from_hints<'a>(
        hints: impl IntoIterator<Item = &'a Hint>,
        cost_ns: impl Fn(usize) -> u64,
    ) -> Self {
        let outline = Outline::of(hints);
        let mut writers = Writers::default();
        let mut survey = Survey::over(&mut writers, outline.keys());
        survey.look(&outline, cost_ns);
        survey.forecast(outline.len())
    }

    /// Predict a block of `count` from the outlines of its samples, none of which goes beyond one
    /// stretch, all transactions at one cost in nanoseconds; `writers` is room to work in.
    ///
    /// Of stretches of a block the paths together are no shorter than the block's own, so that a
    /// block whose samples are worth it is: only of one whose are not must everything be looked at.
    pub(crate) fn sampled<'a>(
        outlines: impl IntoIterator<Item = &'a Outline> + Clone,
        count: usize,
        cost_ns: u64,
        writers: &mut Writers,
    ) -> Self {
        let keys = outlines.clone().into_iter().map(Outline::keys).sum();
        let mut survey = Survey::over(writers, keys);
        let mut seen = 0;
        for outline in outlines {
            if count > DRAWN && seen % SAMPLE == 0 {
                survey.begin_stretch();
            }
            survey.look(outline, |_| cost_ns);
            seen += outline.len();
        }
        survey.forecast(count)
    }

    /// Predict a block as the executor does, from samples at their mean cost, and from all of it
    /// where they do not show that it is worth other workers' while.
    pub fn of_block<'a>(
        hints: impl Iterator<Item = &'a Hint> + Clone,
        costs_ns: &[u64],
        workers: usize,
    ) -> Self {
        let count = costs_ns.len();
        let mean_ns = costs_ns.iter().sum::<u64>() / count.max(1) as u64;
        let outline = |range: Range<usize>| {
            let drawn = hints.clone().skip(range.start);
            Outline::of(drawn.take(range.len()))
        };
        let drawn: Vec<Outline> = samples(count).into_iter().map(outline).collect();
        let sampled = Self::sampled(&drawn, count, mean_ns, &mut Writers::default());
        match sampled.engine(workers) {
            Engine::Serial => Self::from_hints(hints, |index| costs_ns[index]),
            _ => sampled,
        }
    }

    /// Share of a block of so many transactions that are looked at.
    pub(crate) fn share_seen(count: usize) -> f64 {
        DRAWN as f64 / count.max(DRAWN) as f64
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
        } else {
            self.parallel_engine()
        }
    }

    /// The engine where one worker will not do.
    pub(crate) fn parallel_engine(&self) -> Engine {
        if self.complete_share < COMPLETE_SHARE_MIN {
            Engine::Stm
        } else if self.conflict_share <= CONFLICT_SHARE_QUIET_MAX {
            Engine::Blind
        } else {
            Engine::HintDag
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
    use crate::parts::Parts;
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
        for count in [1, 100, 256, 257, 5_000] {
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
                let outline = |range| Outline::of(hints.range(range));
                let drawn: Vec<Outline> = samples(count).into_iter().map(outline).collect();
                let sampled = Forecast::sampled(&drawn, count, 20_000, &mut Writers::default());
                assert_eq!(
                    (sampled.count, sampled.work_ns),
                    (exact.count, exact.work_ns)
                );
                assert!((sampled.complete_share - exact.complete_share).abs() < 1e-9);
                let least = exact.path_ns * 95 / 100;
                assert!(sampled.path_ns >= least, "block {number} of {count}");
                let costs_ns = vec![20_000; count];
                let found = Forecast::of_block(hints.iter(), &costs_ns, 8);
                assert!(found == sampled || found == exact);
                if count <= DRAWN {
                    assert_eq!(sampled, exact);
                }
            }
        }
    }

    #[test]
    fn a_block_is_quiet_where_few_meet_anywhere_in_it() {
        let engine = |hints: Parts<Hint>| {
            let costs_ns = vec![20_000; hints.len()];
            Forecast::of_block(hints.iter(), &costs_ns, 8).engine(8)
        };
        for count in [200, 600, 10_000] {
            assert_eq!(engine(block(count, |index| index)), Engine::Blind);
            // Neighbours in pairs; one key in every twentieth place.
            let pairs = block(count, |index| index / 2);
            assert_eq!(engine(pairs), Engine::HintDag);
            let rare = |index: usize| if index.is_multiple_of(20) { 0 } else { index };
            assert_eq!(engine(block(count, rare)), Engine::HintDag);
            // Of what no hint tells nothing is known, quiet or not.
            let unknown: Vec<Hint> = (0..count).map(|_| Hint::default()).collect();
            assert_eq!(engine(Parts::from(unknown)), Engine::Stm);
        }
    }

    #[test]
    fn samples_lie_within_the_block_and_apart() {
        for count in [0, 1, 256, 257, 600, 10_000] {
            let all: Vec<usize> = samples(count).into_iter().flatten().collect();
            assert!(all.iter().all(|at| *at < count));
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(all.len(), count.min(DRAWN));
            assert!(count == 0 || (all[0] == 0 && all[all.len() - 1] == count - 1));
        }
    }
}
