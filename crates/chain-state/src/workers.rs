//! Threads that a piece of work is shared among.

use std::ops::Range;

use crate::sync::Mutex;

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

/// Lists behind one another, each put in its place by one of the workers.
pub fn join<T: Send>(workers: &dyn Workers, lists: Vec<Vec<T>>) -> Vec<T> {
    let count = lists.iter().map(Vec::len).sum();
    let mut all: Vec<T> = Vec::with_capacity(count);
    let mut free = all.spare_capacity_mut();
    let mut places = Vec::with_capacity(lists.len());
    for list in lists {
        let (own, rest) = free.split_at_mut(list.len());
        places.push((own, list));
        free = rest;
    }
    share_out(workers, places, |(own, list)| {
        for (place, item) in own.iter_mut().zip(list) {
            place.write(item);
        }
    });
    // SAFETY: the lists' places follow each other from the first on and are `count` together; each
    // is as long as its list, whose every item was written to it.
    unsafe { all.set_len(count) };
    all
}
