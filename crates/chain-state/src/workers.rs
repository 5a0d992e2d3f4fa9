//! Threads that a piece of work is shared among.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::sync::{AtomicUsize, Mutex, Ordering};

/// Threads that do the parts of a piece of work.
pub trait Workers: Sync {
    /// How many there are, the caller included.
    fn count(&self) -> usize;

    /// Do each of the parts `0..parts` once, by whoever is free; returns when all are done.
    ///
    /// # Panics
    /// When a part does.
    fn each(&self, parts: usize, work: &(dyn Fn(usize) + Sync));
}

/// The caller on its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Workers for Alone {
    fn count(&self) -> usize {
        1
    }

    fn each(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..parts).for_each(work);
    }
}

/// What the workers make of each part, in the order of the parts.
///
/// # Panics
/// When `work` does.
pub fn share_out<T: Send, R: Send>(
    workers: &dyn Workers,
    parts: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if workers.count() < 2 || parts.len() < 2 {
        return parts.into_iter().map(work).collect();
    }
    let parts: Vec<Mutex<(Option<T>, Option<R>)>> = parts
        .into_iter()
        .map(|part| Mutex::new((Some(part), None)))
        .collect();
    workers.each(parts.len(), &|index| {
        let part = parts[index].lock().0.take();
        let made = work(part.expect("each part is done once"));
        parts[index].lock().1 = Some(made);
    });
    let made = parts.into_iter().map(|part| part.into_inner().1);
    made.map(|made| made.expect("each part was done")).collect()
}

/// `0..count` in so many neighbouring ranges of about one length.
pub fn stretches(count: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.clamp(1, count.max(1));
    (0..parts)
        .map(|part| count * part / parts..count * (part + 1) / parts)
        .collect()
}

/// A list under way: several workers fill its places side by side.
#[derive(Debug)]
pub struct Places<T> {
    items: Vec<T>,
    count: usize,
    is_cut: bool,
    filled: AtomicUsize,
}

/// Neighbouring places of a list, filled from the first on.
#[derive(Debug)]
pub struct Place<'a, T> {
    free: std::slice::IterMut<'a, MaybeUninit<T>>,
    put: usize,
    filled: &'a AtomicUsize,
}

impl<T> Places<T> {
    /// Places of so many items.
    pub fn new(count: usize) -> Self {
        Self {
            items: Vec::with_capacity(count),
            count,
            is_cut: false,
            filled: AtomicUsize::new(0),
        }
    }

    /// The places in stretches of these lengths, one after another.
    ///
    /// # Panics
    /// When they were cut before, or the lengths together exceed the list's.
    pub fn cut(&mut self, lengths: impl IntoIterator<Item = usize>) -> Vec<Place<'_, T>> {
        let cut = std::mem::replace(&mut self.is_cut, true);
        assert!(!cut, "a place cut twice could be counted twice");
        let mut free = &mut self.items.spare_capacity_mut()[..self.count];
        let filled = &self.filled;
        let stretch = |length| {
            let (own, rest) = std::mem::take(&mut free).split_at_mut(length);
            free = rest;
            let (free, put) = (own.iter_mut(), 0);
            Place { free, put, filled }
        };
        lengths.into_iter().map(stretch).collect()
    }

    /// The list, every place being filled.
    ///
    /// # Panics
    /// When one is not.
    pub fn into_list(mut self) -> Vec<T> {
        let filled = self.filled.load(Ordering::SeqCst);
        assert_eq!(filled, self.count, "a place was left empty");
        // SAFETY: the places were cut once, so that no two stretches share one. A stretch counts no
        // more than it has, each written to; together they counted as many as there are places.
        unsafe { self.items.set_len(self.count) };
        self.items
    }
}

impl<T> Place<'_, T> {
    /// Fill the next place.
    ///
    /// # Panics
    /// When all are filled.
    pub fn put(&mut self, item: T) {
        self.free.next().expect("a free place").write(item);
        self.put += 1;
    }
}

impl<T> Extend<T> for Place<'_, T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.put(item));
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.filled.fetch_add(self.put, Ordering::SeqCst);
    }
}
