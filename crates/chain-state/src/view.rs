//! One transaction's private view: reads fall through to the block, writes stay here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use crate::number::{Bounds, Form, NumberError};
use crate::overlay::bounds;
use crate::versions::{Found, Lens};
use crate::{AccessSet, BlockOverlay, Hash, ReadTimes, State};

/// A pending write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Remove the key.
    Delete,
    /// Replace the value.
    Put(Vec<u8>),
    /// Add to a number of this form without having read it.
    Add(i128, Form),
}

/// The state as one transaction sees it.
///
/// `B` gives the finished state (a reference or a read guard).
#[derive(Debug)]
pub struct TxView<B> {
    base: B,
    block: BlockOverlay,
    lens: Option<Lens>,
    writes: BTreeMap<Vec<u8>, Write>,
    access: AccessSet,
    times: Option<Box<ReadTimes>>,
    /// What each write replaced since the first savepoint that is still open.
    undo: Vec<(Vec<u8>, Option<Write>)>,
    savepoints: u32,
}

/// A place in a view's writes to which it can go back.
#[derive(Debug)]
#[must_use = "a savepoint is kept or undone"]
pub struct Savepoint(usize);

/// What a view held when it ended: the base, the lens, the writes and what was read.
pub type Parts<B> = (B, Lens, BTreeMap<Vec<u8>, Write>, AccessSet);

impl<B: Deref<Target = State>> TxView<B> {
    /// A view over a finished state and the block so far.
    pub fn new(base: B, block: BlockOverlay) -> Self {
        Self {
            base,
            block,
            lens: None,
            writes: BTreeMap::new(),
            access: AccessSet::default(),
            times: None,
            undo: Vec::new(),
            savepoints: 0,
        }
    }

    /// A view through a window on the versions of a block under way.
    pub fn speculative(base: B, lens: Lens) -> Self {
        Self {
            lens: Some(lens),
            ..Self::new(base, BlockOverlay::default())
        }
    }

    /// Note from now on when keys and ranges are first read.
    pub fn note_times(&mut self, times: ReadTimes) {
        self.times = Some(Box::new(times));
    }

    /// When what was read so far was first read, if that was asked for.
    pub fn take_times(&mut self) -> Option<ReadTimes> {
        self.times.take().map(|times| *times)
    }

    /// Whether the view waits for another transaction, so that the call should end.
    pub fn interrupted(&self) -> bool {
        self.lens
            .as_ref()
            .is_some_and(|lens| lens.blocked().is_some())
    }

    /// Take a speculative view apart.
    ///
    /// # Panics
    /// When the view has no lens.
    pub fn into_parts(self) -> Parts<B> {
        let lens = self.lens.expect("only a speculative view has parts");
        (self.base, lens, self.writes, self.access)
    }

    /// What was read so far, for whoever draws the dependencies of a block.
    pub fn take_access(&mut self) -> AccessSet {
        std::mem::take(&mut self.access)
    }

    /// The pending writes.
    pub fn writes(&self) -> &BTreeMap<Vec<u8>, Write> {
        &self.writes
    }

    /// The finished state below.
    pub fn base(&self) -> &State {
        &self.base
    }

    fn below(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let Some(lens) = &self.lens else {
            return self.block.get(&self.base, key).map(Cow::Borrowed);
        };
        // Nothing outside contract storage changes while versions are kept.
        if key.first() != Some(&crate::keys::STORAGE_TAG) {
            return self.under(lens, key).map(Cow::Borrowed);
        }
        self.found(lens, key, lens.read(key))
    }

    /// The value before the versions of the block under way.
    fn under<'a>(&'a self, lens: &'a Lens, key: &[u8]) -> Option<&'a [u8]> {
        lens.memory().under().get(&self.base, key)
    }

    fn found<'a>(&'a self, lens: &'a Lens, key: &[u8], found: Found) -> Option<Cow<'a, [u8]>> {
        match found {
            Found::Below(None) => self.under(lens, key).map(Cow::Borrowed),
            Found::Below(Some((added, form))) => {
                Some(Cow::Owned(form.add(self.under(lens, key), added)))
            }
            Found::Value(value) => Some(Cow::Owned(value)),
            Found::Absent | Found::Blocked(_) => None,
        }
    }

