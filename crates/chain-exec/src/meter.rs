//! What a block takes, phase by phase, and how each phase divides among workers.
//!
//! The executor's own code runs on one thread with a [`Meter`] in the place of its threads. The
//! meter says that there are as many workers as asked for, does their parts one after another and
//! times each in processor time. What is not in any part is what one worker does while the others
//! wait: it is found by measuring, not by counting on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use chain_state::Workers;

use crate::costs::Costs;
use crate::sync::Mutex;

/// What the allocator takes for large, and still cuts from what was freed.
const LARGE_BYTES: usize = 16 << 10;
/// Large pieces after which all is merged: for each it looks at ten thousand of those freed.
const TIDY_MAX: usize = 8;

/// One piece of work shared among the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// What one worker did since the piece before, in nanoseconds.
    pub gap_ns: u64,
    /// What each part took, in nanoseconds.
    pub parts_ns: Vec<u64>,
}

/// One phase of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// What it does.
    pub name: &'static str,
    /// Its pieces of work.
    pub shared: Vec<Shared>,
    /// What one worker did after the last of them, in nanoseconds.
    pub rest_ns: u64,
}

impl Phase {
    /// What it takes on one thread, in nanoseconds.
    pub fn whole_ns(&self) -> u64 {
        let parts = self.shared.iter().flat_map(|piece| &piece.parts_ns);
        self.serial_ns() + parts.sum::<u64>()
    }

    /// What of it one worker does while the others wait, in nanoseconds.
    pub fn serial_ns(&self) -> u64 {
        self.rest_ns + self.shared.iter().map(|piece| piece.gap_ns).sum::<u64>()
    }

    /// What it takes on so many workers at these costs of sharing, in nanoseconds.
    pub fn time_ns(&self, workers: usize, costs: &Costs) -> u64 {
        let slowed = |time_ns| costs.slowed(workers, time_ns);
        let piece = |piece: &Shared| {
            let crew = piece.parts_ns.len().min(workers);
            let start_ns = costs.start_ns(crew, slowed(piece.gap_ns));
            slowed(piece.gap_ns + makespan_ns(&piece.parts_ns, workers)) + start_ns
        };
        self.shared.iter().map(piece).sum::<u64>() + slowed(self.rest_ns)
    }

    /// Of two runs of one block the quicker one, part by part: other work on the machine lengthens
    /// parts of a run, not the same in all.
    ///
    /// # Panics
    /// When the runs are not of one block on one number of workers.
    pub fn least(&mut self, other: &Self) {
        assert_eq!(self.name, other.name, "another phase");
        assert_eq!(self.shared.len(), other.shared.len(), "another block");
        self.rest_ns = self.rest_ns.min(other.rest_ns);
        for (own, other) in self.shared.iter_mut().zip(&other.shared) {
            assert_eq!(own.parts_ns.len(), other.parts_ns.len(), "other parts");
            own.gap_ns = own.gap_ns.min(other.gap_ns);
            for (own, other) in own.parts_ns.iter_mut().zip(&other.parts_ns) {
                *own = (*own).min(*other);
            }
        }
    }
}

/// When the last part ends, each taken in turn by the first worker that is free.
fn makespan_ns(parts_ns: &[u64], workers: usize) -> u64 {
    let mut free: BinaryHeap<Reverse<u64>> = (0..workers.max(1)).map(|_| Reverse(0)).collect();
    let mut end = 0;
    for part in parts_ns {
        let Reverse(start) = free.pop().expect("there is a worker");
        end = end.max(start + part);
        free.push(Reverse(start + part));
    }
    end
}

/// Processor time of the calling thread, in nanoseconds: other work on the machine does not count.
#[cfg(target_os = "linux")]
pub(crate) fn clock_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is writable and of the type that the call fills.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0;
    assert!(!failed, "the system knows each thread's time");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Time since the first call, in nanoseconds.
#[cfg(not(target_os = "linux"))]
pub(crate) fn clock_ns() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    start.elapsed().as_nanos() as u64
}

#[derive(Debug)]
struct Readings {
    phases: Vec<Phase>,
    since_ns: u64,
}

