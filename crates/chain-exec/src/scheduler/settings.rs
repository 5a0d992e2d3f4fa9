//! How far ahead and how eagerly the scheduler runs.

/// Mean cost below which transactions are drawn several at a time.
const CHEAP_NS: u64 = 10_000;
/// Fewest and most that are then drawn at once.
const BATCH: (u64, u64) = (8, 16);

/// Least window: enough to find out that guesses are right again.
const WINDOW_MIN: u32 = 16;

/// How far ahead and how eagerly to run. None of it changes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Positions above the commit frontier that may be executed when the block begins.
    pub window: u32,
    /// Least the window shrinks to while guesses turn out wrong.
    pub window_min: u32,
    /// Most it grows to while they turn out right.
    pub window_max: u32,
    /// Final transactions between two adjustments of the window, and what one adds to it.
    pub window_step: u32,
    /// Workers to share with: draws shrink towards the end of the block.
    pub workers: u32,
    /// Positions drawn at once at most: more for cheap transactions.
    pub batch: u32,
    /// Invalidations after which a repeat waits until everything before it has run once.
    pub aborts_free: u32,
    /// Invalidations after which a transaction waits for the commit lane.
    pub aborts_max: u32,
    /// Whether transactions with complete hints wait for their producers.
    pub wait_for_producers: bool,
    /// Whether a publication invalidates at once those it proves wrong; else they are found when
    /// they come up to be final, which only an ablation wants.
    pub push: bool,
    /// Whether the commit lane comes first: a worker on its own then never has to guess.
    pub lane_first: bool,
}

impl Settings {
    /// What suits a number of workers and a mean transaction cost in nanoseconds.
    pub fn for_workers(workers: usize, mean_cost_ns: u64, wait_for_producers: bool) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        let window_max = workers.saturating_mul(64).max(64);
        let batch = batch(mean_cost_ns);
        // Who waits for its producers guesses little; the others find out how far to go.
        let window = if wait_for_producers {
            window_max
        } else {
            workers.saturating_mul(4 * batch).max(64)
        };
        Self {
            window,
            window_min: WINDOW_MIN,
            window_max,
            window_step: workers.max(WINDOW_MIN),
            batch,
            aborts_free: 2,
            aborts_max: 16,
            workers,
            wait_for_producers,
            push: true,
            lane_first: workers == 1,
        }
    }

    /// The same with a window that stays as it is.
    pub fn with_window(self, window: u32) -> Self {
        Self {
            window,
            window_min: window,
            window_max: window,
            ..self
        }
    }
}

fn batch(mean_cost_ns: u64) -> u32 {
    if mean_cost_ns >= CHEAP_NS {
        return 1;
    }
    let (least, most) = BATCH;
    (3 * CHEAP_NS / mean_cost_ns.max(1)).clamp(least, most) as u32
}
