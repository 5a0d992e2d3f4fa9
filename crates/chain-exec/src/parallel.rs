//! A run of invocations on the parallel scheduler.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use chain_crypto::share;
use chain_state::versions::{Lens, Memory, Version};
use chain_state::{keys, BlockOverlay, SharedState, State, StateGuard, TxView};
use chain_types::proto::PayloadKind;
use chain_types::{CheckedTransaction, Hash};
use chain_vm::Machine;
use parking_lot::Mutex;

use crate::block::{Executed, Item, Rules};
use crate::gate::{Engine, Forecast};
use crate::graph::Access;
use crate::hints::{CallContext, Templates};
use crate::members::{find, role_name};
use crate::observed::{Call, Observed};
use crate::pool::Pool;
use crate::scheduler::{Claim, Hint, HintClass, HintKey, Scheduler, Settings};
use crate::threads::{run, Execution, Program};
use crate::window::Window;

/// Runs shorter than this are over before another thread has woken.
const RUN_MIN: usize = 16;
/// Below this a thread costs more than its share of the hints.
const HINTS_PER_THREAD_MIN: usize = 256;
/// What a transaction is taken to cost before any was measured.
const COST_FIRST_NS: u64 = 20_000;

/// The templates of each contract that a run calls.
type Called<'a> = HashMap<&'a str, Option<Arc<Templates>>>;

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
    pool: Option<Pool>,
    machines: Arc<Vec<Mutex<Option<Machine>>>>,
    templates: HashMap<String, (Vec<u8>, Arc<Templates>)>,
    cost_ns: u64,
    /// Critical path over work in the last block whose hints did not say.
    path_share: f64,
    /// Where the speculation window ended in the last block that speculated.
    window: Option<u32>,
    observed: Observed,
    /// Of the last run that was long enough to choose for.
    pub(crate) forecast: Forecast,
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
            window: None,
            observed: Observed::default(),
            forecast: Forecast::default(),
        }
    }

    /// Whether anything but the serial engine can be chosen at all.
    pub(crate) fn is_on(&self) -> bool {
        let forced = matches!(
            self.strategy,
            Strategy::Always(Engine::HintDag | Engine::Stm)
        );
        self.strategy != Strategy::Always(Engine::Serial) && (self.threads > 1 || forced)
    }

    /// Learn from a serial run what a transaction costs.
    pub(crate) fn measured(&mut self, count: usize, nanoseconds: u64) {
        if count > 0 {
            self.cost_ns = (3 * self.cost_ns + nanoseconds / count as u64) / 4;
        }
    }

    /// Learn how long the chains of a block were, and which keys its calls wrote.
    pub(crate) fn observe(&mut self, items: &[Item], accesses: &[Access]) {
        self.observed.next_block();
        for (item, access) in items.iter().zip(accesses) {
            match &item.transaction {
                Ok(transaction) if transaction.kind == PayloadKind::Invoke => {
                    self.observed.learn(observed_call(transaction), access);
                }
                _ => {}
            }
        }
        if self.path_share > 0.0 || accesses.len() >= RUN_MIN {
            self.path_share = path_share(accesses);
        }
    }

    /// The engine for a run, and what is known of its transactions.
    pub(crate) fn choose(
        &mut self,
        rules: &Rules,
        items: &[Item],
        view: &TxView<StateGuard>,
        beside: Option<&SharedState>,
    ) -> (Engine, Vec<Hint>) {
        if items.len() < RUN_MIN {
            return (Engine::Serial, Vec::new());
        }
        let templates = self.templates_of(items, view);
        let observed = &self.observed;
        let hints = match (beside, NonZeroUsize::new(self.threads)) {
            (Some(state), Some(threads)) => share(items, HINTS_PER_THREAD_MIN, threads, |part| {
                let view = TxView::new(state.read_arc(), BlockOverlay::default());
                hints(rules, part, &view, &templates, observed)
            }),
            _ => hints(rules, items, view, &templates, observed),
        };
        let cost_ns = self.cost_ns;
        let mut forecast = Forecast::from_hints(&hints, |_| cost_ns);
        if forecast.complete_share < 1.0 {
            let known = (forecast.work_ns as f64 * self.path_share) as u64;
            forecast.path_ns = forecast.path_ns.max(known);
        }
        self.forecast = forecast;
        match self.strategy {
            Strategy::Always(engine) => (engine, hints),
            Strategy::Gate => (forecast.engine(self.threads), hints),
        }
    }

    /// What is known beforehand of a block's invocations; nothing of what changes members or code.
    pub(crate) fn hints(
        &mut self,
        rules: &Rules,
        items: &[Item],
        view: &TxView<StateGuard>,
    ) -> Vec<Hint> {
        let templates = self.templates_of(items, view);
        let known = |item: &Item| match item.is_barrier() {
            true => Hint::default(),
            false => hint(rules, item, view, &templates, &self.observed).unwrap_or_default(),
        };
        items.iter().map(known).collect()
    }

    /// The templates of every contract that the run calls; no transaction of it changes them.
    fn templates_of<'a>(&mut self, items: &'a [Item], view: &TxView<StateGuard>) -> Called<'a> {
        let mut found = HashMap::new();
        for transaction in items.iter().flat_map(|item| &item.transaction) {
            let contract = &transaction.payload.contract[..];
            if !found.contains_key(contract) {
                found.insert(contract, self.templates(contract, view));
            }
        }
        found
    }

    /// The templates of a contract, parsed when its record changes.
    fn templates(&mut self, contract: &str, view: &TxView<StateGuard>) -> Option<Arc<Templates>> {
        if contract.len() > usize::from(u8::MAX) {
            return None;
        }
        let record = view.peek(&keys::contract(contract))?;
        if let Some((known, templates)) = self.templates.get(contract) {
            if *known == *record {
                return Some(Arc::clone(templates));
            }
        }
        let abi = view.peek(&keys::abi(contract))?;
        let templates = Arc::new(Templates::parse(&abi));
        let entry = (record.into_owned(), Arc::clone(&templates));
        self.templates.insert(contract.to_owned(), entry);
        Some(templates)
    }

    /// Execute a run above the block so far; the block with the run in it comes back.
    pub(crate) fn execute(
        &mut self,
        engine: Engine,
        hints: Vec<Hint>,
        run_of: RunOf,
        block: BlockOverlay,
    ) -> (Vec<(Executed, Access)>, BlockOverlay) {
        let start = Instant::now();
        if self.pool.is_none() {
            self.pool = Some(Pool::new(self.threads, self.pinned));
            let machines = (0..self.threads).map(|_| Mutex::default());
            self.machines = Arc::new(machines.collect());
        }
        let pool = self.pool.as_ref().expect("made above");
        let count = run_of.count;
        let memory = Arc::new(Memory::new(block, self.threads));
        let wait = engine == Engine::HintDag;
        let mut settings = Settings::for_workers(self.threads, self.cost_ns, wait);
        if !wait {
            // The next block is often like the last.
            let known = self.window.unwrap_or(settings.window);
            settings.window = known.clamp(settings.window_min, settings.window_max);
        }
        let scheduler = Scheduler::new(Arc::clone(&memory), count, settings);
        let program = Calls {
            run: run_of,
            memory,
            machines: Arc::clone(&self.machines),
        };
        let (program, scheduler, counters) = run(pool, program, scheduler, Arc::new(hints));
        drop(program);
        if !wait {
            self.window = Some(scheduler.window());
        }
        let (memory, outputs) = scheduler.into_outputs();
        let memory = Arc::into_inner(memory).expect("the workers let go of it");
        let (mut block, writes) = memory.into_writes();
        for (key, value) in writes {
            block.set(key, value);
        }
        let spent = start.elapsed().as_nanos() as u64 * self.threads as u64;
        self.measured(counters.executions as usize, spent);
        (outputs, block)
    }
}

