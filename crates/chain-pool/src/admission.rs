//! Verdicts on submitted transactions, as `node.proto` numbers them.

use std::ops::Range;

use chain_types::Hash;
use prost::encoding::{encode_key, encode_varint, WireType};

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
    /// The sender is no member.
    UnknownMember = 10,
}

/// The verdicts of one batch, in its order.
#[derive(Debug, Default)]
pub struct Admissions {
    /// One `Admission` per transaction.
    pub codes: Vec<u8>,
    /// Their ids; `None` where the bytes have none.
    pub tx_ids: Vec<Option<Hash>>,
    /// A `TransactionBatch` of those accepted that others have not sent; empty when none.
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

    /// The `SubmitResponse` for those of the batch in `range`.
    ///
    /// # Panics
    /// When the range reaches beyond the batch.
    pub fn response(&self, range: Range<usize>) -> Vec<u8> {
        let mut response = Vec::with_capacity(range.len() * 36 + 8);
        for tx_id in &self.tx_ids[range.clone()] {
            let bytes = tx_id.as_ref().map_or(&[][..], |id| &id[..]);
            encode_key(1, WireType::LengthDelimited, &mut response);
            encode_varint(bytes.len() as u64, &mut response);
            response.extend_from_slice(bytes);
        }
        if !range.is_empty() {
            // Every code is below 128: one byte each, packed.
            encode_key(2, WireType::LengthDelimited, &mut response);
            encode_varint(range.len() as u64, &mut response);
            response.extend_from_slice(&self.codes[range]);
        }
        response
    }

    pub(crate) fn push(&mut self, code: Admission, tx_id: Option<Hash>) {
        self.codes.push(code as u8);
        self.tx_ids.push(tx_id);
    }
}
