//! The commit lane: transactions become final in order, one worker at a time.

use chain_state::versions::{Effect, Version};
use chain_state::State;

use super::state::{Scheduler, EXECUTED, EXECUTING, IDLE, STALE, SUMMED};
use super::worker::{Claim, Lane, Worker};
use crate::sync::Ordering;

/// Transactions the lane makes final in one step: it visits eight states per cache line.
pub(crate) const RUN_MAX: u32 = 64;

impl<T> Scheduler<T> {
    pub(super) fn lane_open(&self) -> bool {
        let frontier = self.frontier();
        frontier < self.count()
            && !self.lane.0.load(Ordering::SeqCst)
            && matches!(self.get(frontier).0, EXECUTED | SUMMED | STALE | IDLE)
    }

    pub(super) fn take_lane(&self) -> bool {
        let (order, failed) = (Ordering::SeqCst, Ordering::SeqCst);
        let lane = &self.lane.0;
        lane.compare_exchange(false, true, order, failed).is_ok()
    }

    /// Advance the commit lane by one step; only its holder may.
    ///
    /// `state` is the finished state, for the exact value below a delta.
    pub fn advance(&self, worker: &mut Worker, state: Option<&State>) -> Lane {
        loop {
            let tx = self.frontier();
            if tx < self.count() {
                let (status, incarnation) = self.get(tx);
                let claimed = match status {
                    EXECUTED | SUMMED if self.settled(tx, status, state) => {
                        return Lane::Committed(self.commit_run(tx, state));
                    }
                    // A delta guessed wrong. Nobody invalidates the frontier: a plain store does.
                    EXECUTED | SUMMED | STALE => {
                        worker.counters.invalidated += u64::from(status != STALE);
                        self.put(tx, EXECUTING, incarnation + 1);
                        Some(incarnation + 1)
                    }
                    IDLE if self.swap(tx, (IDLE, incarnation), (EXECUTING, incarnation)) => {
                        Some(incarnation)
                    }
                    _ => None,
                };
                if let Some(incarnation) = claimed {
                    let version = Version { tx, incarnation };
                    return Lane::Execute(Claim {
                        version,
                        exact: true,
                    });
                }
            }
            self.lane.0.store(false, Ordering::SeqCst);
            // Whoever ran the frontier meanwhile found the lane taken and went on.
            if !self.lane_open() || !self.take_lane() {
                return Lane::Released;
            }
        }
    }

    /// Publish what an execution on the commit lane did, and make it final.
    ///
    /// # Panics
    /// When the execution was not exact.
    pub fn finish_exact(
        &self,
        worker: &mut Worker,
        claim: Claim,
        effects: Vec<Effect>,
        output: T,
        state: Option<&State>,
    ) {
        assert!(claim.exact, "only what was executed on the lane ends on it");
        let Version { tx, incarnation } = claim.version;
        worker.counters.executions += 1;
        worker.counters.exact += 1;
        let ran = self.publish(worker, tx, effects, output);
        let settled = self.settled(tx, ran, state);
        assert!(settled, "an exact execution knows the values it adds to");
        self.put(tx, EXECUTED, incarnation);
        self.commit(tx + 1);
        self.release(worker, tx);
        self.has_now_run(tx);
    }

    /// Whether it has run and additions of it are left to the lane.
    pub(crate) fn is_summed(&self, tx: u32) -> bool {
        self.get(tx).0 == SUMMED
    }

    fn settle(&self, tx: u32, state: Option<&State>) -> bool {
        let record = self.records.slots[tx as usize].record.lock();
        self.memory.settle(tx, &record.written, state)
    }

    /// Whether what was executed stands, everything before it being final.
    fn settled(&self, tx: u32, status: u64, state: Option<&State>) -> bool {
        status == EXECUTED || status == SUMMED && self.settle(tx, state)
    }

    /// The first one stands; so may those after it, for nobody is left to invalidate them.
    fn commit_run(&self, first: u32, state: Option<&State>) -> u32 {
        let end = first.saturating_add(RUN_MAX).min(self.count());
        let mut next = first + 1;
        while next < end && self.settled(next, self.get(next).0, state) {
            next += 1;
        }
        self.commit(next);
        next - first
    }

    fn commit(&self, end: u32) {
        self.memory.set_final_below(end);
        self.frontier.0.store(end, Ordering::SeqCst);
        self.pace.0.committed(end, &self.settings);
    }
}
