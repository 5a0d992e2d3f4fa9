//! Every key's versions in one block.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::ranges::Ranges;
use super::slots::{Cell, Content, Slot};
use super::{key_hash, Effect, Found, Guess, Version};
use crate::sync::{AtomicBool, AtomicU32, Mutex, Once, Ordering, RwLock};
use crate::view::Write;
use crate::{BlockOverlay, State};

/// Producers one read key makes a transaction wait for; more are met as estimates.
const PRODUCERS_MAX: usize = 16;
/// Writers of a key up to which an addition to it reads: the chain they may make is short.
const CALM_WRITERS_MAX: usize = 4;

type Ordered = BTreeMap<Box<[u8]>, Arc<Cell>>;

/// The versions of one block above a finished state.
#[derive(Debug)]
pub struct Memory {
    pub(super) shards: Box<[Mutex<HashTable<Arc<Cell>>>]>,
    pub(super) under: BlockOverlay,
    final_below: AtomicU32,
    ranges: RwLock<Ranges>,
    scanned: AtomicBool,
    ordering: AtomicBool,
    ordered: Once,
    pub(super) order: RwLock<Ordered>,
}

impl Memory {
    /// An empty memory above the block so far; about four shards per worker keep them apart.
    pub fn new(under: BlockOverlay, workers: usize) -> Self {
        let shards = (workers * 4).clamp(8, 512).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            under,
            final_below: AtomicU32::new(0),
            ranges: RwLock::default(),
            scanned: AtomicBool::new(false),
            ordering: AtomicBool::new(false),
            ordered: Once::new(),
            order: RwLock::default(),
        }
    }

    /// The block so far, below every version here.
    pub fn under(&self) -> &BlockOverlay {
        &self.under
    }

    /// Which shard a key of this hash lies in; the table takes its bits from the hash's ends.
    pub fn shard(&self, hash: u64) -> usize {
        (hash >> 24) as usize & (self.shards.len() - 1)
    }

    /// Transactions before this position are final: nobody depends on what lies before them.
    pub fn set_final_below(&self, tx: u32) {
        self.final_below.store(tx, Ordering::Relaxed);
    }

    fn final_below(&self) -> u32 {
        self.final_below.load(Ordering::Relaxed)
    }

    fn find(&self, key: &[u8]) -> Option<Arc<Cell>> {
        self.find_at(key_hash(key), key)
    }

    fn find_at(&self, hash: u64, key: &[u8]) -> Option<Arc<Cell>> {
        let shard = self.shards[self.shard(hash)].lock();
        shard.find(hash, |cell| *cell.key == *key).cloned()
    }

    /// The cell of a key, made when there is none.
    pub fn cell(&self, key: &[u8]) -> Arc<Cell> {
        self.cell_at(key_hash(key), key)
    }

    fn cell_at(&self, hash: u64, key: &[u8]) -> Arc<Cell> {
        let mut shard = self.shards[self.shard(hash)].lock();
        if let Some(cell) = shard.find(hash, |cell| *cell.key == *key) {
            return cell.clone();
        }
        let cell = Arc::new(Cell {
            hash,
            key: key.into(),
            slots: Mutex::default(),
        });

        shard.insert_unique(hash, cell.clone(), |cell| cell.hash);
        // Under the shard's lock: once anyone else can find the cell, a range must find it too.
        if self.ordering.load(Ordering::SeqCst) {
            self.order.write().insert(key.into(), cell.clone());
        }
        cell
    }

    /// Every cell by key: kept from when the first range is read, since most blocks have none.
    fn order(&self) -> &RwLock<Ordered> {
        self.ordered.call_once(|| {
            // Raised before a shard is visited: a new cell is put here by its maker or by this.
            self.ordering.store(true, Ordering::SeqCst);
            for shard in &self.shards {
                let shard = shard.lock();
                let cells = shard.iter().map(|cell| (cell.key.clone(), cell.clone()));
                self.order.write().extend(cells);
            }
        });
        &self.order
    }

    /// Reserve a writer's slot, in any order of positions: an estimate until it publishes.
    pub fn expect_write(&self, tx: u32, hash: u64, key: &[u8], adds: bool) -> Arc<Cell> {
        let cell = self.cell_at(hash, key);
        let mut slots = cell.slots.lock();
        let at = slots.slots.partition_point(|slot| slot.tx < tx);
        match slots.slots.get_mut(at).filter(|slot| slot.tx == tx) {
            Some(slot) => slot.adds &= adds,
            None => slots.slots.insert(at, Slot::expected(tx, adds)),
        }
        drop(slots);
        cell
    }

    /// Visit the writers expected below a position that a reader has to wait for, nearest first:
    /// those that add, up to the first that replaces.
    pub fn expected_below(&self, tx: u32, hash: u64, key: &[u8], mut visit: impl FnMut(u32)) {
        let Some(cell) = self.find_at(hash, key) else {
            return;
        };
        let slots = cell.slots.lock();
        let below = slots.slots.partition_point(|slot| slot.tx < tx);
        for slot in slots.slots[..below].iter().rev().take(PRODUCERS_MAX) {
            visit(slot.tx);
            if !slot.adds {
                return;
            }
        }
    }

    /// Read a key as a transaction sees it, and depend on it when `depend`.
    pub fn read(&self, version: Version, key: &[u8], depend: bool) -> Found {
        let cell = if depend {
            self.cell(key)
        } else {
            match self.find(key) {
                Some(cell) => cell,
                None => return Found::Below(None),
            }
        };
        let mut slots = cell.slots.lock();
        let (found, above) = slots.look(version.tx, self.final_below());
        if depend && !matches!(found, Found::Blocked(_)) {
            slots.depend(version, above);
        }
        found
    }

    /// Read a key to which the transaction adds, and depend on it, if few are known to write it and
    /// all of those before have: then nobody needs to settle the addition in order.
    pub fn read_calm(&self, version: Version, key: &[u8]) -> Option<Found> {
        let cell = self.find(key)?;
        let mut slots = cell.slots.lock();
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
        found.map(|(key, _)| key.to_vec())
    }

    /// Publish an execution's effects; `written` lists the cells of the one before, then of this.
    /// Says whether an addition among them has to be settled in order.
    ///
    /// Whoever read what now differs is added to `stale`. `unsettle` is told of transactions whose
    /// additions were let through and have to be settled after all; it is called under a key's
    /// lock, for whoever publishes after must not become final before they know.
    pub fn publish(
        &self,
        tx: u32,
        effects: Vec<Effect>,
        written: &mut Vec<Arc<Cell>>,
        stale: &mut Vec<Version>,
        unsettle: &mut dyn FnMut(u32),
    ) -> bool {
        let earlier = std::mem::take(written);
        let mut pending = false;
        for effect in effects {
            let known = earlier.iter().find(|cell| *cell.key == effect.key[..]);
            let cell = known.cloned().unwrap_or_else(|| self.cell(&effect.key));
            let content = match effect.write {
                None => Content::Empty,
                Some(Write::Put(value)) => Content::Put(value),
                Some(Write::Delete) => Content::Delete,
                Some(Write::Add(delta, form)) => Content::Add(delta, form),
            };
            pending |= self.set(&cell, tx, (content, effect.assumed), stale, unsettle);
            written.push(cell);
        }
        for cell in earlier {
            if !written.iter().any(|other| Arc::ptr_eq(other, &cell)) {
                self.set(&cell, tx, (Content::Empty, None), stale, unsettle);
            }
        }
        pending
    }

    fn set(
        &self,
        cell: &Cell,
        tx: u32,
        (content, guess): (Content, Option<Guess>),
        stale: &mut Vec<Version>,
        unsettle: &mut dyn FnMut(u32),
    ) -> bool {
        let final_below = self.final_below();
        let mut slots = cell.slots.lock();
        let set = slots.set(tx, content, guess, final_below, unsettle);
        if set.changed {
            slots.break_readers(tx, final_below, stale);
        }
        drop(slots);
        if set.changed && self.scanned.load(Ordering::SeqCst) {
            stale.extend(self.ranges.read().over(&cell.key, tx));
        }
        set.pending
    }

    /// Reserve the slots of what an execution would have written, which was found wrong before it
    /// was published: it will run again and write the same keys, most likely.
    pub fn expect_again(&self, tx: u32, effects: &[Effect], written: &mut Vec<Arc<Cell>>) {
        for effect in effects.iter().filter(|effect| effect.write.is_some()) {
            if written.iter().any(|cell| *cell.key == effect.key[..]) {
                continue;
            }
            let adds = matches!(effect.write, Some(Write::Add(..)));
            written.push(self.expect_write(tx, key_hash(&effect.key), &effect.key, adds));
        }
        Self::estimate(tx, written);
    }

    /// Turn a transaction's slots into estimates: it will run again.
    pub fn estimate(tx: u32, written: &[Arc<Cell>]) {
        for cell in written {
            if let Some(slot) = cell.slots.lock().at(tx) {
                slot.estimate = true;
            }
        }
    }

    /// Replace a transaction's additions by their sums, all earlier transactions being final.
    ///
    /// False, and nothing done, when an exact value below is not what it was taken to be.
    pub fn settle(&self, tx: u32, written: &[Arc<Cell>], state: Option<&State>) -> bool {
        let mut sums = Vec::new();
        for cell in written {
            let mut slots = cell.slots.lock();
            let Some(slot) = slots.at(tx) else {
                continue;
            };
            let assumed = slot.assumed.as_deref().copied();
            let addition = match slot.content {
                Content::Add(delta, form) => Some((delta, form)),
                _ if assumed.is_some() => None,
                _ => continue,
            };
            let under = || self.below(state, &cell.key);
            let found = slots.look(tx, self.final_below()).0;
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
                sums.push((cell, Content::Put(form.add(below, delta))));
            }
        }
        for (cell, value) in sums {
            if let Some(slot) = cell.slots.lock().at(tx) {
                slot.content = value;
            }
        }
        true
    }

    fn below<'a>(&'a self, state: Option<&'a State>, key: &[u8]) -> Option<&'a [u8]> {
        state.and_then(|state| self.under.get(state, key))
    }
}
