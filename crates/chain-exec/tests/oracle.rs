//! Random blocks of real contract calls: every engine and thread count against the serial engine.
//!
//! `CHAINNODE_ORACLE_BLOCKS` says how many; a release runs 10,000.

mod fixtures;

use chain_exec::oracle::Random;
use chain_exec::{dependencies, BlockResult, Cause, Engine, Strategy};
use chain_types::encode_canonical;
use chain_types::proto::{
    ContractName, Endorsement, MemberChange, Payload, PayloadKind, Receipt, ReceiptStatus,
    Transaction,
};
use fixtures::*;

/// Interprets its arguments as steps of three bytes: what to do, a key, a number.
const STEPS: &str = r#"(module
  (import "sc1" "input" (func $input (param i32 i32) (result i32)))
  (import "sc1" "ret" (func $ret (param i32 i32)))
  (import "sc1" "revert" (func $revert (param i32 i32 i32)))
  (import "sc1" "db_get" (func $db_get (param i32 i32 i32 i32) (result i32)))
  (import "sc1" "db_put" (func $db_put (param i32 i32 i32 i32)))
  (import "sc1" "db_del" (func $db_del (param i32 i32)))
  (import "sc1" "db_add" (func $db_add (param i32 i32 i64 i64)))
  (import "sc1" "db_read_sum" (func $db_read_sum (param i32 i32 i32)))
  (import "sc1" "db_scan" (func $db_scan (param i32 i32 i32 i32 i32) (result i32)))
  (import "sc1" "db_next" (func $db_next (param i32 i32 i32) (result i32)))
  (import "sc1" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "sc1" "fetch" (func $fetch (param i32 i32) (result i32)))
  (import "sc1" "call" (func $call (param i32 i32 i32 i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "step")
  (data (i32.const 12) "run")
  (data (i32.const 300) "stepscall1call2call3call4call5call6call7call8call9nobod")
  (data (i32.const 16) "\ffpanic")
  (global $state (mut i64) (i64.const 1))
  (func $fold (param i64)
    (global.set $state (i64.rotl (i64.mul (i64.xor (global.get $state) (local.get 0))
      (i64.const 0x9e3779b97f4a7c15)) (i64.const 29))))
  (func $clear
    (i64.store (i32.const 200) (i64.const 0)) (i64.store (i32.const 208) (i64.const 0)))
  (func $scan (param $key i32) (param $number i32) (local $scan i32) (local $length i32)
    (i32.store8 (i32.const 40) (i32.add (i32.load8_u (local.get $key)) (local.get $number)))
    (local.set $scan (call $db_scan (local.get $key) (i32.const 1) (i32.const 40) (i32.const 1)
      (i32.and (local.get $number) (i32.const 1))))
    (loop $row
      (call $clear)
      (local.set $length (call $db_next (local.get $scan) (i32.const 195) (i32.const 64)))
      (call $fold (i64.extend_i32_s (local.get $length)))
      (call $fold (i64.load (i32.const 200)))
      (call $fold (i64.load (i32.const 208)))
      (br_if $row (i32.ge_s (local.get $length) (i32.const 0)))))
  (func $other (param $key i32) (param $n i32) (param $at i32) (param $length i32)
    (call $fold (i64.extend_i32_u (call $call
      (i32.add (i32.const 300) (i32.mul (i32.const 5)
        (i32.rem_u (i32.load8_u (local.get $key)) (i32.const 11)))) (i32.const 5)
      (i32.const 12) (i32.const 3) (local.get $at) (local.get $length)
      (select (i64.const 4000) (i64.const 0) (i32.and (local.get $n) (i32.const 16)))
      (i32.and (i32.shr_u (local.get $n) (i32.const 5)) (i32.const 3)))))
    (call $clear)
    (call $fold (i64.extend_i32_u (call $fetch (i32.const 200) (i32.const 64))))
    (call $fold (i64.load (i32.const 200)))
    (call $fold (i64.load (i32.const 208))))
  (export "v:run" (func $run))
  (func $run (export "c:run") (local $rest i32) (local $at i32) (local $end i32)
    (local $op i32) (local $n i32) (local $key i32)
    (local.set $at (i32.const 1024))
    (local.set $end (i32.add (i32.const 1024) (call $input (i32.const 1024) (i32.const 4096))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $op (i32.load8_u (local.get $at)))
      (local.set $key (i32.add (local.get $at) (i32.const 1)))
      (local.set $n (i32.load8_u (i32.add (local.get $at) (i32.const 2))))
      (local.set $at (i32.add (local.get $at) (i32.const 3)))
      (call $clear)
      (if (i32.eq (local.get $op) (i32.const 0)) (then
        (call $fold (i64.extend_i32_s (call $db_get (local.get $key) (i32.const 1)
          (i32.const 200) (i32.const 64))))
        (call $fold (i64.load (i32.const 200)))
        (call $fold (i64.load (i32.const 208)))))
      (if (i32.eq (local.get $op) (i32.const 1)) (then
        (i64.store (i32.const 208) (global.get $state))
        (call $db_put (local.get $key) (i32.const 1) (i32.const 200)
          (select (i32.const 16) (i32.const 12) (i32.lt_u (local.get $n) (i32.const 230))))))
      (if (i32.eq (local.get $op) (i32.const 2)) (then
        (call $db_del (local.get $key) (i32.const 1))))
      (if (i32.eq (local.get $op) (i32.const 3)) (then
        (call $db_add (local.get $key) (i32.const 1) (i64.extend_i32_u (local.get $n))
          (select (i64.const 0) (i64.const 0x7fffffffffffffff)
            (i32.lt_u (local.get $n) (i32.const 245))))))
      (if (i32.eq (local.get $op) (i32.const 4)) (then
        (call $db_read_sum (local.get $key) (i32.const 1) (i32.const 200))
        (call $fold (i64.load (i32.const 208)))))
      (if (i32.eq (local.get $op) (i32.const 5)) (then
        (call $scan (local.get $key) (local.get $n))))
      (if (i32.eq (local.get $op) (i32.const 6)) (then
        (i64.store (i32.const 200) (global.get $state))
        (call $emit (i32.const 8) (i32.const 4) (i32.const 200) (i32.const 8))))
      (if (i32.eq (local.get $op) (i32.const 7)) (then
        (if (i64.eqz (i64.and (global.get $state) (i64.const 3))) (then
          (call $revert (i32.const 5) (i32.const 8) (i32.const 4))))))
      (if (i32.eq (local.get $op) (i32.const 8)) (then (unreachable)))
      (if (i32.eq (local.get $op) (i32.const 9)) (then (loop $for_ever (br $for_ever))))
      (if (i32.eq (local.get $op) (i32.const 10)) (then
        (drop (call $db_get (i32.const 16) (i32.const 6) (i32.const 200) (i32.const 64)))))
      (if (i32.eq (local.get $op) (i32.const 11)) (then
        (local.set $rest (i32.mul (i32.const 3) (i32.and (local.get $n) (i32.const 15))))
        (if (i32.gt_u (local.get $rest) (i32.sub (local.get $end) (local.get $at)))
          (then (local.set $rest (i32.sub (local.get $end) (local.get $at)))))
        (call $other (local.get $key) (local.get $n) (local.get $at) (local.get $rest))
        (local.set $at (i32.add (local.get $at) (local.get $rest)))))
      (br $next)))
    (i64.store (i32.const 200) (global.get $state))
    (call $ret (i32.const 200) (i32.const 8))))"#;

