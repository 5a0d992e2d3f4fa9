//! Claim, abort and commit: the steps of the scheduler.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use chain_state::versions::{Cell, Effect, Memory, Version};
use chain_state::State;

use super::hints::{Hint, HintKey};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering};

/// To be executed; whoever wins the claim does it.
const IDLE: u64 = 0;
/// Waits for the producer it met.
const BLOCKED: u64 = 1;
/// Claimed.
const EXECUTING: u64 = 2;
/// Claimed, and known to have read what has changed since.
const DIRTY: u64 = 3;
/// Its versions are published.
const EXECUTED: u64 = 4;
/// Its versions are being turned into estimates.
const ABORTING: u64 = 5;
/// Its versions are published and some of them are additions, to be settled in order.
const SUMMED: u64 = 6;
const STATUS_BITS: u32 = 3;
/// Transactions the lane makes final in one step: it visits eight states per cache line.
const RUN_MAX: u32 = 64;

fn pack(status: u64, incarnation: u32) -> u64 {
    u64::from(incarnation) << STATUS_BITS | status
}

fn status_of(effects: &[Effect]) -> u64 {
    if effects.iter().any(Effect::is_pending) {
        SUMMED
    } else {
        EXECUTED
    }
}

fn unpack(state: u64) -> (u64, u32) {
    (
        state & ((1 << STATUS_BITS) - 1),
        (state >> STATUS_BITS) as u32,
    )
}

/// How far ahead and how eagerly to run. None of it changes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Positions above the commit frontier that may be executed.
    pub window: u32,
    /// Positions drawn at once: more for cheap transactions.
    pub batch: u32,
    /// Invalidations after which a transaction waits for the commit lane.
    pub aborts_max: u32,
    /// Whether transactions with complete hints wait for their producers.
    pub wait_for_producers: bool,
    /// Whether the commit lane comes first: a worker on its own then never has to guess.
    pub lane_first: bool,
}

impl Settings {
    /// What suits a number of workers and a mean transaction cost in nanoseconds.
    pub fn for_workers(workers: usize, mean_cost_ns: u64, wait_for_producers: bool) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        let ahead = if wait_for_producers { 64 } else { 16 };
        Self {
            window: workers.saturating_mul(ahead).max(64),
            batch: u32::try_from(16_000 / mean_cost_ns.max(1_000)).map_or(1, |n| n.clamp(1, 16)),
            aborts_max: 3,
            wait_for_producers,
            lane_first: workers == 1,
        }
    }
}

/// Someone to wake when a transaction has run.
#[derive(Clone, Copy, Debug)]
enum Waiter {
    /// A hint named it before the block began.
    Hinted(u32),
    /// It met the estimate.
    Blocked(u32),
}

#[derive(Debug)]
struct Record<T> {
    written: Vec<Arc<Cell>>,
    output: Option<T>,
}

#[derive(Debug)]
struct Slot<T> {
    /// Producers still to run, and one for being drawn.
    pending: AtomicU32,
    aborts: AtomicU32,
    waiters: Mutex<Vec<Waiter>>,
    record: Mutex<Record<T>>,
}

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
    drawn: std::ops::Range<u32>,
    released: Option<u32>,
    lane_due: bool,
    stale: Vec<Version>,
    /// What this worker did.
    pub counters: Counters,
}

impl Worker {
    /// Whether its next transaction would come from the shared counter.
    pub fn must_draw(&self) -> bool {
        self.released.is_none() && self.drawn.is_empty()
    }
}

/// Keeps the words that every worker writes on cache lines of their own.
#[repr(align(128))]
#[derive(Debug)]
struct Padded<T>(T);

/// The shared state of one block under way; `T` is what an execution leaves beside its writes.
#[derive(Debug)]
pub struct Scheduler<T> {
    memory: Arc<Memory>,
    settings: Settings,
    /// Apart from the slots and dense, for the lane reads them in a row.
    states: Box<[AtomicU64]>,
    slots: Box<[Slot<T>]>,
    next: Padded<AtomicU32>,
    frontier: Padded<AtomicU32>,
    lane: Padded<AtomicBool>,
    ready_count: Padded<AtomicUsize>,
    ready: Mutex<BinaryHeap<Reverse<u32>>>,
}

