//! Claim, abort and commit: the steps of the scheduler.

use std::sync::Arc;

use chain_state::versions::{Effect, Memory, Version, Written};

use super::deferred::Deferred;
use super::hints::{Hint, HintKey};
use super::pace::Pace;
use super::ready::Ready;
use super::records::{Records, Waiter};
use super::settings::Settings;
use super::worker::{Claim, Task, Worker};
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// To be executed; whoever wins the claim does it.
pub(super) const IDLE: u64 = 0;
/// Waits for the producer it met.
const BLOCKED: u64 = 1;
/// Claimed.
pub(super) const EXECUTING: u64 = 2;
/// Claimed, and known to have read what has changed since.
pub(super) const DIRTY: u64 = 3;
/// Its versions are published.
pub(super) const EXECUTED: u64 = 4;
/// Its versions are being turned into estimates.
pub(super) const ABORTING: u64 = 5;
/// Its versions are published and some of them are additions, to be settled in order.
pub(super) const SUMMED: u64 = 6;
/// Its versions are published and known to be wrong, to be executed again when it comes up to be
/// final; only without push invalidation.
pub(super) const STALE: u64 = 7;
/// Claimed; what it has published or is about to has additions to be settled in order.
const UNSURE: u64 = 8;
const STATUS_BITS: u32 = 4;

/// Keys drawn from each range of outputs: from about one a stretch of the writes, the longest
/// stretch would be many times as long as the others.
const DRAWN_PER_RANGE: usize = 2;

pub(super) fn pack(status: u64, incarnation: u32) -> u64 {
    u64::from(incarnation) << STATUS_BITS | status
}

fn unpack(state: u64) -> (u64, u32) {
    (
        state & ((1 << STATUS_BITS) - 1),
        (state >> STATUS_BITS) as u32,
    )
}

/// Keeps the words that every worker writes on cache lines of their own.
#[repr(align(128))]
#[derive(Debug)]
pub(super) struct Padded<T>(pub(super) T);

/// The shared state of one block under way; `T` is what an execution leaves beside its writes.
#[derive(Debug)]
pub struct Scheduler<T> {
    pub(super) memory: Arc<Memory>,
    pub(super) settings: Settings,
    pub(super) records: Records<T>,
    count: u32,
    next: Padded<AtomicU32>,
    pub(super) frontier: Padded<AtomicU32>,
    pub(super) lane: Padded<AtomicBool>,
    pub(super) pace: Padded<Pace>,
    pub(super) deferred: Padded<Deferred>,
    pub(super) ready: Padded<Ready>,
    /// Outputs that were taken: their records are as new.
    taken: AtomicUsize,
}

impl<T> Scheduler<T> {
    /// A scheduler of `count` transactions that write to a memory.
    ///
    /// # Panics
    /// When `count` does not fit 32 bits.
    pub fn new(memory: Arc<Memory>, count: usize, settings: Settings) -> Self {
        Self::over(Records::default(), memory, count, settings)
    }

    /// The same over the records of an earlier block: only those are set up that it lacked.
    ///
    /// # Panics
    /// When `count` does not fit 32 bits.
    pub fn over(
        mut records: Records<T>,
        memory: Arc<Memory>,
        count: usize,
        settings: Settings,
    ) -> Self {
        records.suffice(count);
        Self {
            memory,
            settings,
            records,
            count: u32::try_from(count).expect("a block holds far fewer transactions"),
            next: Padded(AtomicU32::new(0)),
            frontier: Padded(AtomicU32::new(0)),
            lane: Padded(AtomicBool::new(false)),
            pace: Padded(Pace::new(&settings)),
            deferred: Padded(Deferred::new()),
            ready: Padded(Ready::new()),
            taken: AtomicUsize::new(0),
        }
    }

    pub(super) fn get(&self, tx: u32) -> (u64, u32) {
        unpack(self.records.states[tx as usize].load(Ordering::SeqCst))
    }

