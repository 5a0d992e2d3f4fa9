//! Claim, abort and commit under a randomised model checker: every interleaving ends serially.
//!
//! `make test-interleavings`. Words and locks of the scheduler and of the memory are interleaved.
#![cfg(feature = "shuttle")]

use std::sync::Arc;

use chain_exec::Bed;

use chain_exec::scheduler::{
    Claim, Effect, Hint, HintClass, HintKey, Lane, Lens, Memory, Scheduler, Settings, Task, Worker,
};
use chain_state::{Alone, BlockOverlay, Bounds, Form, NumberError, State, TxView};
use shuttle::sync::atomic::{AtomicUsize, Ordering};

const ITERATIONS: usize = 3_000;
const WORKERS: usize = 3;

/// Reads, puts and adds, by key; the value put is one more than the sum of what was read.
#[derive(Clone, Copy)]
struct Step {
    reads: &'static [u8],
    /// Read too: all keys from the first to before the second.
    range: Option<(u8, u8)>,
    puts: &'static [u8],
    adds: &'static [u8],
    /// What is added; where a sum does not fit, the transaction fails and leaves nothing.
    amount: i128,
    /// Added to up to [`MOST`]; where a sum does not fit, [`REFUSED`] is put.
    limited: &'static [u8],
    hinted: bool,
}

const fn step(reads: &'static [u8], puts: &'static [u8], adds: &'static [u8]) -> Step {
    Step {
        reads,
        range: None,
        puts,
        adds,
        amount: 3,
        limited: &[],
        hinted: false,
    }
}

const MOST: i128 = 7;
const REFUSED: u8 = 7;

const fn limited(limited: &'static [u8]) -> Step {
    Step {
        limited,
        ..step(&[], &[], &[])
    }
}

fn key(key: u8) -> Vec<u8> {
    vec![4, key]
}

fn number(bytes: &[u8]) -> i128 {
    i128::from_be_bytes(bytes.try_into().unwrap())
}

fn serial(block: &[Step]) -> Vec<i128> {
    let mut state = [0i128; 8];
    for step in block {
        let (first, end) = step.range.unwrap_or((0, 0));
        let ranged = state[usize::from(first)..usize::from(end)].iter().copied();
        let read = step.reads.iter().map(|key| state[usize::from(*key)]);
        let sum = read.chain(ranged).fold(0, i128::wrapping_add);
        let at = |key: &u8| state[usize::from(*key)];
        if step
            .adds
            .iter()
            .any(|key| at(key).checked_add(step.amount).is_none())
        {
            continue;
        }
        for key in step.puts {
            state[usize::from(*key)] = sum.wrapping_add(1);
        }
        for key in step.adds {
            state[usize::from(*key)] += step.amount;
        }
        for key in step.limited {
            if state[usize::from(*key)] + step.amount <= MOST {
                state[usize::from(*key)] += step.amount;
            } else {
                state[usize::from(REFUSED)] = sum.wrapping_add(1);
            }
        }
    }
    state.to_vec()
}

fn execute(state: &State, lens: Lens, step: &Step) -> Result<Vec<Effect>, u32> {
    let mut view = TxView::speculative(state, lens);
    let done = steps(&mut view, step);
    let (_, mut lens, writes, _) = view.into_parts();
    match lens.blocked() {
        Some(on) => Err(on),
        None => Ok(lens.effects(done.is_ok().then_some(writes))),
    }
}

fn steps(view: &mut TxView<&State>, step: &Step) -> Result<(), NumberError> {
    let mut sum = 0i128;
    for read in step.reads {
        let value = view.get(&key(*read)).map_or(0, |value| number(&value));
        sum = sum.wrapping_add(value);
        shuttle::thread::yield_now();
    }
    if let Some((first, end)) = step.range {
        let (mut from, end) = (key(first), key(end));
        view.note_range(&from, Some(&end));
        while let Some((found, value)) = view.edge(&from, Some(&end), false) {
            sum = sum.wrapping_add(number(&value));
            from = [&found[..], &[0]].concat();
            shuttle::thread::yield_now();
        }
    }
    let value = || sum.wrapping_add(1).to_be_bytes().to_vec();
    for one in step.adds {
        view.add(key(*one), step.amount, &Bounds::COUNTER)?;
        shuttle::thread::yield_now();
    }
    for one in step.puts {
        view.put(key(*one), value());
    }
    for one in step.limited {
        let bounds = Bounds::new(Form::COUNTER, 0, MOST);
        if view.add(key(*one), step.amount, &bounds).is_err() {
            view.put(key(REFUSED), value());
        }
        shuttle::thread::yield_now();
    }
    Ok(())
}