fn hints(
    rules: &Rules,
    items: &[Item],
    view: &TxView<StateGuard>,
    templates: &Called<'_>,
    observed: &Observed,
) -> Vec<Hint> {
    let hint = |item| hint(rules, item, view, templates, observed).unwrap_or_default();
    items.iter().map(hint).collect()
}

fn hint(
    rules: &Rules,
    item: &Item,
    view: &TxView<StateGuard>,
    templates: &Called<'_>,
    observed: &Observed,
) -> Option<Hint> {
    let transaction = item.transaction.as_ref().ok()?;
    let payload = &transaction.payload;
    let templates = templates.get(&payload.contract[..])?.as_ref()?;
    let member = find(view, &transaction.sender_address)?;
    let context = CallContext {
        sender: &transaction.sender_address,
        sender_org: &member.organisation,
        sender_role: role_name(member.role()),
        sender_name: &member.name,
        tx_id: &transaction.tx_id,
        chain_id: &rules.chain_id,
        height: rules.context.height,
        time_ms: rules.context.timestamp_ms,
    };
    let (contract, method) = (&payload.contract, &payload.method);
    let mut found = templates.predict(contract, method, &payload.args, &context);
    let class = match &found {
        Some(found) if found.is_complete() => HintClass::Complete,
        _ => HintClass::Predicted,
    };
    if class == HintClass::Predicted {
        // What the compiler could not tell, the last blocks may.
        if let Some(seen) = observed.expect(observed_call(transaction)) {
            let found = found.get_or_insert_default();
            join(&mut found.reads, &seen.reads);
            join(&mut found.writes, &seen.writes);
            join(&mut found.adds, &seen.adds);
        }
    }
    let found = found?;
    let keys = |keys: Vec<Vec<u8>>| keys.into_iter().map(HintKey::new).collect();
    Some(Hint {
        class,
        reads: keys(found.reads),
        writes: keys(found.writes),
        deltas: keys(found.adds),
    })
}

