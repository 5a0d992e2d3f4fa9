//! Long lists that several workers make, read and drop together.

use std::ops::{Index, Range};

use chain_state::{share_out, Workers};

/// A list in parts of one length, the last one's apart: putting them together would be one
/// worker's while the others wait, and so would dropping them.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    parts: Vec<Vec<T>>,
    size: usize,
    count: usize,
}

impl<T: Send> Parts<T> {
    /// `count` items, neighbours made together: at least `size_min`, for below that a worker costs
    /// more than its share. `make` gives one item for each position of its range.
    pub(crate) fn make(
        workers: &dyn Workers,
        count: usize,
        size_min: usize,
        make: impl Fn(Range<usize>) -> Vec<T> + Sync,
    ) -> Self {
        let size = count.div_ceil(workers.count()).max(size_min).max(1);
        let starts = (0..count).step_by(size);
        let ranges = starts.map(|start| start..(start + size).min(count));
        let parts = share_out(workers, ranges.collect(), |range| {
            let length = range.len();
            let part = make(range);
            assert_eq!(part.len(), length, "one item for each position");
            part
        });
        Self { parts, size, count }
    }

    /// Drop every part where it fits.
    pub(crate) fn release(self, workers: &dyn Workers) {
        share_out(workers, self.parts, drop);
    }
}

impl<T> IntoIterator for Parts<T> {
    type Item = Vec<T>;
    type IntoIter = std::vec::IntoIter<Vec<T>>;

    /// Its parts, for workers who have others to do as well.
    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

impl<T> Parts<T> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The items at these positions.
    pub(crate) fn range(&self, range: Range<usize>) -> impl Iterator<Item = &T> + Clone {
        let first = range.start / self.size;
        let skipped = range.start - (first * self.size).min(range.start);
        let parts = self.parts.get(first..).unwrap_or_default();
        parts.iter().flatten().skip(skipped).take(range.len())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.parts.iter().flatten()
    }
}

impl<T> From<Vec<T>> for Parts<T> {
    fn from(items: Vec<T>) -> Self {
        let count = items.len();
        Self {
            parts: vec![items],
            size: count.max(1),
            count,
        }
    }
}

impl<T> Index<usize> for Parts<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.parts[index / self.size][index % self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    #[test]
    fn positions_are_those_of_one_list() {
        for workers in [1, 2, 3, 8] {
            let pool = Pool::new(workers, false);
            for count in [0, 1, 5, 64, 100, 1_001] {
                let parts = Parts::make(&pool, count, 10, Iterator::collect);
                assert_eq!(parts.len(), count);
                assert!(parts.iter().copied().eq(0..count));
                for start in [0, 1, 9, 10, 11, 333, count] {
                    let range = start.min(count)..(start + 40).min(count);
                    assert!(parts.range(range.clone()).copied().eq(range.clone()));
                    assert!(range.clone().all(|at| parts[at] == at));
                }
                parts.release(&pool);
            }
        }
        assert!(Parts::from(vec![4, 5]).range(1..2).eq(&[5]));
    }
}