/// A transaction that counts as verified: signing 10,000 blocks would take most of the time.
fn unsigned(payload: &Payload, endorsers: &[u8]) -> Vec<u8> {
    let mut endorsements: Vec<Endorsement> = endorsers
        .iter()
        .map(|seed| Endorsement {
            endorser: public(&key(*seed)),
            signature: vec![1; 64],
        })
        .collect();
    endorsements.sort_by(|left, right| left.endorser.cmp(&right.endorser));
    encode_canonical(&Transaction {
        payload: Some(payload.clone()),
        signature: vec![1; 64],
        endorsements,
    })
}

/// Contracts with the one code, which call each other; there is no `nobod`.
const NAMES: [&str; 10] = [
    "steps", "call1", "call2", "call3", "call4", "call5", "call6", "call7", "call8", "call9",
];

fn steps(random: &mut Random, keys: u64, harsh: bool) -> Vec<u8> {
    let mut args = Vec::new();
    if random.below(24) == 0 {
        // A ladder: each calls the next with all the rest, deeper than allowed.
        for next in 3..11 {
            args.extend([11, next, 15 | (32 * u8::from(random.below(16) == 0))]);
        }
    }
    for _ in 0..1 + random.below(8) {
        let op = match random.below(64) {
            0 if harsh => 8,
            1 if harsh => 9,
            2 if harsh => 10,
            3..15 => 11,
            _ => [0, 0, 1, 1, 2, 3, 3, 3, 4, 5, 6, 7][random.below(12) as usize],
        };
        args.extend([op, random.below(keys) as u8, random.below(256) as u8]);
    }
    args
}

