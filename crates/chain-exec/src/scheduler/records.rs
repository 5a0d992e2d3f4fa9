//! What is known of each transaction of a block, kept for the blocks after it.
//!
//! Setting up records would be one worker's while the others wait. So they are set up once, and the
//! workers who take what the transactions left leave them as new.

use chain_state::versions::{CellId, Written};

use super::state::{pack, IDLE};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};

/// Someone to wake when a transaction has run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// A hint named it before the block began.
    Hinted(u32),
    /// It met the estimate.
    Blocked(u32),
}

#[derive(Debug)]
pub(super) struct Record<T> {
    pub(super) written: Written,
    pub(super) output: Option<T>,
}

#[derive(Debug)]
pub(super) struct Slot<T> {
    /// Producers still to run, and one for being drawn.
    pub(super) pending: AtomicU32,
    pub(super) aborts: AtomicU32,
    pub(super) waiters: Mutex<Vec<Waiter>>,
    pub(super) record: Mutex<Record<T>>,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self {
            pending: AtomicU32::new(1),
            aborts: AtomicU32::new(0),
            waiters: Mutex::new(Vec::new()),
            record: Mutex::new(Record {
                written: Written::new(),
                output: None,
            }),
        }
    }
}

/// The records of a block under way, or of none: then all are as new.
#[derive(Debug)]
pub struct Records<T> {
    /// Apart from the slots and dense, for the lane reads them in a row.
    pub(super) states: Vec<AtomicU64>,
    pub(super) slots: Vec<Slot<T>>,
    /// Length of the longest hinted chain that starts at each position; 0 where none is known.
    pub(super) heights: Vec<AtomicU32>,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            slots: Vec::new(),
            heights: Vec::new(),
        }
    }
}

impl<T> Records<T> {
    /// Have at least so many.
    pub(super) fn suffice(&mut self, count: usize) {
        let lacking = count.saturating_sub(self.slots.len());
        let state = || AtomicU64::new(pack(IDLE, 0));
        self.states.extend((0..lacking).map(|_| state()));
        self.slots.extend((0..lacking).map(|_| Slot::new()));
        let heights = (0..lacking).map(|_| AtomicU32::new(0));
        self.heights.extend(heights);
    }

    /// What a transaction left, and a cell it wrote to; its record is as new then.
    pub(super) fn empty(&self, tx: usize) -> (T, Option<CellId>) {
        let Slot {
            pending,
            aborts,
            waiters,
            record,
        } = &self.slots[tx];
        self.states[tx].store(pack(IDLE, 0), Ordering::Relaxed);
        self.heights[tx].store(0, Ordering::Relaxed);
        pending.store(1, Ordering::Relaxed);
        aborts.store(0, Ordering::Relaxed);
        drop(std::mem::take(&mut *waiters.lock()));
        let mut record = record.lock();
        let written = std::mem::take(&mut record.written);
        let output = record.output.take();
        let output = output.expect("every transaction is final");
        (output, written.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chain_state::versions::{Effect, Memory};
    use chain_state::{BlockOverlay, Write};

    use super::*;
    use crate::scheduler::{
        Claim, Hint, HintClass, HintKey, Lane, Scheduler, Settings, Task, Worker,
    };

    /// A hinted chain over one key; of each transaction how far it is from the end of the chain.
    fn run(records: Records<u32>, count: u32) -> (Records<u32>, Vec<u32>) {
        let settings = Settings::for_workers(2, 20_000, true);
        let memory = Arc::new(Memory::new(BlockOverlay::default(), 2));
        let scheduler = Scheduler::over(records, memory, count as usize, settings);
        let key = || vec![HintKey::new(vec![4, 7])];
        let hint = |_| Hint {
            class: HintClass::Complete,
            reads: key(),
            writes: key(),
            deltas: Vec::new(),
        };
        let hints: Vec<Hint> = (0..count).map(hint).collect();
        scheduler.prepare(&hints, 0, 1);
        scheduler.climb();
        let mut worker = Worker::default();
        let executed = |claim: Claim| {
            let height = &scheduler.records.heights[claim.version.tx as usize];
            let effect = Effect::new(vec![4, 7], Write::Put(vec![1]));
            (vec![effect], height.load(Ordering::SeqCst))
        };
        loop {
            match scheduler.next_task(&mut worker) {
                Task::Execute(claim) => {
                    let (effects, output) = executed(claim);
                    scheduler.finish(&mut worker, claim, effects, output);
                }
                Task::Commit => loop {
                    match scheduler.advance(&mut worker, None) {
                        Lane::Committed(_) => {}
                        Lane::Execute(claim) => {
                            let (effects, output) = executed(claim);
                            scheduler.finish_exact(&mut worker, claim, effects, output, None);
                        }
                        Lane::Released => break,
                    }
                },
                Task::Idle => unreachable!("a chain always has a next link"),
                Task::Done => break,
            }
        }
        let mut outputs = Vec::new();
        scheduler.take_outputs(0..count as usize, |output| outputs.push(output));
        (scheduler.into_parts().1, outputs)
    }

    #[test]
    fn records_of_a_block_serve_the_next_as_new_ones() {
        let mut records = Records::default();
        for count in [3, 9, 1, 9, 0, 12] {
            let (used, outputs) = run(records, count);
            assert_eq!(outputs, (1..=count).rev().collect::<Vec<_>>());
            records = used;
            for (slot, state) in records.slots.iter().zip(&records.states) {
                assert_eq!(state.load(Ordering::SeqCst), pack(IDLE, 0));
                assert_eq!(slot.pending.load(Ordering::SeqCst), 1);
                assert_eq!(slot.aborts.load(Ordering::SeqCst), 0);
                assert!(slot.waiters.lock().is_empty());
                let record = slot.record.lock();
                assert!(record.written.is_empty() && record.output.is_none());
            }
            let heights = records.heights.iter();
            assert!(heights
                .map(|height| height.load(Ordering::SeqCst))
                .eq(std::iter::repeat_n(0, records.slots.len())));
        }
        assert_eq!(records.slots.len(), 12);
    }

    #[test]
    fn records_in_use_are_not_given_to_another_block() {
        let memory = Arc::new(Memory::new(BlockOverlay::default(), 2));
        let settings = Settings::for_workers(2, 20_000, true);
        let scheduler = Scheduler::<u32>::over(Records::default(), memory, 1, settings);
        let taken = std::panic::AssertUnwindSafe(|| scheduler.into_parts());
        assert!(std::panic::catch_unwind(taken).is_err());
    }
}