    /// Whether an addition fits on what lies below and on what this transaction added `before`.
    ///
    /// A speculative view takes it to fit, to be checked in order; it reads where failure is
    /// likely, and where so few touch the key that checking would cost more.
    fn fits(
        &self,
        key: &[u8],
        before: i128,
        delta: i128,
        bounds: &Bounds,
    ) -> Result<(), NumberError> {
        let form = bounds.form();
        let fits = |below: i128| bounds.sum(below.wrapping_add(before), delta).map(|_| ());
        let Some(lens) = &self.lens else {
            return fits(form.decode(self.below(key).as_deref())?);
        };
        let total = before.checked_add(delta);
        let assume = || {
            let under = form.decode(self.under(lens, key)).ok();
            let guess = total.zip(under);
            guess.is_some_and(|(total, under)| {
                let likely = lens.is_exact() || bounds.sum(under, total).is_ok();
                likely && lens.assume(key, bounds.room(total), under)
            })
        };
        let read = lens.read_calm(key);
        if read.is_none() && assume() {
            return Ok(());
        }
        let found = read.unwrap_or_else(|| lens.read(key));
        let below = form.decode(self.found(lens, key, found).as_deref())?;
        // What fits on the exact value stays an addition: those above need not be settled for it.
        if !lens.is_exact() {
            lens.learn(key, form, below);
            return fits(below);
        }
        fits(below)?;
        if !assume() {
            lens.learn(key, form, below);
        }
        Ok(())
    }

    fn note_read(&mut self, key: &[u8]) {
        if !self.access.keys.contains(key) {
            if let Some(times) = &mut self.times {
                times.key(key);
            }
            self.access.keys.insert(key.to_vec());
        }
    }

    /// Read without recording: for the executor's own checks.
    pub fn peek(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self.writes.get(key) {
            Some(Write::Put(value)) => Some(Cow::Borrowed(value)),
            Some(Write::Delete) => None,
            Some(Write::Add(delta, form)) => {
                Some(Cow::Owned(form.add(self.below(key).as_deref(), *delta)))
            }
            None => self.below(key),
        }
    }

    /// Read a key; recorded unless the transaction itself decided the value.
    pub fn get(&mut self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        if !matches!(self.writes.get(key), Some(Write::Put(_) | Write::Delete)) {
            self.note_read(key);
        }
        self.peek(key)
    }

