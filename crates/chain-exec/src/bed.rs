//! Where workers without work sleep.

use crate::sync::{wait, AtomicUsize, Condvar, Mutex, Ordering};

/// Sleep and wake-up without a lock on the way of those who work.
#[derive(Debug, Default)]
pub struct Bed {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    awake: Condvar,
}

impl Bed {
    /// Sleep until someone wakes this worker, unless there is a reason to stay up.
    pub fn sleep(&self, stay_up: impl Fn() -> bool) {
        let bed = self.lock.lock();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Whoever makes work from here on sees the sleeper and needs the lock to wake it.
        if !stay_up() {
            drop(wait(&self.awake, bed));
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wake one worker if there is work, which whoever made it calls afterwards.
    pub fn wake(&self, has_work: impl Fn() -> bool) {
        if self.sleepers.load(Ordering::SeqCst) > 0 && has_work() {
            let _bed = self.lock.lock();
            self.awake.notify_one();
        }
    }

    /// Wake every worker.
    pub fn wake_all(&self) {
        let _bed = self.lock.lock();
        self.awake.notify_all();
    }
}
