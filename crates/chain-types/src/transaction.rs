//! Canonical decoding, and the rules a transaction must meet before anyone looks at its signatures.

use prost::{encoding, Message};

use crate::hash::{self, Hash};
use crate::proto::{Payload, PayloadKind, Transaction, TransactionBatch};

/// The largest canonical transaction anyone accepts; a chain's configuration may be stricter.
pub const TRANSACTION_SIZE_MAX_BYTES: usize = 1 << 20;
/// The most endorsements one transaction may carry.
pub const ENDORSEMENTS_MAX: usize = 64;

/// Field 1, length-delimited: what each transaction of a batch begins with.
const TRANSACTION_TAG: u8 = 0x0a;
const NAME_LENGTH_MAX: usize = 128;
const CHAIN_ID_LENGTH_MAX: usize = 128;

/// Why bytes are not the message they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not protobuf at all.
    #[error("not a protobuf message: {0}")]
    Undecodable(String),
    /// Decodes, but another byte string is the canonical one.
    #[error("not canonical: the message encodes to other bytes")]
    NotCanonical,
    /// Above the size limit.
    #[error("{size} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes received.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A field breaks its rule.
    #[error("{field}: {rule}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// Decodes a message and refuses any encoding but the canonical one.
pub fn decode_canonical<M: Message + Default>(data: &[u8]) -> Result<M, FormatError> {
    let message = M::decode(data).map_err(|e| FormatError::Undecodable(e.to_string()))?;
    // Protobuf allows many encodings of one value; a hash needs exactly one.
    if message.encoded_len() == data.len() && message.encode_to_vec() == data {
        Ok(message)
    } else {
        Err(FormatError::NotCanonical)
    }
}

/// The transactions of a canonical `TransactionBatch` where they lie, nothing of them looked at.
///
/// # Errors
/// When the batch is malformed or not canonical, as [`decode_canonical`] would.
pub fn split_batch(batch: &[u8]) -> Result<Vec<&[u8]>, FormatError> {
    let mut transactions = Vec::new();
    let mut rest = batch;
    while let [first, after @ ..] = rest {
        let mut after = after;
        let size = encoding::decode_varint(&mut after).ok();
        let size = size.filter(|_| *first == TRANSACTION_TAG);
        let length = (rest.len() - 1) - after.len();
        let minimal = size.filter(|size| encoding::encoded_len_varint(*size) == length);
        let size = minimal.and_then(|size| usize::try_from(size).ok());
        let Some((transaction, next)) = size.and_then(|size| after.split_at_checked(size)) else {
            return Err(match decode_canonical::<TransactionBatch>(batch) {
                Err(error) => error,
                Ok(_) => FormatError::NotCanonical,
            });
        };
        transactions.push(transaction);
        rest = next;
    }
    Ok(transactions)
}

/// The canonical bytes of a message.
pub fn encode_canonical<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// A transaction whose shape is right. Its signatures are not checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedTransaction {
    /// Hash of the payload.
    pub tx_id: Hash,
    /// Hash of the whole transaction.
    pub wid: Hash,
    /// Address of the sender.
    pub sender_address: Hash,
    /// The payload, present and well-formed.
    pub payload: Payload,
    /// The kind, specified.
    pub kind: PayloadKind,
    /// The sender's signature.
    pub signature: [u8; 64],
    /// Endorser keys and their signatures, sorted by key.
    pub endorsements: Vec<([u8; 32], [u8; 64])>,
}

impl CheckedTransaction {
    /// The sender's public key.
    pub fn sender(&self) -> [u8; 32] {
        // `check_payload` refused any other length.
        self.payload.sender.as_slice().try_into().unwrap_or([0; 32])
    }
}

/// Decodes and checks a transaction against the format's own limits.
pub fn decode_transaction(data: &[u8]) -> Result<CheckedTransaction, FormatError> {
    decode_transaction_within(data, TRANSACTION_SIZE_MAX_BYTES)
}

/// Decodes and checks a transaction of at most `size_max_bytes`.
pub fn decode_transaction_within(
    data: &[u8],
    size_max_bytes: usize,
) -> Result<CheckedTransaction, FormatError> {
    let limit = size_max_bytes.min(TRANSACTION_SIZE_MAX_BYTES);
    if data.len() > limit {
        return Err(FormatError::TooLarge {
            size: data.len(),
            limit,
        });
    }
    let transaction: Transaction = decode_canonical(data)?;
    let payload = transaction.payload.ok_or(FormatError::Field {
        field: "payload",
        rule: "must be present",
    })?;
    let kind = check_payload(&payload)?;
    let signature = fixed(&transaction.signature, "signature", "must be 64 bytes")?;
    let mut endorsements: Vec<([u8; 32], [u8; 64])> =
        Vec::with_capacity(transaction.endorsements.len());
    if transaction.endorsements.len() > ENDORSEMENTS_MAX {
        return Err(FormatError::Field {
            field: "endorsements",
            rule: "at most 64",
        });
    }
    for item in &transaction.endorsements {
        let endorser = fixed(
            &item.endorser,
            "endorsements.endorser",
            "must be a 32-byte public key",
        )?;
        if endorsements
            .last()
            .is_some_and(|(previous, _)| *previous >= endorser)
        {
            return Err(FormatError::Field {
                field: "endorsements",
                rule: "must be sorted by endorser, without repeats",
            });
        }
        let signature = fixed(
            &item.signature,
            "endorsements.signature",
            "must be 64 bytes",
        )?;
        endorsements.push((endorser, signature));
    }
    Ok(CheckedTransaction {
        tx_id: hash::tx_id(&payload.encode_to_vec()),
        wid: hash::wid(data),
        sender_address: hash::address(&payload.sender),
        payload,
        kind,
        signature,
        endorsements,
    })
}

fn check_payload(payload: &Payload) -> Result<PayloadKind, FormatError> {
    let rules: [(bool, &'static str, &'static str); 7] = [
        (
            (1..=CHAIN_ID_LENGTH_MAX).contains(&payload.chain_id.len()),
            "payload.chain_id",
            "must be 1 to 128 bytes",
        ),
        (
            payload.contract.len() <= NAME_LENGTH_MAX,
            "payload.contract",
            "at most 128 bytes",
        ),
        (
            (1..=NAME_LENGTH_MAX).contains(&payload.method.len()),
            "payload.method",
            "must be 1 to 128 bytes",
        ),
        (
            payload.sender.len() == 32,
            "payload.sender",
            "must be a 32-byte public key",
        ),
        (
            payload.salt.len() == 16,
            "payload.salt",
            "must be 16 random bytes",
        ),
        (
            payload.payer.is_empty(),
            "payload.payer",
            "is reserved and must be empty",
        ),
        (
            payload.expiry_height > 0,
            "payload.expiry_height",
            "must be above 0",
        ),
    ];
    for (holds, field, rule) in rules {
        if !holds {
            return Err(FormatError::Field { field, rule });
        }
    }
    match PayloadKind::try_from(payload.kind) {
        Ok(PayloadKind::Unspecified) | Err(_) => Err(FormatError::Field {
            field: "payload.kind",
            rule: "must be one of invoke, config, contract admin",
        }),
        Ok(PayloadKind::Invoke) if payload.contract.is_empty() => Err(FormatError::Field {
            field: "payload.contract",
            rule: "an invocation must name its contract",
        }),
        Ok(kind) => Ok(kind),
    }
}

fn fixed<const N: usize>(
    bytes: &[u8],
    field: &'static str,
    rule: &'static str,
) -> Result<[u8; N], FormatError> {
    bytes
        .try_into()
        .map_err(|_| FormatError::Field { field, rule })
}
