//! Worker threads that outlive the blocks they work on.
//!
//! They are pinned to cores only where the node's settings say so: the nodes of a testnet share a
//! machine, and pinned to the same first cores they would wait for each other while others idle.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chain_state::Workers;

use crate::costs::Costs;
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};

type Job = dyn Fn(usize) + Sync;

const CREW_BITS: u32 = 16;

fn crew_of(shift: u64) -> usize {
    (shift & ((1 << CREW_BITS) - 1)) as usize
}

/// Polls before a thread between two jobs gives its core to whoever wants it, and how long it goes
/// on asking before it sleeps: the jobs of a block follow each other closely.
const POLLS: u32 = 64;
pub(crate) const AWAKE: Duration = Duration::from_micros(50);

/// The job of a shift, lent by its caller. The workers only read it: a lock or a count of those who
/// hold it would be one more line that all of them write.
#[derive(Default)]
struct Posted(UnsafeCell<Option<NonNull<Job>>>);

// SAFETY: what is pointed to may be called by several threads at once. The cell is written by the
// caller whose turn it is, before it announces the shift, and read by workers of its crew after
// they saw that and before they are counted out, for which the caller waits before it writes again.
unsafe impl Send for Posted {}
// SAFETY: as above.
unsafe impl Sync for Posted {}

/// On a cache line of its own: those who wait for the next shift do not ask for it.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Default)]
struct Shared {
    /// Counts the jobs in its upper bits, and says in the lower ones how many workers have this
    /// one: one word, so that a worker without work never takes the count of one job for another's.
    shift: AtomicU64,
    job: Posted,
    at_work: Apart<AtomicUsize>,
    failed: AtomicBool,
    stop: AtomicBool,
    caller: Mutex<Option<Thread>>,
    /// Set before the first shift.
    threads: OnceLock<Vec<Thread>>,
}

/// Threads waiting for work; the caller of a job is always worker 0.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// One job at a time.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pool({} workers)", self.workers())
    }
}

impl Pool {
    /// A pool of so many workers, the caller included; `pinned` gives each thread of its own a
    /// core of those the process may use, and is without effect where the system refuses.
    pub fn new(workers: usize, pinned: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |worker| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("execute-{worker}"));
            let thread = builder.spawn(move || {
                if pinned {
                    crate::pinning::pin(worker);
                }
                serve(&shared, worker);
            });
            thread.expect("the system gives the node its threads")
        };
        let threads: Vec<JoinHandle<()>> = (1..workers.max(1)).map(spawn).collect();
        let handles = threads.iter().map(|thread| thread.thread().clone());
        shared.threads.set(handles.collect()).expect("set once");
        Self {
            shared,
            threads,
            turn: Mutex::default(),
        }
    }

    /// Number of workers, the caller included.
    pub fn workers(&self) -> usize {
        self.threads.len() + 1
    }

    /// Have every worker do the job once; returns when all have.
    ///
    /// # Panics
    /// When a worker did. The job must see to it that the others then end too.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        self.run_by(self.workers(), job);
    }

    /// Have so many workers do the job once; the others are neither woken nor waited for.
    fn run_by(&self, crew: usize, job: &(dyn Fn(usize) + Sync)) {
        if crew < 2 {
            return job(0);
        }
        let turn = self.turn.lock();
        let shared = &self.shared;
        // SAFETY: only the lifetime is changed. No worker calls the job once it has counted itself
        // out, and this function does not return, by a panic neither, before all have.
        let lent = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Job>(job) };
        // SAFETY: nobody is at work, and it is this caller's turn.
        unsafe { *shared.job.0.get() = Some(lent.into()) };
        *shared.caller.lock() = Some(thread::current());
        shared.at_work.0.store(crew - 1, Ordering::SeqCst);
        // Only this caller, whose turn it is, changes it.
        let jobs = (shared.shift.load(Ordering::SeqCst) >> CREW_BITS) + 1;
        let shift = jobs << CREW_BITS | crew as u64;
        shared.shift.store(shift, Ordering::SeqCst);
        shared.wake(0, crew);
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        wait(|| shared.at_work.0.load(Ordering::SeqCst) == 0);
        let failed = shared.failed.swap(false, Ordering::SeqCst);
        drop(turn);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!failed, "a worker thread panicked");
    }
}

impl Workers for Pool {
    fn count(&self) -> usize {
        self.workers()
    }

