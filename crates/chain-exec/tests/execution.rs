//! The serial engine against a plain model, and each rule of admission.

mod fixtures;

use std::collections::HashMap;

use chain_state::{keys, StateTree};
use chain_types::proto::{
    ContractName, Member, MemberChange, MemberStatus, PayloadKind, ReceiptStatus as S, Role,
};
use chain_types::{address, encode_canonical, merkle_root};
use fixtures::*;
use prost::Message;

fn config(seed: u8, salt: u8, method: &str, change: &MemberChange) -> Vec<u8> {
    let payload = system(
        PayloadKind::Config,
        seed,
        salt,
        method,
        encode_canonical(change),
    );
    sign(&payload, seed, &[if seed == 1 { 2 } else { 1 }])
}

fn of(seed: u8) -> MemberChange {
    MemberChange {
        member: None,
        address: address(&public(&key(seed))).to_vec(),
    }
}

fn contract_admin(salt: u8, method: &str, endorsers: &[u8]) -> Vec<u8> {
    let args = encode_canonical(&ContractName {
        name: "bank".into(),
    });
    sign(
        &system(PayloadKind::ContractAdmin, 1, salt, method, args),
        1,
        endorsers,
    )
}

#[test]
fn transfers_follow_a_plain_model() {
    let mut chain = Chain::with_bank();
    chain.block(&[sign(&invoke(11, 1, "claim", b""), 11, &[])]);
    let mut model = HashMap::from([(11u8, 100u64), (12, 0)]);
    let mut random = 12345u64;
    for round in 0..20u8 {
        let mut block = Vec::new();
        let mut expected = Vec::new();
        for step in 0..10u8 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let (from, to) = if random >> 40 & 1 == 0 {
                (11, 12)
            } else {
                (12, 11)
            };
            let amount = random >> 33 & 63;
            let mut payload = invoke(from, round, "transfer", &transfer_args(to, amount));
            payload.salt[1] = step;
            block.push(sign(&payload, from, &[]));
            let ok = model[&from] >= amount;
            expected.push(if ok { S::Ok } else { S::Reverted });
            if ok {
                *model.get_mut(&from).unwrap() -= amount;
                *model.get_mut(&to).unwrap() += amount;
            }
        }
        let result = chain.block(&block);
        assert_eq!(statuses(&result), expected);
        assert_eq!(result.receipts_root, merkle_root(&result.receipts));
        for receipt in receipts(&result) {
            let kept = usize::from(receipt.status() == S::Ok);
            assert_eq!(receipt.events.len(), kept);
            if kept == 0 {
                assert_eq!(
                    (receipt.error_code, receipt.message.as_str()),
                    (3, "too little")
                );
            }
        }
    }
    for (member, balance) in model {
        assert_eq!(chain.balance(member), balance);
    }
}

