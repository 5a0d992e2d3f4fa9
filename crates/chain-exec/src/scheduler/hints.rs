//! What is known of a transaction's accesses before it runs: advice, never trusted.

use chain_state::versions::key_hash;

/// How far a hint can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HintClass {
    /// Every access is named: the transaction can wait for exactly its producers.
    Complete,
    /// Every access is named, some of those named may not happen.
    Superset,
    /// A guess from what like transactions did.
    Predicted,
    /// Nothing is known.
    #[default]
    None,
}

/// A full state key (contract-qualified) with its hash, computed once and off the hot path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintKey {
    pub(crate) hash: u64,
    pub(crate) bytes: Box<[u8]>,
}

impl HintKey {
    /// Hash a key.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            hash: key_hash(&bytes),
            bytes,
        }
    }
}

/// The accesses a transaction is expected to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// How far to rely on it.
    pub class: HintClass,
    /// Keys read.
    pub reads: Vec<HintKey>,
    /// Keys put or deleted.
    pub writes: Vec<HintKey>,
    /// Keys added to without being read.
    pub deltas: Vec<HintKey>,
}

impl Hint {
    /// Whether waiting for the producers of its reads is worth it.
    pub fn is_complete(&self) -> bool {
        matches!(self.class, HintClass::Complete | HintClass::Superset)
    }
}
