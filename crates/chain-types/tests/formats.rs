//! Canonical bytes, transaction rules and Merkle trees.

use chain_types::proto::{Endorsement, Payload, PayloadKind, Transaction, TransactionBatch};
use chain_types::{
    address, decode_canonical, decode_transaction, decode_transaction_within, encode_canonical,
    merkle_path, merkle_root, merkle_root_of_runs, sha256, split_batch, tx_id, verify_merkle_path,
    wid, FormatError, Hash,
};

fn transaction() -> Transaction {
    Transaction {
        payload: Some(Payload {
            chain_id: "chain".into(),
            kind: PayloadKind::Invoke.into(),
            contract: "asset".into(),
            method: "transfer".into(),
            args: vec![1, 2, 3],
            sender: vec![7; 32],
            salt: vec![9; 16],
            expiry_height: 100,
            gas_limit: 1_000_000,
            payer: vec![],
        }),
        signature: vec![5; 64],
        endorsements: vec![
            Endorsement {
                endorser: vec![1; 32],
                signature: vec![2; 64],
            },
            Endorsement {
                endorser: vec![3; 32],
                signature: vec![4; 64],
            },
        ],
    }
}

#[test]
fn a_sound_transaction_gives_its_ids() {
    let message = transaction();
    let bytes = encode_canonical(&message);
    let checked = decode_transaction(&bytes).unwrap();
    let payload = message.payload.unwrap();
    assert_eq!(checked.tx_id, tx_id(&encode_canonical(&payload)));
    assert_eq!(checked.wid, wid(&bytes));
    assert_eq!(checked.sender(), [7; 32]);
    assert_eq!(checked.sender_address, address(&[7; 32]));
    assert_eq!(checked.endorsements.len(), 2);
    assert_eq!(checked.kind, PayloadKind::Invoke);
}

fn refusal(change: impl FnOnce(&mut Transaction)) -> FormatError {
    let mut message = transaction();
    change(&mut message);
    decode_transaction(&encode_canonical(&message)).unwrap_err()
}