#[test]
fn the_root_equals_one_rebuilt_from_all_writes() {
    let mut chain = Chain::new();
    let genesis = fixtures::genesis();
    let other = chain_exec::Executor::new(CHAIN);
    let mut stored: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let first = chain_exec::Executor::new(CHAIN)
        .genesis(&encode_canonical(&genesis))
        .unwrap();
    let install = package("bank", BANK, &100u64.to_be_bytes());
    let install = system(PayloadKind::ContractAdmin, 1, 0, "install", install);
    let blocks = [
        vec![sign(&install, 1, &[2])],
        vec![sign(&invoke(11, 1, "claim", b""), 11, &[])],
        vec![sign(
            &invoke(11, 2, "transfer", &transfer_args(12, 30)),
            11,
            &[],
        )],
        vec![],
    ];
    let mut results = vec![first];
    results.extend(blocks.iter().map(|block| chain.block(block)));
    for result in results {
        assert!(result.writes.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (key, value) in result.writes {
            match value {
                Some(value) => stored.insert(key, value),
                None => stored.remove(&key),
            };
        }
        let mut tree = StateTree::default();
        tree.update(
            stored
                .iter()
                .map(|(key, value)| (&key[..], Some(&value[..]))),
        );
        assert_eq!(tree.root(), result.state_root);
    }
    other.load(stored.into_iter().collect());
    assert_eq!(other.state_root(), chain.executor.state_root());
}

#[test]
fn one_id_has_one_effect_whatever_its_endorsements() {
    let mut chain = Chain::with_bank();
    chain.block(&[sign(&invoke(11, 1, "claim", b""), 11, &[])]);
    let payload = invoke(11, 2, "transfer", &transfer_args(12, 10));
    let plain = sign(&payload, 11, &[]);
    let endorsed = sign(&payload, 11, &[1, 2]);
    let result = chain.block(&[plain.clone(), endorsed.clone(), plain.clone()]);
    assert_eq!(statuses(&result), [S::Ok, S::Duplicate, S::Duplicate]);
    assert_eq!(result.expiry_heights, [50, 0, 0]);
    assert_ne!(receipts(&result)[0].wid, receipts(&result)[1].wid);
    assert_eq!(
        statuses(&chain.block(std::slice::from_ref(&endorsed))),
        [S::Duplicate]
    );
    assert_eq!(chain.balance(12), 10);
    // A restarted node knows what it is told, and answers alike.
    let ids = result.tx_ids.iter().copied().zip(result.expiry_heights);
    let restarted = Chain::with_bank();
    restarted.executor.load_window(ids);
    let mut restarted = Chain {
        height: chain.height,
        ..restarted
    };
    assert_eq!(statuses(&restarted.block(&[endorsed])), [S::Duplicate]);
}

#[test]
fn a_forged_signature_does_not_burn_the_id() {
    let mut chain = Chain::with_bank();
    let payload = invoke(11, 1, "claim", b"");
    let forged = sign(&payload, 12, &[]);
    let result = chain.block(&[forged, sign(&payload, 11, &[])]);
    assert_eq!(statuses(&result), [S::BadEndorsement, S::Ok]);
    assert_eq!(result.expiry_heights, [0, 50]);
}

#[test]
fn stripped_endorsements_do_not_burn_the_id() {
    let mut chain = Chain::with_bank();
    let stripped = contract_admin(9, "freeze", &[]);
    let endorsed = contract_admin(9, "freeze", &[2]);
    let result = chain.block(&[stripped.clone(), endorsed, stripped]);
    assert_eq!(statuses(&result), [S::PolicyNotMet, S::Ok, S::Duplicate]);
    assert_eq!(result.expiry_heights, [0, 50, 0]);
    assert_eq!(result.tx_ids[0], result.tx_ids[1]);
}

#[test]
fn admission_refuses_in_the_stated_order() {
    let mut chain = Chain::with_bank();
    let at = chain.height + 1;
    let expiring = |salt, expiry_height| {
        let payload = chain_types::proto::Payload {
            expiry_height,
            ..invoke(11, salt, "claim", b"")
        };
        sign(&payload, 11, &[])
    };
    let mut other_chain = invoke(11, 3, "claim", b"");
    other_chain.chain_id = "other".into();
    let mut unknown = invoke(11, 5, "claim", b"");
    unknown.contract = "nothing".into();
    let cases = vec![
        (expiring(1, at - 1), S::Expired),
        (expiring(2, at + WINDOW + 1), S::Expired),
        (
            sign(&invoke(99, 1, "claim", b""), 99, &[]),
            S::UnknownMember,
        ),
        (
            sign(&invoke(99, 1, "claim", b""), 11, &[]),
            S::UnknownMember,
        ),
        (
            sign(&invoke(14, 1, "claim", b""), 14, &[]),
            S::CertificateExpired,
        ),
        (sign(&invoke(13, 1, "claim", b""), 13, &[]), S::PolicyNotMet),
        (sign(&other_chain, 11, &[]), S::InvalidArguments),
        (sign(&unknown, 11, &[]), S::UnknownContract),
        (
            sign(&invoke(11, 6, "nothing", b""), 11, &[]),
            S::UnknownMethod,
        ),
        (sign(&invoke(11, 7, "trap", b""), 11, &[]), S::Trapped),
        (sign(&invoke(11, 8, "spin", b""), 11, &[]), S::OutOfGas),
        (b"no transaction".to_vec(), S::InvalidArguments),
        (contract_admin(9, "freeze", &[]), S::PolicyNotMet),
        (contract_admin(10, "melt", &[2]), S::UnknownMethod),
        (expiring(11, at), S::Ok),
        (expiring(12, at + WINDOW), S::Ok),
    ];
    let (block, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let result = chain.block(&block);
    assert_eq!(statuses(&result), expected);
    let spin = &receipts(&result)[10];
    assert_eq!(
        (spin.gas_used, spin.message.as_str()),
        (100_000, "gas limit reached")
    );
    assert_eq!(receipts(&result)[9].message, "unreachable");
}

#[test]
fn the_outcome_does_not_depend_on_what_was_verified_before() {
    let run = |verified| {
        let mut chain = Chain::with_bank();
        let frozen = chain.block(&[config(1, 1, "member_freeze", &of(11))]);
        assert_eq!(statuses(&frozen), [S::Ok]);
        let block = [
            sign(&invoke(11, 1, "claim", b""), 11, &[]),
            sign(&invoke(12, 1, "claim", b""), 12, &[2]),
            config(1, 2, "member_unfreeze", &of(11)),
            sign(&invoke(11, 2, "transfer", &transfer_args(12, 0)), 11, &[]),
        ];
        chain.block_verified(&block, verified)
    };
    let unknown = run(0);
    assert_eq!(statuses(&unknown), [S::MemberFrozen, S::Ok, S::Ok, S::Ok]);
    assert_eq!(run(1), unknown);
}

#[test]
fn contracts_live_freeze_and_end() {
    let mut chain = Chain::with_bank();
    let claim = |salt| sign(&invoke(11, salt, "claim", b""), 11, &[]);
    let again = package("bank", BANK, &100u64.to_be_bytes());
    let install = system(PayloadKind::ContractAdmin, 1, 5, "install", again.clone());
    let upgrade = system(
        PayloadKind::ContractAdmin,
        1,
        6,
        "upgrade",
        package("bank", BANK, b""),
    );
    let broken = r#"(module (memory (export "memory") 9))"#;
    let broken = system(
        PayloadKind::ContractAdmin,
        1,
        7,
        "install",
        package("x", broken, b""),
    );
    let failing = system(
        PayloadKind::ContractAdmin,
        1,
        8,
        "install",
        package("y", BANK, b"short"),
    );
    let block = [
        sign(&install, 1, &[2]),
        sign(&upgrade, 1, &[2]),
        sign(&broken, 1, &[2]),
        sign(&failing, 1, &[2]),
        contract_admin(9, "unfreeze", &[2]),
        contract_admin(10, "freeze", &[2]),
        claim(1),
        contract_admin(11, "unfreeze", &[3]),
        claim(2),
        contract_admin(12, "revoke", &[3, 2]),
        claim(3),
    ];
    let result = chain.block(&block);
    let expected = [
        S::InvalidArguments,
        S::Ok,
        S::InvalidArguments,
        S::Reverted,
        S::InvalidArguments,
        S::Ok,
        S::ContractFrozen,
        S::Ok,
        S::Ok,
        S::Ok,
        S::ContractFrozen,
    ];
    assert_eq!(statuses(&result), expected);
    assert_eq!(
        receipts(&result)[2].message,
        "wasm breaks the module rule `memory`"
    );
    assert!(chain.executor.contract("y").is_none());
    assert!(chain.executor.contract("bank").is_some());
}

#[test]
fn members_join_freeze_and_leave() {
    let mut chain = Chain::with_bank();
    let add = |member: Member| MemberChange {
        member: Some(member),
        address: vec![],
    };
    let mut torsion = member(22, "a", Role::Client);
    torsion.public_key = [[1].as_slice(), &[0; 31]].concat();
    let mut twin = member(23, "a", Role::Client);
    twin.name = "m11".into();
    let claim = |seed, salt| sign(&invoke(seed, salt, "claim", b""), seed, &[]);
    let lone = system(
        PayloadKind::Config,
        1,
        9,
        "member_freeze",
        encode_canonical(&of(11)),
    );
    let block = [
        claim(21, 1),
        config(1, 1, "member_add", &add(member(21, "a", Role::Client))),
        claim(21, 1),
        config(1, 2, "member_add", &add(member(21, "b", Role::Client))),
        config(1, 3, "member_add", &add(torsion)),
        config(
            1,
            4,
            "member_add",
            &add(member(24, "nowhere", Role::Client)),
        ),
        config(1, 5, "member_add", &add(twin)),
        config(2, 6, "member_revoke", &of(21)),
        claim(21, 2),
        config(2, 7, "member_unfreeze", &of(21)),
        sign(&lone, 1, &[11]),
        config(1, 8, "member_freeze", &of(99)),
    ];
    let invalid = S::InvalidArguments;
    let expected = [
        S::UnknownMember,
        S::Ok,
        S::Ok,
        invalid,
        invalid,
        invalid,
        invalid,
        S::Ok,
        S::MemberRevoked,
        invalid,
        S::PolicyNotMet,
        invalid,
    ];
    assert_eq!(statuses(&chain.block(&block)), expected);
    let stored = chain.executor.member(&address(&public(&key(21)))).unwrap();
    assert_eq!(
        Member::decode(&stored[..]).unwrap().status(),
        MemberStatus::Revoked
    );
}

#[test]
fn a_failed_transaction_leaves_no_write_and_no_event() {
    let mut chain = Chain::with_bank();
    let root = chain.executor.state_root();
    let result = chain.block(&[
        sign(&invoke(11, 1, "trap", b""), 11, &[]),
        sign(&invoke(11, 2, "transfer", &transfer_args(12, 500)), 11, &[]),
    ]);
    assert_eq!(statuses(&result), [S::Trapped, S::Reverted]);
    assert_eq!((result.writes, result.state_root), (vec![], root));
}

#[test]
fn views_see_the_last_block_and_write_nothing() {
    let mut chain = Chain::with_bank();
    chain.block(&[sign(&invoke(11, 1, "claim", b""), 11, &[])]);
    let view = |from: &[u8], method: &str| {
        chain
            .executor
            .evaluate(from, "bank", method, &address(&public(&key(11))), 50_000)
    };
    let by_key = view(&public(&key(12)), "balance");
    assert_eq!(by_key.result, 100u64.to_be_bytes());
    assert_eq!(view(&address(&public(&key(12))), "balance"), by_key);
    let write = view(&public(&key(12)), "write");
    assert_eq!(
        (write.status(), write.message.as_str()),
        (S::Trapped, "write in a view")
    );
    assert_eq!(
        view(&public(&key(12)), "transfer").status(),
        S::UnknownMethod
    );
    assert_eq!(
        view(&public(&key(99)), "balance").status(),
        S::UnknownMember
    );
    assert_eq!(
        chain.executor.get(keys::GENESIS).map(|hash| hash.len()),
        Some(32)
    );
}

#[test]
fn a_bad_genesis_is_refused() {
    let good = encode_canonical(&genesis());
    let executor = chain_exec::Executor::new("other");
    assert!(executor.genesis(&good).is_err());
    let executor = chain_exec::Executor::new(CHAIN);
    let mut doubled = genesis();
    doubled.members.push(member(11, "b", Role::Client));
    assert!(executor.genesis(&encode_canonical(&doubled)).is_err());
    assert!(executor.execute_block(b"", b"", b"").is_err());
    assert!(executor.genesis(&good).is_ok());
    assert!(executor.genesis(&good).is_err());
}
