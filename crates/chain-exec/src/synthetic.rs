//! Blocks made from a trace, really executed: transactions that read, spin and write.
//!
//! Every value written is a hash of what was read, so that any engine's mistake shows in the
//! writes. Used by the benchmarks and by the comparison with the serial oracle.

use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use chain_state::versions::{Lens, Memory, Shards, Version};
use chain_state::{
    share_out, stretches, AccessSet, BlockOverlay, Bounds, Form, Place, Places, State, TxView,
    Workers,
};

use crate::foretold::Hints;
use crate::gate::{Engine, Forecast};
use crate::parallel::SHARED_MIN_FIXED;
use crate::pool::{crew_after, Crew, Pool};
use crate::scheduler::{Claim, Counters, Records, Scheduler, Settings};
use crate::sync::Mutex;
use crate::threads::{run, Execution, Program};
use crate::trace::{key_bytes, Trace, TraceTransaction};

/// How [`run_block`] executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The plain serial engine.
    Serial,
    /// In parallel, following complete hints.
    HintDag,
    /// In parallel, speculating; hints reserve slots.
    Stm,
    /// In parallel, speculating, nothing prepared.
    Blind,
    /// As the gate chooses.
    Gate,
}

/// What executing a block of a trace gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// From the prepared hints to the sorted net writes, in nanoseconds.
    pub time_ns: u64,
    /// Net writes sorted by key.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Per transaction a digest of what it read and how it ended.
    pub digests: Vec<u64>,
    /// What the workers did; zeros when serial.
    pub counters: Counters,
    /// The engine that ran.
    pub engine: Engine,
}

fn mix(state: u64, value: u64) -> u64 {
    (state ^ value)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

fn spin(rounds: u64) {
    let mut state = black_box(1u64);
    for round in 0..rounds {
        state = mix(state, round);
    }
    black_box(state);
}

/// Rounds of [`spin`] per microsecond: the best of several, since others may share the core.
fn rounds_per_us() -> u64 {
    static ROUNDS: OnceLock<u64> = OnceLock::new();
    *ROUNDS.get_or_init(|| {
        let time = |_| {
            let start = Instant::now();
            spin(200_000);
            start.elapsed().as_nanos() as u64
        };
        let best = (0..9).map(time).min().unwrap_or(1).max(1);
        (200_000 * 1_000 / best).max(1)
    })
}

fn digest(mut state: u64, bytes: Option<&[u8]>) -> u64 {
    let bytes = bytes.unwrap_or(b"absent");
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = mix(state, u64::from_le_bytes(word));
    }
    mix(state, bytes.len() as u64)
}

/// The bounds of an addition, and whether the transaction goes on where it does not fit. With
/// `fail`, bounds as narrow as a few deltas are met on both sides, wider ones after some twenty,
/// and some forms are wrong.
fn addition(state: u64, key: u64, fail: bool) -> (Bounds, bool) {
    match (fail, key % 3, state % 8) {
        (true, 0, kind) if key.is_multiple_of(2) => {
            let bounds = Bounds::new(Form::COUNTER, -(1 << 22), 1 << 27);
            (bounds, kind % 2 == 0)
        }
        (true, 1, 7) => (Bounds::new(Form::new(8).expect("a form"), 0, 1 << 30), true),
        (true, 1 | 2, kind) => {
            let bounds = Bounds::new(Form::COUNTER, -(1 << 22), 1 << 24);
            (bounds, kind % 2 == 0)
        }
        _ => (Bounds::COUNTER, false),
    }
}

