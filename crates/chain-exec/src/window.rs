//! Ids that already have a receipt and could still be replayed.

use std::collections::{BTreeMap, HashMap, HashSet};

use chain_state::{share_out, stretches, Workers};
use chain_types::Hash;

/// Ids lie in shards by their first byte, so that threads can look after shards of their own.
const SHARDS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Window {
    shards: Vec<Shard>,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    ids: HashMap<Hash, u64>,
    by_expiry: BTreeMap<u64, Vec<Hash>>,
}

/// Ids of a run that are not free.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Positions of those that have a receipt.
    pub(crate) before: Vec<usize>,
    /// Ids that come more than once.
    pub(crate) repeated: HashSet<Hash>,
}

impl Default for Window {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards }
    }
}

fn shard_of(id: &Hash) -> usize {
    usize::from(id[0]) % SHARDS
}

impl Shard {
    fn insert(&mut self, id: Hash, expiry_height: u64) {
        if self.ids.insert(id, expiry_height).is_none() {
            self.by_expiry.entry(expiry_height).or_default().push(id);
        }
    }

    fn prune(&mut self, height: u64) {
        let live = self.by_expiry.split_off(&height);
        let expired = std::mem::replace(&mut self.by_expiry, live);
        for id in expired.into_values().flatten() {
            self.ids.remove(&id);
        }
    }
}

impl Window {
    pub(crate) fn contains(&self, id: &Hash) -> bool {
        self.shards[shard_of(id)].ids.contains_key(id)
    }

    pub(crate) fn insert(&mut self, id: Hash, expiry_height: u64) {
        self.shards[shard_of(&id)].insert(id, expiry_height);
    }

    /// Insert ids with their heights, by several workers; 0 leaves an id free.
    pub(crate) fn insert_all(&mut self, workers: &dyn Workers, ids: &[Hash], heights: &[u64]) {
        let shards = self.shards.iter_mut();
        let mut shards: Vec<(usize, &mut Shard)> = shards.enumerate().collect();
        let mut groups = Vec::new();
        for range in stretches(SHARDS, workers.count()) {
            let rest = shards.split_off(range.len());
            groups.push((range, std::mem::replace(&mut shards, rest)));
        }
        share_out(workers, groups, |(range, mut shards)| {
            let own = |id: &&Hash| range.contains(&shard_of(id));
            let ids = ids.iter().zip(heights).filter(|(id, _)| own(id));
            for (id, height) in ids.filter(|(_, height)| **height > 0) {
                shards[shard_of(id) - range.start].1.insert(*id, *height);
            }
        });
    }

    /// Which ids are not free, by several workers; `id` gives that of a position, if it has one.
    pub(crate) fn taken<'a>(
        &self,
        workers: &dyn Workers,
        count: usize,
        id: impl Fn(usize) -> Option<&'a Hash> + Sync,
    ) -> Taken {
        let groups = stretches(SHARDS, workers.count());
        let found = share_out(workers, groups, |range| {
            let mut taken = Taken::default();
            let mut seen = HashSet::with_capacity(count / workers.count());
            for position in 0..count {
                let Some(id) = id(position).filter(|id| range.contains(&shard_of(id))) else {
                    continue;
                };
                if self.contains(id) {
                    taken.before.push(position);
                }
                if !seen.insert(id) {
                    taken.repeated.insert(*id);
                }
            }
            taken
        });
        let mut all = Taken::default();
        for taken in found {
            all.before.extend(taken.before);
            all.repeated.extend(taken.repeated);
        }
        all
    }

    /// Forget what can no longer be in a block at this height.
    pub(crate) fn prune(&mut self, workers: &dyn Workers, height: u64) {
        let shards = self.shards.iter_mut().collect();
        share_out(workers, shards, |shard: &mut Shard| shard.prune(height));
    }
}

#[cfg(test)]
mod tests {
    use chain_state::Alone;

    use super::*;
    use crate::pool::Pool;

    fn id(number: usize) -> Hash {
        chain_types::sha256(&[&number.to_be_bytes()])
    }

    #[test]
    fn several_workers_know_and_forget_what_one_does() {
        let ids: Vec<Hash> = (0..500).map(|number| id(number % 450)).collect();
        let heights: Vec<u64> = (0..500).map(|number| number % 5).collect();
        for workers in [1, 2, 3, 8, 96] {
            let pool = Pool::new(workers, false);
            let (mut serial, mut window) = (Window::default(), Window::default());
            for (id, height) in ids.iter().zip(&heights).filter(|(_, height)| **height > 0) {
                serial.insert(*id, *height);
            }
            window.insert_all(&pool, &ids, &heights);
            for height in [0, 2, 4] {
                serial.prune(&Alone, height);
                window.prune(&pool, height);
                let known: Vec<bool> = ids.iter().map(|id| window.contains(id)).collect();
                assert!(known.contains(&true));
                assert!(ids
                    .iter()
                    .map(|id| serial.contains(id))
                    .eq(known.iter().copied()));
                let mut taken = window.taken(&pool, ids.len(), |position| Some(&ids[position]));
                taken.before.sort_unstable();
                assert!(taken
                    .before
                    .into_iter()
                    .eq((0..500).filter(|at| known[*at])));
                assert_eq!(taken.repeated, ids[450..].iter().copied().collect());
            }
            window.prune(&pool, 9);
            assert!(!ids.iter().any(|id| window.contains(id)));
        }
    }
}
