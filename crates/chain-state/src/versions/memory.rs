//! Every key's versions in one block.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::ranges::Ranges;
use super::shards::{Key, Shard, Shards};
use super::slots::{Content, Delta, Set, Slot};
use super::{key_hash, Effect, Found, Guess, Version};
use crate::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Once, Ordering, RwLock};
use crate::view::Write;
use crate::{BlockOverlay, State};

/// Producers one read key makes a transaction wait for; more are met as estimates.
const PRODUCERS_MAX: usize = 16;
/// Writers of a key up to which an addition to it reads: the chain they may make is short.
const CALM_WRITERS_MAX: usize = 4;

/// Where a key's cell lies in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellId {
    /// Of the hash of its key, to tell the cells of a transaction apart without a look at them.
    tag: u32,
    shard: u32,
    at: u32,
}

/// The cells that a transaction has slots in.
pub type Written = SmallVec<[CellId; 4]>;

type Ordered = BTreeSet<Box<[u8]>>;

/// The versions of one block above a finished state.
#[derive(Debug)]
pub struct Memory {
    pub(super) shards: Shards,
    pub(super) under: BlockOverlay,
    final_below: AtomicU32,
    ranges: RwLock<Ranges>,
    scanned: AtomicBool,
    ordering: AtomicBool,
    ordered: Once,
    pub(super) order: RwLock<Ordered>,
    /// Keys by which the block's writes will be divided.
    pub(super) drawn: Mutex<Vec<Key>>,
}

impl Memory {
    /// An empty memory above the block so far.
    pub fn new(under: BlockOverlay, workers: usize) -> Self {
        Self::over(Shards::default(), under, workers)
    }

    /// The same with what the memory of an earlier block kept.
    pub fn over(kept: Shards, under: BlockOverlay, workers: usize) -> Self {
        Self {
            shards: kept.suit(workers),
            under,
            final_below: AtomicU32::new(0),
            ranges: RwLock::default(),
            scanned: AtomicBool::new(false),
            ordering: AtomicBool::new(false),
            ordered: Once::new(),
            order: RwLock::default(),
            drawn: Mutex::default(),
        }
    }

    /// The block so far, below every version here.
    pub fn under(&self) -> &BlockOverlay {
        &self.under
    }

    /// Which shard a key of this hash lies in; the table takes its bits from the hash's ends.
    pub fn shard(&self, hash: u64) -> usize {
        (hash >> 24) as usize & (self.shards.0.len() - 1)
    }

    /// Transactions before this position are final: nobody depends on what lies before them.
    pub fn set_final_below(&self, tx: u32) {
        self.final_below.store(tx, Ordering::Relaxed);
    }

    fn final_below(&self) -> u32 {
        self.final_below.load(Ordering::Relaxed)
    }

    fn locked(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shards.0[self.shard(hash)].0.lock()
    }

    fn id(&self, hash: u64, at: usize) -> CellId {
        CellId {
            tag: tag(hash),
            // At most 512 shards, each of which numbers its cells in 32 bits.
            shard: self.shard(hash) as u32,
            at: at as u32,
        }
    }

    fn locked_at(&self, id: CellId) -> (usize, MutexGuard<'_, Shard>) {
        (id.at as usize, self.shards.0[id.shard as usize].0.lock())
    }

    /// Where the cell of a key lies in its shard, made when there is none.
    fn find_or_make(&self, shard: &mut Shard, hash: u64, key: &[u8]) -> usize {
        let (at, is_new) = shard.find_or_make(hash, key);
        // Under the shard's lock: once anyone else can find the cell, a range must find it too.
        if is_new && self.ordering.load(Ordering::SeqCst) {
            self.order.write().insert(key.into());
        }
        at
    }

    /// Every key with a cell: kept from when the first range is read, since most blocks have none.
    fn order(&self) -> &RwLock<Ordered> {
        self.ordered.call_once(|| {
            // Raised before a shard is visited: a new cell is put here by its maker or by this.
            self.ordering.store(true, Ordering::SeqCst);
            for shard in &self.shards.0 {
                let shard = shard.0.lock();
                let keys = shard.cells.iter().map(|cell| cell.key[..].into());
                self.order.write().extend(keys);
            }
        });
        &self.order
    }

