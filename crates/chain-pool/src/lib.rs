//! Pending transactions: decoded, deduplicated and verified once, first come first served.
//!
//! The one lock guards maps only. Decoding, hashing and signature checks run outside it, so that a
//! proposal never waits for a batch of submissions.

mod admission;
mod store;
mod verify;

pub use admission::{Admission, Admissions};
pub use store::NotHeld;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

use chain_crypto::share;
use chain_types::proto::TransactionBatch;
use chain_types::{decode_transaction_within, CheckedTransaction, FormatError, Hash};
use parking_lot::{Mutex, RwLock};
use prost::encoding::{decode_key, decode_varint, encode_key, encode_varint, WireType};
use prost::Message;

use crate::store::{Body, Share, Store};

/// What a pool may hold. Sizes are bytes of canonical transactions.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How far above the current height a transaction may expire.
    pub expiry_window: u64,
    /// Pending transactions. One sender may have half of them, and half of the bytes, so that it
    /// cannot shut the others out.
    pub transactions_max: usize,
    /// Bytes of pending transactions.
    pub size_max_bytes: usize,
    /// Bytes of one transaction.
    pub transaction_size_max_bytes: usize,
}

impl Limits {
    /// Whether a sender with this much pending may add so many bytes.
    fn admits(&self, share: Share, size_bytes: usize) -> bool {
        let size_max = (self.size_max_bytes / 2).max(self.transaction_size_max_bytes);
        share.count < self.transactions_max.div_ceil(2) && share.size_bytes + size_bytes <= size_max
    }
}

/// Below this a thread costs more than its share of the decoding.
const DECODED_PER_THREAD_MIN: usize = 128;

/// The pending transactions of one chain. Every method may be called from any thread.
pub struct Pool {
    chain_id: String,
    limits: Limits,
    threads: NonZeroUsize,
    store: Mutex<Store>,
    members: RwLock<HashSet<Hash>>,
}

/// One transaction of a batch on its way through `add`.
struct Candidate {
    body: Vec<u8>,
    checked: Option<CheckedTransaction>,
    code: Admission,
}

impl Pool {
    /// An empty pool for the chain that checks signatures on up to `threads` threads.
    pub fn new(chain_id: &str, limits: Limits, threads: NonZeroUsize) -> Self {
        Self {
            chain_id: chain_id.to_owned(),
            limits,
            threads,
            store: Mutex::new(Store::default()),
            members: RwLock::default(),
        }
    }

    /// Judges every transaction of a `TransactionBatch` and keeps the sound ones.
    ///
    /// `height` is the last committed one. Fails only when the batch itself is no message.
    ///
    /// The first `submitted` come from clients: their senders must be members, and they alone are
    /// `fresh`, since a peer's have reached the others already. `None` takes all as fresh, whoever
    /// sent them.
    pub fn add(
        &self,
        batch: &[u8],
        height: u64,
        submitted: Option<usize>,
    ) -> Result<Admissions, FormatError> {
        let mut candidates = self.decode(batch)?;
        for candidate in &mut candidates {
            self.check_expiry(candidate, height);
        }
        self.refuse_strangers(&mut candidates, submitted.unwrap_or(0));
        let known_valid = self.screen(&mut candidates);
        verify::refuse_bad_signatures(&mut candidates, &known_valid, self.threads);
        Ok(self.keep(candidates, submitted.unwrap_or(usize::MAX)))
    }

    /// Says whether transactions of a public key are taken from clients.
    pub fn set_member(&self, public_key: Hash, member: bool) {
        let mut members = self.members.write();
        if member {
            members.insert(public_key);
        } else {
            members.remove(&public_key);
        }
    }

    /// wids of the oldest pending transactions that fit both limits, in order of arrival.
    pub fn propose(&self, transactions_max: usize, size_max_bytes: usize) -> Vec<Hash> {
        self.store.lock().propose(transactions_max, size_max_bytes)
    }

    /// Those of the wids whose bodies are not held, in the order asked.
    pub fn missing(&self, wids: &[Hash]) -> Vec<Hash> {
        let store = self.store.lock();
        wids.iter()
            .filter(|wid| !store.holds(wid))
            .copied()
            .collect()
    }

