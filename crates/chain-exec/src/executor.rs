//! The state in memory and the engine over it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use chain_state::versions::NetWrites;
use chain_state::{keys, Alone, BlockOverlay, SharedState, State, StateGuard, StateTree, TxView};
use chain_types::proto::{BlockContext, ChainConfig, Receipt};
use chain_types::{address, decode_canonical, split_batch, Hash};
use chain_vm::Machine;
use parking_lot::{Mutex, RwLock};
use prost::Message;

use crate::block::{call, prepare, receipt_of, target, Caller, Item, Rules};
use crate::duplicates::duplicates;
use crate::gate::{Engine, Forecast};
use crate::genesis;
use crate::members::{find, sender};
use crate::meter::Phase;
use crate::parallel::{Left, Parallel, RunOf, Strategy};
use crate::parts::Parts;
use crate::receipt::{receipts_root, BlockResult};
use crate::record::record;
use crate::serial::execute_serially;
use crate::trace::Trace;
use crate::window::Window;

/// Why a block could not be executed at all: the caller's mistake, never a transaction's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutionError {
    /// An argument is not what it claims to be.
    #[error("{0}")]
    Malformed(String),
    /// A genesis over a state that is not empty, or a block over one that is.
    #[error("{0}")]
    WrongState(&'static str),
}

/// Height and time of the last finished block.
#[derive(Clone, Copy, Debug)]
struct Head {
    height: u64,
    time_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) machine: Machine,
    pub(crate) window: Window,
    tree: StateTree,
    pub(crate) parallel: Parallel,
}

/// A block under way.
pub(crate) struct Progress {
    pub(crate) base: StateGuard,
    pub(crate) block: BlockOverlay,
    /// The block's net writes, where one parallel run was all of it.
    pub(crate) net: Option<NetWrites>,
    pub(crate) result: BlockResult,
}

/// A decoded block, the state below it and its rules.
type Opened = (Arc<Parts<Item>>, StateGuard, Arc<Rules>);

/// Executes blocks one at a time; queries beside it see the last finished block.
#[derive(Debug)]
pub struct Executor {
    chain_id: String,
    state: SharedState,
    core: Mutex<Core>,
    queries: Mutex<Machine>,
    head: Mutex<Option<Head>>,
}