impl<T> Scheduler<T> {
    /// A scheduler of `count` transactions that write to a memory.
    ///
    /// # Panics
    /// When `count` does not fit 32 bits.
    pub fn new(memory: Arc<Memory>, count: usize, settings: Settings) -> Self {
        let slot = |_| Slot {
            pending: AtomicU32::new(1),
            aborts: AtomicU32::new(0),
            waiters: Mutex::new(Vec::new()),
            record: Mutex::new(Record {
                written: Vec::new(),
                output: None,
            }),
        };
        let count = u32::try_from(count).expect("a block holds far fewer transactions");
        Self {
            memory,
            settings,
            states: (0..count).map(|_| AtomicU64::new(pack(IDLE, 0))).collect(),
            slots: (0..count).map(slot).collect(),
            next: Padded(AtomicU32::new(0)),
            frontier: Padded(AtomicU32::new(0)),
            lane: Padded(AtomicBool::new(false)),
            ready_count: Padded(AtomicUsize::new(0)),
            ready: Mutex::new(BinaryHeap::new()),
        }
    }

    fn get(&self, tx: u32) -> (u64, u32) {
        unpack(self.states[tx as usize].load(Ordering::SeqCst))
    }

    fn swap(&self, tx: u32, from: (u64, u32), to: (u64, u32)) -> bool {
        let (from, to) = (pack(from.0, from.1), pack(to.0, to.1));
        let (order, failed) = (Ordering::SeqCst, Ordering::SeqCst);
        let state = &self.states[tx as usize];
        state.compare_exchange(from, to, order, failed).is_ok()
    }

    fn put(&self, tx: u32, status: u64, incarnation: u32) {
        self.states[tx as usize].store(pack(status, incarnation), Ordering::SeqCst);
    }