    /// Keeps the bodies a proposal needs, outside the limits; returns how many were new.
    ///
    /// Only those in `wanted` are looked at, or a peer could fill the memory with what nobody asked
    /// for; `None` takes all.
    ///
    /// A body with a bad signature is kept, marked unverified: execution refuses it with a receipt.
    /// A malformed one or one of another chain is not, on any node: its block gets no vote.
    pub fn add_bodies(
        &self,
        batch: &[u8],
        wanted: Option<&HashSet<Hash>>,
    ) -> Result<usize, FormatError> {
        let mut candidates = self.decode(batch)?;
        candidates.retain(|candidate| candidate.code == Admission::Accepted);
        if let Some(wanted) = wanted {
            candidates.retain(|c| c.checked.as_ref().is_some_and(|t| wanted.contains(&t.wid)));
        }
        {
            let store = self.store.lock();
            candidates.retain(|c| c.checked.as_ref().is_some_and(|t| !store.holds(&t.wid)));
        }
        verify::refuse_bad_signatures(&mut candidates, &HashSet::new(), self.threads);
        let mut store = self.store.lock();
        let mut new = 0;
        for Candidate {
            body,
            checked,
            code,
        } in candidates
        {
            if let Some(checked) = checked {
                let verified = code == Admission::Accepted;
                new += usize::from(store.keep_for_proposal(Body::new(&checked, body, verified)));
            }
        }
        Ok(new)
    }

    /// A `TransactionBatch` of the bodies in the order asked.
    pub fn bodies(&self, wids: &[Hash]) -> Result<Vec<u8>, NotHeld> {
        let bodies = self.store.lock().bodies(wids)?;
        Ok(encode_batch(bodies.iter().map(AsRef::as_ref)))
    }

    /// Those of the ids of which a transaction is pending.
    pub fn pending(&self, tx_ids: &[Hash]) -> Vec<Hash> {
        let store = self.store.lock();
        let pending = tx_ids.iter().filter(|tx_id| store.is_pending(tx_id));
        pending.copied().collect()
    }

    /// Bytes of those of the wids' bodies that are held.
    pub fn held_size_bytes(&self, wids: &[Hash]) -> usize {
        self.store.lock().held_size_bytes(wids)
    }

    /// One byte per wid: 1 when all its signatures are known to be valid.
    pub fn verified(&self, wids: &[Hash]) -> Vec<u8> {
        let store = self.store.lock();
        wids.iter()
            .map(|wid| u8::from(store.verified(wid)))
            .collect()
    }

    /// Forgets committed and expired transactions; their ids stay known until `executed` tells
    /// which of them are used up. Returns how many pending ones went.
    pub fn commit(&self, wids: &[Hash], height: u64) -> usize {
        self.store.lock().commit(wids, height)
    }

    /// Takes the outcome of the block at `height`: per transaction its id and the last height at
    /// which it could be replayed, 0 when the id is not used up. Used ids stay known until then,
    /// the others may come again, exactly as after a restart. Returns how many pending ones went.
    pub fn executed(&self, outcomes: impl IntoIterator<Item = (Hash, u64)>, height: u64) -> usize {
        self.store.lock().executed(outcomes, height)
    }

    /// Seeds the used ids after a restart.
    pub fn restore(&self, committed: impl IntoIterator<Item = (Hash, u64)>) {
        let mut store = self.store.lock();
        for (tx_id, expiry_height) in committed.into_iter().filter(|(_, expiry)| *expiry > 0) {
            store.remember(tx_id, expiry_height);
        }
    }

