//! When a transaction first looks at what it reads, for whoever records a block.

use std::time::Instant;

/// Start (inclusive) and end (exclusive, empty is none).
pub type Range = (Vec<u8>, Vec<u8>);

/// Offsets of the first reads of keys and ranges, in nanoseconds since the start.
#[derive(Clone, Debug)]
pub struct ReadTimes {
    began: Instant,
    /// Keys in the order in which they were first read.
    pub keys: Vec<(Vec<u8>, u64)>,
    /// Ranges in the order in which they were first scanned.
    pub ranges: Vec<(Range, u64)>,
}

impl ReadTimes {
    /// The execution starts now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            keys: Vec::new(),
            ranges: Vec::new(),
        }
    }

    /// Nanoseconds since the start.
    pub fn elapsed_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    pub(crate) fn key(&mut self, key: &[u8]) {
        let at = self.elapsed_ns();
        self.keys.push((key.to_vec(), at));
    }

    pub(crate) fn range(&mut self, range: &Range) {
        let at = self.elapsed_ns();
        self.ranges.push((range.clone(), at));
    }
}