    fn each(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        // The first part of each is its own, so that they need not queue to draw it.
        let workers = self.workers().min(parts);
        let next = AtomicUsize::new(workers);
        self.run_by(workers, &|worker| {
            let mut part = worker;
            while part < parts {
                work(part);
                if parts <= workers {
                    return;
                }
                part = next.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// What a job costs for each worker that has a part in it, in nanoseconds: getting ready for it,
/// and two visits to a line.
const WORKER_NS: u64 = Costs::nominal().join_ns + 2 * Costs::nominal().line_ns;
/// What is done for a transaction in one job after the execution, as far as the number of workers
/// is concerned, in nanoseconds.
const AFTER_NS: u64 = 600;

/// Workers who take what so many transactions left: one below `shared_min` of them.
///
/// A job of w workers takes `count * AFTER_NS / w + WORKER_NS * w`, which is least at the square
/// root of the two's ratio.
pub(crate) fn crew_after(count: usize, shared_min: usize, workers: usize) -> usize {
    if count < shared_min {
        return 1;
    }
    let best = (count as u64 * AFTER_NS / WORKER_NS).isqrt();
    usize::try_from(best).map_or(workers, |best| best.clamp(1, workers.max(1)))
}

/// Some of the workers, for jobs that are too small for all.
pub(crate) struct Crew {
    workers: Arc<dyn Workers + Send>,
    count: usize,
}

impl Crew {
    /// So many of the workers; all where there are fewer.
    pub(crate) fn of(workers: Arc<dyn Workers + Send>, count: usize) -> Self {
        let count = count.min(workers.count()).max(1);
        Self { workers, count }
    }
}

impl Workers for Crew {
    fn count(&self) -> usize {
        self.count
    }

    fn each(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        self.workers.each(parts, work);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A panic of its own was reported by the job it happened in.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Each worker wakes two more: the last one is awake after as many steps as a binary tree of
    /// them is deep, not after as many as there are workers.
    fn wake(&self, worker: usize, crew: usize) {
        let threads = self.threads.get().map_or(&[][..], Vec::as_slice);
        // Worker 1 is the first thread.
        let woken: Range<usize> = 2 * worker..(2 * worker + 2).min(crew - 1);
        for thread in threads.get(woken).unwrap_or_default() {
            thread.unpark();
        }
    }
}

/// Wait for what another thread does before it unparks this one.
fn wait(done: impl Fn() -> bool) {
    // No time passes under a model checker: there it sleeps at once.
    if cfg!(not(feature = "shuttle")) && asks(&done) {
        return;
    }
    while !done() {
        thread::park();
    }
}

/// Whether it is done before this thread had better sleep.
fn asks(done: &impl Fn() -> bool) -> bool {
    for _ in 0..POLLS {
        if done() {
            return true;
        }
        std::hint::spin_loop();
    }
    let start = Instant::now();
    while start.elapsed() < AWAKE {
        if done() {
            return true;
        }
        thread::yield_now();
    }
    false
}

fn serve(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let stop = || shared.stop.load(Ordering::SeqCst);
        wait(|| shared.shift.load(Ordering::SeqCst) != seen || stop());
        if stop() {
            return;
        }
        seen = shared.shift.load(Ordering::SeqCst);
        let crew = crew_of(seen);
        if worker >= crew {
            continue;
        }
        shared.wake(worker, crew);
        // SAFETY: the shift was announced after the job was posted, and its caller waits until this
        // worker, who is of its crew, is counted out.
        let job = unsafe { (*shared.job.0.get()).expect("a shift has a job").as_ref() };
        if catch_unwind(AssertUnwindSafe(|| job(worker))).is_err() {
            shared.failed.store(true, Ordering::SeqCst);
        }
        if shared.at_work.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The caller may have seen it and another be next: that one is woken for nothing.
            let caller = shared.caller.lock().clone();
            caller.expect("set before a shift begins").unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_worker_does_each_job_once_and_what_is_lent_is_given_back() {
        for workers in [1, 2, 3, 8, 17] {
            let pool = Pool::new(workers, false);
            for _ in 0..200 {
                let seen: Vec<AtomicUsize> = (0..workers).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|worker| {
                    seen[worker].fetch_add(1, Ordering::Relaxed);
                });
                assert!(seen.into_iter().all(|count| count.into_inner() == 1));
                let parts: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
                pool.each(parts.len(), &|part| {
                    parts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(parts.into_iter().all(|count| count.into_inner() == 1));
            }
        }
    }

    #[test]
    fn a_small_job_is_done_by_as_many_as_it_has_parts() {
        let pool = Pool::new(8, false);
        for round in 0..2_000 {
            let parts = 1 + round % 11;
            let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            let names = Mutex::new(std::collections::HashSet::new());
            pool.each(parts, &|part| {
                done[part].fetch_add(1, Ordering::Relaxed);
                names.lock().insert(std::thread::current().id());
            });
            assert!(done.into_iter().all(|count| count.into_inner() == 1));
            assert!(names.lock().len() <= parts);
        }
        let crew = Crew::of(Arc::new(pool), 3);
        assert_eq!(crew.count(), 3);
        let names = Mutex::new(Vec::new());
        crew.each(3, &|part| names.lock().push(part));
        names.lock().sort_unstable();
        assert_eq!(*names.lock(), [0, 1, 2]);
    }

    #[test]
    fn a_crew_is_smaller_where_there_is_less_to_do() {
        assert_eq!(crew_after(10, 0, 96), 4);
        assert_eq!(crew_after(1_000, 128, 96), 43);
        assert_eq!(crew_after(10_000, 128, 96), 96);
        assert_eq!(crew_after(10_000, 128, 4), 4);
        assert_eq!(crew_after(127, 128, 96), 1);
        assert_eq!(crew_after(0, 0, 4), 1);
    }

    #[test]
    fn a_panic_in_a_job_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3, false);
        for guilty in 0..3 {
            let job = || pool.run(&|worker| assert_ne!(worker, guilty, "on purpose"));
            assert!(catch_unwind(AssertUnwindSafe(job)).is_err());
            let done = AtomicUsize::new(0);
            pool.run(&|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 3);
        }
    }
}