    /// Pending transactions.
    pub fn len(&self) -> usize {
        self.store.lock().len()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of pending transactions.
    pub fn size_bytes(&self) -> usize {
        self.store.lock().size_bytes()
    }

    fn decode(&self, batch: &[u8]) -> Result<Vec<Candidate>, FormatError> {
        let batch = TransactionBatch::decode(batch)
            .map_err(|error| FormatError::Undecodable(error.to_string()))?;
        let bodies = batch.transactions;
        let verdicts = share(&bodies, DECODED_PER_THREAD_MIN, self.threads, |part| {
            part.iter().map(|body| self.decode_one(body)).collect()
        });
        let candidates = bodies.into_iter().zip(verdicts);
        Ok(candidates
            .map(|(body, (checked, code))| Candidate {
                body,
                checked,
                code,
            })
            .collect())
    }

    fn decode_one(&self, body: &[u8]) -> (Option<CheckedTransaction>, Admission) {
        match decode_transaction_within(body, self.limits.transaction_size_max_bytes) {
            Ok(checked) => {
                let code = if checked.payload.chain_id == self.chain_id {
                    Admission::Accepted
                } else {
                    Admission::WrongChain
                };
                (Some(checked), code)
            }
            Err(FormatError::TooLarge { .. }) => (None, Admission::TooLarge),
            Err(_) => (None, Admission::Malformed),
        }
    }

    fn refuse_strangers(&self, candidates: &mut [Candidate], submitted: usize) {
        let members = self.members.read();
        for candidate in candidates.iter_mut().take(submitted) {
            let Some(checked) = &candidate.checked else {
                continue;
            };
            if candidate.code == Admission::Accepted && !members.contains(&checked.sender()) {
                candidate.code = Admission::UnknownMember;
            }
        }
    }

    fn check_expiry(&self, candidate: &mut Candidate, height: u64) {
        let Some(checked) = &candidate.checked else {
            return;
        };
        if candidate.code != Admission::Accepted {
            return;
        }
        // The next block is height + 1: an expiry at or below `height` can no longer be met.
        if checked.payload.expiry_height <= height {
            candidate.code = Admission::Expired;
        } else if checked.payload.expiry_height > height.saturating_add(self.limits.expiry_window) {
            candidate.code = Admission::ExpiryTooFar;
        }
    }

    /// Refuses known and surplus transactions before any signature is looked at; returns the wids
    /// whose signatures a proposal has had checked already.
    fn screen(&self, candidates: &mut [Candidate]) -> HashSet<Hash> {
        let mut seen: HashSet<Hash> = HashSet::with_capacity(candidates.len());
        let mut known_valid = HashSet::new();
        let store = self.store.lock();
        let mut count = store.len();
        let mut size = store.size_bytes();
        let mut by_sender: HashMap<Hash, Share> = HashMap::new();
        for candidate in candidates {
            let Some(checked) = &candidate.checked else {
                continue;
            };
            if candidate.code != Admission::Accepted {
                continue;
            }
            if store.knows(&checked.tx_id) || !seen.insert(checked.tx_id) {
                candidate.code = Admission::Known;
                continue;
            }
            let of_sender = by_sender
                .entry(checked.sender())
                .or_insert_with(|| store.share_of(&checked.sender()));
            if count >= self.limits.transactions_max
                || !self.limits.admits(*of_sender, candidate.body.len())
                || size + candidate.body.len() > self.limits.size_max_bytes
            {
                candidate.code = Admission::PoolFull;
            } else {
                count += 1;
                of_sender.add(candidate.body.len());
                size += candidate.body.len();
                if store.verified(&checked.wid) {
                    known_valid.insert(checked.wid);
                }
            }
        }
        known_valid
    }

    fn keep(&self, candidates: Vec<Candidate>, submitted: usize) -> Admissions {
        let mut admissions = Admissions::with_capacity(candidates.len());
        let mut fresh = Vec::new();
        let mut store = self.store.lock();
        for (place, candidate) in candidates.into_iter().enumerate() {
            let Candidate {
                body,
                checked,
                mut code,
            } = candidate;
            let tx_id = checked.as_ref().map(|checked| checked.tx_id);
            if let (Admission::Accepted, Some(checked)) = (code, checked) {
                // Another thread may have been faster while signatures were checked.
                if store.knows(&checked.tx_id) {
                    code = Admission::Known;
                } else if store.len() >= self.limits.transactions_max
                    || !self
                        .limits
                        .admits(store.share_of(&checked.sender()), body.len())
                    || store.size_bytes() + body.len() > self.limits.size_max_bytes
                {
                    code = Admission::PoolFull;
                } else {
                    let kept = store.keep_pending(Body::new(&checked, body, true));
                    if place < submitted {
                        fresh.push(kept);
                    }
                }
            }
            admissions.push(code, tx_id);
        }
        drop(store);
        admissions.fresh = encode_batch(fresh.iter().map(AsRef::as_ref));
        admissions
    }
}

/// How many transactions an encoded `TransactionBatch` holds, without a look at them.
///
/// Batches of which this is known can be put behind one another: the bytes are their union.
pub fn count_transactions(batch: &[u8]) -> Result<usize, FormatError> {
    let malformed = |what: &str| FormatError::Undecodable(format!("TransactionBatch: {what}"));
    let mut rest = batch;
    let mut count = 0;
    while !rest.is_empty() {
        let (field, wire) =
            decode_key(&mut rest).map_err(|_| malformed("a field without a number"))?;
        if (field, wire) != (1, WireType::LengthDelimited) {
            return Err(malformed("a field that is no transaction"));
        }
        let size = decode_varint(&mut rest).map_err(|_| malformed("a length that is none"))?;
        let size = usize::try_from(size).map_err(|_| malformed("a length beyond its end"))?;
        rest = rest
            .get(size..)
            .ok_or_else(|| malformed("a length beyond its end"))?;
        count += 1;
    }
    Ok(count)
}

/// Encodes a `TransactionBatch` without copying the bodies into a message first.
fn encode_batch<'a>(bodies: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let size: usize = bodies.clone().map(|body| body.len() + 6).sum();
    let mut batch = Vec::with_capacity(size);
    for body in bodies {
        encode_key(1, WireType::LengthDelimited, &mut batch);
        encode_varint(body.len() as u64, &mut batch);
        batch.extend_from_slice(body);
    }
    batch
}