    /// The memory behind.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Number of transactions.
    pub fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Positions below are final.
    pub fn frontier(&self) -> u32 {
        self.frontier.0.load(Ordering::SeqCst)
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
            let slot = &self.slots[tx as usize];
            let mine = |key: &&HintKey| parts == 1 || self.memory.shard(key.hash) % parts == part;
            if self.settings.wait_for_producers && hint.is_complete() {
                for key in hint.reads.iter().filter(mine) {
                    self.memory
                        .expected_below(tx, key.hash, &key.bytes, |producer| {
                            slot.pending.fetch_add(1, Ordering::SeqCst);
                            let mut waiters = self.slots[producer as usize].waiters.lock();
                            waiters.push(Waiter::Hinted(tx));
                        });
                }
            }
            let mut written = Vec::new();
            for (keys, adds) in [(&hint.writes, false), (&hint.deltas, true)] {
                for key in keys.iter().filter(mine) {
                    let cell = self.memory.expect_write(tx, key.hash, &key.bytes, adds);
                    written.push(cell);
                }
            }
            if !written.is_empty() {
                slot.record.lock().written.append(&mut written);
            }
        }
    }

    /// What to do next.
    pub fn next_task(&self, worker: &mut Worker) -> Task {
        let due = std::mem::take(&mut worker.lane_due);
        if (due || self.settings.lane_first && self.lane_open()) && self.take_lane() {
            return Task::Commit;
        }
        loop {
            if let Some(tx) = worker.released.take().or_else(|| self.pop_ready()) {
                if let Some(claim) = self.claim(tx) {
                    return Task::Execute(claim);
                }
            } else if let Some(tx) = self.draw(worker) {
                let last = self.slots[tx as usize]
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
        self.ready_count.0.load(Ordering::SeqCst) > 0
            || self.next.0.load(Ordering::SeqCst) < self.limit()
            || self.frontier() == self.count()
            || self.lane_open()
    }

    /// Transactions queued to run again or for the first time, for whoever comes.
    pub fn queued(&self) -> usize {
        self.ready_count.0.load(Ordering::SeqCst)
    }

    /// Transactions that any worker could start now, beyond what their workers hold.
    pub fn waiting(&self) -> bool {
        self.ready_count.0.load(Ordering::SeqCst) > 0
            || self.next.0.load(Ordering::SeqCst) < self.limit()
    }

    fn limit(&self) -> u32 {
        let window = self.frontier().saturating_add(self.settings.window);
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
                let end = (next + self.settings.batch).min(limit);
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

    fn pop_ready(&self) -> Option<u32> {
        if self.ready_count.0.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut ready = self.ready.lock();
        let tx = ready.pop().map(|Reverse(tx)| tx);
        self.ready_count.0.store(ready.len(), Ordering::SeqCst);
        tx
    }

    fn push_ready(&self, tx: u32) {
        let mut ready = self.ready.lock();
        ready.push(Reverse(tx));
        self.ready_count.0.store(ready.len(), Ordering::SeqCst);
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
        let slot = &self.slots[tx as usize];
        worker.counters.executions += 1;
        if self.get(tx).0 == EXECUTING {
            let ran = status_of(&effects);
            self.publish(worker, tx, effects, output);
            if self.swap(tx, (EXECUTING, incarnation), (ran, incarnation)) {
                self.release(worker, tx);
                worker.lane_due = self.frontier() == tx;
                return;
            }
            Memory::estimate(tx, &slot.record.lock().written);
        }
        self.put(tx, IDLE, incarnation + 1);
        self.retry(tx);
        worker.lane_due = self.frontier() == tx;
    }

    fn publish(&self, worker: &mut Worker, tx: u32, effects: Vec<Effect>, output: T) {
        let mut stale = std::mem::take(&mut worker.stale);
        {
            let mut record = self.slots[tx as usize].record.lock();
            let written = &mut record.written;
            self.memory.publish(tx, effects, written, &mut stale);
            record.output = Some(output);
        }
        for version in stale.drain(..) {
            self.invalidate(worker, version);
        }
        worker.stale = stale;
    }

    /// An execution read what an earlier transaction has since changed.
    fn invalidate(&self, worker: &mut Worker, version: Version) {
        let Version { tx, incarnation } = version;
        let slot = &self.slots[tx as usize];
        loop {
            let (status, current) = self.get(tx);
            if current != incarnation {
                return;
            }
            let next = match status {
                EXECUTING => DIRTY,
                EXECUTED | SUMMED => ABORTING,
                _ => return,
            };
            if !self.swap(tx, (status, incarnation), (next, incarnation)) {
                continue;
            }
            worker.counters.invalidated += 1;
            slot.aborts.fetch_add(1, Ordering::SeqCst);
            if next == ABORTING {
                Memory::estimate(tx, &slot.record.lock().written);
                self.put(tx, IDLE, incarnation + 1);
                self.retry(tx);
            }
            return;
        }
    }

    /// Run it again soon, unless it was wrong so often that only the commit lane will do.
    fn retry(&self, tx: u32) {
        if self.slots[tx as usize].aborts.load(Ordering::SeqCst) < self.settings.aborts_max {
            self.push_ready(tx);
        }
    }

    /// An execution met the estimate of an earlier transaction: wait until that one has run.
    pub fn block(&self, worker: &mut Worker, claim: Claim, on: u32) {
        let Version { tx, incarnation } = claim.version;
        worker.counters.blocked += 1;
        let mut waiters = self.slots[on as usize].waiters.lock();
        let ran = matches!(self.get(on).0, EXECUTED | SUMMED);
        // Under the lock, so that the producer wakes it if it runs from here on.
        self.put(tx, if ran { IDLE } else { BLOCKED }, incarnation + 1);
        if ran {
            drop(waiters);
            self.hand(worker, tx);
        } else {
            waiters.push(Waiter::Blocked(tx));
        }
    }

    /// Keep one for this worker, give the others away.
    fn hand(&self, worker: &mut Worker, tx: u32) {
        match worker.released {
            Some(kept) => {
                worker.released = Some(kept.min(tx));
                self.push_ready(kept.max(tx));
            }
            None => worker.released = Some(tx),
        }
    }

    fn release(&self, worker: &mut Worker, tx: u32) {
        let waiters = std::mem::take(&mut *self.slots[tx as usize].waiters.lock());
        for waiter in waiters {
            match waiter {
                Waiter::Hinted(tx) => {
                    let pending = &self.slots[tx as usize].pending;
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

    fn lane_open(&self) -> bool {
        let frontier = self.frontier();
        frontier < self.count()
            && !self.lane.0.load(Ordering::SeqCst)
            && matches!(self.get(frontier).0, EXECUTED | SUMMED | IDLE)
    }

    fn take_lane(&self) -> bool {
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
                    EXECUTED | SUMMED => {
                        worker.counters.invalidated += 1;
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
        let ran = status_of(&effects);
        self.publish(worker, tx, effects, output);
        let settled = self.settled(tx, ran, state);
        assert!(settled, "an exact execution knows the values it adds to");
        self.put(tx, EXECUTED, incarnation);
        self.commit(tx + 1);
        self.release(worker, tx);
    }

    fn settle(&self, tx: u32, state: Option<&State>) -> bool {
        let record = self.slots[tx as usize].record.lock();
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
    }

    /// What every transaction left, in block order, once all are final.
    ///
    /// # Panics
    /// When one is not.
    pub fn into_outputs(self) -> (Arc<Memory>, Vec<T>) {
        let output = |slot: Slot<T>| slot.record.into_inner().output;
        let outputs = self.slots.into_vec().into_iter().map(output);
        let outputs = outputs.map(|output| output.expect("every transaction is final"));
        (self.memory, outputs.collect())
    }
}
