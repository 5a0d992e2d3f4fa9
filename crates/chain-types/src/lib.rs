//! The ledger's formats: generated messages, canonical bytes, ids and Merkle roots.

#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto {
    //! Messages of `protos/chainnode/v1/types.proto`, written by `make protos`.
    include!("proto/chainnode.v1.rs");
}

mod hash;
mod merkle;
mod transaction;

pub use hash::{address, endorsement_message, sender_message, sha256, tx_id, wid, Hash};
pub use merkle::{merkle_path, merkle_root, merkle_root_of_runs, verify_merkle_path};
pub use transaction::{
    decode_canonical, decode_transaction, decode_transaction_within, encode_canonical, split_batch,
    CheckedTransaction, FormatError, ENDORSEMENTS_MAX, TRANSACTION_SIZE_MAX_BYTES,
};