    /// Reserve a writer's slot, in any order of positions: an estimate until it publishes.
    pub fn expect_write(&self, tx: u32, hash: u64, key: &[u8], adds: bool) -> CellId {
        let mut shard = self.locked(hash);
        let at = self.find_or_make(&mut shard, hash, key);
        let slots = &mut shard.cells[at].slots.slots;
        let before = slots.partition_point(|slot| slot.tx < tx);
        match slots.get_mut(before).filter(|slot| slot.tx == tx) {
            Some(slot) => slot.adds &= adds,
            None => slots.insert(before, Slot::expected(tx, adds)),
        }
        self.id(hash, at)
    }

    /// Visit the writers expected below a position that a reader has to wait for, nearest first:
    /// those that add, up to the first that replaces.
    pub fn expected_below(&self, tx: u32, hash: u64, key: &[u8], mut visit: impl FnMut(u32)) {
        let shard = self.locked(hash);
        let Some(at) = shard.find(hash, key) else {
            return;
        };
        let slots = &shard.cells[at].slots.slots;
        let below = slots.partition_point(|slot| slot.tx < tx);
        for slot in slots[..below].iter().rev().take(PRODUCERS_MAX) {
            visit(slot.tx);
            if !slot.adds {
                return;
            }
        }
    }

    /// Read a key as a transaction sees it, and depend on it when `depend`.
    pub fn read(&self, version: Version, key: &[u8], depend: bool) -> Found {
        let hash = key_hash(key);
        let mut shard = self.locked(hash);
        let at = if depend {
            self.find_or_make(&mut shard, hash, key)
        } else {
            match shard.find(hash, key) {
                Some(at) => at,
                None => return Found::Below(None),
            }
        };
        let slots = &mut shard.cells[at].slots;
        let (found, above) = slots.look(version.tx, self.final_below());
        if depend && !matches!(found, Found::Blocked(_)) {
            slots.depend(version, above);
        }
        found
    }

    /// Read a key to which the transaction adds, and depend on it, if few are known to write it and
    /// all of those before have: then nobody needs to settle the addition in order.
    pub fn read_calm(&self, version: Version, key: &[u8]) -> Option<Found> {
        let hash = key_hash(key);
        let mut shard = self.locked(hash);
        let at = shard.find(hash, key)?;
        let slots = &mut shard.cells[at].slots;
        // Its own slot is there where hints or an execution before told who writes the key.
        if slots.slots.len() > CALM_WRITERS_MAX || slots.at(version.tx).is_none() {
            return None;
        }
        let (found, above) = slots.look(version.tx, self.final_below());
        if matches!(found, Found::Blocked(_)) {
            return None;
        }
        slots.depend(version, above);
        Some(found)
    }

    /// Depend on every key of a range, those not there yet included.
    pub fn depend_on_range(&self, version: Version, start: &[u8], end: &[u8]) {
        let mut ranges = self.ranges.write();
        ranges.insert(version, start, end, self.final_below());
        self.scanned.store(true, Ordering::SeqCst);
    }

    /// The first (or last, `reverse`) key with a cell in a range.
    pub fn next_key(&self, start: &[u8], end: Option<&[u8]>, reverse: bool) -> Option<Vec<u8>> {
        let order = self.order().read();
        let mut range = order.range::<[u8], _>(crate::overlay::bounds(start, end));
        let found = if reverse {
            range.next_back()
        } else {
            range.next()
        };
        found.map(|key| key.to_vec())
    }

    /// Publish an execution's effects; `written` lists the cells of the one before, then of this.
    /// Says whether an addition among them has to be settled in order.
    ///
    /// Whoever read what now differs is added to `stale`. `unsettle` is told of transactions whose
    /// additions were let through and have to be settled after all; it is called under the lock of
    /// the key's shard, for whoever publishes after must not become final before they know.
    pub fn publish(
        &self,
        tx: u32,
        effects: Vec<Effect>,
        written: &mut Written,
        stale: &mut Vec<Version>,
        unsettle: &mut dyn FnMut(u32),
    ) -> bool {
        let earlier = std::mem::take(written);
        let mut pending = false;
        for Effect {
            key,
            write,
            assumed,
        } in effects
        {
            let content = match write {
                None => Content::Empty,
                Some(Write::Put(value)) => Content::Put(value),
                Some(Write::Delete) => Content::Delete,
                Some(Write::Add(delta, form)) => Content::Add(Delta::new(delta), form),
            };
            let hash = key_hash(&key);
            let mut shard = self.locked(hash);
            let known = earlier.iter().find(|id| id.tag == tag(hash));
            let known = known.map(|id| id.at as usize);
            let at = known
                .filter(|at| shard.is_at(*at, hash, &key))
                .unwrap_or_else(|| self.find_or_make(&mut shard, hash, &key));
            let set = self.set(&mut shard, at, tx, (content, assumed), stale, unsettle);
            drop(shard);
            if set.changed {
                self.break_scans(&key, tx, stale);
            }
            pending |= set.pending;
            written.push(self.id(hash, at));
        }
        for id in earlier.into_iter().filter(|id| !written.contains(id)) {
            let (at, mut shard) = self.locked_at(id);
            let set = self.set(&mut shard, at, tx, (Content::Empty, None), stale, unsettle);
            if set.changed {
                self.break_scans(&shard.cells[at].key, tx, stale);
            }
        }
        pending
    }

