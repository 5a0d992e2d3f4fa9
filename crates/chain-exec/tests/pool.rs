//! The pool's threads under a randomised model checker: jobs, wake-ups, panics and the end.
//!
//! `make test-interleavings`. A thread that nobody wakes is a deadlock, which the checker reports.
#![cfg(feature = "shuttle")]

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::Arc;

use chain_exec::Pool;
use chain_state::Workers;
use shuttle::sync::atomic::{AtomicUsize, Ordering};

const ITERATIONS: usize = 2_000;
/// Enough for a worker to be woken by one that was woken itself.
const WORKERS: usize = 5;

fn check(model: fn()) {
    shuttle::check_random(model, ITERATIONS);
    shuttle::check_pct(model, ITERATIONS, 3);
}

fn counters(count: usize) -> Vec<AtomicUsize> {
    (0..count).map(|_| AtomicUsize::new(0)).collect()
}

fn counted(counters: &[AtomicUsize]) -> Vec<usize> {
    let counters = counters.iter();
    counters.map(|one| one.load(Ordering::SeqCst)).collect()
}

/// How often each worker has done a job when its caller goes on.
fn done_by_each(pool: &Pool) -> Vec<usize> {
    let done = counters(pool.workers());
    pool.run(&|worker| {
        shuttle::thread::yield_now();
        done[worker].fetch_add(1, Ordering::SeqCst);
    });
    counted(&done)
}

#[test]
fn each_worker_does_each_job_once_before_its_caller_goes_on() {
    check(|| {
        let pool = Pool::new(WORKERS, false);
        for _ in 0..3 {
            assert_eq!(done_by_each(&pool), [1; WORKERS]);
        }
    });
}

#[test]
fn parts_are_done_once_each() {
    check(|| {
        let pool = Pool::new(3, false);
        for parts in [2, 7] {
            let done = counters(parts);
            pool.each(parts, &|part| {
                shuttle::thread::yield_now();
                done[part].fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(counted(&done), vec![1; parts]);
        }
    });
}

#[test]
fn workers_without_a_part_miss_no_job_and_no_later_one() {
    check(|| {
        let pool = Pool::new(4, false);
        for parts in [2, 3, 1, 4, 2] {
            let done = counters(parts);
            pool.each(parts, &|part| {
                shuttle::thread::yield_now();
                done[part].fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(counted(&done), vec![1; parts]);
        }
        assert_eq!(done_by_each(&pool), [1; 4]);
    });
}

#[test]
fn callers_take_turns() {
    check(|| {
        let pool = Arc::new(Pool::new(3, false));
        let shared = Arc::clone(&pool);
        let other = shuttle::thread::spawn(move || [(); 2].map(|()| done_by_each(&shared)));
        assert_eq!(done_by_each(&pool), [1; 3]);
        // Whoever lets go last ends the threads.
        drop(pool);
        assert_eq!(other.join().unwrap(), [[1; 3]; 2]);
    });
}

#[test]
fn a_panic_in_a_job_reaches_its_caller_after_all_have_ended() {
    check(|| {
        let pool = Pool::new(3, false);
        for guilty in [0, 2] {
            let done = AtomicUsize::new(0);
            let job = |worker| {
                if worker == guilty {
                    // Without the hook, which would print each of thousands.
                    resume_unwind(Box::new("on purpose"));
                }
                shuttle::thread::yield_now();
                done.fetch_add(1, Ordering::SeqCst);
            };
            assert!(catch_unwind(AssertUnwindSafe(|| pool.run(&job))).is_err());
            assert_eq!(done.load(Ordering::SeqCst), 2);
            assert_eq!(done_by_each(&pool), [1; 3]);
        }
    });
}

#[test]
fn a_pool_that_had_no_job_ends() {
    check(|| drop(Pool::new(WORKERS, false)));
}
