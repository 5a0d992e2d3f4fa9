//! What a block may hold of memory, and that it gives it back. Alone in its process.

use chain_exec::oracle::Random;
use chain_exec::scheduler::HintClass;
use chain_exec::trace::{Trace, TraceTransaction};
use chain_exec::{Choice, SyntheticBlock};
use chain_state::State;

const BLOCK_MEMORY_MAX_MIB: u64 = 256;

/// A figure of the process in MiB, by its name in the kernel's table.
fn process_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a line of the table");
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    kib.expect("a number of KiB") / 1024
}

fn transfers(count: u64, keys: u64) -> Trace {
    let mut random = Random(9);
    let transaction = |_| {
        let (from, to) = (random.below(keys), random.below(keys));
        TraceTransaction {
            reads: vec![(from, 0), (to, 0)],
            writes: vec![from, to],
            deltas: vec![u64::MAX],
            hint_class: HintClass::Complete,
            ..TraceTransaction::default()
        }
    };
    Trace {
        transactions: (0..count).map(transaction).collect(),
    }
}

#[test]
fn blocks_stay_within_their_memory_and_give_it_back() {
    let before = process_mib("VmRSS");
    let large = SyntheticBlock::new(transfers(10_000, 1 << 40), State::default(), 4, false);
    large.run(Choice::Stm);
    large.run(Choice::HintDag);
    let peak = process_mib("VmHWM") - before;
    assert!(
        peak < BLOCK_MEMORY_MAX_MIB,
        "a block of 10,000 took {peak} MiB"
    );
    drop(large);

    let small = SyntheticBlock::new(transfers(500, 64), State::default(), 4, true);
    for _ in 0..50 {
        small.run(Choice::Stm);
    }
    let settled = process_mib("VmRSS");
    for _ in 0..400 {
        small.run(Choice::Stm);
    }
    let grown = process_mib("VmRSS").saturating_sub(settled);
    assert!(grown <= 8, "400 blocks left {grown} MiB behind");
    println!("10,000 transactions: {peak} MiB; 400 blocks more: {grown} MiB");
}