    pub(super) fn swap(&self, tx: u32, from: (u64, u32), to: (u64, u32)) -> bool {
        let (from, to) = (pack(from.0, from.1), pack(to.0, to.1));
        let (order, failed) = (Ordering::SeqCst, Ordering::SeqCst);
        let state = &self.records.states[tx as usize];
        state.compare_exchange(from, to, order, failed).is_ok()
    }

    pub(super) fn put(&self, tx: u32, status: u64, incarnation: u32) {
        self.records.states[tx as usize].store(pack(status, incarnation), Ordering::SeqCst);
    }

    /// The memory behind.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Number of transactions.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Positions below are final.
    pub fn frontier(&self) -> u32 {
        self.frontier.0.load(Ordering::SeqCst)
    }

    /// Positions above the frontier that may be executed now.
    pub fn window(&self) -> u32 {
        self.pace.0.window()
    }

    /// Whether transactions with complete hints wait for their producers.
    pub fn follows_hints(&self) -> bool {
        self.settings.wait_for_producers
    }

    /// Reserve the slots of hinted writers and the edges to hinted readers, before any execution.
    ///
    /// Call it once for each `part` of `parts`, in parallel if wanted: a part owns the keys of its
    /// shards, so parts share nothing but the lists of the transactions.
    pub fn prepare<'a>(
        &self,
        hints: impl IntoIterator<Item = &'a Hint>,
        part: usize,
        parts: usize,
    ) {
        for (tx, hint) in hints.into_iter().enumerate() {
            let tx = tx as u32;
            let slot = &self.records.slots[tx as usize];
            let mine = |key: &&HintKey| parts == 1 || self.memory.shard(key.hash) % parts == part;
            if self.settings.wait_for_producers && hint.is_complete() {
                for key in hint.reads.iter().filter(mine) {
                    self.memory
                        .expected_below(tx, key.hash, &key.bytes, |producer| {
                            slot.pending.fetch_add(1, Ordering::SeqCst);
                            let mut waiters = self.records.slots[producer as usize].waiters.lock();
                            waiters.push(Waiter::Hinted(tx));
                        });
                }
            }
            let mut written = Written::new();
            for (keys, adds) in [(&hint.writes, false), (&hint.deltas, true)] {
                for key in keys.iter().filter(mine) {
                    let cell = self.memory.expect_write(tx, key.hash, &key.bytes, adds);
                    written.push(cell);
                }
            }
            if !written.is_empty() {
                slot.record.lock().written.extend(written);
            }
        }
    }

    /// What to do next.
    pub fn next_task(&self, worker: &mut Worker) -> Task {
        let due = std::mem::take(&mut worker.lane_due) && worker.released.is_none();
        // Whoever waits for what this worker has just run comes before the lane, which any other
        // worker may take: it is often the next link of the longest chain.
        let free = due || self.settings.lane_first || worker.must_draw();
        if free && self.lane_open() && self.take_lane() {
            return Task::Commit;
        }
        loop {
            if let Some(tx) = worker.released.take().or_else(|| self.pop_ready()) {
                if let Some(claim) = self.claim(tx) {
                    return Task::Execute(claim);
                }
            } else if let Some(tx) = self.draw(worker) {
                let last = self.records.slots[tx as usize]
                    .pending
                    .fetch_sub(1, Ordering::SeqCst)
                    == 1;
                if let Some(claim) = last.then(|| self.claim(tx)).flatten() {
                    return Task::Execute(claim);
                }
            } else if self.frontier() == self.count() {
                return Task::Done;
            } else if self.lane_open() && self.take_lane() {
                return Task::Commit;
            } else {
                return Task::Idle;
            }
        }
    }

    /// Whether [`Scheduler::next_task`] could give anything but idleness now.
    pub fn has_work(&self) -> bool {
        self.queued() > 0
            || self.next.0.load(Ordering::SeqCst) < self.limit()
            || self.frontier() == self.count()
            || self.lane_open()
    }

    /// Transactions that any worker could start now, beyond what their workers hold.
    pub fn waiting(&self) -> bool {
        self.queued() > 0 || self.next.0.load(Ordering::SeqCst) < self.limit()
    }

    fn limit(&self) -> u32 {
        let window = self.frontier().saturating_add(self.pace.0.window());
        window.min(self.count())
    }

    fn draw(&self, worker: &mut Worker) -> Option<u32> {
        if worker.drawn.is_empty() {
            let mut next = self.next.0.load(Ordering::SeqCst);
            loop {
                let limit = self.limit();
                if next >= limit {
                    return None;
                }
                let end = next.saturating_add(self.share(next)).min(limit);
                let (order, failed) = (Ordering::SeqCst, Ordering::SeqCst);
                match self.next.0.compare_exchange(next, end, order, failed) {
                    Ok(_) => {
                        worker.drawn = next..end;
                        break;
                    }
                    Err(seen) => next = seen,
                }
            }
        }
        worker.drawn.next()
    }

    /// Positions to draw at once: fewer towards the end, or one worker's share would be the rest.
    fn share(&self, next: u32) -> u32 {
        let left = (self.count() - next) / self.settings.workers.saturating_mul(2).max(1);
        left.clamp(1, self.settings.batch.max(1))
    }

    fn claim(&self, tx: u32) -> Option<Claim> {
        let (status, incarnation) = self.get(tx);
        let claimed =
            status == IDLE && self.swap(tx, (IDLE, incarnation), (EXECUTING, incarnation));
        claimed.then_some(Claim {
            version: Version { tx, incarnation },
            exact: false,
        })
    }

    /// Publish what an execution did.
    pub fn finish(&self, worker: &mut Worker, claim: Claim, effects: Vec<Effect>, output: T) {
        let Version { tx, incarnation } = claim.version;
        let slot = &self.records.slots[tx as usize];
        worker.counters.executions += 1;
        if matches!(self.get(tx).0, EXECUTING | UNSURE) || !self.settings.push {
            let ran = self.publish(worker, tx, effects, output);
            let stands = self.swap(tx, (EXECUTING, incarnation), (ran, incarnation))
                || self.swap(tx, (UNSURE, incarnation), (SUMMED, incarnation));
            if !stands && !self.settings.push {
                self.put(tx, STALE, incarnation);
            }
            if stands || !self.settings.push {
                self.release(worker, tx);
                self.has_now_run(tx);
                worker.lane_due = self.frontier() == tx;
                return;
            }
            self.memory.estimate(tx, &slot.record.lock().written);
        } else {
            // It will write these keys again, most likely: readers above wait instead of guessing.
            let mut record = slot.record.lock();
            self.memory.expect_again(tx, &effects, &mut record.written);
        }
        self.put(tx, IDLE, incarnation + 1);
        self.has_now_run(tx);
        self.retry(tx);
        worker.lane_due = self.frontier() == tx;
    }

    /// The status it has then, unless somebody has proved it wrong.
    pub(super) fn publish(
        &self,
        worker: &mut Worker,
        tx: u32,
        effects: Vec<Effect>,
        output: T,
    ) -> u64 {
        let mut stale = std::mem::take(&mut worker.stale);
        let pending = {
            let mut record = self.records.slots[tx as usize].record.lock();
            let written = &mut record.written;
            let mut unsettle = |tx| self.unsettle(tx);
            let memory = &self.memory;
            let pending = memory.publish(tx, effects, written, &mut stale, &mut unsettle);
            record.output = Some(output);
            pending
        };
        for version in stale.drain(..) {
            self.invalidate(worker, version);
        }
        worker.stale = stale;
        if pending {
            SUMMED
        } else {
            EXECUTED
        }
    }

    /// An addition was let through and may not fit any longer: settle it in order. Of another
    /// execution than the one that added, that is looked at in vain, no more.
    fn unsettle(&self, tx: u32) {
        loop {
            let (status, incarnation) = self.get(tx);
            let next = match status {
                EXECUTING => UNSURE,
                EXECUTED => SUMMED,
                _ => return,
            };
            if self.swap(tx, (status, incarnation), (next, incarnation)) {
                return;
            }
        }
    }

    /// An execution read what an earlier transaction has since changed.
    fn invalidate(&self, worker: &mut Worker, version: Version) {
        let Version { tx, incarnation } = version;
        let slot = &self.records.slots[tx as usize];
        loop {
            let (status, current) = self.get(tx);
            if current != incarnation {
                return;
            }
            let next = match status {
                EXECUTING | UNSURE => DIRTY,
                EXECUTED | SUMMED if self.settings.push => ABORTING,
                EXECUTED | SUMMED => STALE,
                _ => return,
            };
            if !self.swap(tx, (status, incarnation), (next, incarnation)) {
                continue;
            }
            worker.counters.invalidated += 1;
            self.pace.0.invalidated();
            slot.aborts.fetch_add(1, Ordering::SeqCst);
            if next == ABORTING {
                self.memory.estimate(tx, &slot.record.lock().written);
                self.put(tx, IDLE, incarnation + 1);
                self.retry(tx);
            }
            return;
        }
    }

    /// Run it again soon, unless it was wrong so often that only the commit lane will do.
    fn retry(&self, tx: u32) {
        let aborts = self.records.slots[tx as usize]
            .aborts
            .load(Ordering::SeqCst);
        if aborts < self.settings.aborts_free {
            self.push_ready(tx);
        } else if aborts < self.settings.aborts_max {
            self.defer(tx);
        }
    }

    /// An execution met the estimate of an earlier transaction: wait until that one has run.
    pub fn block(&self, worker: &mut Worker, claim: Claim, on: u32) {
        let Version { tx, incarnation } = claim.version;
        worker.counters.blocked += 1;
        let mut waiters = self.records.slots[on as usize].waiters.lock();
        let ran = matches!(self.get(on).0, EXECUTED | SUMMED | STALE);
        // Under the lock, so that the producer wakes it if it runs from here on.
        self.put(tx, if ran { IDLE } else { BLOCKED }, incarnation + 1);
        if ran {
            drop(waiters);
            self.hand(worker, tx);
        } else {
            waiters.push(Waiter::Blocked(tx));
        }
    }

    pub(super) fn release(&self, worker: &mut Worker, tx: u32) {
        let waiters = std::mem::take(&mut *self.records.slots[tx as usize].waiters.lock());
        for waiter in waiters {
            match waiter {
                Waiter::Hinted(tx) => {
                    let pending = &self.records.slots[tx as usize].pending;
                    if pending.fetch_sub(1, Ordering::SeqCst) == 1 {
                        self.hand(worker, tx);
                    }
                }
                Waiter::Blocked(tx) => {
                    let (_, incarnation) = self.get(tx);
                    if self.swap(tx, (BLOCKED, incarnation), (IDLE, incarnation)) {
                        self.hand(worker, tx);
                    }
                }
            }
        }
    }

    /// Hand over what the transactions at these positions left, in block order, once all are final;
    /// their records are as new then, each range's by whoever asks for it.
    ///
    /// # Panics
    /// When one is not final, or was asked for before.
    pub fn take_outputs(&self, range: std::ops::Range<usize>, mut put: impl FnMut(T)) {
        let count = range.len();
        // Whoever collects the writes would have to find keys to divide them by, alone.
        let every = count.div_ceil(DRAWN_PER_RANGE);
        let mut due = range.start;
        for tx in range {
            let (output, written) = self.records.empty(tx);
            if let Some(written) = written.filter(|_| tx >= due) {
                self.memory.draw(written);
                due = tx + every;
            }
            put(output);
        }
        self.taken.fetch_add(count, Ordering::SeqCst);
    }

    /// The memory behind, and the records for a block to come, all outputs having been taken.
    ///
    /// # Panics
    /// When they have not.
    pub fn into_parts(self) -> (Arc<Memory>, Records<T>) {
        let taken = self.taken.load(Ordering::SeqCst);
        assert_eq!(taken, self.count as usize, "a record is still in use");
        (self.memory, self.records)
    }
}
