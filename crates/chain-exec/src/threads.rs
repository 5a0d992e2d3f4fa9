//! The scheduler on threads.

use chain_state::State;

use crate::bed::Bed;
use crate::foretold::Hints;
use crate::pool::Pool;
use crate::scheduler::{Claim, Counters, Effect, Lane, Scheduler, Task, Worker};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};

/// Polls before a worker without work gives its core to another, and before it sleeps.
const POLLS: u32 = 64;
const YIELDS: u32 = 4;

/// How an execution ended.
pub(crate) enum Execution<T> {
    /// With these effects, and what it leaves beside them.
    Done(Vec<Effect>, T),
    /// It met the estimate of this transaction.
    Blocked(u32),
}

/// What the workers execute.
pub(crate) trait Program: Sync {
    /// What a worker has of its own while a block lasts.
    type Local;
    /// What an execution leaves beside its writes.
    type Output: Send;

    /// Set up a worker.
    fn local(&self, worker: usize) -> Self::Local;
    /// Execute one transaction.
    fn execute(&self, local: &mut Self::Local, claim: Claim) -> Execution<Self::Output>;
    /// The finished state below the block.
    fn state<'a>(&self, local: &'a Self::Local) -> &'a State;
    /// Tear a worker down.
    fn end(&self, worker: usize, local: Self::Local);
}

struct Block<'a, P: Program> {
    program: P,
    scheduler: Scheduler<P::Output>,
    hints: &'a Hints,
    workers: usize,
    prepared: AtomicUsize,
    failed: AtomicBool,
    counters: Mutex<Counters>,
    bed: Bed,
}

/// Run a block's transactions to the end on a pool; gives back the program, the scheduler with
/// every transaction final, and what was done.
pub(crate) fn run<P: Program>(
    pool: &Pool,
    program: P,
    scheduler: Scheduler<P::Output>,
    hints: &Hints,
) -> (P, Scheduler<P::Output>, Counters) {
    let block = Block {
        program,
        scheduler,
        hints,
        workers: pool.workers(),
        prepared: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        counters: Mutex::default(),
        bed: Bed::default(),
    };
    pool.run(&|worker| block.work(worker));
    let counters = *block.counters.lock();
    (block.program, block.scheduler, counters)
}

/// Lets the other workers go when this one panics.
struct Alarm<'a, P: Program>(&'a Block<'a, P>);

impl<P: Program> Drop for Alarm<'_, P> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
            self.0.bed.wake_all();
        }
    }
}

impl<P: Program> Block<'_, P> {
    fn work(&self, index: usize) {
        let _alarm = Alarm(self);
        let mut local = self.program.local(index);
        self.prepare(index);
        let mut worker = Worker::default();
        while !self.failed.load(Ordering::Relaxed) {
            match self.scheduler.next_task(&mut worker) {
                Task::Execute(claim) => {
                    self.wake();
                    self.execute(&mut worker, &mut local, claim);
                }
                Task::Commit => self.advance(&mut worker, &mut local),
                Task::Idle => self.rest(),
                Task::Done => break,
            }
            self.wake();
        }
        self.program.end(index, local);
        *self.counters.lock() += worker.counters;
        self.bed.wake_all();
    }

    /// All parts are prepared before anyone executes: an edge must not come after its producer.
    fn prepare(&self, index: usize) {
        if self.hints.is_empty() {
            return;
        }
        self.scheduler
            .prepare(self.hints.iter(), index, self.workers);
        self.prepared.fetch_add(1, Ordering::SeqCst);
        while self.prepared.load(Ordering::SeqCst) < self.workers {
            if self.failed.load(Ordering::Relaxed) {
                return;
            }
            std::thread::yield_now();
        }
        if index == 0 && self.workers > 1 && self.scheduler.follows_hints() {
            self.scheduler.climb();
        }
    }

    fn execute(&self, worker: &mut Worker, local: &mut P::Local, claim: Claim) {
        match self.program.execute(local, claim) {
            Execution::Done(effects, output) => {
                self.scheduler.finish(worker, claim, effects, output);
            }
            Execution::Blocked(on) => self.scheduler.block(worker, claim, on),
        }
    }

    fn advance(&self, worker: &mut Worker, local: &mut P::Local) {
        loop {
            match self
                .scheduler
                .advance(worker, Some(self.program.state(local)))
            {
                Lane::Released => return,
                Lane::Committed(_) => self.wake(),
                Lane::Execute(claim) => {
                    let Execution::Done(effects, output) = self.program.execute(local, claim)
                    else {
                        unreachable!("nothing before the frontier is an estimate")
                    };
                    let state = Some(self.program.state(local));
                    self.scheduler
                        .finish_exact(worker, claim, effects, output, state);
                    self.wake();
                }
            }
        }
    }

    fn wake(&self) {
        self.bed.wake(|| self.scheduler.has_work());
    }

    fn rest(&self) {
        for poll in 0..POLLS + YIELDS {
            if self.scheduler.has_work() {
                return;
            }
            if poll < POLLS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let stay_up = || self.scheduler.has_work() || self.failed.load(Ordering::SeqCst);
        self.bed.sleep(stay_up);
    }
}