/// One transaction: a failure (of an addition, or one in 16 by what it read) drops its writes.
fn execute<B: std::ops::Deref<Target = State>>(
    one: &TraceTransaction,
    tx: u32,
    fail: bool,
    view: &mut TxView<B>,
) -> Option<(u64, bool)> {
    let mut state = mix(u64::from(tx) + 1, 7);
    for scan in &one.ranges {
        let (mut start, end) = (key_bytes(scan.start).to_vec(), key_bytes(scan.end));
        view.note_range(&start, Some(&end));
        while let Some((key, value)) = view.edge(&start, Some(&end), false) {
            state = digest(digest(state, Some(&key)), Some(&value));
            start = key;
            start.push(0);
        }
    }
    for (key, _) in &one.reads {
        state = digest(state, view.get(&key_bytes(*key)).as_deref());
        if view.interrupted() {
            return None;
        }
    }
    spin(one.cost_ns * rounds_per_us() / 1_000);
    for key in &one.deltas {
        let delta = i128::from(state >> 40) - (1 << 22);
        let (bounds, caught) = addition(state, *key, fail);
        if view.add(key_bytes(*key).into(), delta, &bounds).is_err() {
            if view.interrupted() || !caught {
                return (!view.interrupted()).then_some((mix(state, 1), false));
            }
            state = mix(state, 3);
        }
    }
    if fail && state.is_multiple_of(16) {
        return (!view.interrupted()).then_some((mix(state, 2), false));
    }
    for (index, key) in one.writes.iter().enumerate() {
        let value = mix(state, index as u64);
        if fail && value.is_multiple_of(8) {
            view.delete(key_bytes(*key).into());
        } else {
            let mut bytes = value.to_be_bytes().to_vec();
            bytes.resize(16, 0);
            if fail && value % 4 == 1 {
                // A number that leaves room for additions.
                bytes = i128::from(value >> 40).to_be_bytes().to_vec();
            }
            view.put(key_bytes(*key).into(), bytes);
        }
    }
    (!view.interrupted()).then_some((state, true))
}

struct Spin {
    trace: Arc<Trace>,
    state: Arc<State>,
    memory: Arc<Memory>,
    fail: bool,
}

struct Hand {
    state: Arc<State>,
    lens: Option<Lens>,
}

impl Program for Spin {
    type Local = Hand;
    type Output = (u64, AccessSet);

    fn local(&self, _: usize) -> Hand {
        let start = Version {
            tx: 0,
            incarnation: 0,
        };
        Hand {
            state: Arc::clone(&self.state),
            lens: Some(Lens::new(Arc::clone(&self.memory), start, false)),
        }
    }

    fn execute(&self, local: &mut Hand, claim: Claim) -> Execution<Self::Output> {
        let tx = claim.version.tx;
        let mut lens = local.lens.take().expect("put back after each execution");
        lens.reset(claim.version, claim.exact);
        let mut view = TxView::speculative(&*local.state, lens);
        let one = &self.trace.transactions[tx as usize];
        let end = execute(one, tx, self.fail, &mut view);
        let (_, mut lens, writes, access) = view.into_parts();
        let execution = match (end, lens.blocked()) {
            (Some((digest, ok)), None) => {
                let effects = lens.effects(ok.then_some(writes));
                Execution::Done(effects, (digest, access))
            }
            (_, on) => Execution::Blocked(on.expect("only a wait interrupts")),
        };
        local.lens = Some(lens);
        execution
    }

    fn state<'a>(&self, local: &'a Hand) -> &'a State {
        &local.state
    }

    fn end(&self, _: usize, _: Hand) {}
}

/// A trace's block, ready to be executed any number of times.
#[derive(Debug)]
pub struct SyntheticBlock {
    trace: Arc<Trace>,
    hints: Hints,
    costs_ns: Vec<u64>,
    state: Arc<State>,
    fail: bool,
    pool: Arc<Pool>,
    records: Mutex<Records<(u64, AccessSet)>>,
    shards: Mutex<Shards>,
}

