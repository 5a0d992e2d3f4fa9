//! A run of invocations on the parallel scheduler.

mod ahead;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chain_state::versions::{Lens, Memory, NetWrites, Shards, Version};
use chain_state::{
    share_out, stretches, Alone, BlockOverlay, SharedState, State, StateGuard, TxView, Workers,
};
use chain_types::proto::PayloadKind;
use chain_vm::Machine;
use parking_lot::Mutex;

use crate::block::{Executed, Item, Rules};
use crate::foretold::{call_of, Hints};
use crate::gate::{path_share, Engine, Forecast};
use crate::graph::Access;
use crate::hints::Templates;
use crate::meter::{Meter, Phase};
use crate::observed::Observed;
use crate::parts::Parts;
use crate::pool::{crew_after, Crew, Pool};
use crate::receipt::{BlockResult, Lists};
use crate::scheduler::{Claim, Records, Scheduler, Settings};
use crate::survey::Writers;
use crate::threads::{run, Execution, Program};

/// Runs shorter than this are over before another thread has woken.
const RUN_MIN: usize = 16;
/// Calls of a block that are learnt from at most, drawn evenly: more tell little and cost time.
const LEARNT_MAX: usize = 1_024;
/// Pieces of work below which no other thread is woken, and where the engine is fixed.
pub(crate) const SHARED_MIN: usize = 128;
pub(crate) const SHARED_MIN_FIXED: usize = 32;
/// What a transaction is taken to cost before any was measured.
const COST_FIRST_NS: u64 = 20_000;

/// Which engine executes blocks; the results are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The gate decides for each block.
    #[default]
    Gate,
    /// Always this one.
    Always(Engine),
}

/// The parallel engine between blocks.
#[derive(Debug)]
pub(crate) struct Parallel {
    pub(crate) threads: usize,
    pub(crate) strategy: Strategy,
    pinned: bool,
    pool: Option<Arc<Pool>>,
    machines: Arc<Vec<Mutex<Option<Machine>>>>,
    templates: HashMap<String, (Vec<u8>, Arc<Templates>)>,
    cost_ns: u64,
    /// Critical path over work in the last block whose hints did not say.
    path_share: f64,
    /// Whether the hints of the last run said it all.
    foretold: bool,
    /// Where the speculation window ended in the last block that speculated.
    window: Option<u32>,
    observed: Observed,
    /// Room for the gate's look at a block.
    writers: Writers,
    /// Set up for the longest run so far.
    records: Records<(Executed, Access)>,
    shards: Shards,
    /// Of the last run that was long enough to choose for.
    pub(crate) forecast: Forecast,
    /// Takes the place of the threads while a block is timed.
    meter: Option<Arc<Meter>>,
}

impl Parallel {
    pub(crate) fn new(threads: usize, strategy: Strategy, pinned: bool) -> Self {
        Self {
            threads: threads.max(1),
            strategy,
            pinned,
            pool: None,
            machines: Arc::default(),
            templates: HashMap::new(),
            cost_ns: COST_FIRST_NS,
            path_share: 0.0,
            foretold: false,
            window: None,
            observed: Observed::default(),
            writers: Writers::default(),
            records: Records::default(),
            shards: Shards::default(),
            forecast: Forecast::default(),
            meter: None,
        }
    }

    /// Time a block on the caller's thread as it divides among so many workers.
    pub(crate) fn metered(strategy: Strategy, workers: usize) -> Self {
        Self {
            meter: Some(Arc::new(Meter::new(workers))),
            ..Self::new(1, strategy, false)
        }
    }

    /// What follows belongs to this phase, where a block is timed.
    pub(crate) fn enter(&self, phase: &'static str) {
        if let Some(meter) = &self.meter {
            meter.enter(phase);
        }
    }

