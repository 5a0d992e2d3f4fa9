//! The scheduler on threads against the plain serial engine, and in virtual time against bounds.

use chain_exec::oracle::{compare, Random};
use chain_exec::scheduler::HintClass;
use chain_exec::trace::{Trace, TraceTransaction};
use chain_exec::{simulate, Costs};

#[test]
fn random_blocks_equal_the_serial_engine_at_any_number_of_threads() {
    for threads in [1, 2, 4, 8] {
        for seed in 0..60 {
            assert_eq!(compare(seed, threads), Ok(()));
        }
    }
    for seed in 60..70 {
        assert_eq!(compare(seed, 96), Ok(()));
    }
}

fn uniform(count: u64, cost_ns: u64, keys: u64) -> Trace {
    let mut random = Random(1);
    let transaction = |random: &mut Random| {
        let (from, to) = (random.below(keys), random.below(keys));
        TraceTransaction {
            cost_ns,
            reads: vec![(from, 0), (to, 0)],
            writes: vec![from, to],
            hint_class: HintClass::Complete,
            ..TraceTransaction::default()
        }
    };
    Trace {
        transactions: (0..count).map(|_| transaction(&mut random)).collect(),
    }
}

#[test]
fn virtual_workers_stay_within_the_laws() {
    let trace = uniform(2_000, 20_000, 1_000_000);
    // What it gives, within 2 %: 0.890, 1.76, 13.6, 59.8. A small block on many workers is in
    // good part waking them and collecting what they left.
    for (workers, floor) in [(1, 0.872), (2, 1.72), (16, 13.3), (96, 58.6)] {
        let found = simulate(&trace, workers, &Costs::nominal());
        let least = (trace.work_ns() / workers as u64).max(trace.critical_path_ns());
        println!("{workers}: {found:?}");
        assert!(found.makespan_ns >= least, "{workers}: {found:?}");
        assert!(found.speedup > floor, "{workers}: {found:?}");
        assert!(found.counters.executions >= 2_000);
    }
}

#[test]
fn a_chain_cannot_be_sped_up_and_its_deltas_can() {
    let mut chain = uniform(1_000, 20_000, 1_000_000);
    for one in &mut chain.transactions {
        one.deltas.push(7);
    }
    let deltas = simulate(&chain, 96, &Costs::nominal());
    let exact = simulate(&chain.without_deltas(), 96, &Costs::nominal());
    assert!(deltas.speedup > 30.0, "{deltas:?}");
    assert!(exact.speedup < 1.0 && exact.speedup > 0.7, "{exact:?}");
    assert_eq!(chain.without_deltas().critical_path_ns(), chain.work_ns());
}

#[test]
fn ten_thousand_cheap_and_dear_transactions_scale_in_virtual_time() {
    // What it gives, within 2 %: 72.3, 83.3, 37.8. Every transaction writes two keys, and what lies
    // around the execution takes 0.27 ms whatever it costs, 0.09 of it one worker's alone.
    for (cost, least) in [(20_000, 70.9), (100_000, 81.6), (3_000, 37.0)] {
        let found = simulate(&uniform(10_000, cost, 1_000_000), 96, &Costs::nominal());
        println!("{cost} ns: {found:?}");
        assert!(found.speedup > least, "{cost} ns: {found:?}");
    }
}