impl SyntheticBlock {
    /// A block for a number of threads above a state; with `fail`, some transactions fail and
    /// some writes delete.
    pub fn new(trace: Trace, state: State, threads: usize, fail: bool) -> Self {
        rounds_per_us();
        let hints = trace.transactions.iter().map(TraceTransaction::hint);
        Self {
            hints: Hints::from(hints.collect::<Vec<_>>()),
            costs_ns: trace.transactions.iter().map(|one| one.cost_ns).collect(),
            trace: Arc::new(trace),
            state: Arc::new(state),
            fail,
            pool: Arc::new(Pool::new(threads, false)),
            records: Mutex::default(),
            shards: Mutex::default(),
        }
    }

    /// Execute it once.
    pub fn run(&self, choice: Choice) -> Ran {
        let start = Instant::now();
        let engine = match choice {
            Choice::Serial => Engine::Serial,
            Choice::HintDag => Engine::HintDag,
            Choice::Stm => Engine::Stm,
            Choice::Blind => Engine::Blind,
            Choice::Gate => {
                let workers = self.pool.workers();
                Forecast::of_block(self.hints.iter(), &self.costs_ns, workers).engine(workers)
            }
        };
        let (writes, digests, counters) = match engine {
            Engine::Serial => self.serial(),
            Engine::HintDag => self.parallel(true, &self.hints),
            Engine::Stm => self.parallel(false, &self.hints),
            Engine::Blind => self.parallel(false, &Hints::default()),
        };
        Ran {
            time_ns: start.elapsed().as_nanos() as u64,
            writes,
            digests,
            counters,
            engine,
        }
    }

    fn serial(&self) -> (Writes, Vec<u64>, Counters) {
        let mut block = BlockOverlay::default();
        let mut digests = Vec::with_capacity(self.trace.transactions.len());
        for (one, tx) in self.trace.transactions.iter().zip(0..) {
            let mut view = TxView::new(&*self.state, block);
            let end = execute(one, tx, self.fail, &mut view);
            let (digest, ok) = end.expect("nothing interrupts a plain view");
            block = if ok {
                view.commit().1
            } else {
                view.rollback().1
            };
            digests.push(digest);
        }
        (
            block.into_net_writes(&self.state),
            digests,
            Counters::default(),
        )
    }

    fn parallel(&self, wait: bool, hints: &Hints) -> (Writes, Vec<u64>, Counters) {
        let count = self.trace.transactions.len();
        let mean = self.trace.work_ns() / count.max(1) as u64;
        let workers = self.pool.workers();
        let shards = std::mem::take(&mut *self.shards.lock());
        let memory = Arc::new(Memory::over(shards, BlockOverlay::default(), workers));
        let settings = Settings::for_workers(workers, mean, wait);
        let records = std::mem::take(&mut *self.records.lock());
        let scheduler = Scheduler::over(records, Arc::clone(&memory), count, settings);
        let program = Spin {
            trace: Arc::clone(&self.trace),
            state: Arc::clone(&self.state),
            memory,
            fail: self.fail,
        };
        let (program, scheduler, counters) = run(&self.pool, program, scheduler, hints);
        drop(program);
        let crew = crew_after(count, SHARED_MIN_FIXED, workers);
        let workers = &Crew::of(Arc::clone(&self.pool) as Arc<_>, crew);
        let mut digests = Places::new(count);
        let ranges = stretches(count, workers.count());
        let places = digests.cut(ranges.iter().map(ExactSizeIterator::len));
        let parts = places.into_iter().zip(ranges).collect();
        share_out(workers, parts, |(mut place, range): (Place<u64>, _)| {
            scheduler.take_outputs(range, |(digest, _)| place.put(digest));
        });
        let (memory, records) = scheduler.into_parts();
        *self.records.lock() = records;
        let memory = Arc::into_inner(memory).expect("the workers let go of it");
        let changes = |key: &[u8], value: Option<&[u8]>| self.state.get(key) != value;
        let (_, writes, shards) = memory.into_writes(workers, changes);
        *self.shards.lock() = shards;
        (writes, digests.into_list(), counters)
    }
}

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;