    /// The phases of the block that was timed.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        self.meter
            .as_ref()
            .map_or_else(Vec::new, |meter| meter.read())
    }

    /// Whether anything but the serial engine can be chosen at all.
    pub(crate) fn is_on(&self) -> bool {
        match self.strategy {
            Strategy::Always(engine) => engine != Engine::Serial,
            Strategy::Gate => self.gate_workers() > 1,
        }
    }

    /// Workers that the gate chooses for.
    fn gate_workers(&self) -> usize {
        let metered = self.meter.as_ref().map(|meter| meter.count());
        metered.unwrap_or(self.threads)
    }

    /// The executor's threads, for so many pieces of work; the caller alone for few.
    pub(crate) fn workers(&mut self, pieces: usize) -> Arc<dyn Workers + Send> {
        let least = match self.strategy {
            Strategy::Gate => SHARED_MIN,
            Strategy::Always(_) => SHARED_MIN_FIXED,
        };
        match &self.meter {
            Some(meter) => Arc::clone(meter) as Arc<dyn Workers + Send>,
            None if self.threads < 2 => Arc::new(Alone),
            None if pieces < least => Arc::new(Alone),
            None => self.pool(),
        }
    }

    fn pool(&mut self) -> Arc<Pool> {
        let (threads, pinned) = (self.threads, self.pinned);
        let pool = self.pool.get_or_insert_with(|| {
            let machines = (0..threads).map(|_| Mutex::default());
            self.machines = Arc::new(machines.collect());
            Arc::new(Pool::new(threads, pinned))
        });
        Arc::clone(pool)
    }

    /// Learn from a serial run what a transaction costs.
    pub(crate) fn measured(&mut self, count: usize, nanoseconds: u64) {
        if count > 0 {
            self.cost_ns = (3 * self.cost_ns + nanoseconds / count as u64) / 4;
        }
    }

    /// Learn how long the chains of a block were, and which keys its calls wrote.
    pub(crate) fn observe(&mut self, items: &Parts<Item>, accesses: &[Access]) {
        self.observed.next_block();
        for at in (0..items.len()).step_by(items.len().div_ceil(LEARNT_MAX).max(1)) {
            match &items[at].transaction {
                Ok(transaction) if transaction.kind == PayloadKind::Invoke => {
                    let call = call_of(transaction);
                    self.observed.learn(call, &accesses[at]);
                }
                _ => {}
            }
        }
        if !self.foretold && (self.path_share > 0.0 || accesses.len() >= RUN_MIN) {
            self.path_share = path_share(accesses);
        }
    }

    /// Execute a run above the block so far.
    pub(crate) fn execute(
        &mut self,
        engine: Engine,
        hints: Hints,
        run_of: RunOf,
        block: BlockOverlay,
        base: &State,
    ) -> (BlockResult, Left) {
        self.enter("schedule");
        let start = Instant::now();
        let (count, ends_block) = (run_of.count, run_of.ends_block());
        let (pool, all) = (self.pool(), self.workers(count));
        let alone = block.is_empty() && ends_block;
        let shards = std::mem::take(&mut self.shards);
        let memory = Arc::new(Memory::over(shards, block, all.count()));
        // Few transactions have no others to share with: `workers` has seen to that.
        let crew = crew_after(count, 0, all.count());
        let workers = Crew::of(all, crew);
        let wait = engine == Engine::HintDag;
        let mut settings = Settings::for_workers(self.threads, self.cost_ns, wait);
        if !wait {
            // The next block is often like the last.
            let known = self.window.unwrap_or(settings.window);
            settings.window = known.clamp(settings.window_min, settings.window_max);
        }
        let records = std::mem::take(&mut self.records);
        let scheduler = Scheduler::over(records, Arc::clone(&memory), count, settings);
        let program = Calls {
            run: run_of,
            memory,
            machines: Arc::clone(&self.machines),
        };
        self.enter("execute");
        let nothing = Hints::default();
        let prepared = if engine == Engine::Blind {
            &nothing
        } else {
            &hints
        };
        let (program, scheduler, counters) = run(&pool, program, scheduler, prepared);
        self.enter("collect");
        drop(program);
        if !wait {
            self.window = Some(scheduler.window());
        }
        let result = outputs(&workers, &scheduler, hints);
        let (memory, records) = scheduler.into_parts();
        self.records = records;
        let memory = Arc::into_inner(memory).expect("the workers let go of it");
        let left = if alone {
            let changes = |key: &[u8], value: Option<&[u8]>| base.get(key) != value;
            let (_, writes, shards) = memory.into_writes(&workers, changes);
            self.shards = shards;
            Left::All(writes)
        } else {
            let (mut block, writes, shards) = memory.into_writes(&workers, |_, _| true);
            self.shards = shards;
            for (key, value) in writes {
                block.set(key, value);
            }
            Left::Some(block)
        };
        let spent = start.elapsed().as_nanos() as u64 * self.threads as u64;
        self.measured(counters.executions as usize, spent);
        (result, left)
    }
}

