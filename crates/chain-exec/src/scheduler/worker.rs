//! What passes between a driver's worker and the scheduler.

use chain_state::versions::Version;

/// One execution that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which transaction, which time.
    pub version: Version,
    /// Whether everything before it is final, so that it cannot be wrong.
    pub exact: bool,
}

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Execute, then [`Scheduler::finish`] or [`Scheduler::block`].
    Execute(Claim),
    /// The commit lane is this worker's: [`Scheduler::advance`] until it stops.
    Commit,
    /// Nothing can be done now.
    Idle,
    /// Every transaction is final.
    Done,
}

/// What the holder of the commit lane does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// So many transactions more are final.
    Committed(u32),
    /// Execute this one here, then [`Scheduler::finish_exact`].
    Execute(Claim),
    /// The frontier waits for another worker; the lane is free again.
    Released,
}

/// What was done, per worker and summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Executions that ran to their end.
    pub executions: u64,
    /// Attempts that met a value still to be written.
    pub blocked: u64,
    /// Executions proved wrong by an earlier transaction.
    pub invalidated: u64,
    /// Executions on the commit lane.
    pub exact: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.executions += other.executions;
        self.blocked += other.blocked;
        self.invalidated += other.invalidated;
        self.exact += other.exact;
    }
}

/// A worker's own part of the scheduler.
#[derive(Debug, Default)]
pub struct Worker {
    pub(super) drawn: std::ops::Range<u32>,
    pub(super) released: Option<u32>,
    pub(super) lane_due: bool,
    pub(super) stale: Vec<Version>,
    /// What this worker did.
    pub counters: Counters,
}

impl Worker {
    /// Whether its next transaction would come from the shared counter.
    pub fn must_draw(&self) -> bool {
        self.released.is_none() && self.drawn.is_empty()
    }
}
