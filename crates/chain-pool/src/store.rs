//! The maps behind the pool's lock.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chain_types::{CheckedTransaction, Hash};

/// Heights for which an expired or unused body stays readable: a proposal that arrived early may
/// still need it after the commit below it.
const GRACE_HEIGHTS: u64 = 4;

/// A wid whose body the pool does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no body of wid {}", hex(.0))]
pub struct NotHeld(pub Hash);

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A transaction's bytes and what the pool knows of them.
pub(crate) struct Body {
    sender: Hash,
    wid: Hash,
    tx_id: Hash,
    expiry_height: u64,
    verified: bool,
    bytes: Arc<[u8]>,
}

impl Body {
    pub(crate) fn new(checked: &CheckedTransaction, bytes: Vec<u8>, verified: bool) -> Self {
        Self {
            sender: checked.sender(),
            wid: checked.wid,
            tx_id: checked.tx_id,
            expiry_height: checked.payload.expiry_height,
            verified,
            bytes: bytes.into(),
        }
    }
}

/// Pending transactions of one sender.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) count: usize,
    pub(crate) size_bytes: usize,
}

impl Share {
    pub(crate) fn add(&mut self, size_bytes: usize) {
        self.count += 1;
        self.size_bytes += size_bytes;
    }
}

struct Pending {
    arrival: u64,
    body: Body,
}

struct Proposed {
    since_height: u64,
    body: Body,
}

/// Pending transactions, bodies of proposals, ids in blocks that are not executed yet, and the used
/// ids that could still be replayed.
#[derive(Default)]
pub(crate) struct Store {
    height: u64,
    arrivals: u64,
    by_arrival: BTreeMap<u64, Hash>,
    by_expiry: BTreeMap<(u64, u64), Hash>,
    pending: HashMap<Hash, Pending>,
    pending_ids: HashMap<Hash, Hash>,
    pending_by_sender: HashMap<Hash, Share>,
    pending_size_bytes: usize,
    proposed: HashMap<Hash, Proposed>,
    ordered: HashMap<Hash, u64>,
    committed: HashMap<Hash, u64>,
    committed_by_expiry: BTreeMap<u64, Vec<Hash>>,
}

