//! Outcomes: of one transaction, and of a block.

use chain_types::proto::{Event, Receipt, ReceiptStatus};
use chain_types::Hash;

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
