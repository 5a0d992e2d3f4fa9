//! What the operations of the real scheduler and memory cost on this machine.

use std::hint::black_box;
use std::mem::take;
use std::sync::Arc;

use chain_state::versions::{Effect, Memory, Shards, Version};
use chain_state::{share_out, stretches, BlockOverlay, Bounds, Form, Place, Places, State, Write};

use crate::around::JOBS_AFTER;
use crate::costs::Costs;
use crate::foretold::cut;
use crate::gate::{samples, Forecast, DRAWN, DRAWN_PER_WORKER_MIN};
use crate::meter::{clock_ns, tidy, Meter, Phase};
use crate::parts::Parts;
use crate::scheduler::{
    Claim, Hint, HintClass, HintKey, Lane, Records, Scheduler, Settings, Task, Worker,
};
use crate::survey::{Outline, Writers};
use crate::trace::key_bytes;

/// Keys that each transaction reads, and writes or adds to.
const KEYS: usize = 2;
/// Rounds of which each cost's least counts: other work on the machine only ever adds.
const ROUNDS: usize = 7;

/// What a transaction publishes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Published {
    Nothing,
    Puts,
    /// To numbers of all, which fit whatever the others add.
    Adds,
    /// To numbers of its own, which may not fit.
    Tight,
}

/// Times of one block, in nanoseconds in all.
#[derive(Clone, Copy, Default)]
struct Times {
    begin: u64,
    survey: u64,
    prepare: u64,
    climb: u64,
    draw: u64,
    read: u64,
    finish: u64,
    commit: u64,
    output: u64,
    collect: u64,
    join: u64,
}

impl Times {
    fn least(self, other: Self) -> Self {
        Self {
            begin: self.begin.min(other.begin),
            survey: self.survey.min(other.survey),
            prepare: self.prepare.min(other.prepare),
            climb: self.climb.min(other.climb),
            draw: self.draw.min(other.draw),
            read: self.read.min(other.read),
            finish: self.finish.min(other.finish),
            commit: self.commit.min(other.commit),
            output: self.output.min(other.output),
            collect: self.collect.min(other.collect),
            join: self.join.min(other.join),
        }
    }
}

/// What each operation costs here, measured on one thread over the real structures with a block
/// of so many transactions as it divides among so many workers. What needs other threads to be
/// measured (lines, waking, inflation) is nominal.
pub fn measured_costs(count: usize, workers: usize) -> Costs {
    let round = |published| {
        let mut kept = Kept::default();
        // Records and shards are those of the block before.
        block(&mut kept, count, workers, published);
        let one = |_| block(&mut kept, count, workers, published);
        (0..ROUNDS)
            .map(one)
            .reduce(Times::least)
            .unwrap_or_default()
    };
    let (nothing, puts) = (round(Published::Nothing), round(Published::Puts));
    let (adds, tight) = (round(Published::Adds), round(Published::Tight));
    let (count, workers) = (count.max(1) as u64, workers.max(1) as u64);
    let keys = KEYS as u64 * count;
    Costs {
        task_ns: (nothing.draw + nothing.finish) / count,
        read_ns: nothing.read / keys,
        write_ns: puts.finish.saturating_sub(nothing.finish) / keys,
        commit_ns: nothing.commit / count,
        add_ns: adds.finish.saturating_sub(nothing.finish) / keys,
        delta_ns: tight.commit.saturating_sub(nothing.commit) / keys,
        survey_ns: puts.survey / (2 * KEYS as u64 * count.min(DRAWN as u64)),
        prepare_ns: puts.prepare / (2 * keys),
        climb_ns: puts.climb / count,
        begin_ns: puts.begin / workers,
        collect_ns: puts.collect / keys,
        output_ns: puts.output / count,
        join_ns: puts.join / (JOBS_AFTER * workers),
        ..Costs::nominal()
    }
}

fn keys_of(tx: usize) -> [Vec<u8>; KEYS] {
    // Apart from each other, as the keys of accounts drawn from a million are.
    [2 * tx, 2 * tx + 1].map(|number| {
        let spread = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        key_bytes(spread).to_vec()
    })
}

/// Keys that it writes or adds to.
fn targets(tx: usize, published: Published) -> [Vec<u8>; KEYS] {
    keys_of(if published == Published::Adds { 0 } else { tx })
}

fn effects(tx: usize, published: Published) -> Vec<Effect> {
    let low = Bounds::new(Form::COUNTER, -1, 0);
    let effect = |key| match published {
        Published::Nothing => None,
        Published::Puts => Some(Effect::new(key, Write::Put(vec![7; 16]))),
        Published::Adds => Some(Effect::addition(key, 1, &Bounds::COUNTER)),
        Published::Tight => Some(Effect::addition(key, -1, &low)),
    };
    let keys = targets(tx, published).into_iter();
    keys.filter_map(effect).collect()
}

