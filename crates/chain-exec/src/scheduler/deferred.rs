//! Repeats that wait until everything before them has run once.
//!
//! What ran once has its writes published or marked as estimates, so that a repeat meets its true
//! producers instead of guessing again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::state::{Scheduler, ABORTING, DIRTY, EXECUTED, STALE, SUMMED};
use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering};

#[derive(Debug)]
pub(super) struct Deferred {
    /// Positions below have run once.
    ran: AtomicU32,
    count: AtomicUsize,
    heap: Mutex<BinaryHeap<Reverse<u32>>>,
}

impl Deferred {
    pub(super) fn new() -> Self {
        Self {
            ran: AtomicU32::new(0),
            count: AtomicUsize::new(0),
            heap: Mutex::new(BinaryHeap::new()),
        }
    }
}

impl<T> Scheduler<T> {
    fn has_run(&self, tx: u32) -> bool {
        matches!(self.get(tx).0, EXECUTED | SUMMED | DIRTY | ABORTING | STALE)
            || self.records.slots[tx as usize]
                .aborts
                .load(Ordering::SeqCst)
                > 0
    }

    /// Run a repeat once everything before it has run.
    pub(super) fn defer(&self, tx: u32) {
        let deferred = &self.deferred.0;
        if deferred.ran.load(Ordering::SeqCst) >= tx {
            self.push_ready(tx);
            return;
        }
        {
            let mut heap = deferred.heap.lock();
            heap.push(Reverse(tx));
            deferred.count.store(heap.len(), Ordering::SeqCst);
        }
        // Who passed it meanwhile may have found the heap empty.
        if deferred.ran.load(Ordering::SeqCst) >= tx {
            self.recall();
        }
    }

    /// A transaction has run: go on from it if it was the first that had not.
    pub(super) fn has_now_run(&self, tx: u32) {
        let deferred = &self.deferred.0;
        if deferred.ran.load(Ordering::SeqCst) != tx {
            return;
        }
        let mut next = tx;
        while next < self.count() && self.has_run(next) {
            let (order, failed) = (Ordering::SeqCst, Ordering::SeqCst);
            match deferred.ran.compare_exchange(next, next + 1, order, failed) {
                Ok(_) => next += 1,
                // Another worker goes on from there.
                Err(_) => return,
            }
        }
        self.recall();
    }

    fn recall(&self) {
        let deferred = &self.deferred.0;
        if deferred.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let ran = deferred.ran.load(Ordering::SeqCst);
        let mut heap = deferred.heap.lock();
        while let Some(Reverse(tx)) = heap.peek().copied().filter(|Reverse(tx)| *tx <= ran) {
            heap.pop();
            self.push_ready(tx);
        }
        deferred.count.store(heap.len(), Ordering::SeqCst);
    }
}
