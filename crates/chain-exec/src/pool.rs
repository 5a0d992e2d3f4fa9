//! Worker threads that outlive the blocks they work on.
//!
//! They are pinned to cores only where the node's settings say so: the nodes of a testnet share a
//! machine, and pinned to the same first cores they would wait for each other while others idle.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

type Job = Arc<dyn Fn(usize) + Send + Sync>;

#[derive(Default)]
struct Shift {
    number: u64,
    job: Option<Job>,
    at_work: usize,
    failed: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    shift: Mutex<Shift>,
    start: Condvar,
    end: Condvar,
}

/// Threads waiting for work; the caller of a job is always worker 0.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pool({} workers)", self.workers())
    }
}

impl Pool {
    /// A pool of so many workers, the caller included; `pinned` gives each thread of its own a
    /// core of those the process may use, and is without effect where the system refuses.
    pub(crate) fn new(workers: usize, pinned: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |worker| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("execute-{worker}"));
            let thread = builder.spawn(move || {
                if pinned {
                    crate::pinning::pin(worker);
                }
                serve(&shared, worker);
            });
            thread.expect("the system gives the node its threads")
        };
        let threads = (1..workers.max(1)).map(spawn).collect();
        Self { shared, threads }
    }

    /// Number of workers, the caller included.
    pub(crate) fn workers(&self) -> usize {
        self.threads.len() + 1
    }

    /// Have every worker do the job once; returns when all have.
    ///
    /// # Panics
    /// When a worker did. The job must see to it that the others then end too.
    pub(crate) fn run(&self, job: Job) {
        {
            let mut shift = self.shared.shift.lock();
            shift.number += 1;
            shift.job = Some(Arc::clone(&job));
            shift.at_work = self.threads.len();
            self.shared.start.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut shift = self.shared.shift.lock();
        while shift.at_work > 0 {
            self.shared.end.wait(&mut shift);
        }
        shift.job = None;
        let failed = std::mem::take(&mut shift.failed);
        drop(shift);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!failed, "a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shift.lock().stop = true;
        self.shared.start.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of its own was reported by the job it happened in.
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let job = {
            let mut shift = shared.shift.lock();
            while shift.number == seen && !shift.stop {
                shared.start.wait(&mut shift);
            }
            if shift.stop {
                return;
            }
            seen = shift.number;
            shift
                .job
                .clone()
                .expect("a shift has a job until all are done")
        };
        let failed = catch_unwind(AssertUnwindSafe(|| job(worker))).is_err();
        drop(job);
        let mut shift = shared.shift.lock();
        shift.failed |= failed;
        shift.at_work -= 1;
        if shift.at_work == 0 {
            shared.end.notify_one();
        }
    }
}
