//! The finished state in memory.

use std::collections::BTreeMap;

use crate::overlay::bounds;
use crate::workers::{share_out, Workers};

/// Entries of one stretch at most; half as many where one was split.
const STRETCH_MAX: usize = 4_096;
/// Groups of stretches per worker, so that none waits long for another with more to do.
const GROUPS_PER_WORKER: usize = 4;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Neighbouring entries, from a key on to where the next stretch begins.
#[derive(Debug, Default)]
struct Stretch {
    first: Vec<u8>,
    entries: Entries,
}

/// What the last finished block left, ordered by key.
///
/// The entries lie in stretches of bounded size, so that threads can apply a block's writes side
/// by side whatever the keys have in common.
#[derive(Debug)]
pub struct State {
    /// Never none: the first begins at the empty key.
    stretches: Vec<Stretch>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            stretches: vec![Stretch::default()],
        }
    }
}

impl Stretch {
    fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            None => drop(self.entries.remove(key)),
            Some(value) => match self.entries.get_mut(key) {
                Some(known) => {
                    known.clear();
                    known.extend_from_slice(value);
                }
                None => drop(self.entries.insert(key.to_vec(), value.to_vec())),
            },
        }
    }

    /// Keep as many entries as one stretch may hold; the others, in order.
    fn overflow(&mut self) -> Vec<Self> {
        let mut others = Vec::new();
        while self.entries.len() > STRETCH_MAX {
            let middle = self.entries.len() - STRETCH_MAX / 2;
            let first = self.entries.keys().nth(middle).expect("within").clone();
            let entries = self.entries.split_off(&first);
            others.push(Self { first, entries });
        }
        others.reverse();
        others
    }
}

impl State {
    fn stretch_of(&self, key: &[u8]) -> usize {
        self.stretches.partition_point(|one| one.first[..] <= *key) - 1
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let stretch = &self.stretches[self.stretch_of(key)];
        stretch.entries.get(key).map(Vec::as_slice)
    }

    /// Put or delete one key.
    pub fn apply(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let at = self.stretch_of(&key);
        let stretch = &mut self.stretches[at];
        stretch.apply(&key, value.as_deref());
        let emptied = stretch.entries.is_empty();
        let others = stretch.overflow();
        self.stretches.splice(at + 1..at + 1, others);
        if emptied {
            self.drop_empty();
        }
    }

    /// Put and delete keys by several workers; `entry` is a write's key and value.
    ///
    /// # Panics
    /// When the writes are not strictly sorted by key.
    pub fn apply_all<W: Sync>(
        &mut self,
        workers: &dyn Workers,
        writes: &[W],
        entry: impl Fn(&W) -> (&[u8], Option<&[u8]>) + Sync,
    ) {
        if writes.len() >= STRETCH_MAX && self.ends_before(entry(&writes[0]).0) {
            return self.append(workers, writes, entry);
        }
        let size = self.stretches.len();
        let size = size.div_ceil(workers.count() * GROUPS_PER_WORKER);
        // A group's keys end where the next one's begin, so that each write is in one group's part.
        let firsts = self.stretches.iter().step_by(size).skip(1);
        let mut ends: Vec<usize> = firsts
            .map(|one| writes.partition_point(|write| *entry(write).0 < one.first[..]))
            .collect();
        ends.push(writes.len());
        let starts = std::iter::once(0).chain(ends.clone());
        let groups = self.stretches.chunks_mut(size);
        let groups: Vec<_> = groups.zip(starts.zip(ends)).collect();
        let grown = share_out(workers, groups, |(stretches, (start, end))| {
            apply_to(stretches, &writes[start..end], &entry)
        });
        let mut emptied = false;
        for (others, empty) in grown {
            emptied |= empty;
            for other in others {
                let at = self.stretch_of(&other.first) + 1;
                self.stretches.insert(at, other);
            }
        }
        if emptied {
            self.drop_empty();
        }
    }

    fn ends_before(&self, key: &[u8]) -> bool {
        let last = self.stretches.last().expect("never none");
        let own = last.entries.last_key_value();
        last.first[..] <= *key && own.is_none_or(|(own, _)| own[..] < *key)
    }

    /// Add many entries behind all others.
    fn append<W: Sync>(
        &mut self,
        workers: &dyn Workers,
        writes: &[W],
        entry: impl Fn(&W) -> (&[u8], Option<&[u8]>) + Sync,
    ) {
        let starts = (0..writes.len()).step_by(STRETCH_MAX / 2).collect();
        let added = share_out(workers, starts, |start: usize| {
            let end = writes.len().min(start + STRETCH_MAX / 2);
            check_order(&writes[start.saturating_sub(1)..end], &entry);
            let entries = writes[start..end].iter().map(&entry);
            let kept = entries.filter_map(|(key, value)| Some((key.to_vec(), value?.to_vec())));
            let first = entry(&writes[start]).0.to_vec();
            Stretch {
                first,
                entries: kept.collect(),
            }
        });
        self.stretches.extend(added);
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.stretches
            .retain(|one| one.first.is_empty() || !one.entries.is_empty());
    }

    /// Entries from `start` (inclusive) to `end` (exclusive, none is unbounded), in key order.
    pub fn range<'a>(
        &'a self,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
        let first = self.stretch_of(start);
        let last = end.map_or(self.stretches.len() - 1, |end| self.stretch_of(end));
        let stretches = &self.stretches[first..=last.max(first)];
        // The bounds are copied once a range, not once a stretch.
        let (start, end) = (start.to_vec(), end.map(<[u8]>::to_vec));
        stretches.iter().flat_map(move |one| {
            let range = bounds(&start, end.as_deref());
            one.entries.range::<[u8], _>(range)
        })
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.stretches.iter().map(|one| one.entries.len()).sum()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.stretches.iter().all(|one| one.entries.is_empty())
    }
}

fn check_order<W>(writes: &[W], entry: impl Fn(&W) -> (&[u8], Option<&[u8]>)) {
    let sorted = writes.is_sorted_by(|left, right| entry(left).0 < entry(right).0);
    assert!(sorted, "writes come sorted by key, each key once");
}

/// Apply a group's writes; what its stretches have too many, and whether one is now empty.
fn apply_to<W>(
    stretches: &mut [Stretch],
    mut writes: &[W],
    entry: impl Fn(&W) -> (&[u8], Option<&[u8]>),
) -> (Vec<Stretch>, bool) {
    check_order(writes, &entry);
    let (mut others, mut emptied) = (Vec::new(), false);
    let mut at = 0;
    while let Some(write) = writes.first() {
        let key = entry(write).0;
        at += stretches[at + 1..].partition_point(|one| one.first[..] <= *key);
        let own = match stretches.get(at + 1) {
            Some(next) => writes.partition_point(|write| *entry(write).0 < next.first[..]),
            None => writes.len(),
        };
        for (key, value) in writes[..own].iter().map(&entry) {
            stretches[at].apply(key, value);
        }
        writes = &writes[own..];
        emptied |= stretches[at].entries.is_empty();
        others.extend(stretches[at].overflow());
    }
    (others, emptied)
}
