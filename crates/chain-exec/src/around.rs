//! What a simulated block takes beside its execution.

use std::collections::HashSet;

use crate::costs::Costs;
use crate::parallel::SHARED_MIN;
use crate::pool::crew_after;
use crate::trace::Trace;

/// Jobs after the execution: taking what the transactions left, emptying the shards of the memory,
/// and putting the stretches of keys in order.
pub(crate) const JOBS_AFTER: u64 = 3;

/// What a block takes beside its execution.
pub(crate) struct Around {
    pub(crate) begin_ns: u64,
    pub(crate) start_ns: u64,
    pub(crate) after_ns: u64,
    /// What of it one worker does while the others wait.
    pub(crate) serial_ns: u64,
}

impl Around {
    pub(crate) fn of(trace: &Trace, workers: usize, costs: &Costs) -> Self {
        let count = trace.transactions.len() as u64;
        let written: HashSet<u64> = trace
            .transactions
            .iter()
            .flat_map(|one| one.writes.iter().chain(&one.deltas))
            .copied()
            .collect();
        let written = written.len() as u64;
        let crew = crew_after(trace.transactions.len(), SHARED_MIN, workers);
        let begin_ns = costs.slowed(workers, costs.begin_ns * workers as u64);
        let shared = (costs.output_ns * count + costs.collect_ns * written) / crew as u64;
        let join_ns = costs.slowed(workers, costs.join_ns * crew as u64);
        let job_ns = join_ns + costs.start_ns(crew, join_ns);
        Self {
            begin_ns,
            start_ns: costs.start_ns(workers, u64::MAX),
            after_ns: costs.slowed(workers, shared) + JOBS_AFTER * job_ns,
            serial_ns: begin_ns + JOBS_AFTER * join_ns,
        }
    }
}
