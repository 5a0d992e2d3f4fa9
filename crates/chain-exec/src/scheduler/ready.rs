//! Transactions that may run again or for the first time, the most urgent first.
//!
//! Most urgent is whose hinted successors form the longest chain; among equals the first in block
//! order, which alone counts where no hints say anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::records::Waiter;
use super::state::Scheduler;
use super::worker::Worker;
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// The queue for whoever comes.
#[derive(Debug)]
pub(super) struct Ready {
    count: AtomicUsize,
    heap: Mutex<BinaryHeap<(u32, Reverse<u32>)>>,
}

impl Ready {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            heap: Mutex::new(BinaryHeap::new()),
        }
    }
}

impl<T> Scheduler<T> {
    /// Transactions queued to run again or for the first time, for whoever comes.
    pub fn queued(&self) -> usize {
        self.ready.0.count.load(Ordering::SeqCst)
    }

    /// Learn from the hinted edges which transactions the longest chains start at.
    ///
    /// Optional, once all parts are prepared and by one worker, while the others may begin: only
    /// the order changes in which they find work.
    pub fn climb(&self) {
        for tx in (0..self.count()).rev() {
            let waiters = self.records.slots[tx as usize].waiters.lock();
            let above = waiters.iter().map(|waiter| match waiter {
                Waiter::Hinted(tx) | Waiter::Blocked(tx) => self.urgency(*tx).0,
            });
            let height = above.max().unwrap_or(0) + 1;
            drop(waiters);
            self.records.heights[tx as usize].store(height, Ordering::SeqCst);
        }
    }

    fn urgency(&self, tx: u32) -> (u32, Reverse<u32>) {
        let height = self.records.heights[tx as usize].load(Ordering::SeqCst);
        (height, Reverse(tx))
    }

    pub(super) fn pop_ready(&self) -> Option<u32> {
        if self.queued() == 0 {
            return None;
        }
        let mut heap = self.ready.0.heap.lock();
        let tx = heap.pop().map(|(_, Reverse(tx))| tx);
        self.ready.0.count.store(heap.len(), Ordering::SeqCst);
        tx
    }

    pub(super) fn push_ready(&self, tx: u32) {
        let urgency = self.urgency(tx);
        let mut heap = self.ready.0.heap.lock();
        heap.push(urgency);
        self.ready.0.count.store(heap.len(), Ordering::SeqCst);
    }

    /// Keep the most urgent for this worker, give the others away.
    pub(super) fn hand(&self, worker: &mut Worker, tx: u32) {
        let Some(kept) = worker.released else {
            worker.released = Some(tx);
            return;
        };
        let (first, second) = if self.urgency(kept) > self.urgency(tx) {
            (kept, tx)
        } else {
            (tx, kept)
        };
        worker.released = Some(first);
        self.push_ready(second);
    }
}