fn work(scheduler: &Scheduler<()>, block: &[Step]) {
    let mut worker = Worker::default();
    let state = State::default();
    let run = |claim: Claim| {
        let lens = Lens::new(Arc::clone(scheduler.memory()), claim.version, claim.exact);
        execute(&state, lens, &block[claim.version.tx as usize])
    };
    loop {
        match scheduler.next_task(&mut worker) {
            Task::Execute(claim) => match run(claim) {
                Ok(effects) => scheduler.finish(&mut worker, claim, effects, ()),
                Err(on) => scheduler.block(&mut worker, claim, on),
            },
            Task::Commit => loop {
                match scheduler.advance(&mut worker, None) {
                    Lane::Released => break,
                    Lane::Committed(_) => {}
                    Lane::Execute(claim) => {
                        let effects = run(claim).expect("nothing below the frontier is open");
                        scheduler.finish_exact(&mut worker, claim, effects, (), None);
                    }
                }
            },
            Task::Idle => shuttle::thread::yield_now(),
            Task::Done => return,
        }
    }
}

fn hint(step: &Step) -> Hint {
    if !step.hinted {
        return Hint::default();
    }
    let keys = |keys: &[u8]| keys.iter().map(|one| HintKey::new(key(*one))).collect();
    Hint {
        class: HintClass::Complete,
        reads: keys(step.reads),
        writes: keys(step.puts),
        deltas: keys(&[step.adds, step.limited].concat()),
    }
}

fn check(block: &'static [Step], wait: bool) {
    let usual = Settings {
        batch: 1,
        ..Settings::for_workers(WORKERS, 20_000, wait)
    };
    check_with(block, usual);
}

/// A window that moves with every transaction, and repeats that wait for all before them.
fn check_tight(block: &'static [Step], wait: bool) {
    let tight = Settings {
        window: 2,
        window_min: 1,
        window_max: 4,
        window_step: 1,
        batch: 2,
        aborts_free: 1,
        aborts_max: 3,
        ..Settings::for_workers(WORKERS, 20_000, wait)
    };
    check_with(block, tight);
}