fn refused_field(change: impl FnOnce(&mut Payload)) -> &'static str {
    match refusal(|message| change(message.payload.as_mut().unwrap())) {
        FormatError::Field { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn every_payload_rule_names_its_field() {
    assert_eq!(refused_field(|p| p.salt.truncate(15)), "payload.salt");
    assert_eq!(refused_field(|p| p.payer.push(1)), "payload.payer");
    assert_eq!(refused_field(|p| p.sender.push(1)), "payload.sender");
    assert_eq!(refused_field(|p| p.kind = 0), "payload.kind");
    assert_eq!(refused_field(|p| p.kind = 99), "payload.kind");
    assert_eq!(refused_field(|p| p.chain_id.clear()), "payload.chain_id");
    assert_eq!(refused_field(|p| p.method.clear()), "payload.method");
    assert_eq!(refused_field(|p| p.contract.clear()), "payload.contract");
    assert_eq!(
        refused_field(|p| p.contract = "c".repeat(129)),
        "payload.contract"
    );
    assert_eq!(
        refused_field(|p| p.expiry_height = 0),
        "payload.expiry_height"
    );
}

#[test]
fn signatures_and_endorsements_have_a_shape() {
    let field = |error| match error {
        FormatError::Field { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(refusal(|m| m.payload = None)), "payload");
    assert_eq!(field(refusal(|m| m.signature.truncate(63))), "signature");
    assert_eq!(field(refusal(|m| m.endorsements.reverse())), "endorsements");
    let repeated = |m: &mut Transaction| m.endorsements[1] = m.endorsements[0].clone();
    assert_eq!(field(refusal(repeated)), "endorsements");
    let many = |m: &mut Transaction| {
        m.endorsements = (0..65)
            .map(|i| Endorsement {
                endorser: vec![i; 32],
                signature: vec![0; 64],
            })
            .collect();
    };
    assert_eq!(field(refusal(many)), "endorsements");
}

#[test]
fn only_the_canonical_encoding_decodes() {
    let bytes = encode_canonical(&transaction());
    assert!(decode_canonical::<Transaction>(&bytes).is_ok());
    // An unknown field, a repeated scalar, a default written out, and a truncated message.
    for tail in [&[0x78, 1][..], &[0x12, 1, 5], &[0x22, 0]] {
        let odd = [bytes.as_slice(), tail].concat();
        assert!(decode_transaction(&odd).is_err(), "{tail:?}");
    }
    assert!(matches!(
        decode_canonical::<Payload>(&[0x48, 0x00]),
        Err(FormatError::NotCanonical)
    ));
    assert!(matches!(
        decode_transaction(&bytes[..bytes.len() - 1]),
        Err(FormatError::Undecodable(_))
    ));
    assert!(matches!(
        decode_transaction_within(&bytes, bytes.len() - 1),
        Err(FormatError::TooLarge { .. })
    ));
}

/// RFC 6962, section 2.1, as written: split at the largest power of two below n.
fn root_by_definition(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => sha256(&[&[0], leaf]),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            sha256(&[&[1], &root_by_definition(left), &root_by_definition(right)])
        }
    }
}

#[test]
fn merkle_roots_are_those_of_rfc_6962_and_every_path_leads_there() {
    for count in 0..40_usize {
        let leaves: Vec<Vec<u8>> = (0..count).map(|i| vec![i as u8; i % 5]).collect();
        let root = merkle_root(&leaves);
        assert_eq!(root, root_by_definition(&leaves));
        assert!(merkle_path(&leaves, count).is_none());
        for index in 0..count {
            let path = merkle_path(&leaves, index).unwrap();
            let (leaf, at, of) = (&leaves[index], index as u64, count as u64);
            assert!(verify_merkle_path(&root, leaf, at, of, &path));
            assert!(!verify_merkle_path(&root, b"other", at, of, &path));
            assert!(!verify_merkle_path(&root, leaf, of, of, &path));
            let longer = [path.as_slice(), &[[0; 32]]].concat();
            assert!(!verify_merkle_path(&root, leaf, at, of, &longer));
            if !path.is_empty() {
                assert!(!verify_merkle_path(&root, leaf, at, of, &path[1..]));
                assert!(!verify_merkle_path(&root, leaf, at ^ 1, of, &path));
            }
        }
    }
}

#[test]
fn a_merkle_root_comes_from_the_roots_of_its_runs() {
    for count in 1..70_usize {
        let leaves: Vec<Vec<u8>> = (0..count).map(|i| vec![i as u8; i % 5]).collect();
        for width in [1, 2, 4, 8, 16, 32, 64, 128] {
            let runs = leaves.chunks(width).map(merkle_root).collect();
            assert_eq!(merkle_root_of_runs(runs), Some(merkle_root(&leaves)));
        }
    }
    assert_eq!(merkle_root_of_runs(Vec::new()), None);
}

#[test]
fn a_batch_is_split_where_it_decodes_and_refused_as_it_is_refused() {
    let batches: [&[usize]; 5] = [&[], &[0], &[1, 0, 127], &[128, 5], &[20_000, 3]];
    for sizes in batches {
        let transactions = sizes.iter().map(|size| vec![*size as u8; *size]).collect();
        let batch = TransactionBatch { transactions };
        let bytes = encode_canonical(&batch);
        assert!(split_batch(&bytes).unwrap().iter().eq(&batch.transactions));
        // Every beginning, every byte changed a little, and something behind.
        let mut others: Vec<Vec<u8>> = (0..bytes.len().min(300))
            .map(|end| bytes[..end].to_vec())
            .collect();
        for at in 0..bytes.len().min(300) {
            for changed in [1, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= changed;
                others.push(other);
            }
        }
        // A field of another number, a length with a byte too many.
        others.extend([
            [&bytes[..], &[0x12, 0]].concat(),
            [&bytes[..], &[0x0a, 0x80, 0]].concat(),
        ]);
        for other in others {
            let split =
                split_batch(&other).map(|found| found.iter().map(|one| one.to_vec()).collect());
            let decoded = decode_canonical::<TransactionBatch>(&other);
            assert_eq!(split, decoded.map(|batch| batch.transactions));
        }
    }
}
