//! What working together costs: measured where one core can tell, assumed in a band where not.

use crate::pool::AWAKE;

/// What the scheduler's operations cost, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Drawing, claiming and finishing one execution, apart from shared lines.
    pub task_ns: u64,
    /// One tracked read, apart from its line.
    pub read_ns: u64,
    /// One published write, apart from its line.
    pub write_ns: u64,
    /// Making one transaction final, apart from its line.
    pub commit_ns: u64,
    /// Publishing one addition to a number that many add to, apart from its line.
    pub add_ns: u64,
    /// Settling one addition in order, apart from its lines.
    pub delta_ns: u64,
    /// Looking at one hinted access of a block's samples, by one worker before the others begin.
    pub survey_ns: u64,
    /// Preparing one hinted access, spread over the workers.
    pub prepare_ns: u64,
    /// Finding the height of one transaction's hinted chain, by one worker beside the others.
    pub climb_ns: u64,
    /// Setting the scheduler up over records kept from the block before, for each worker, by one of
    /// them.
    pub begin_ns: u64,
    /// Collecting and sorting one written key after the block, spread over the workers.
    pub collect_ns: u64,
    /// Taking over what one transaction left after the block, spread over the workers.
    pub output_ns: u64,
    /// Getting ready for one job after the block, for each worker, by one of them: as measured, and
    /// a line for each key that the worker has drawn.
    pub join_ns: u64,
    /// Waking a sleeping worker: all of them take as many steps as a binary tree is deep.
    pub wake_ns: u64,
    /// Moving a contended cache line to another core.
    pub line_ns: u64,
    /// Share by which memory contention slows everything at 96 workers, linear in the workers.
    pub inflation: f64,
}

impl Costs {
    /// What a current server is expected to show: what one core can tell is at least a quarter
    /// above the least that was measured (docs/explanation/ninety-six-workers.md has both).
    pub const fn nominal() -> Self {
        Self {
            task_ns: 80,
            read_ns: 145,
            write_ns: 220,
            commit_ns: 10,
            add_ns: 300,
            delta_ns: 140,
            survey_ns: 12,
            prepare_ns: 90,
            climb_ns: 30,
            begin_ns: 35,
            collect_ns: 600,
            output_ns: 260,
            join_ns: 220,
            wake_ns: 5_000,
            line_ns: 50,
            inflation: 0.1,
        }
    }

    /// No contention beyond the lines themselves.
    pub const fn best() -> Self {
        Self {
            line_ns: 20,
            wake_ns: 2_000,
            inflation: 0.0,
            ..Self::nominal()
        }
    }

    /// Slow lines and memory that suffers from the workers.
    pub const fn worst() -> Self {
        Self {
            line_ns: 100,
            wake_ns: 10_000,
            inflation: 0.3,
            ..Self::nominal()
        }
    }

    pub(crate) fn slowdown(&self, workers: usize) -> f64 {
        1.0 + self.inflation * (workers.saturating_sub(1) as f64) / 95.0
    }

    pub(crate) fn slowed(&self, workers: usize, time_ns: u64) -> u64 {
        (time_ns as f64 * self.slowdown(workers)) as u64
    }

    /// Until all workers have begun a job and been counted out of it, in nanoseconds; after a gap
    /// in which they fell asleep they are woken first.
    pub(crate) fn start_ns(&self, workers: usize, gap_ns: u64) -> u64 {
        if workers < 2 {
            return 0;
        }
        let asleep = u128::from(gap_ns) > AWAKE.as_nanos();
        let steps = u64::from(workers.next_power_of_two().ilog2());
        // Each worker sees the job on one line and counts itself out on another; the part it begins
        // with is its own.
        2 * workers as u64 * self.line_ns + if asleep { steps * self.wake_ns } else { 0 }
    }
}