impl Executor {
    /// An executor over an empty state, with a thread for each core.
    pub fn new(chain_id: &str) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let core = Core {
            machine: Machine::default(),
            window: Window::default(),
            tree: StateTree::default(),
            parallel: Parallel::new(threads, Strategy::Gate, false),
        };
        Self {
            chain_id: chain_id.to_owned(),
            state: Arc::new(RwLock::new(State::default())),
            core: Mutex::new(core),
            queries: Mutex::default(),
            head: Mutex::default(),
        }
    }

    /// Choose how blocks are executed from now on; results never depend on it.
    ///
    /// One thread is the serial engine, unless a parallel one is asked for by name. `pinned`
    /// threads keep to one core each, where the system lets them.
    pub fn set_engine(&self, threads: usize, strategy: Strategy, pinned: bool) {
        self.core.lock().parallel = Parallel::new(threads, strategy, pinned);
    }

    /// What the last run of calls was expected to hold; nothing where none was long enough, or only
    /// the serial engine can be chosen.
    pub fn forecast(&self) -> Forecast {
        self.core.lock().parallel.forecast
    }

    /// Add stored entries before the first block.
    pub fn load(&self, entries: Vec<(Vec<u8>, Vec<u8>)>) {
        let mut core = self.core.lock();
        let workers = core.parallel.workers(entries.len());
        core.tree.update_on(&*workers, &entries, stored);
        let mut state = self.state.write();
        if entries.is_sorted_by(|(left, _), (right, _)| left < right) {
            return state.apply_all(&*workers, &entries, stored);
        }
        for (key, value) in entries {
            state.apply(key, Some(value));
        }
    }

    /// Seed the ids that have a receipt and could still be replayed.
    pub fn load_window(&self, ids: impl Iterator<Item = (Hash, u64)>) {
        let mut core = self.core.lock();
        for (id, expiry_height) in ids.filter(|(_, expiry_height)| *expiry_height > 0) {
            core.window.insert(id, expiry_height);
        }
    }

    /// Tell views which block was the last one finished before a restart.
    pub fn load_head(&self, height: u64, time_ms: u64) {
        *self.head.lock() = Some(Head { height, time_ms });
    }

    /// Write a canonical genesis into an empty state.
    ///
    /// # Errors
    /// When it is malformed or the state is not empty.
    pub fn genesis(&self, bytes: &[u8]) -> Result<BlockResult, ExecutionError> {
        let (genesis, writes) = genesis::read(bytes, &self.chain_id)?;
        let mut core = self.core.lock();
        if !self.state.read().is_empty() {
            return Err(ExecutionError::WrongState(
                "genesis: the state is not empty",
            ));
        }
        let mut result = BlockResult {
            writes,
            ..BlockResult::default()
        };
        result.receipts_root = receipts_root(&Alone, &[]);
        let head = Head {
            height: 0,
            time_ms: genesis.genesis_time_ms,
        };
        self.finish(&mut core, &mut result, head);
        Ok(result)
    }

    /// Root of the state after the last finished block.
    pub fn state_root(&self) -> Hash {
        self.core.lock().tree.root()
    }

    /// Execute a canonical TransactionBatch in order under a canonical BlockContext.
    ///
    /// # Errors
    /// When an argument is malformed or there has been no genesis.
    pub fn execute_block(
        &self,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
    ) -> Result<BlockResult, ExecutionError> {
        self.execute_within(&mut self.core.lock(), context, batch, verified)
    }

    /// Execute a block as [`Executor::execute_block`] does, on this thread, and time its phases as
    /// they divide among so many workers; one worker stands for the plain serial engine.
    ///
    /// # Errors
    /// Those of [`Executor::execute_block`].
    pub fn time_block(
        &self,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
        workers: usize,
    ) -> Result<(BlockResult, Vec<Phase>), ExecutionError> {
        let mut core = self.core.lock();
        let strategy = if workers > 1 {
            Strategy::Gate
        } else {
            Strategy::Always(Engine::Serial)
        };
        let metered = Parallel::metered(strategy, workers.max(1));
        let own = std::mem::replace(&mut core.parallel, metered);
        let result = self.execute_within(&mut core, context, batch, verified);
        let phases = std::mem::replace(&mut core.parallel, own).phases();
        Ok((result?, phases))
    }

    fn execute_within(
        &self,
        core: &mut Core,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
    ) -> Result<BlockResult, ExecutionError> {
        core.parallel.enter("decode");
        let (items, base, rules) = self.open(core, context, batch, verified)?;
        let workers = core.parallel.workers(items.len());
        core.window.prune(&*workers, rules.context.height);
        let head = Head {
            height: rules.context.height,
            time_ms: rules.context.timestamp_ms,
        };
        let mut progress = Progress {
            base,
            block: BlockOverlay::default(),
            net: None,
            result: BlockResult::default(),
        };
        let mut first = 0;
        while first < items.len() {
            let rest = items.range(first..items.len());
            let run = rest.take_while(|item| !item.is_barrier()).count();
            // Whatever changes members or contracts stands alone between two runs.
            let end = first + run.max(1);
            progress = self.execute_run(core, &rules, &items, first..end, progress);
            first = end;
        }
        let Progress {
            base,
            block,
            net,
            mut result,
        } = progress;
        core.parallel.enter("learn");
        if core.parallel.is_on() {
            core.parallel.observe(&items, &result.accesses);
        }
        core.parallel.enter("receipts root");
        result.receipts_root = receipts_root(&*workers, &result.receipts);
        core.parallel.enter("net writes");
        result.writes = net.unwrap_or_else(|| block.into_net_writes(&base));
        drop(base);
        core.parallel.enter("release");
        let items = Arc::into_inner(items).expect("the workers let go of them");
        items.release(&*workers);
        self.finish(core, &mut result, head);
        Ok(result)
    }

    /// Decode a block and take the state it is executed on.
    fn open(
        &self,
        core: &mut Core,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
    ) -> Result<Opened, ExecutionError> {
        let malformed = |what, error| ExecutionError::Malformed(format!("{what}: {error}"));
        let context: BlockContext =
            decode_canonical(context).map_err(|error| malformed("context", error))?;
        let batch = split_batch(batch).map_err(|error| malformed("batch", error))?;
        if verified.len() != batch.len() {
            return Err(ExecutionError::Malformed(
                "verified: one byte per transaction".into(),
            ));
        }
        let workers = core.parallel.workers(batch.len());
        let items = Arc::new(prepare(&batch, verified, &*workers));
        let base = self.state.read_arc();
        let config = config(&base)?;
        let rules = Arc::new(Rules {
            chain_id: self.chain_id.clone(),
            config,
            context,
        });
        Ok((items, base, rules))
    }

    /// Execute a block serially `runs` times without keeping what it does: what each transaction
    /// costs and touches, and what would have been foretold of it.
    ///
    /// # Errors
    /// As [`Executor::execute_block`].
    pub fn record_block(
        &self,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
        runs: NonZeroUsize,
    ) -> Result<Trace, ExecutionError> {
        let mut core = self.core.lock();
        let (items, base, rules) = self.open(&mut core, context, batch, verified)?;
        Ok(record(&mut core, &rules, &items, base, runs))
    }

    fn execute_run(
        &self,
        core: &mut Core,
        rules: &Arc<Rules>,
        items: &Arc<Parts<Item>>,
        range: std::ops::Range<usize>,
        progress: Progress,
    ) -> Progress {
        if !core.parallel.is_on() {
            return execute_serially(core, rules, items.range(range), progress);
        }
        let Progress {
            base,
            block,
            net: _,
            mut result,
        } = progress;
        // What an earlier run of this block wrote is seen by this thread only.
        let beside = block.is_empty().then_some(&self.state);
        let view = TxView::new(base, block);
        let run = range.clone();
        let (engine, hints) = core.parallel.choose(rules, items, run, &view, beside);
        if engine == Engine::Serial {
            let (base, block) = view.rollback();
            let progress = Progress {
                base,
                block,
                net: None,
                result,
            };
            return execute_serially(core, rules, items.range(range), progress);
        }
        let workers = core.parallel.workers(range.len());
        let run_of = RunOf {
            rules: Arc::clone(rules),
            items: Arc::clone(items),
            first: range.start,
            count: range.len(),
            duplicates: duplicates(&*workers, rules, items, range, &core.window, &view),
            state: Arc::clone(&self.state),
        };
        let (base, block) = view.rollback();
        let (run, left) = core.parallel.execute(engine, hints, run_of, block, &base);
        core.parallel.enter("ids");
        core.window
            .insert_all(&*workers, &run.tx_ids, &run.expiry_heights);
        result.append(run);
        let (block, net) = match left {
            Left::Some(block) => (block, None),
            Left::All(writes) => (BlockOverlay::default(), Some(writes)),
        };
        Progress {
            base,
            block,
            net,
            result,
        }
    }

    /// The root is computed beside queries; only the swap of values holds them up.
    fn finish(&self, core: &mut Core, result: &mut BlockResult, head: Head) {
        let workers = core.parallel.workers(result.writes.len());
        core.parallel.enter("state tree");
        core.tree.update_on(&*workers, &result.writes, written);
        result.state_root = core.tree.root();
        core.parallel.enter("state");
        let mut state = self.state.write();
        state.apply_all(&*workers, &result.writes, written);
        *self.head.lock() = Some(head);
    }

    /// Run a view against the last finished block.
    ///
    /// `from` is the caller's public key or address.
    pub fn evaluate(
        &self,
        from: &[u8],
        contract: &str,
        method: &str,
        args: &[u8],
        gas_limit: u64,
    ) -> Receipt {
        let mut machine = self.queries.lock();
        let view = TxView::new(self.state.read_arc(), BlockOverlay::default());
        let head = *self.head.lock();
        let (receipt, view) = self.run_view(
            &mut machine,
            head,
            from,
            (contract, method, args),
            gas_limit,
            view,
        );
        Receipt {
            access_hash: view.access_hash(false).to_vec(),
            ..receipt
        }
    }

    fn run_view(
        &self,
        machine: &mut Machine,
        head: Option<Head>,
        from: &[u8],
        (contract, method, args): (&str, &str, &[u8]),
        gas_limit: u64,
        view: TxView<StateGuard>,
    ) -> (Receipt, TxView<StateGuard>) {
        let by_key = address(from);
        let found = find(&view, &by_key).map(|member| (by_key.to_vec(), member));
        let found = found.or_else(|| find(&view, from).map(|member| (from.to_vec(), member)));
        let (from, member) =
            found.map_or((Vec::new(), None), |(from, member)| (from, Some(member)));
        let ready = sender(member, head.map(|head| head.time_ms)).and_then(|member| {
            Ok((
                member,
                target(&view, contract, &format!("v:{method}"), args)?,
            ))
        });
        let (member, hook) = match ready {
            Ok(ready) => ready,
            Err(refusal) => return (receipt_of(&refusal), view),
        };
        let gas_limit_max = config(view.base()).map_or(0, |config| config.gas_limit_max);
        let caller = Caller {
            chain_id: &self.chain_id,
            tx_id: &[],
            address: &from,
            member: &member,
            height: head.map_or(0, |head| head.height),
            time_ms: head.map_or(0, |head| head.time_ms),
            read_only: true,
        };
        call(machine, &caller, hook, gas_limit.min(gas_limit_max), view)
    }

    /// A raw state value.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.read().get(key).map(<[u8]>::to_vec)
    }

    /// A canonical Member by address.
    pub fn member(&self, address: &[u8]) -> Option<Vec<u8>> {
        self.get(&keys::member(address))
    }

    /// A canonical ContractRecord and the ABI.
    pub fn contract(&self, name: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        let state = self.state.read();
        let record = state.get(&keys::contract(name))?.to_vec();
        let abi = state.get(&keys::abi(name)).unwrap_or_default().to_vec();
        Some((record, abi))
    }
}

fn stored((key, value): &(Vec<u8>, Vec<u8>)) -> (&[u8], Option<&[u8]>) {
    (key, Some(value))
}

fn written((key, value): &(Vec<u8>, Option<Vec<u8>>)) -> (&[u8], Option<&[u8]>) {
    (key, value.as_deref())
}

fn config(state: &State) -> Result<ChainConfig, ExecutionError> {
    let missing = ExecutionError::WrongState("the state has no genesis");
    let bytes = state.get(keys::CONFIG).ok_or(missing)?;
    ChainConfig::decode(bytes).map_err(|error| ExecutionError::Malformed(error.to_string()))
}
