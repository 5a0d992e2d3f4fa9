//! Ids that already have a receipt and could still be replayed.

use std::collections::{BTreeMap, HashMap};

use chain_types::Hash;

#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    ids: HashMap<Hash, u64>,
    by_expiry: BTreeMap<u64, Vec<Hash>>,
}

impl Window {
    pub(crate) fn contains(&self, id: &Hash) -> bool {
        self.ids.contains_key(id)
    }

    pub(crate) fn insert(&mut self, id: Hash, expiry_height: u64) {
        if self.ids.insert(id, expiry_height).is_none() {
            self.by_expiry.entry(expiry_height).or_default().push(id);
        }
    }

    /// Forget what can no longer be in a block at this height.
    pub(crate) fn prune(&mut self, height: u64) {
        let live = self.by_expiry.split_off(&height);
        for id in std::mem::replace(&mut self.by_expiry, live)
            .into_values()
            .flatten()
        {
            self.ids.remove(&id);
        }
    }
}