    /// Replace a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Write::Put(value));
    }

    /// Remove a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.write(key, Write::Delete);
    }

    fn write(&mut self, key: Vec<u8>, write: Write) {
        if self.savepoints == 0 {
            self.writes.insert(key, write);
        } else {
            let old = self.writes.insert(key.clone(), write);
            self.undo.push((key, old));
        }
    }

    /// Remember the writes so far. Savepoints end in the reverse of their order.
    pub fn savepoint(&mut self) -> Savepoint {
        self.savepoints += 1;
        Savepoint(self.undo.len())
    }

    /// End a savepoint and keep what was written since.
    pub fn keep(&mut self, _: Savepoint) {
        self.savepoints -= 1;
        if self.savepoints == 0 {
            self.undo.clear();
        }
    }

    /// End a savepoint and take back what was written since; reads stay recorded.
    pub fn undo(&mut self, savepoint: Savepoint) {
        for (key, old) in self.undo.drain(savepoint.0..).rev() {
            match old {
                Some(write) => self.writes.insert(key, write),
                None => self.writes.remove(&key),
            };
        }
        self.savepoints -= 1;
    }

    /// Add to a number, 0 when absent, if the sum is within bounds; then it is not a read.
    ///
    /// # Errors
    /// When the sum is out of bounds or the value no number of this form, which counts as read:
    /// nothing changes. One transaction's additions to a key have one form.
    pub fn add(&mut self, key: Vec<u8>, delta: i128, bounds: &Bounds) -> Result<(), NumberError> {
        let form = bounds.form();
        let known = |stored| {
            let sum = bounds.sum(form.decode(stored)?, delta)?;
            Ok(Write::Put(form.encode(sum)))
        };
        let before = match self.writes.get(&key) {
            Some(Write::Put(value)) => Err(known(Some(value))?),
            Some(Write::Delete) => Err(known(None)?),
            Some(Write::Add(_, other)) if *other != form => return Err(NumberError::NotANumber),
            Some(Write::Add(before, _)) => Ok(*before),
            None => Ok(0),
        };
        let write = match before {
            Err(sum) => sum,
            Ok(before) => {
                if let Err(error) = self.fits(&key, before, delta, bounds) {
                    self.note_read(&key);
                    return Err(error);
                }
                Write::Add(before.wrapping_add(delta), form)
            }
        };
        self.write(key, write);
        Ok(())
    }

    /// The value of a counter, zero when absent; an ordinary read.
    ///
    /// # Errors
    /// When the stored value is no counter.
    pub fn read_sum(&mut self, key: &[u8]) -> Result<i128, NumberError> {
        Form::COUNTER.decode(self.get(key).as_deref())
    }

    /// Record that the transaction's result depends on everything in a range.
    pub fn note_range(&mut self, start: &[u8], end: Option<&[u8]>) {
        let end = end.unwrap_or_default().to_vec();
        if let Some(lens) = &self.lens {
            lens.depend_on_range(start, &end);
        }
        let range = (start.to_vec(), end);
        if let Some(times) = &mut self.times {
            if !self.access.ranges.contains(&range) {
                times.range(&range);
            }
        }
        self.access.ranges.insert(range);
    }

    /// The first (or last, `reverse`) live entry of a range, as the transaction sees it now.
    pub fn edge(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        reverse: bool,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut start = start.to_vec();
        let mut end = end.map(<[u8]>::to_vec);
        loop {
            let range = bounds(&start, end.as_deref());
            let own = pick(
                self.writes.range::<[u8], _>(range).map(|(key, _)| key),
                reverse,
            );
            let (overlay, version) = match &self.lens {
                None => (&self.block, None),
                Some(lens) if lens.blocked().is_some() => return None,
                Some(lens) => {
                    let memory = lens.memory();
                    let version = memory.next_key(&start, end.as_deref(), reverse);
                    (memory.under(), version)
                }
            };
            let block = pick(
                overlay.writes.range::<[u8], _>(range).map(|(key, _)| key),
                reverse,
            );
            let base = pick(
                self.base.range(&start, end.as_deref()).map(|(key, _)| key),
                reverse,
            );
            let keys = [own, block, base, version.as_ref()].into_iter().flatten();
            let key = if reverse { keys.max() } else { keys.min() }?.clone();
            if let Some(value) = self.peek(&key) {
                let value = value.into_owned();
                return Some((key, value));
            }
            if reverse {
                end = Some(key);
            } else {
                start = key;
                start.push(0);
            }
        }
    }

    /// Hash of what was read and, with `writes`, of what will be written.
    pub fn access_hash(&self, writes: bool) -> Hash {
        let none = BTreeMap::new();
        self.access.hash(if writes { &self.writes } else { &none })
    }

    /// Whether the transaction wrote anything.
    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Fold the writes into the block and give both parts back.
    pub fn commit(mut self) -> (B, BlockOverlay) {
        for (key, write) in std::mem::take(&mut self.writes) {
            let value = match write {
                Write::Put(value) => Some(value),
                Write::Delete => None,
                Write::Add(delta, form) => Some(form.add(self.below(&key).as_deref(), delta)),
            };
            self.block.writes.insert(key, value);
        }
        (self.base, self.block)
    }

    /// Drop the writes and give both parts back.
    pub fn rollback(self) -> (B, BlockOverlay) {
        (self.base, self.block)
    }
}

fn pick<'a>(
    mut keys: impl DoubleEndedIterator<Item = &'a Vec<u8>>,
    reverse: bool,
) -> Option<&'a Vec<u8>> {
    if reverse {
        keys.next_back()
    } else {
        keys.next()
    }
}
