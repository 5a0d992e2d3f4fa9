//! Which engine a block gets, from what it is predicted to hold. Node-local: results are the same.

use std::collections::HashMap;

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
    pub fn from_hints(hints: &[Hint], cost_ns: impl Fn(usize) -> u64) -> Self {
        let mut ends: HashMap<&[u8], u64> = HashMap::new();
        let (mut work_ns, mut path_ns, mut complete) = (0, 0, 0);
        for (index, hint) in hints.iter().enumerate() {
            let cost = cost_ns(index);
            let end_of = |key: &[u8]| ends.get(key).copied().unwrap_or(0);
            let start = hint.reads.iter().map(|key| end_of(&key.bytes)).max();
            let end = start.unwrap_or(0) + cost;
            work_ns += cost;
            path_ns = path_ns.max(end);
            complete += usize::from(hint.is_complete());
            for key in &hint.writes {
                ends.insert(&key.bytes, end);
            }
            for key in &hint.deltas {
                let latest = ends.entry(&key.bytes).or_default();
                *latest = end.max(*latest);
            }
        }
        Self {
            count: hints.len(),
            work_ns,
            path_ns,
            complete_share: complete as f64 / hints.len().max(1) as f64,
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