impl Store {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.pending_size_bytes
    }

    /// What one sender (public key) has pending.
    pub(crate) fn share_of(&self, sender: &Hash) -> Share {
        self.pending_by_sender
            .get(sender)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn knows(&self, tx_id: &Hash) -> bool {
        self.pending_ids.contains_key(tx_id)
            || self.ordered.contains_key(tx_id)
            || self.committed.contains_key(tx_id)
    }

    pub(crate) fn is_pending(&self, tx_id: &Hash) -> bool {
        self.pending_ids.contains_key(tx_id)
    }

    fn body(&self, wid: &Hash) -> Option<&Body> {
        let pending = self.pending.get(wid).map(|pending| &pending.body);
        pending.or_else(|| self.proposed.get(wid).map(|proposed| &proposed.body))
    }

    pub(crate) fn holds(&self, wid: &Hash) -> bool {
        self.body(wid).is_some()
    }

    pub(crate) fn verified(&self, wid: &Hash) -> bool {
        self.body(wid).is_some_and(|body| body.verified)
    }

    pub(crate) fn held_size_bytes(&self, wids: &[Hash]) -> usize {
        let bodies = wids.iter().filter_map(|wid| self.body(wid));
        bodies.map(|body| body.bytes.len()).sum()
    }

    pub(crate) fn bodies(&self, wids: &[Hash]) -> Result<Vec<Arc<[u8]>>, NotHeld> {
        wids.iter()
            .map(|wid| {
                self.body(wid)
                    .map(|body| body.bytes.clone())
                    .ok_or(NotHeld(*wid))
            })
            .collect()
    }

    /// Adds at the end of the queue and returns the bytes.
    pub(crate) fn keep_pending(&mut self, body: Body) -> Arc<[u8]> {
        let bytes = body.bytes.clone();
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.proposed.remove(&body.wid);
        self.pending_size_bytes += bytes.len();
        self.by_arrival.insert(arrival, body.wid);
        self.by_expiry
            .insert((body.expiry_height, arrival), body.wid);
        self.pending_ids.insert(body.tx_id, body.wid);
        self.pending_by_sender
            .entry(body.sender)
            .or_default()
            .add(bytes.len());
        self.pending.insert(body.wid, Pending { arrival, body });
        bytes
    }

    pub(crate) fn keep_for_proposal(&mut self, body: Body) -> bool {
        if self.holds(&body.wid) {
            return false;
        }
        let since_height = self.height;
        self.proposed
            .insert(body.wid, Proposed { since_height, body });
        true
    }

    pub(crate) fn propose(&self, transactions_max: usize, size_max_bytes: usize) -> Vec<Hash> {
        let mut wids = Vec::new();
        let mut size = 0;
        for wid in self.by_arrival.values() {
            if wids.len() >= transactions_max {
                break;
            }
            let Some(Pending { body, .. }) = self.pending.get(wid) else {
                continue;
            };
            // One that no block of this size can hold must not hold up those behind it.
            if body.bytes.len() > size_max_bytes {
                continue;
            }
            if size + body.bytes.len() > size_max_bytes {
                break;
            }
            size += body.bytes.len();
            wids.push(*wid);
        }
        wids
    }

    pub(crate) fn remember(&mut self, tx_id: Hash, expiry_height: u64) {
        if expiry_height > self.height && !self.committed.contains_key(&tx_id) {
            self.committed.insert(tx_id, expiry_height);
            self.committed_by_expiry
                .entry(expiry_height)
                .or_default()
                .push(tx_id);
        }
    }

    /// A block is decided: its transactions leave, their ids wait for what execution says.
    pub(crate) fn commit(&mut self, wids: &[Hash], height: u64) -> usize {
        let before = self.len();
        self.height = self.height.max(height);
        for wid in wids {
            let pending = self.take_pending(wid);
            let proposed = self.proposed.remove(wid).map(|proposed| proposed.body);
            if let Some(body) = pending.or(proposed) {
                // A forged copy of a payload in a block must not make the real one look committed.
                if body.verified {
                    self.ordered.insert(body.tx_id, height);
                }
            }
        }
        self.drop_expired();
        before - self.len()
    }

    /// A block is executed: only now is it known which ids are used up (expiry above 0).
    pub(crate) fn executed(
        &mut self,
        outcomes: impl IntoIterator<Item = (Hash, u64)>,
        height: u64,
    ) -> usize {
        let before = self.len();
        for (tx_id, expiry_height) in outcomes {
            if expiry_height == 0 {
                continue;
            }
            // The same payload with other signatures has had its turn too.
            if let Some(wid) = self.pending_ids.get(&tx_id).copied() {
                self.take_pending(&wid);
            }
            self.remember(tx_id, expiry_height);
        }
        // Blocks execute in order: what was decided up to here and is not used up is free again.
        self.ordered
            .retain(|_, decided_height| *decided_height > height);
        before - self.len()
    }

    fn take_pending(&mut self, wid: &Hash) -> Option<Body> {
        let Pending { arrival, body } = self.pending.remove(wid)?;
        self.by_arrival.remove(&arrival);
        self.by_expiry.remove(&(body.expiry_height, arrival));
        self.pending_ids.remove(&body.tx_id);
        if let Entry::Occupied(mut share) = self.pending_by_sender.entry(body.sender) {
            share.get_mut().count -= 1;
            share.get_mut().size_bytes -= body.bytes.len();
            if share.get().count == 0 {
                share.remove();
            }
        }
        self.pending_size_bytes -= body.bytes.len();
        Some(body)
    }

    fn drop_expired(&mut self) {
        let height = self.height;
        let alive = self.by_expiry.split_off(&(height.saturating_add(1), 0));
        for wid in std::mem::replace(&mut self.by_expiry, alive).into_values() {
            if let Some(body) = self.take_pending(&wid) {
                self.keep_for_proposal(body);
            }
        }
        self.proposed
            .retain(|_, proposed| proposed.since_height + GRACE_HEIGHTS > height);
        let alive = self
            .committed_by_expiry
            .split_off(&height.saturating_add(1));
        for tx_ids in std::mem::replace(&mut self.committed_by_expiry, alive).into_values() {
            for tx_id in tx_ids {
                self.committed.remove(&tx_id);
            }
        }
    }
}
