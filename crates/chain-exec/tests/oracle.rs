//! Random blocks of real contract calls: every engine and thread count against the serial engine.
//!
//! `CHAINNODE_ORACLE_BLOCKS` says how many; a release runs 10,000.

mod fixtures;

use chain_exec::oracle::Random;
use chain_exec::{dependencies, BlockResult, Cause, Engine, Strategy};
use chain_types::encode_canonical;
use chain_types::proto::{
    ContractName, MemberChange, PayloadKind, Receipt, ReceiptStatus, Transaction,
};
use fixtures::steps::{predict, shaped, unsigned, word, Word, NAMES, SHAPES};
use fixtures::*;
use prost::Message;

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
            _ => [0, 0, 1, 1, 2, 3, 3, 3, 4, 5, 6, 7, 12, 12, 12][random.below(15) as usize],
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
    // None with templates, most of them, or all of them and of one contract.
    let (templated, home) = (random.below(3), NAMES[random.below(10) as usize]);
    let mut block: Vec<Vec<u8>> = Vec::new();
    for _ in 0..random.below(90) {
        *salt += 1;
        let sender =
            [11, 1, 2, 3, 12, 12, 11, 1, 2, 3, 11, 1, 2, 3, 13, 14, 99][random.below(17) as usize];
        let mut payload = invoke(sender, 0, "run", &steps(random, keys, harsh));
        payload.salt[..8].copy_from_slice(&salt.to_be_bytes());
        payload.contract = NAMES[(random.below(12) as usize).saturating_sub(8)].into();
        if templated == 2 || templated == 1 && random.below(4) > 0 {
            let (method, shape) = SHAPES[random.below(SHAPES.len() as u64) as usize];
            let anywhere = NAMES[random.below(10) as usize];
            payload.contract = [anywhere, home][usize::from(templated == 2)].into();
            (payload.method, payload.args) = (method.into(), shaped(random, shape, keys));
        }
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
            let args = steps::package(name);
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

fn count_ends(receipt: &Receipt, seen: &mut std::collections::BTreeMap<String, u64>) {
    let nested = receipt.events.iter().any(|event| event.contract != "steps");
    if nested {
        *seen
            .entry("events of several contracts".into())
            .or_insert(0) += 1;
    }
    for (name, what) in [("high", "a sum too large"), ("less", "a sum too small")] {
        if receipt.events.iter().any(|event| event.name == name) {
            *seen.entry(what.into()).or_insert(0) += 1;
        }
    }
    for end in CALL_ENDS {
        if receipt.error_code == 10 && receipt.message.contains(&format!(".run: {end}")) {
            *seen.entry(format!("a call ended {end}")).or_insert(0) += 1;
        }
    }
}

/// Count complete predictions by how they compare with what the calls then touched.
fn count_predictions(
    block: &[Vec<u8>],
    result: &BlockResult,
    seen: &mut std::collections::BTreeMap<String, u64>,
) {
    let calls = block.iter().zip(&result.accesses).zip(receipts(result));
    for ((bytes, access), receipt) in calls {
        let Ok(Transaction {
            payload: Some(payload),
            ..
        }) = Transaction::decode(&bytes[..])
        else {
            continue;
        };
        if !NAMES.contains(&&payload.contract[..]) || receipt.status() != ReceiptStatus::Ok {
            continue;
        }
        let found = predict(&payload.contract, &payload.method, &payload.args);
        let Some(found) = found.filter(|found| found.is_complete()) else {
            continue;
        };
        let word = word(&payload.contract);
        let mut changed = access.writes.iter().chain(&access.deltas);
        // What is read and added to counts as written.
        let foretold = access.reads.ranges.is_empty()
            && access
                .reads
                .keys
                .iter()
                .all(|key| found.reads.contains(key))
            && changed.all(|key| found.writes.contains(key) || found.adds.contains(key));
        assert!(foretold || !matches!(word, Word::True | Word::Superset));
        let truth = ["wrong", "right"][usize::from(foretold)];
        let name = format!("complete templates {word:?}, {truth}");
        *seen.entry(name).or_insert(0) += 1;
    }
}

/// Complete templates that the blocks must hold, by what they say and whether it was so.
const PREDICTIONS: [&str; 7] = [
    "True, right",
    "Superset, right",
    "OtherKeys, wrong",
    "NoWrites, wrong",
    "Concealed, wrong",
    "Swapped, wrong",
    "OneKey, wrong",
];

#[test]
fn every_engine_gives_the_serial_result() {
    quiet();
    let wanted = std::env::var("CHAINNODE_ORACLE_BLOCKS");
    let wanted: u64 = wanted.map_or(200, |count| count.parse().expect("a number of blocks"));
    let [stm, dag, blind] = [Engine::Stm, Engine::HintDag, Engine::Blind].map(Strategy::Always);
    let engines = if cfg!(feature = "yields") {
        // Far more threads than cores, which step aside in the middle of everything.
        vec![(96, stm), (96, dag), (96, blind)]
    } else {
        let most = if wanted < 1_000 { 24 } else { 96 };
        let gate = Strategy::Gate;
        vec![
            (1, stm),
            (2, stm),
            (2, dag),
            (4, stm),
            (4, blind),
            (8, dag),
            (most, stm),
            (2, gate),
        ]
    };
    let (mut blocks, mut transactions, mut seen) = (0, 0, std::collections::BTreeMap::new());
    let mut followed = 0.0;
    for seed in 0.. {
        let mut random = Random(seed);
        let mut salt = 0;
        let mut serial = chain(1, Strategy::Always(Engine::Serial));
        let others = engines.iter();
        let mut others: Vec<Chain> = others.map(|engine| chain(engine.0, engine.1)).collect();
        for _ in 0..40.min(wanted - blocks) {
            let block = random_block(&mut random, &mut salt);
            let expected = serial.block_verified(&block, 1);
            for receipt in receipts(&expected) {
                let status = receipt.status().as_str_name();
                *seen.entry(status.to_owned()).or_insert(0u64) += 1;
                count_ends(&receipt, &mut seen);
            }
            count_predictions(&block, &expected, &mut seen);
            for (other, engine) in others.iter_mut().zip(&engines) {
                let found = other.block_verified(&block, 1);
                for (found, expected) in receipts(&found).iter().zip(receipts(&expected)) {
                    assert_eq!(*found, expected, "seed {seed}, {engine:?}");
                }
                assert_eq!(found, expected, "seed {seed}, {engine:?}");
                if engine.1 == dag {
                    let forecast = other.executor.forecast();
                    followed += forecast.complete_share * forecast.count as f64;
                }
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
    println!("mismatches 0; {followed} times the hint-DAG had a complete hint; seen {seen:?}");
    assert!(followed > 10.0 * blocks as f64, "{followed} complete hints");
    for kind in PREDICTIONS {
        let kind = format!("complete templates {kind}");
        assert!(seen.contains_key(&kind), "no {kind}: {seen:?}");
    }
    let ends = seen.keys().filter(|kind| !kind.starts_with("complete"));
    assert!(
        ends.count() >= 12 + CALL_ENDS.len(),
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
fn a_block_that_is_timed_has_the_serial_result_whatever_it_is_divided_among() {
    quiet();
    let mut random = Random(78);
    let mut salt = 0;
    let mut serial = chain(1, Strategy::Always(Engine::Serial));
    let mut timed: Vec<(usize, Chain)> = [1, 2, 96]
        .map(|workers| (workers, chain(2, Strategy::Gate)))
        .into();
    let mut divided = false;
    for _ in 0..30 {
        let block = random_block(&mut random, &mut salt);
        let expected = serial.block_verified(&block, 1);
        for (workers, chain) in &mut timed {
            let (result, phases) = chain.timed(&block, *workers);
            assert_eq!(result, expected, "{workers} workers");
            let parts = phases.iter().flat_map(|phase| &phase.shared);
            divided |= parts.map(|piece| piece.parts_ns.len()).max() > Some(32);
            assert_eq!(phases.first().map(|phase| phase.name), Some("decode"));
            assert_eq!(phases.last().map(|phase| phase.name), Some("state"));
        }
    }
    assert!(divided, "96 workers have parts of their own");
}

#[test]
fn of_a_quiet_block_nothing_is_foretold_but_what_the_gate_looks_at() {
    quiet();
    let jobs = |method: &str| {
        let mut random = Random(79);
        let (_, shape) = SHAPES
            .into_iter()
            .find(|(name, _)| *name == method)
            .unwrap();
        let call = |salt: u64| {
            let mut payload = invoke(11, 0, method, &shaped(&mut random, shape, 256));
            payload.salt[..8].copy_from_slice(&salt.to_be_bytes());
            payload.contract = "steps".into();
            unsigned(&payload, &[])
        };
        let block: Vec<Vec<u8>> = (0..1_000).map(call).collect();
        let (result, phases) = chain(2, Strategy::Gate).timed(&block, 96);
        let mut serial = chain(1, Strategy::Always(Engine::Serial));
        assert_eq!(result, serial.block_verified(&block, 1));
        let jobs = |name| {
            let phases = phases.iter().filter(|phase| phase.name == name);
            phases.map(|phase| phase.shared.len()).sum::<usize>()
        };
        assert!(jobs("collect") > 0, "{method}: executed serially");
        jobs("hints")
    };
    // Additions meet nobody, moves over few keys do: templates and hints of the rest are two jobs.
    assert_eq!(jobs("count") + 2, jobs("move"));
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
        &[4, 2, 0],    // 4 reads the sum
        &[1, 1, 0],    // 5 puts key 1 again
        &[5, 0, 4],    // 6 scans keys 0 to 3
        &[12, 3, 200], // 7 and 8 add within bounds
        &[12, 3, 200],
        &[12, 3, 200], // 9 cannot, which depends on both
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
        (7, 6, Cause::Anti),
        (8, 6, Cause::Anti),
        (9, 7, Cause::Read),
        (9, 8, Cause::Read),
    ];
    assert_eq!(edges, expected);
}
