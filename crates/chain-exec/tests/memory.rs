//! What a block may hold of memory, and that it gives it back. Alone in its process.

mod fixtures;

use chain_exec::oracle::Random;
use chain_exec::scheduler::HintClass;
use chain_exec::trace::{Trace, TraceTransaction};
use chain_exec::{Choice, Engine, Strategy, SyntheticBlock};
use chain_state::State;
use chain_types::encode_canonical;
use chain_types::proto::{ReceiptStatus, Transaction};
use fixtures::*;

const BLOCK_MEMORY_MAX_MIB: u64 = 256;
const BLOCKS: u64 = 10_000;

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

    let small = SyntheticBlock::new(transfers(20, 64), State::default(), 2, true);
    let synthetic = grown(|_| drop(small.run(Choice::Stm)));
    drop(small);

    let mut chain = Chain::with_bank();
    chain.block(&[sign(&invoke(11, 1, "claim", b""), 11, &[])]);
    chain
        .executor
        .set_engine(1, Strategy::Always(Engine::Stm), false);
    let contracts = grown(|number| {
        let block: Vec<Vec<u8>> = (0..16).map(|index| transfer(number, index)).collect();
        let result = chain.block_verified(&block, 1);
        assert_eq!(statuses(&result)[15], ReceiptStatus::Ok);
    });
    println!("a block of 10,000: {peak} MiB; {BLOCKS} blocks more: {synthetic}, {contracts} MiB");
}

/// MiB that many small blocks leave behind, after enough for every cache to be full.
fn grown(mut block: impl FnMut(u64)) -> u64 {
    (0..BLOCKS / 20).for_each(&mut block);
    let settled = process_mib("VmRSS");
    (BLOCKS / 20..BLOCKS / 20 + BLOCKS).for_each(&mut block);
    let grown = process_mib("VmRSS").saturating_sub(settled);
    assert!(grown <= 8, "{BLOCKS} blocks left {grown} MiB behind");
    grown
}

/// One of the bank's transfers; it counts as verified.
fn transfer(number: u64, index: u8) -> Vec<u8> {
    let mut payload = invoke(11, index, "transfer", &transfer_args(12, 0));
    payload.salt[1..9].copy_from_slice(&number.to_be_bytes());
    // The two blocks before.
    payload.expiry_height = number + 4;
    encode_canonical(&Transaction {
        payload: Some(payload),
        signature: vec![1; 64],
        endorsements: Vec::new(),
    })
}
