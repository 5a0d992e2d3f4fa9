//! How far ahead of the commit frontier to speculate: additive increase, multiplicative decrease.

use super::settings::Settings;
use crate::sync::{AtomicU32, Ordering};

/// The speculation window of one block.
///
/// Whoever holds the commit lane adjusts it once for every step of final transactions, about one
/// a worker: more invalidations than the dear share halve it, fewer than the cheap share widen it
/// by a step.
#[derive(Debug)]
pub(super) struct Pace {
    window: AtomicU32,
    aborts: AtomicU32,
    /// Frontier at the last adjustment; only the lane's holder touches it.
    since: AtomicU32,
}

/// Invalidations per final transaction, as one in so many, above which guessing is too dear.
const DEAR_ONE_IN: u32 = 4;
/// The same below which there is room for more.
const CHEAP_ONE_IN: u32 = 6;

impl Pace {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            window: AtomicU32::new(settings.window.max(1)),
            aborts: AtomicU32::new(0),
            since: AtomicU32::new(0),
        }
    }

    /// Positions above the frontier that may be executed now.
    pub(super) fn window(&self) -> u32 {
        self.window.load(Ordering::SeqCst)
    }

    /// An execution was proved wrong.
    pub(super) fn invalidated(&self) {
        self.aborts.fetch_add(1, Ordering::SeqCst);
    }

    /// Transactions below the frontier are final.
    pub(super) fn committed(&self, frontier: u32, settings: &Settings) {
        if settings.window_min >= settings.window_max {
            return;
        }
        let done = frontier - self.since.load(Ordering::SeqCst);
        let step = settings.window_step;
        if done < step {
            return;
        }
        self.since.store(frontier, Ordering::SeqCst);
        let aborts = self.aborts.swap(0, Ordering::SeqCst);
        let window = self.window();
        let next = if aborts.saturating_mul(DEAR_ONE_IN) > done {
            window / 2
        } else if aborts.saturating_mul(CHEAP_ONE_IN) < done {
            window.saturating_add(step)
        } else {
            window
        };
        let next = next.clamp(settings.window_min, settings.window_max);
        if next != window {
            self.window.store(next, Ordering::SeqCst);
        }
    }
}
