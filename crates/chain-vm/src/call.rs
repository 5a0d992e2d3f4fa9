//! What goes into one contract call and what comes out.

use chain_state::{Hash, StateGuard, TxView};

/// Who calls what, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame<'a> {
    /// Values of `ctx_get`, indexed by [`Field`].
    pub fields: [&'a [u8]; 9],
    /// Height of the block.
    pub height: i64,
    /// BFT time of the block in milliseconds.
    pub time_ms: i64,
    /// ABI-encoded arguments.
    pub args: &'a [u8],
    /// Prefix of the contract's storage keys.
    pub storage_prefix: &'a [u8],
    /// Whether writes and events trap: a view.
    pub read_only: bool,
    /// How the contracts that this one calls are found; without it there are none.
    pub find: Option<Find>,
}

/// The code hash of an active contract by name; what it reads is part of the transaction's reads.
pub type Find = fn(&mut TxView<StateGuard>, &str) -> Result<Hash, Missing>;

/// Why there is no contract to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// None has this name.
    Unknown,
    /// It is frozen or revoked.
    Frozen,
}

/// A frame's own copy, whose buffers serve one call after another.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) fields: [Vec<u8>; 9],
    pub(crate) height: i64,
    pub(crate) time_ms: i64,
    pub(crate) args: Vec<u8>,
    pub(crate) storage_prefix: Vec<u8>,
    pub(crate) read_only: bool,
    pub(crate) find: Option<Find>,
}

impl Kept {
    pub(crate) fn copy(&mut self, frame: &Frame<'_>) {
        let copy = |to: &mut Vec<u8>, from: &[u8]| {
            to.clear();
            to.extend_from_slice(from);
        };
        for (to, from) in self.fields.iter_mut().zip(frame.fields) {
            copy(to, from);
        }
        copy(&mut self.args, frame.args);
        copy(&mut self.storage_prefix, frame.storage_prefix);
        self.height = frame.height;
        self.time_ms = frame.time_ms;
        self.read_only = frame.read_only;
        self.find = frame.find;
    }
}

/// Fields of `ctx_get`, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// Address of whoever calls, 32 bytes: a member or a contract.
    Sender,
    /// Sender's organisation id; empty where a contract calls.
    Organisation,
    /// Sender's role in lower case, or `contract`.
    Role,
    /// The contract's own name.
    Contract,
    /// Transaction id; empty in a view.
    TxId,
    /// Chain id.
    ChainId,
    /// Sender's name within the organisation; a calling contract's name.
    Name,
    /// Name of the calling contract; empty where a member calls.
    Caller,
    /// Address of the member who signed; empty where it is the sender.
    Origin,
}

/// An event as the contract emitted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who emitted it where that is another contract than the one called, else empty.
    pub contract: String,
    /// Event name.
    pub name: String,
    /// ABI-encoded fields.
    pub data: Vec<u8>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It returned.
    Ok,
    /// The contract raised an error of its own.
    Reverted {
        /// The contract's code.
        code: u32,
        /// Its text, invalid UTF-8 replaced.
        message: String,
    },
    /// The machine stopped it; the text is the same on every node.
    Trapped(&'static str),
    /// The gas limit was reached.
    OutOfGas,
    /// The module has no such export.
    UnknownMethod,
    /// The module breaks a rule (named), which installation would have refused.
    BadModule(&'static str),
}

/// What a call left, beside its writes in the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// ABI-encoded result; empty unless it returned one.
    pub result: Vec<u8>,
    /// Events in order; empty unless it returned.
    pub events: Vec<Event>,
    /// Gas used, at most the limit.
    pub gas_used: u64,
}

impl Outcome {
    pub(crate) fn without_run(status: Status) -> Self {
        Self {
            status,
            result: Vec::new(),
            events: Vec::new(),
            gas_used: 0,
        }
    }
}