/// Blocks of one chain: calls, now and then something that changes members or the contract, and
/// everything that is refused.
fn random_block(random: &mut Random, salt: &mut u64) -> Vec<Vec<u8>> {
    let keys = [1, 2, 4, 16, 64, 256][random.below(6) as usize];
    let harsh = random.below(2) == 0;
    let mut block: Vec<Vec<u8>> = Vec::new();
    for _ in 0..random.below(90) {
        *salt += 1;
        let sender =
            [11, 1, 2, 3, 12, 12, 11, 1, 2, 3, 11, 1, 2, 3, 13, 14, 99][random.below(17) as usize];
        let mut payload = invoke(sender, 0, "run", &steps(random, keys, harsh));
        payload.salt[..8].copy_from_slice(&salt.to_be_bytes());
        payload.contract = NAMES[(random.below(12) as usize).saturating_sub(8)].into();
        payload.gas_limit = [30_000, 30_000, 90_000][random.below(3) as usize];
        let change = encode_canonical(&MemberChange {
            member: None,
            address: chain_types::address(&public(&key(12))).to_vec(),
        });
        let name = encode_canonical(&ContractName {
            name: NAMES[random.below(2) as usize].into(),
        });
        let which = if salt.is_multiple_of(200) {
            4
        } else {
            random.below(160)
        };
        match which {
            0 => payload.contract = "nobody".into(),
            1 => payload.method = "nothing".into(),
            2 => payload.expiry_height = 0,
            3 => {
                payload.kind = PayloadKind::Config.into();
                let freeze = random.below(2) == 0;
                let method = ["member_unfreeze", "member_freeze"][usize::from(freeze)];
                payload.method = method.into();
                (payload.contract, payload.args) = (String::new(), change);
            }
            4 => {
                payload.kind = PayloadKind::ContractAdmin.into();
                payload.method =
                    ["freeze", "unfreeze", "unfreeze", "unfreeze"][random.below(4) as usize].into();
                (payload.contract, payload.args) = (String::new(), name);
            }
            5 if !block.is_empty() => {
                let again = block[random.below(block.len() as u64) as usize].clone();
                block.push(again);
                continue;
            }
            6 => {
                block.push(vec![7; 40]);
                continue;
            }
            _ => {}
        }
        let endorsers: &[u8] = if payload.kind == i32::from(PayloadKind::Invoke) {
            &[]
        } else {
            &[1, 2]
        };
        block.push(unsigned(&payload, endorsers));
        if random.below(80) == 0 {
            // The same id with other endorsements: one of the two has an effect.
            block.push(unsigned(&payload, &[3]));
        }
    }
    block
}