    fn set(
        &self,
        shard: &mut Shard,
        at: usize,
        tx: u32,
        (content, guess): (Content, Option<Guess>),
        stale: &mut Vec<Version>,
        unsettle: &mut dyn FnMut(u32),
    ) -> Set {
        let final_below = self.final_below();
        let slots = &mut shard.cells[at].slots;
        let set = slots.set(tx, content, guess, final_below, unsettle);
        if set.changed {
            slots.break_readers(tx, final_below, stale);
        }
        set
    }

    /// A key has changed for whoever scanned over it.
    fn break_scans(&self, key: &[u8], tx: u32, stale: &mut Vec<Version>) {
        if self.scanned.load(Ordering::SeqCst) {
            stale.extend(self.ranges.read().over(key, tx));
        }
    }

    /// Reserve the slots of what an execution would have written, which was found wrong before it
    /// was published: it will run again and write the same keys, most likely.
    pub fn expect_again(&self, tx: u32, effects: &[Effect], written: &mut Written) {
        for effect in effects {
            let Some(write) = &effect.write else { continue };
            let adds = matches!(write, Write::Add(..));
            let id = self.expect_write(tx, key_hash(&effect.key), &effect.key, adds);
            if !written.contains(&id) {
                written.push(id);
            }
        }
        self.estimate(tx, written);
    }

    /// Turn a transaction's slots into estimates: it will run again.
    pub fn estimate(&self, tx: u32, written: &[CellId]) {
        for id in written {
            let (at, mut shard) = self.locked_at(*id);
            if let Some(slot) = shard.cells[at].slots.at(tx) {
                slot.estimate = true;
            }
        }
    }

    /// Remember a key, to divide the block's writes by keys drawn in this way.
    pub fn draw(&self, id: CellId) {
        let (at, shard) = self.locked_at(id);
        let key = shard.cells[at].key.clone();
        drop(shard);
        self.drawn.lock().push(key);
    }

    /// Replace a transaction's additions by their sums, all earlier transactions being final.
    ///
    /// False, and nothing done, when an exact value below is not what it was taken to be.
    pub fn settle(&self, tx: u32, written: &[CellId], state: Option<&State>) -> bool {
        let mut sums = Vec::new();
        for id in written {
            let (at, mut shard) = self.locked_at(*id);
            let cell = &mut shard.cells[at];
            let Some(slot) = cell.slots.at(tx) else {
                continue;
            };
            let assumed = slot.assumed.as_deref().copied();
            let addition = match slot.content {
                Content::Add(delta, form) => Some((delta.get(), form)),
                _ if assumed.is_some() => None,
                _ => continue,
            };
            let under = || self.below(state, &cell.key);
            let found = cell.slots.look(tx, self.final_below()).0;
            let summed;
            let below = match &found {
                Found::Value(value) => Some(&value[..]),
                Found::Absent => None,
                Found::Below(None) => under(),
                Found::Below(Some((added, form))) => {
                    summed = form.add(under(), *added);
                    Some(&summed[..])
                }
                Found::Blocked(_) => return false,
            };
            if assumed.is_some_and(|guess| !guess.room.holds(below)) {
                return false;
            }
            if let Some((delta, form)) = addition {
                sums.push((id, Content::Put(form.add(below, delta))));
            }
        }
        for (id, value) in sums {
            let (at, mut shard) = self.locked_at(*id);
            if let Some(slot) = shard.cells[at].slots.at(tx) {
                slot.content = value;
            }
        }
        true
    }

    fn below<'a>(&'a self, state: Option<&'a State>, key: &[u8]) -> Option<&'a [u8]> {
        state.and_then(|state| self.under.get(state, key))
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}
