//! Outcomes: of one transaction, and of a block.

use std::ops::Range;

use chain_state::{share_out, Place, Places, Workers};
use chain_types::proto::{Event, Receipt, ReceiptStatus};
use chain_types::{merkle_root, merkle_root_of_runs, Hash};

use crate::block::Executed;
use crate::graph::Access;

/// Everything a block leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockResult {
    /// Canonical receipts in block order.
    pub receipts: Vec<Vec<u8>>,
    /// Transaction ids in block order; zeros for bytes that are no transaction.
    pub tx_ids: Vec<Hash>,
    /// Last height at which each id could be replayed; 0 where the receipt does not use the id up.
    pub expiry_heights: Vec<u64>,
    /// Merkle root over the receipts.
    pub receipts_root: Hash,
    /// Root of the state after the block.
    pub state_root: Hash,
    /// Net writes sorted by key; none deletes.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Sum over the receipts.
    pub gas_used: u64,
    /// Gas of each receipt.
    pub gas: Vec<u64>,
    /// What each transaction read and wrote.
    pub accesses: Vec<Access>,
}

impl BlockResult {
    /// Add what the next transaction left.
    pub(crate) fn push(&mut self, executed: Executed, access: Access) {
        self.gas_used = self.gas_used.saturating_add(executed.gas_used);
        self.gas.push(executed.gas_used);
        self.receipts.push(executed.receipt);
        self.tx_ids.push(executed.tx_id);
        self.expiry_heights.push(executed.expiry_height);
        self.accesses.push(access);
    }

    /// Add what the transactions after these left, roots and writes apart.
    pub(crate) fn append(&mut self, mut run: Self) {
        if self.receipts.is_empty() {
            // The block begins with them: there is nothing to put them behind.
            *self = run;
            return;
        }
        self.gas_used = self.gas_used.saturating_add(run.gas_used);
        self.gas.append(&mut run.gas);
        self.receipts.append(&mut run.receipts);
        self.tx_ids.append(&mut run.tx_ids);
        self.expiry_heights.append(&mut run.expiry_heights);
        self.accesses.append(&mut run.accesses);
    }
}

/// The lists of a result, which several workers fill side by side.
#[derive(Debug)]
pub(crate) struct Lists {
    receipts: Places<Vec<u8>>,
    tx_ids: Places<Hash>,
    expiry_heights: Places<u64>,
    gas: Places<u64>,
    accesses: Places<Access>,
}

/// One worker's places in each of them.
#[derive(Debug)]
pub(crate) struct ListPlaces<'a> {
    receipts: Place<'a, Vec<u8>>,
    tx_ids: Place<'a, Hash>,
    expiry_heights: Place<'a, u64>,
    gas: Place<'a, u64>,
    accesses: Place<'a, Access>,
}

impl Lists {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            receipts: Places::new(count),
            tx_ids: Places::new(count),
            expiry_heights: Places::new(count),
            gas: Places::new(count),
            accesses: Places::new(count),
        }
    }

    /// Places for transactions at these positions, which follow one another.
    pub(crate) fn cut(&mut self, ranges: &[Range<usize>]) -> Vec<ListPlaces<'_>> {
        let lengths = ranges.iter().map(ExactSizeIterator::len);
        let mut receipts = self.receipts.cut(lengths.clone()).into_iter();
        let mut tx_ids = self.tx_ids.cut(lengths.clone()).into_iter();
        let mut expiry_heights = self.expiry_heights.cut(lengths.clone()).into_iter();
        let mut gas = self.gas.cut(lengths.clone()).into_iter();
        let mut accesses = self.accesses.cut(lengths).into_iter();
        let places = || {
            Some(ListPlaces {
                receipts: receipts.next()?,
                tx_ids: tx_ids.next()?,
                expiry_heights: expiry_heights.next()?,
                gas: gas.next()?,
                accesses: accesses.next()?,
            })
        };
        std::iter::from_fn(places).collect()
    }

    /// The result of all transactions, roots and writes apart.
    pub(crate) fn into_result(self, gas_used: u64) -> BlockResult {
        BlockResult {
            receipts: self.receipts.into_list(),
            tx_ids: self.tx_ids.into_list(),
            expiry_heights: self.expiry_heights.into_list(),
            gas: self.gas.into_list(),
            accesses: self.accesses.into_list(),
            gas_used,
            ..BlockResult::default()
        }
    }
}

impl ListPlaces<'_> {
    /// Put what the next transaction left.
    pub(crate) fn put(&mut self, executed: Executed, access: Access) {
        self.receipts.put(executed.receipt);
        self.tx_ids.put(executed.tx_id);
        self.expiry_heights.put(executed.expiry_height);
        self.gas.put(executed.gas_used);
        self.accesses.put(access);
    }
}

/// Each worker hashes a run of receipts up to the root above it.
pub(crate) fn receipts_root(workers: &dyn Workers, receipts: &[Vec<u8>]) -> Hash {
    let size = receipts.len().div_ceil(workers.count()).max(1);
    let runs = receipts.chunks(size.next_power_of_two()).collect();
    let roots = share_out(workers, runs, |run: &[Vec<u8>]| merkle_root(run));
    merkle_root_of_runs(roots).unwrap_or_else(|| merkle_root::<Vec<u8>>(&[]))
}

/// Why a transaction ends without, or before, its effect.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: ReceiptStatus,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: ReceiptStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn arguments(message: impl Into<String>) -> Self {
        Self::new(ReceiptStatus::InvalidArguments, message)
    }
}

/// What a contract call contributes to a receipt.
pub(crate) fn from_outcome(outcome: chain_vm::Outcome, contract: &str) -> Receipt {
    use chain_vm::Status;
    let (status, error_code, message) = match outcome.status {
        Status::Ok => (ReceiptStatus::Ok, 0, String::new()),
        Status::Reverted { code, message } => (ReceiptStatus::Reverted, code, message),
        Status::Trapped(text) => (ReceiptStatus::Trapped, 0, text.to_owned()),
        Status::OutOfGas => (ReceiptStatus::OutOfGas, 0, "gas limit reached".to_owned()),
        Status::UnknownMethod => (
            ReceiptStatus::UnknownMethod,
            0,
            "the contract has no such method".to_owned(),
        ),
        Status::BadModule(rule) => (ReceiptStatus::Trapped, 0, format!("module rule `{rule}`")),
    };
    let event = |event: chain_vm::Event| Event {
        contract: if event.contract.is_empty() {
            contract.to_owned()
        } else {
            event.contract
        },
        name: event.name,
        data: event.data,
    };
    Receipt {
        status: status.into(),
        result: outcome.result,
        gas_used: outcome.gas_used,
        events: outcome.events.into_iter().map(event).collect(),
        error_code,
        message,
        ..Receipt::default()
    }
}

/// Whether a receipt uses its transaction id up.
///
/// The rule: an id is used up by an outcome that the payload its sender signed and the state alone
/// decide. Whatever else is in a transaction, or around it, anyone may change: strip endorsements
/// (`PolicyNotMet`), forge signatures (`BadEndorsement`), propose it before its sender may send or
/// outside its window. Those outcomes leave the id free, or anyone could burn another's id.
pub(crate) fn consumes_id(status: ReceiptStatus) -> bool {
    !matches!(
        status,
        ReceiptStatus::Duplicate
            | ReceiptStatus::Expired
            | ReceiptStatus::UnknownMember
            | ReceiptStatus::MemberFrozen
            | ReceiptStatus::MemberRevoked
            | ReceiptStatus::CertificateExpired
            | ReceiptStatus::BadEndorsement
            | ReceiptStatus::PolicyNotMet
    )
}
