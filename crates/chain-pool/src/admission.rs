//! Verdicts on submitted transactions, as `node.proto` numbers them.

use chain_types::Hash;

/// What became of one submitted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Admission {
    /// New, sound and kept.
    Accepted = 1,
    /// Pending or committed already.
    Known = 2,
    /// Not a canonical transaction.
    Malformed = 3,
    /// The sender's or an endorser's signature is not valid.
    BadSignature = 4,
    /// For another chain.
    WrongChain = 5,
    /// No coming block may contain it.
    Expired = 6,
    /// Expires beyond the window in which repeats are remembered.
    ExpiryTooFar = 7,
    /// Above the size limit.
    TooLarge = 8,
    /// No room: try again later.
    PoolFull = 9,
}

/// The verdicts of one batch, in its order.
#[derive(Debug, Default)]
pub struct Admissions {
    /// One `Admission` per transaction.
    pub codes: Vec<u8>,
    /// Their ids; `None` where the bytes have none.
    pub tx_ids: Vec<Option<Hash>>,
    /// A `TransactionBatch` of those accepted; empty when none.
    pub fresh: Vec<u8>,
}

impl Admissions {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            codes: Vec::with_capacity(count),
            tx_ids: Vec::with_capacity(count),
            fresh: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, code: Admission, tx_id: Option<Hash>) {
        self.codes.push(code as u8);
        self.tx_ids.push(tx_id);
    }
}