fn check_with(block: &'static [Step], settings: Settings) {
    let expected = serial(block);
    let model = Arc::new(move || {
        let memory = Arc::new(Memory::new(BlockOverlay::default(), WORKERS));
        let scheduler = Arc::new(Scheduler::new(memory, block.len(), settings));
        let hints: Vec<Hint> = block.iter().map(hint).collect();
        scheduler.prepare(&hints, 0, 1);
        let workers: Vec<_> = (0..WORKERS)
            .map(|index| {
                let scheduler = Arc::clone(&scheduler);
                shuttle::thread::spawn(move || {
                    if index == 0 {
                        scheduler.climb();
                    }
                    work(&scheduler, block);
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        let scheduler = Arc::into_inner(scheduler).unwrap();
        let mut outputs = 0;
        scheduler.take_outputs(0..block.len(), |_| outputs += 1);
        assert_eq!(outputs, block.len());
        let memory = Arc::into_inner(scheduler.into_parts().0).unwrap();
        let (_, writes, _) = memory.into_writes(&Alone, |_, _| true);
        let mut found = vec![0; 8];
        for (key, value) in writes {
            found[usize::from(key[1])] = number(&value.unwrap());
        }
        assert_eq!(found, expected);
    });
    let again = Arc::clone(&model);
    shuttle::check_random(move || model(), ITERATIONS);
    shuttle::check_pct(move || again(), ITERATIONS, 3);
}

#[test]
fn a_chain_of_guesses() {
    const BLOCK: &[Step] = &[
        step(&[0], &[1], &[]),
        step(&[1], &[2], &[]),
        step(&[2], &[1], &[]),
        step(&[1, 2], &[0], &[]),
    ];
    check(BLOCK, false);
}

#[test]
fn deltas_that_are_read() {
    const BLOCK: &[Step] = &[
        step(&[], &[], &[0]),
        step(&[], &[], &[0]),
        step(&[0], &[1], &[]),
        step(&[1], &[], &[0]),
        step(&[0], &[0], &[]),
    ];
    check(BLOCK, false);
}

#[test]
fn additions_that_do_not_fit() {
    // Two fit; whether the third does is only known in order.
    const BLOCK: &[Step] = &[
        limited(&[0]),
        limited(&[0, 1]),
        limited(&[0]),
        step(&[0, 7], &[2], &[]),
        limited(&[1, 0]),
        limited(&[1]),
    ];
    check(BLOCK, false);
    check_tight(BLOCK, false);
    const PUT: &[Step] = &[
        limited(&[0]),
        step(&[3], &[0], &[]),
        limited(&[0]),
        limited(&[0]),
        limited(&[0]),
        step(&[0], &[4], &[]),
    ];
    check(PUT, false);
    const HINTED: Step = Step {
        hinted: true,
        ..limited(&[0])
    };
    const HINTS: &[Step] = &[HINTED, limited(&[0]), HINTED, step(&[0], &[1], &[]), HINTED];
    check(HINTS, true);
    check_tight(HINTS, false);
}

#[test]
fn hints_right_and_wrong() {
    const HINTED: Step = Step {
        hinted: true,
        ..step(&[0], &[0], &[])
    };
    // The second writes what nobody expects of it.
    const BLOCK: &[Step] = &[HINTED, step(&[3], &[0, 3], &[]), HINTED, HINTED];
    check(BLOCK, true);
    check(BLOCK, false);
    check_tight(BLOCK, true);
}

#[test]
fn a_moving_window_and_repeats_that_wait() {
    // Everyone guesses on key 0, then waits until what lies before has run once.
    const BLOCK: &[Step] = &[
        step(&[0], &[0], &[]),
        step(&[1], &[1], &[]),
        step(&[0, 1], &[0], &[]),
        step(&[0], &[0], &[2]),
        step(&[0, 2], &[0], &[]),
        step(&[0], &[1], &[]),
    ];
    check_tight(BLOCK, false);
}

#[test]
fn wrong_guesses_found_only_when_they_come_up() {
    const BLOCK: &[Step] = &[
        step(&[0], &[0], &[]),
        step(&[0], &[0], &[1]),
        step(&[1], &[2], &[]),
        step(&[0, 2], &[0], &[]),
    ];
    let lazy = Settings {
        push: false,
        batch: 1,
        ..Settings::for_workers(WORKERS, 20_000, false)
    };
    check_with(BLOCK, lazy);
}

#[test]
fn a_range_reader_beside_who_fills_the_range() {
    const BLOCK: &[Step] = &[
        step(&[], &[2], &[]),
        Step {
            range: Some((1, 5)),
            ..step(&[], &[6], &[])
        },
        step(&[6], &[3], &[4]),
        Step {
            range: Some((1, 5)),
            ..step(&[], &[1], &[])
        },
    ];
    check(BLOCK, false);
    check_tight(BLOCK, false);
}

#[test]
fn a_sum_that_turns_out_not_to_fit() {
    const MUCH: Step = Step {
        amount: i128::MAX - 4,
        ..step(&[], &[], &[0])
    };
    const BLOCK: &[Step] = &[
        MUCH,
        step(&[], &[1], &[0]),
        // Fails, as does whoever adds as much again; what failed leaves key 2 alone.
        step(&[], &[2], &[0]),
        MUCH,
        step(&[0, 2], &[3], &[]),
    ];
    check(BLOCK, false);
    check_tight(BLOCK, false);
}

#[test]
fn nobody_sleeps_while_there_is_work() {
    const TASKS: usize = 4;
    let model = || {
        let work = Arc::new((Bed::default(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let consumer = |work: Arc<(Bed, AtomicUsize, AtomicUsize)>| {
            move || {
                let (bed, ready, done) = &*work;
                let over = || done.load(Ordering::SeqCst) == TASKS;
                let some = || ready.load(Ordering::SeqCst) > 0;
                while !over() {
                    let left = ready.load(Ordering::SeqCst);
                    let taken = left > 0 && {
                        let (order, failed) = (Ordering::SeqCst, Ordering::SeqCst);
                        ready
                            .compare_exchange(left, left - 1, order, failed)
                            .is_ok()
                    };
                    if !taken {
                        bed.sleep(|| some() || over());
                    } else if done.fetch_add(1, Ordering::SeqCst) + 1 == TASKS {
                        bed.wake_all();
                    }
                    bed.wake(some);
                }
            }
        };
        let workers = [(); 2].map(|()| shuttle::thread::spawn(consumer(Arc::clone(&work))));
        for _ in 0..TASKS {
            work.1.fetch_add(1, Ordering::SeqCst);
            work.0.wake(|| work.1.load(Ordering::SeqCst) > 0);
        }
        for worker in workers {
            worker.join().unwrap();
        }
    };
    shuttle::check_random(model, ITERATIONS);
    shuttle::check_pct(model, ITERATIONS, 3);
}
