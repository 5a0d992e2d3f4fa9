//! Transactions that may run again or for the first time, the most urgent first.
//!
//! Most urgent is whose hinted successors form the longest chain; among equals the first in block
//! order, which alone counts where no hints say anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::state::{Scheduler, Waiter};
use super::worker::Worker;
use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering};

/// The queue for whoever comes.
#[derive(Debug)]
pub(super) struct Ready {
    count: AtomicUsize,
    heap: Mutex<BinaryHeap<(u32, Reverse<u32>)>>,
    /// Length of the longest hinted chain that starts at each position; 0 where none is known.
    heights: Box<[AtomicU32]>,
}

impl Ready {
    pub(super) fn new(count: u32) -> Self {
        Self {
            count: AtomicUsize::new(0),
            heap: Mutex::new(BinaryHeap::new()),
            heights: (0..count).map(|_| AtomicU32::new(0)).collect(),
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
            let waiters = self.slots[tx as usize].waiters.lock();
            let above = waiters.iter().map(|waiter| match waiter {
                Waiter::Hinted(tx) | Waiter::Blocked(tx) => self.urgency(*tx).0,
            });
            let height = above.max().unwrap_or(0) + 1;
            drop(waiters);
            self.ready.0.heights[tx as usize].store(height, Ordering::SeqCst);
        }
    }

    fn urgency(&self, tx: u32) -> (u32, Reverse<u32>) {
        let height = self.ready.0.heights[tx as usize].load(Ordering::SeqCst);
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