impl Readings {
    /// What has passed since the last reading, in nanoseconds.
    fn lap(&mut self) -> u64 {
        let now_ns = clock_ns();
        now_ns - std::mem::replace(&mut self.since_ns, now_ns)
    }
}

/// Takes the place of so many workers on the caller's thread, and times it.
#[derive(Debug)]
pub(crate) struct Meter {
    workers: usize,
    readings: Mutex<Readings>,
}

/// Have the allocator merge what was freed. It puts that off until somebody asks for a large piece:
/// on this one thread whoever comes next would pay for what many workers freed, each for itself.
pub(crate) fn tidy() {
    for _ in 0..TIDY_MAX {
        drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
    }
}

impl Meter {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            readings: Mutex::new(Readings {
                phases: Vec::new(),
                since_ns: clock_ns(),
            }),
        }
    }

    /// What follows belongs to this phase, which may have been entered before.
    pub(crate) fn enter(&self, name: &'static str) {
        let mut readings = self.readings.lock();
        let rest_ns = readings.lap();
        if let Some(phase) = readings.phases.last_mut() {
            phase.rest_ns += rest_ns;
        }
        readings.phases.push(Phase {
            name,
            ..Phase::default()
        });
        tidy();
        readings.since_ns = clock_ns();
    }

    /// The phases in their order.
    pub(crate) fn read(&self) -> Vec<Phase> {
        let mut readings = self.readings.lock();
        let rest_ns = readings.lap();
        if let Some(phase) = readings.phases.last_mut() {
            phase.rest_ns += rest_ns;
        }
        std::mem::take(&mut readings.phases)
    }
}

impl Workers for Meter {
    fn count(&self) -> usize {
        self.workers
    }

    fn each(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let gap_ns = self.readings.lock().lap();
        let mut parts_ns = Vec::with_capacity(parts);
        for part in 0..parts {
            let start_ns = clock_ns();
            work(part);
            tidy();
            parts_ns.push(clock_ns() - start_ns);
        }
        let mut readings = self.readings.lock();
        readings.since_ns = clock_ns();
        let phase = readings.phases.last_mut().expect("a phase was entered");
        phase.shared.push(Shared { gap_ns, parts_ns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_to_the_first_worker_that_is_free() {
        assert_eq!(makespan_ns(&[], 3), 0);
        assert_eq!(makespan_ns(&[5, 5, 5], 3), 5);
        assert_eq!(makespan_ns(&[5, 1, 1, 1, 6], 2), 9);
        assert_eq!(makespan_ns(&[5, 1, 1, 1, 6], 1), 14);
    }

    #[test]
    fn what_is_in_no_part_is_serial() {
        let spin = |time_us: u64| {
            let end_ns = clock_ns() + 1_000 * time_us;
            while clock_ns() < end_ns {
                std::hint::spin_loop();
            }
        };
        let mut least: Option<Vec<Phase>> = None;
        for _ in 0..5 {
            let meter = Meter::new(4);
            meter.enter("first");
            spin(300);
            meter.each(4, &|_| spin(500));
            spin(200);
            meter.enter("second");
            spin(100);
            let phases = meter.read();
            match &mut least {
                None => least = Some(phases),
                Some(least) => least.iter_mut().zip(&phases).for_each(|(a, b)| a.least(b)),
            }
        }
        let phases = least.unwrap();
        assert_eq!(phases[0].shared[0].parts_ns.len(), 4);
        assert!(
            (500_000..700_000).contains(&phases[0].serial_ns()),
            "{phases:?}"
        );
        assert!(
            (2_500_000..3_000_000).contains(&phases[0].whole_ns()),
            "{phases:?}"
        );
        assert!(
            (100_000..200_000).contains(&phases[1].whole_ns()),
            "{phases:?}"
        );
        let quick = Costs {
            inflation: 0.0,
            line_ns: 0,
            wake_ns: 0,
            ..Costs::nominal()
        };
        let time_ns = phases[0].time_ns(4, &quick);
        assert!((1_000_000..1_300_000).contains(&time_ns), "{time_ns}");
        assert!(phases[0].time_ns(4, &Costs::worst()) > time_ns);
    }
}