fn installs() -> Vec<Vec<u8>> {
    (NAMES.iter().zip(200..))
        .map(|(name, salt)| {
            let args = package(name, STEPS, b"");
            let install = system(PayloadKind::ContractAdmin, 1, salt, "install", args);
            sign(&install, 1, &[2])
        })
        .collect()
}

fn chain(threads: usize, strategy: Strategy) -> Chain {
    let mut chain = Chain::new();
    let installed = chain.block(&installs());
    assert_eq!(statuses(&installed), [ReceiptStatus::Ok; NAMES.len()]);
    // Pinned or not, where there is anything to pin to.
    chain.executor.set_engine(threads, strategy, threads == 2);
    chain
}

fn quiet() {
    // The panics are meant; their backtraces would bury the result.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("fault injected by a test") {
            eprintln!("{text}");
        }
    }));
}

/// Ends of calls of other contracts that a receipt shows when they were not caught.
const CALL_ENDS: [&str; 7] = [
    "REVERTED",
    "TRAPPED",
    "OUT_OF_GAS",
    "UNKNOWN_CONTRACT",
    "CONTRACT_FROZEN",
    "REENTRANT",
    "CALL_DEPTH",
];

fn count_calls(receipt: &Receipt, seen: &mut std::collections::BTreeMap<String, u64>) {
    let nested = receipt.events.iter().any(|event| event.contract != "steps");
    if nested {
        *seen
            .entry("events of several contracts".into())
            .or_insert(0) += 1;
    }
    for end in CALL_ENDS {
        if receipt.error_code == 10 && receipt.message.contains(&format!(".run: {end}")) {
            *seen.entry(format!("a call ended {end}")).or_insert(0) += 1;
        }
    }
}

#[test]
fn every_engine_gives_the_serial_result() {
    quiet();
    let wanted = std::env::var("CHAINNODE_ORACLE_BLOCKS");
    let wanted: u64 = wanted.map_or(200, |count| count.parse().expect("a number of blocks"));
    let (stm, dag) = (
        Strategy::Always(Engine::Stm),
        Strategy::Always(Engine::HintDag),
    );
    let mut engines = [
        (1, stm),
        (2, stm),
        (2, dag),
        (4, stm),
        (8, dag),
        (96, stm),
        (2, Strategy::Gate),
    ];
    if wanted < 1_000 {
        engines[5].0 = 24;
    }
    let (mut blocks, mut transactions, mut seen) = (0, 0, std::collections::BTreeMap::new());
    for seed in 0.. {
        let mut random = Random(seed);
        let mut salt = 0;
        let mut serial = chain(1, Strategy::Always(Engine::Serial));
        let mut others = engines.map(|(threads, strategy)| chain(threads, strategy));
        for _ in 0..40.min(wanted - blocks) {
            let block = random_block(&mut random, &mut salt);
            let expected = serial.block_verified(&block, 1);
            for receipt in receipts(&expected) {
                let status = receipt.status().as_str_name();
                *seen.entry(status.to_owned()).or_insert(0u64) += 1;
                count_calls(&receipt, &mut seen);
            }
            for (other, engine) in others.iter_mut().zip(engines) {
                let found = other.block_verified(&block, 1);
                for (found, expected) in receipts(&found).iter().zip(receipts(&expected)) {
                    assert_eq!(*found, expected, "seed {seed}, {engine:?}");
                }
                assert_eq!(found, expected, "seed {seed}, {engine:?}");
            }
            blocks += 1;
            transactions += block.len();
        }
        if blocks == wanted {
            break;
        }
    }
    println!(
        "{blocks} blocks, {transactions} transactions, each on {} engines",
        engines.len()
    );
    println!("mismatches 0; receipts by status {seen:?}");
    assert!(
        seen.len() >= 10 + CALL_ENDS.len(),
        "the blocks must hold every kind of end: {seen:?}"
    );
}

