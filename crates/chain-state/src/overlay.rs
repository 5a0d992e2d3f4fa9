//! One block's net writes above the finished state.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::lock_api::ArcRwLockReadGuard;
use parking_lot::{RawRwLock, RwLock};

use crate::State;

/// The finished state, shared between the executor and queries beside it.
pub type SharedState = Arc<RwLock<State>>;

/// Holds the finished state still for as long as it lives.
pub type StateGuard = ArcRwLockReadGuard<RawRwLock, State>;

/// Range bounds over byte keys; an empty range where `end` is not above `start`.
pub(crate) fn bounds<'a>(
    start: &'a [u8],
    end: Option<&'a [u8]>,
) -> (std::ops::Bound<&'a [u8]>, std::ops::Bound<&'a [u8]>) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    match end {
        // BTreeMap panics on an inverted range, a contract may well ask for one.
        Some(end) if end <= start => (Included(start), Excluded(start)),
        Some(end) => (Included(start), Excluded(end)),
        None => (Included(start), Unbounded),
    }
}

/// Net writes of the transactions of one block that succeeded so far.
#[derive(Debug, Default)]
pub struct BlockOverlay {
    pub(crate) writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl BlockOverlay {
    /// The value of a key after the transactions so far.
    pub fn get<'a>(&'a self, base: &'a State, key: &[u8]) -> Option<&'a [u8]> {
        match self.writes.get(key) {
            Some(value) => value.as_deref(),
            None => base.get(key),
        }
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Put or delete one key.
    pub fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.writes.insert(key, value);
    }

    /// The block's writes sorted by key, without those that leave the base as it was.
    pub fn into_net_writes(self, base: &State) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.writes
            .into_iter()
            .filter(|(key, value)| base.get(key) != value.as_deref())
            .collect()
    }
}