fn hint(tx: usize, published: Published) -> Hint {
    let keys = || {
        let keys = targets(tx, published).into_iter();
        keys.map(HintKey::new).collect()
    };
    let [reads, writes, deltas] = match published {
        Published::Nothing => [keys(), Vec::new(), Vec::new()],
        Published::Puts => [keys(), keys(), Vec::new()],
        Published::Adds | Published::Tight => [Vec::new(), Vec::new(), keys()],
    };
    Hint {
        class: HintClass::Complete,
        reads,
        writes,
        deltas,
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let start_ns = clock_ns();
    let done = work();
    (clock_ns() - start_ns, done)
}

/// What is kept from one block for the next.
#[derive(Default)]
struct Kept {
    records: Records<Claim>,
    shards: Shards,
    writers: Writers,
}

/// One block, operation by operation: each for all transactions before the next.
fn block(kept: &mut Kept, count: usize, workers: usize, published: Published) -> Times {
    let meter = Meter::new(workers);
    meter.enter("hints");
    let hints = Parts::make(&meter, count, 1, |range| {
        range.map(|tx| hint(tx, published)).collect()
    });
    let keys: Vec<[Vec<u8>; KEYS]> = (0..count).map(keys_of).collect();
    let writes: Vec<Vec<Effect>> = (0..count).map(|tx| effects(tx, published)).collect();
    let settings = Settings::for_workers(workers, 20_000, true).with_window(u32::MAX);
    let mut times = Times::default();
    let (begin, scheduler) = timed(|| {
        let (records, shards) = (take(&mut kept.records), take(&mut kept.shards));
        let memory = Memory::over(shards, BlockOverlay::default(), workers);
        Scheduler::over(records, Arc::new(memory), count, settings)
    });
    times.begin = begin;
    let drawn = cut(&samples(count.min(DRAWN)), workers, DRAWN_PER_WORKER_MIN);
    let outline = |piece| Outline::of(hints.range(piece));
    let drawn: Vec<Outline> = drawn.into_iter().map(outline).collect();
    let writers = &mut kept.writers;
    times.survey = timed(|| black_box(Forecast::sampled(&drawn, DRAWN, 20_000, writers))).0;
    times.prepare = timed(|| scheduler.prepare(hints.iter(), 0, 1)).0;
    times.climb = timed(|| scheduler.climb()).0;
    let mut worker = Worker::default();
    let (draw, claims) = timed(|| {
        let mut claims: Vec<Claim> = Vec::with_capacity(count);
        while claims.len() < count {
            match scheduler.next_task(&mut worker) {
                Task::Execute(claim) => claims.push(claim),
                // The lane is held until all have run.
                Task::Commit => {}
                other => unreachable!("nobody waits for anybody, yet {other:?}"),
            }
        }
        claims
    });
    times.draw = draw;
    times.read = timed(|| {
        for (claim, keys) in claims.iter().zip(&keys) {
            let Version { tx, incarnation } = claim.version;
            for key in keys {
                scheduler
                    .memory()
                    .read(Version { tx, incarnation }, key, true);
            }
        }
    })
    .0;
    times.finish = timed(|| {
        for (claim, effects) in claims.into_iter().zip(writes) {
            scheduler.finish(&mut worker, claim, effects, claim);
        }
        // What executing would do: it asks for more than was freed here.
        tidy();
    })
    .0;
    let state = State::default();
    times.commit = timed(|| {
        while scheduler.frontier() < scheduler.count() {
            let committed = scheduler.advance(&mut worker, Some(&state));
            assert!(matches!(committed, Lane::Committed(_)), "all have run");
        }
    })
    .0;
    (kept.records, kept.shards) = after(scheduler, hints, workers, &mut times);
    times
}

/// What follows the last transaction, as it divides among the workers.
fn after(
    scheduler: Scheduler<Claim>,
    hints: Parts<Hint>,
    workers: usize,
    times: &mut Times,
) -> (Records<Claim>, Shards) {
    let meter = Meter::new(workers);
    meter.enter("outputs");
    let count = scheduler.count() as usize;
    let mut outputs = Places::new(count);
    let ranges = stretches(count, workers);
    let places = outputs.cut(ranges.iter().map(ExactSizeIterator::len));
    let hints = hints.into_iter().map(Some).chain(std::iter::repeat(None));
    let parts = places.into_iter().zip(ranges).zip(hints).collect();
    share_out(
        &meter,
        parts,
        |((mut place, range), hints): ((Place<Claim>, _), _)| {
            drop(hints);
            scheduler.take_outputs(range, |claim| place.put(claim));
        },
    );
    let outputs = outputs.into_list();
    let (memory, records) = scheduler.into_parts();
    let memory = Arc::into_inner(memory).expect("nobody else has it");
    meter.enter("collect");
    let (_, writes, shards) = memory.into_writes(&meter, |_, _| true);
    let phases = meter.read();
    drop((outputs, writes));
    let shared = |phase: &Phase| phase.whole_ns() - phase.serial_ns();
    times.output = shared(&phases[0]);
    times.collect = shared(&phases[1]);
    times.join = phases.iter().map(Phase::serial_ns).sum();
    (records, shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_covers_what_one_worker_does_alone() {
        let (here, charged) = (measured_costs(10_000, 96), Costs::nominal());
        println!("{here:?}");
        // Of several rounds the least counts, on any machine that runs the tests.
        for (name, here, charged) in [
            ("begin", here.begin_ns, charged.begin_ns),
            ("join", here.join_ns, charged.join_ns),
        ] {
            assert!(here > 0, "{name}: nothing is measured");
            assert!(
                here <= 4 * charged,
                "{name}: {here} ns, {charged} are charged"
            );
        }
        for (name, here) in [
            ("task", here.task_ns),
            ("read", here.read_ns),
            ("write", here.write_ns),
            ("add", here.add_ns),
            ("delta", here.delta_ns),
            ("survey", here.survey_ns),
            ("prepare", here.prepare_ns),
            ("collect", here.collect_ns),
            ("output", here.output_ns),
        ] {
            assert!((1..20_000).contains(&here), "{name}: {here} ns");
        }
    }
}
