//! Submissions, proposals and commits at once: nothing is lost, nothing is taken twice.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use chain_pool::{Limits, Pool};
use chain_types::proto::{Payload, PayloadKind, Transaction, TransactionBatch};
use chain_types::{encode_canonical, sender_message, tx_id, Hash};
use ed25519_zebra::SigningKey;

const SUBMITTERS: u8 = 3;
const BATCHES: u8 = 10;
const BATCH: u8 = 8;

fn transaction(submitter: u8, batch: u8, number: u8) -> Vec<u8> {
    let key = SigningKey::from([submitter + 1; 32]);
    let payload = Payload {
        chain_id: "test".into(),
        kind: PayloadKind::Invoke.into(),
        contract: "asset".into(),
        method: "transfer".into(),
        args: vec![],
        sender: <[u8; 32]>::from(key.verification_key()).to_vec(),
        salt: vec![
            submitter, batch, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        expiry_height: 900,
        gas_limit: 1,
        payer: vec![],
    };
    let id = tx_id(&encode_canonical(&payload));
    let signature = key.sign(&sender_message(&id)).to_bytes().to_vec();
    encode_canonical(&Transaction {
        payload: Some(payload),
        signature,
        endorsements: vec![],
    })
}

fn submit(pool: &Pool, submitter: u8) {
    for batch in 0..BATCHES {
        let transactions = (0..BATCH)
            .map(|n| transaction(submitter, batch, n))
            .collect();
        let bytes = encode_canonical(&TransactionBatch { transactions });
        let codes = pool.add(&bytes, 1, None).unwrap().codes;
        assert!(codes.iter().all(|code| *code == 1), "{codes:?}");
    }
}

#[test]
fn everything_submitted_is_proposed_exactly_once() {
    let pool = Pool::new(
        "test",
        Limits {
            expiry_window: 1_000,
            transactions_max: 10_000,
            size_max_bytes: 1 << 20,
            transaction_size_max_bytes: 1 << 16,
        },
        NonZeroUsize::new(2).unwrap(),
    );
    let committed: Mutex<Vec<Hash>> = Mutex::default();
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut height = 1;
            loop {
                let last = finished.load(Ordering::Acquire);
                let wids = pool.propose(7, 1 << 20);
                if wids.is_empty() {
                    if last {
                        break;
                    }
                    std::thread::yield_now();
                    continue;
                }
                pool.bodies(&wids).unwrap();
                assert!(pool.verified(&wids).iter().all(|byte| *byte == 1));
                height += 1;
                assert_eq!(pool.commit(&wids, height), wids.len());
                committed.lock().unwrap().extend(wids);
            }
        });
        std::thread::scope(|submitters| {
            for submitter in 0..SUBMITTERS {
                let pool = &pool;
                submitters.spawn(move || submit(pool, submitter));
            }
        });
        finished.store(true, Ordering::Release);
    });
    let committed = committed.into_inner().unwrap();
    let distinct: HashSet<Hash> = committed.iter().copied().collect();
    assert_eq!(distinct.len(), committed.len());
    assert_eq!(
        committed.len(),
        usize::from(SUBMITTERS) * usize::from(BATCHES * BATCH)
    );
    assert!(pool.is_empty());
    assert_eq!(pool.size_bytes(), 0);
}
