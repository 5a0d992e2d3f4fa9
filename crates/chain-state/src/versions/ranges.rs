//! Who scanned which ranges of a block's keys.

use std::collections::{BTreeMap, HashMap};

use super::Version;

/// Readers of one beginning below which nobody looks for those that are final.
const PRUNE_MIN: usize = 64;

#[derive(Debug)]
struct Reader {
    version: Version,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Reader {
    fn holds(&self, key: &[u8]) -> bool {
        self.start[..] <= *key && (self.end.is_empty() || *key < self.end[..])
    }
}

#[derive(Debug, Default)]
struct Readers {
    readers: Vec<Reader>,
    /// How many there were after those that are final had been dropped.
    pruned: usize,
}

/// Scans of the transactions that are not final yet.
///
/// Whatever lies between two keys begins with what both begin with. Scans lie by that beginning,
/// so that a publication meets those of its own neighbourhood and not every scan of the block.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    by_beginning: HashMap<Box<[u8]>, Readers>,
    /// Lengths of the beginnings, with how many have it.
    lengths: BTreeMap<usize, usize>,
}

impl Ranges {
    /// Remember a scan, `end` exclusive and empty for none; of what is final nothing is kept.
    pub(super) fn insert(&mut self, version: Version, start: &[u8], end: &[u8], final_below: u32) {
        let shared = start
            .iter()
            .zip(end)
            .take_while(|(left, right)| left == right);
        let beginning = &start[..shared.count()];
        if !self.by_beginning.contains_key(beginning) {
            *self.lengths.entry(beginning.len()).or_default() += 1;
            self.by_beginning
                .insert(beginning.into(), Readers::default());
        }
        let known = self.by_beginning.get_mut(beginning).expect("made above");
        if known.readers.len() >= PRUNE_MIN.max(2 * known.pruned) {
            known.readers.retain(|one| one.version.tx >= final_below);
            known.pruned = known.readers.len();
        }
        known.readers.push(Reader {
            version,
            start: start.to_vec(),
            end: end.to_vec(),
        });
    }

    /// The later transactions that scanned over a key.
    pub(super) fn over<'a>(&'a self, key: &'a [u8], tx: u32) -> impl Iterator<Item = Version> + 'a {
        let lengths = self
            .lengths
            .keys()
            .take_while(|length| **length <= key.len());
        let known = lengths.filter_map(|length| self.by_beginning.get(&key[..*length]));
        let readers = known.flat_map(|known| &known.readers);
        let later = readers.filter(move |one| one.version.tx > tx && one.holds(key));
        later.map(|one| one.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tx: u32) -> Version {
        Version { tx, incarnation: 0 }
    }

    #[test]
    fn scans_are_found_by_every_key_they_hold_and_by_no_other() {
        let keys: Vec<Vec<u8>> = (0..3u8)
            .flat_map(|a| {
                (0..4u8).flat_map(move |b| [vec![a], vec![a, b], vec![a, b, 0], vec![a, b, 9]])
            })
            .chain([vec![]])
            .collect();
        let mut ranges = Ranges::default();
        let mut all = Vec::new();
        for (tx, (start, end)) in keys
            .iter()
            .flat_map(|a| keys.iter().map(move |b| (a, b)))
            .enumerate()
        {
            ranges.insert(version(tx as u32), start, end, 0);
            all.push((start, end));
        }
        for key in &keys {
            for tx in [0, 1_000] {
                let mut found: Vec<u32> = ranges.over(key, tx).map(|version| version.tx).collect();
                found.sort_unstable();
                let expected = (0..).zip(&all).filter(|(later, (start, end))| {
                    *later > tx && *start <= key && (end.is_empty() || key < end)
                });
                assert!(expected.map(|(later, _)| later).eq(found));
            }
        }
    }

    #[test]
    fn final_scans_go_and_strangers_are_not_looked_at() {
        let mut ranges = Ranges::default();
        for tx in 0..10_000u32 {
            let owner = (tx % 100).to_be_bytes();
            let (start, end) = ([&owner[..], b"a"].concat(), [&owner[..], b"b"].concat());
            ranges.insert(version(tx), &start, &end, tx.saturating_sub(50));
        }
        let kept = ranges
            .by_beginning
            .values()
            .map(|known| known.readers.len());
        assert_eq!(ranges.by_beginning.len(), 100);
        assert!(kept.max().unwrap() <= PRUNE_MIN);
        let mut same = Ranges::default();
        for tx in 0..10_000 {
            same.insert(version(tx), b"a", b"b", tx.saturating_sub(50));
            assert!(same.by_beginning[&b""[..]].readers.len() <= 2 * PRUNE_MIN);
        }
    }
}
