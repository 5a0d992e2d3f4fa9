//! What a block may hold of memory, and that it gives it back. Alone in its process.

mod fixtures;

use chain_exec::oracle::Random;
use chain_exec::scheduler::HintClass;
use chain_exec::trace::{Trace, TraceTransaction};
use chain_exec::{Choice, Engine, Strategy, SyntheticBlock};
use chain_state::State;
use chain_types::encode_canonical;
use chain_types::proto::{PayloadKind, ReceiptStatus, Transaction};
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

    let calls = calls_mib(before);
    let small = SyntheticBlock::new(transfers(20, 64), State::default(), 2, true);
    let synthetic = grown(|_| drop(small.run(Choice::Stm)));
    drop(small);

    let mut chain = Chain::with_bank();
    chain.block(&[sign(&invoke(11, 1, "claim", b""), 11, &[])]);
    chain
        .executor
        .set_engine(3, Strategy::Always(Engine::Stm), false);
    let contracts = grown(|number| {
        let block: Vec<Vec<u8>> = (0..16).map(|index| transfer(number, index)).collect();
        let result = chain.block_verified(&block, 1);
        assert_eq!(statuses(&result)[15], ReceiptStatus::Ok);
    });
    println!("a block of 10,000: {peak} MiB, of calls {calls} MiB");
    println!("{BLOCKS} blocks more: {synthetic} MiB, of calls {contracts} MiB");
}

/// MiB that blocks of 10,000 contract calls take at most, with machines, receipts and state tree.
fn calls_mib(before: u64) -> u64 {
    let mut random = Random(4);
    let mut chain = Chain::with_bank();
    chain.block(&[sign(&invoke(11, 1, "claim", b""), 11, &[])]);
    let install = steps::package("steps");
    let install = system(PayloadKind::ContractAdmin, 1, 2, "install", install);
    chain.block(&[sign(&install, 1, &[2])]);
    let engines = [Engine::Stm, Engine::HintDag, Engine::Stm];
    for (engine, number) in engines.into_iter().zip(1..) {
        let block: Vec<Vec<u8>> = (0..10_000u64)
            .map(|index| payment(&mut random, number << 32 | index))
            .collect();
        chain
            .executor
            .set_engine(4, Strategy::Always(engine), false);
        let result = chain.block_verified(&block, 1);
        let ok = statuses(&result);
        assert!(ok.iter().all(|status| *status == ReceiptStatus::Ok));
        assert!(result.writes.len() > 4_000, "most receivers are new");
    }
    let peak = process_mib("VmHWM") - before;
    assert!(peak < BLOCK_MEMORY_MAX_MIB, "10,000 calls took {peak} MiB");
    peak
}

/// A transfer of nothing to someone new, or a call whose template tells its keys.
fn payment(random: &mut Random, salt: u64) -> Vec<u8> {
    let sender = [11, 1, 2, 3, 12][random.below(5) as usize];
    let mut payload = invoke(sender, 0, "transfer", b"");
    payload.salt[..8].copy_from_slice(&salt.to_be_bytes());
    if salt.is_multiple_of(2) {
        let to: Vec<u8> = (0..4)
            .flat_map(|_| random.next_u64().to_be_bytes())
            .collect();
        payload.args = [&to[..], &[0; 8]].concat();
    } else {
        let (method, shape) = steps::SHAPES[0];
        payload.contract = "steps".into();
        payload.method = method.into();
        payload.args = steps::shaped(random, shape, 256);
    }
    steps::unsigned(&payload, &[])
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