fn observed_call(transaction: &CheckedTransaction) -> Call<'_> {
    Call {
        contract: &transaction.payload.contract,
        method: &transaction.payload.method,
        sender: &transaction.sender_address,
        args: &transaction.payload.args,
    }
}

fn join(keys: &mut Vec<Vec<u8>>, more: &[Vec<u8>]) {
    for key in more {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
}

/// Transactions of a run whose id has, or will have, a receipt before them.
pub(crate) fn duplicates(
    rules: &Rules,
    items: &[Item],
    window: &Window,
    view: &TxView<StateGuard>,
) -> Vec<bool> {
    let mut seen: HashSet<Hash> = HashSet::with_capacity(items.len());
    let mut repeated: HashSet<Hash> = HashSet::new();
    for transaction in items
        .iter()
        .filter_map(|item| item.transaction.as_ref().ok())
    {
        if !seen.insert(transaction.tx_id) {
            repeated.insert(transaction.tx_id);
        }
    }
    let mut used_up: HashSet<Hash> = HashSet::new();
    let duplicate = |item: &Item| {
        let Ok(transaction) = &item.transaction else {
            return false;
        };
        let id = transaction.tx_id;
        let duplicate = window.contains(&id) || used_up.contains(&id);
        if !duplicate && repeated.contains(&id) && rules.uses_id_up(item, view) {
            used_up.insert(id);
        }
        duplicate
    };
    items.iter().map(duplicate).collect()
}

/// Critical path over work, every transaction taken to cost the same.
fn path_share(accesses: &[Access]) -> f64 {
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
    longest as f64 / accesses.len().max(1) as f64
}

/// What the workers need of a run.
pub(crate) struct RunOf {
    pub(crate) rules: Arc<Rules>,
    pub(crate) items: Arc<Vec<Item>>,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) duplicates: Vec<bool>,
    pub(crate) state: SharedState,
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
