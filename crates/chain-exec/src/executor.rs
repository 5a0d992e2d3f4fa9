//! The state in memory and the engine over it.

use std::sync::Arc;

use chain_state::{keys, BlockOverlay, SharedState, State, StateGuard, StateTree, TxView};
use chain_types::proto::{BlockContext, ChainConfig, Receipt, TransactionBatch};
use chain_types::{address, decode_canonical, encode_canonical, merkle_root, Hash};
use chain_vm::Machine;
use parking_lot::{Mutex, RwLock};
use prost::Message;

use crate::block::{call, prepare, receipt_of, target, BlockRun, Caller};
use crate::genesis;
use crate::members::{find, sender};
use crate::receipt::BlockResult;
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

#[derive(Debug, Default)]
struct Engine {
    machine: Machine,
    window: Window,
    tree: StateTree,
}

/// Executes blocks one at a time; queries beside it see the last finished block.
#[derive(Debug)]
pub struct Executor {
    chain_id: String,
    state: SharedState,
    engine: Mutex<Engine>,
    queries: Mutex<Machine>,
    head: Mutex<Option<Head>>,
}

impl Executor {
    /// An executor over an empty state.
    pub fn new(chain_id: &str) -> Self {
        Self {
            chain_id: chain_id.to_owned(),
            state: Arc::new(RwLock::new(State::default())),
            engine: Mutex::default(),
            queries: Mutex::default(),
            head: Mutex::default(),
        }
    }

    /// Add stored entries before the first block.
    pub fn load(&self, entries: Vec<(Vec<u8>, Vec<u8>)>) {
        let mut engine = self.engine.lock();
        engine.tree.update(
            entries
                .iter()
                .map(|(key, value)| (&key[..], Some(&value[..]))),
        );
        let mut state = self.state.write();
        for (key, value) in entries {
            state.apply(key, Some(value));
        }
    }

    /// Seed the ids that have a receipt and could still be replayed.
    pub fn load_window(&self, ids: impl Iterator<Item = (Hash, u64)>) {
        let mut engine = self.engine.lock();
        for (id, expiry_height) in ids.filter(|(_, expiry_height)| *expiry_height > 0) {
            engine.window.insert(id, expiry_height);
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
        let mut engine = self.engine.lock();
        if !self.state.read().is_empty() {
            return Err(ExecutionError::WrongState(
                "genesis: the state is not empty",
            ));
        }
        let mut result = BlockResult {
            writes,
            ..BlockResult::default()
        };
        result.receipts_root = merkle_root::<Vec<u8>>(&[]);
        let head = Head {
            height: 0,
            time_ms: genesis.genesis_time_ms,
        };
        self.finish(&mut engine, &mut result, head);
        Ok(result)
    }

    /// Root of the state after the last finished block.
    pub fn state_root(&self) -> Hash {
        self.engine.lock().tree.root()
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
        let malformed = |what, error| ExecutionError::Malformed(format!("{what}: {error}"));
        let context: BlockContext =
            decode_canonical(context).map_err(|error| malformed("context", error))?;
        let batch: TransactionBatch =
            decode_canonical(batch).map_err(|error| malformed("batch", error))?;
        if verified.len() != batch.transactions.len() {
            return Err(ExecutionError::Malformed(
                "verified: one byte per transaction".into(),
            ));
        }
        let items = prepare(&batch.transactions, verified);
        let mut engine = self.engine.lock();
        let mut base = self.state.read_arc();
        let config = config(&base)?;
        let Engine {
            machine, window, ..
        } = &mut *engine;
        window.prune(context.height);
        let mut run = BlockRun {
            chain_id: &self.chain_id,
            config: &config,
            context: &context,
            machine,
            window,
        };
        let mut result = BlockResult::default();
        let mut block = BlockOverlay::default();
        for item in &items {
            let (executed, base_back, block_back) = run.execute(item, base, block);
            (base, block) = (base_back, block_back);
            result.gas_used = result.gas_used.saturating_add(executed.receipt.gas_used);
            result.receipts.push(encode_canonical(&executed.receipt));
            result.tx_ids.push(executed.tx_id);
            result.expiry_heights.push(executed.expiry_height);
        }
        result.receipts_root = merkle_root(&result.receipts);
        result.writes = block.into_net_writes(&base);
        drop(base);
        let head = Head {
            height: context.height,
            time_ms: context.timestamp_ms,
        };
        self.finish(&mut engine, &mut result, head);
        Ok(result)
    }

    /// The root is computed beside queries; only the swap of values holds them up.
    fn finish(&self, engine: &mut Engine, result: &mut BlockResult, head: Head) {
        let writes = &result.writes;
        engine.tree.update(
            writes
                .iter()
                .map(|(key, value)| (&key[..], value.as_deref())),
        );
        result.state_root = engine.tree.root();
        let mut state = self.state.write();
        for (key, value) in writes {
            state.apply(key.clone(), value.clone());
        }
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

fn config(state: &State) -> Result<ChainConfig, ExecutionError> {
    let missing = ExecutionError::WrongState("the state has no genesis");
    let bytes = state.get(keys::CONFIG).ok_or(missing)?;
    ChainConfig::decode(bytes).map_err(|error| ExecutionError::Malformed(error.to_string()))
}
