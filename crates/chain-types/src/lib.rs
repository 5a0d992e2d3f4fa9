//! The ledger's formats: generated messages, canonical bytes, ids and Merkle roots.

#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto {
    //! Messages of `protos/chainnode/v1/types.proto`, written by `make protos`.
    include!("proto/chainnode.v1.rs");
}
