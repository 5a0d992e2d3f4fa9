//! A block as a trace: executed serially several times, nothing of it kept.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;

use chain_state::{Alone, BlockOverlay, ReadTimes, StateGuard, TxView};

use crate::block::{Item, Rules};
use crate::executor::Core;
use crate::graph::Access;
use crate::parts::Parts;
use crate::scheduler::{Hint, HintClass, HintKey};
use crate::serial::execute_one;
use crate::trace::{Scan, Trace, TraceTransaction};

/// One execution.
struct Recorded {
    access: Access,
    times: ReadTimes,
    cost_ns: u64,
    gas_used: u64,
}

/// The trace of a block above a finished state: of each transaction the quickest of the runs.
///
/// Other work on the machine lengthens single transactions of one run, not the same in all.
pub(crate) fn record(
    core: &mut Core,
    rules: &Rules,
    items: &Parts<Item>,
    mut base: StateGuard,
    runs: NonZeroUsize,
) -> Trace {
    let view = TxView::new(base, BlockOverlay::default());
    let hints = core.parallel.hints(rules, items, &view);
    (base, _) = view.rollback();
    let kept = core.window.clone();
    core.window.prune(&Alone, rules.context.height);
    let window = core.window.clone();
    let mut quickest: Vec<Recorded> = Vec::new();
    for _ in 0..runs.get() {
        let (left, run) = once(core, rules, items, base);
        base = left;
        core.window = window.clone();
        if quickest.is_empty() {
            quickest = run;
            continue;
        }
        for (best, one) in quickest.iter_mut().zip(run) {
            if one.cost_ns < best.cost_ns {
                *best = one;
            }
        }
    }
    core.window = kept;
    let numbers = numbers(&quickest, &hints);
    let transactions = quickest.iter().zip(&hints);
    Trace {
        transactions: transactions
            .map(|(recorded, hint)| transaction(recorded, hint, &numbers))
            .collect(),
    }
}

fn once(
    core: &mut Core,
    rules: &Rules,
    items: &Parts<Item>,
    mut base: StateGuard,
) -> (StateGuard, Vec<Recorded>) {
    let mut block = BlockOverlay::default();
    let mut run = Vec::with_capacity(items.len());
    for item in items.iter() {
        let start = ReadTimes::start();
        let mut view = TxView::new(base, block);
        view.note_times(start);
        let (executed, access, times);
        (executed, access, times, (base, block)) = execute_one(core, rules, item, view);
        let times = times.expect("asked for above");
        run.push(Recorded {
            access,
            cost_ns: times.elapsed_ns(),
            times,
            gas_used: executed.gas_used,
        });
    }
    (base, run)
}

type Numbers<'a> = HashMap<&'a [u8], u64>;

/// Keys numbered in their order, so that ranges hold.
fn numbers<'a>(run: &'a [Recorded], hints: &'a [Hint]) -> Numbers<'a> {
    let accessed = run.iter().flat_map(|recorded| {
        let access = &recorded.access;
        let ranges = access.reads.ranges.iter();
        let edges = ranges.flat_map(|(start, end)| [start, end]);
        let keys = access.reads.keys.iter().chain(&access.writes);
        keys.chain(&access.deltas).chain(edges).map(|key| &key[..])
    });
    let hinted = hints.iter().flat_map(|hint| {
        let keys = hint.reads.iter().chain(&hint.writes).chain(&hint.deltas);
        keys.map(|key| &key.bytes[..])
    });
    let sorted: BTreeSet<&[u8]> = accessed.chain(hinted).collect();
    sorted.into_iter().zip(1..).collect()
}

fn transaction(recorded: &Recorded, hint: &Hint, numbers: &Numbers<'_>) -> TraceTransaction {
    let access = &recorded.access;
    let written = |keys: &[Vec<u8>]| keys.iter().map(|key| numbers[&key[..]]).collect();
    // The clock is read once more after the last access.
    let within = |at_ns: &u64| (*at_ns).min(recorded.cost_ns);
    let reads = recorded.times.keys.iter();
    let ranges = recorded
        .times
        .ranges
        .iter()
        .map(|((start, end), at_ns)| Scan {
            start: numbers[&start[..]],
            end: match end.is_empty() {
                true => u64::MAX,
                false => numbers[&end[..]].max(numbers[&start[..]]),
            },
            at_ns: within(at_ns),
        });
    let mut one = TraceTransaction {
        cost_ns: recorded.cost_ns,
        gas_used: recorded.gas_used,
        reads: reads
            .map(|(key, at_ns)| (numbers[&key[..]], within(at_ns)))
            .collect(),
        writes: written(&access.writes),
        deltas: written(&access.deltas),
        ranges: ranges.collect(),
        hint_class: hint.class,
        ..TraceTransaction::default()
    };
    if hint.class != HintClass::None {
        let hinted = |keys: &[HintKey]| -> Vec<u64> {
            let keys: BTreeSet<u64> = keys.iter().map(|key| numbers[&key.bytes[..]]).collect();
            keys.into_iter().collect()
        };
        let named = [&hint.reads, &hint.writes, &hint.deltas].map(|keys| hinted(keys));
        let mut read: Vec<u64> = one.reads.iter().map(|(key, _)| *key).collect();
        read.sort_unstable();
        if named != [read, one.writes.clone(), one.deltas.clone()] {
            one.hint_keys = Some(named);
        }
    }
    one
}