/// What a run left in the block.
pub(crate) enum Left {
    /// The block so far with the run in it.
    Some(BlockOverlay),
    /// The block's net writes: the run was all of it.
    All(NetWrites),
}

/// What the transactions left, put in order by the workers, who drop the hints with it.
fn outputs(
    workers: &dyn Workers,
    scheduler: &Scheduler<(Executed, Access)>,
    hints: Hints,
) -> BlockResult {
    let count = scheduler.count() as usize;
    let ranges = stretches(count, workers.count());
    let mut lists = Lists::new(count);
    let places = lists.cut(&ranges).into_iter().zip(ranges);
    let parts = places.zip(hints.into_groups(workers.count())).collect();
    let gas_used = share_out(workers, parts, |((mut places, range), hints)| {
        drop(hints);
        let mut gas_used = 0u64;
        scheduler.take_outputs(range, |(executed, access)| {
            gas_used = gas_used.saturating_add(executed.gas_used);
            places.put(executed, access);
        });
        gas_used
    });
    lists.into_result(gas_used.into_iter().fold(0, u64::saturating_add))
}

/// What the workers need of a run.
pub(crate) struct RunOf {
    pub(crate) rules: Arc<Rules>,
    pub(crate) items: Arc<Parts<Item>>,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) duplicates: Vec<bool>,
    pub(crate) state: SharedState,
}

impl RunOf {
    fn ends_block(&self) -> bool {
        self.first + self.count == self.items.len()
    }
}

struct Calls {
    run: RunOf,
    memory: Arc<Memory>,
    machines: Arc<Vec<Mutex<Option<Machine>>>>,
}

/// What a worker has of its own; the options are empty only while an execution has them.
struct Desk {
    machine: Machine,
    base: Option<StateGuard>,
    lens: Option<Lens>,
}

impl Program for Calls {
    type Local = Desk;
    type Output = (Executed, Access);

    fn local(&self, worker: usize) -> Desk {
        let start = Version {
            tx: 0,
            incarnation: 0,
        };
        Desk {
            machine: self.machines[worker].lock().take().unwrap_or_default(),
            base: Some(self.run.state.read_arc()),
            lens: Some(Lens::new(Arc::clone(&self.memory), start, false)),
        }
    }

    fn execute(&self, desk: &mut Desk, claim: Claim) -> Execution<Self::Output> {
        let position = claim.version.tx as usize;
        let item = &self.run.items[self.run.first + position];
        let duplicate = self.run.duplicates[position];
        let mut lens = desk.lens.take().expect("put back after each execution");
        lens.reset(claim.version, claim.exact);
        let base = desk.base.take().expect("put back after each execution");
        let view = TxView::speculative(base, lens);
        let rules = &self.run.rules;
        let (executed, view) = rules.execute(&mut desk.machine, item, duplicate, view);
        let (base, mut lens, writes, reads) = view.into_parts();
        let execution = match lens.blocked() {
            Some(on) => Execution::Blocked(on),
            None => {
                let access = Access::new(reads, &writes, executed.ok);
                let effects = lens.effects(executed.ok.then_some(writes));
                Execution::Done(effects, (executed, access))
            }
        };
        desk.base = Some(base);
        desk.lens = Some(lens);
        execution
    }

    fn state<'a>(&self, desk: &'a Desk) -> &'a State {
        desk.base.as_ref().expect("only an execution takes it")
    }

    fn end(&self, worker: usize, desk: Desk) {
        *self.machines[worker].lock() = Some(desk.machine);
    }
}