/// An executor that has just been started over what the blocks so far left: it has translated no
/// module, kept no instance and learnt no key.
fn cold(height: u64, stored: &[BlockResult]) -> Chain {
    let executor = chain_exec::Executor::new(CHAIN);
    let mut state = std::collections::BTreeMap::new();
    for (key, value) in stored.iter().flat_map(|result| &result.writes) {
        match value {
            Some(value) => state.insert(key.clone(), value.clone()),
            None => state.remove(key),
        };
    }
    executor.load(state.into_iter().collect());
    let ids = stored.iter().flat_map(|result| {
        let expiries = result.expiry_heights.iter().copied();
        result.tx_ids.iter().copied().zip(expiries)
    });
    executor.load_window(ids);
    executor.set_engine(4, Strategy::Always(Engine::Stm), false);
    Chain { executor, height }
}

#[test]
fn results_do_not_depend_on_what_is_cached() {
    quiet();
    let mut random = Random(77);
    let mut salt = 0;
    let mut warm = chain(4, Strategy::Always(Engine::Stm));
    let other = chain_exec::Executor::new(CHAIN);
    let mut stored = vec![other.genesis(&encode_canonical(&genesis())).unwrap()];
    let mut first = Chain {
        executor: other,
        height: 0,
    };
    stored.push(first.block(&installs()));
    for _ in 0..30 {
        let block = random_block(&mut random, &mut salt);
        let mut cold = cold(warm.height, &stored);
        let expected = warm.block_verified(&block, 1);
        assert_eq!(cold.block_verified(&block, 1), expected);
        stored.push(expected);
    }
}

#[test]
fn a_panic_in_the_host_is_one_transactions_failure() {
    quiet();
    let call = |salt, args: &[u8]| {
        let mut payload = invoke(11, salt, "run", args);
        payload.contract = "steps".into();
        unsigned(&payload, &[])
    };
    let block: Vec<Vec<u8>> = (0..20)
        .map(|salt| {
            call(
                salt,
                if salt == 7 {
                    &[1, 1, 0, 10, 0, 0]
                } else {
                    &[3, 9, 1]
                },
            )
        })
        .collect();
    for engine in [Engine::Serial, Engine::Stm] {
        let mut chain = chain(2, Strategy::Always(engine));
        let result = chain.block_verified(&block, 1);
        let receipt = receipts(&result).swap_remove(7);
        assert_eq!(receipt.status(), ReceiptStatus::Trapped);
        assert_eq!(receipt.message, "host fault");
        assert!((1..100_000).contains(&receipt.gas_used));
        let ok = statuses(&result);
        assert_eq!(
            ok.iter()
                .filter(|status| **status == ReceiptStatus::Ok)
                .count(),
            19
        );
        assert_eq!(result.writes.len(), 1, "{engine:?}");
    }
}

#[test]
fn the_dependencies_of_a_block_are_those_of_its_accesses() {
    let mut chain = chain(1, Strategy::Gate);
    let block: Vec<Vec<u8>> = [
        &[1, 1, 0][..], // 0 puts key 1
        &[0, 1, 0],     // 1 reads it
        &[3, 2, 1],     // 2 and 3 add to key 2
        &[3, 2, 1],
        &[4, 2, 0], // 4 reads the sum
        &[1, 1, 0], // 5 puts key 1 again
        &[5, 0, 4], // 6 scans keys 0 to 3
    ]
    .iter()
    .zip(0u8..)
    .map(|(args, salt)| {
        let mut payload = invoke(11, salt, "run", args);
        payload.contract = "steps".into();
        unsigned(&payload, &[])
    })
    .collect();
    let result = chain.block_verified(&block, 1);
    let edges: Vec<(u32, u32, Cause)> = dependencies(&result.accesses)
        .iter()
        .map(|edge| (edge.later, edge.earlier, edge.cause))
        .collect();
    let expected = [
        (1, 0, Cause::Read),
        (4, 2, Cause::Read),
        (4, 3, Cause::Read),
        (5, 0, Cause::Write),
        (5, 1, Cause::Anti),
        (6, 2, Cause::Read),
        (6, 3, Cause::Read),
        (6, 5, Cause::Read),
    ];
    assert_eq!(edges, expected);
}
