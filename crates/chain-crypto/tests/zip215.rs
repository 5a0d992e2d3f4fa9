//! The ZIP-215 rule against its vectors and against ed25519-zebra, alone and in batches.

use chain_crypto::{is_torsion_free, verify_ed25519, verify_ed25519_batch, Signed};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use ed25519_zebra::{Signature, SigningKey, VerificationKey};
use sha2::{Digest, Sha512};

struct Case {
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
    valid: bool,
}

impl Case {
    fn signed(&self) -> Signed<'_> {
        Signed {
            public_key: &self.key,
            message: &self.message,
            signature: &self.signature,
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn vectors() -> Vec<Case> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/zip215.json"
    );
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let message = unhex(file["message"].as_str().unwrap());
    file["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| Case {
            key: unhex(item["public_key"].as_str().unwrap()),
            message: message.clone(),
            signature: unhex(item["signature"].as_str().unwrap()),
            valid: item["valid"].as_bool().unwrap(),
        })
        .collect()
}

fn seed(number: u32) -> [u8; 32] {
    Sha512::digest(number.to_be_bytes())[..32]
        .try_into()
        .unwrap()
}

/// Honest signatures, some then damaged; `number` also picks the kind of damage.
fn signatures(count: u32, damage_every: u32) -> Vec<Case> {
    (0..count)
        .map(|number| {
            let signing = SigningKey::from(seed(number % 50));
            let message = number.to_be_bytes().to_vec();
            let mut case = Case {
                key: <[u8; 32]>::from(signing.verification_key()).to_vec(),
                signature: signing.sign(&message).to_bytes().to_vec(),
                message,
                valid: true,
            };
            if damage_every > 0 && number % damage_every == 0 {
                case.valid = false;
                match number / damage_every % 6 {
                    0 => case.message.push(0),
                    1 => case.signature[40] ^= 1,
                    2 => case.signature[3] ^= 1,
                    3 => case.key[9] ^= 1,
                    4 => case.signature.truncate(63),
                    _ => case.key.push(0),
                }
            }
            case
        })
        .collect()
}

/// A signature by a key and R with a small-order part: valid only in the cofactored equation.
fn with_torsion(number: u32) -> Case {
    let scalar = |label: &[u8]| {
        let digest = Sha512::new()
            .chain_update(label)
            .chain_update(number.to_be_bytes());
        Scalar::from_bytes_mod_order_wide(&digest.finalize().into())
    };
    let (a, r) = (scalar(b"a"), scalar(b"r"));
    let key = ED25519_BASEPOINT_POINT * a + EIGHT_TORSION[number as usize % 8];
    let nonce = ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[number as usize / 8 % 8];
    let (key, nonce) = (key.compress().0, nonce.compress().0);
    let message = number.to_be_bytes().to_vec();
    let digest = Sha512::new()
        .chain_update(nonce)
        .chain_update(key)
        .chain_update(&message);
    let k = Scalar::from_bytes_mod_order_wide(&digest.finalize().into());
    let signature = [nonce, (r + k * a).to_bytes()].concat();
    Case {
        key: key.to_vec(),
        message,
        signature,
        valid: true,
    }
}

fn oracle(case: &Case) -> bool {
    let Ok(signature) = <[u8; 64]>::try_from(case.signature.as_slice()) else {
        return false;
    };
    <[u8; 32]>::try_from(case.key.as_slice())
        .ok()
        .and_then(|key| VerificationKey::try_from(key).ok())
        .is_some_and(|key| {
            key.verify(&Signature::from(signature), &case.message)
                .is_ok()
        })
}

fn assert_all_agree(cases: &[Case]) {
    let expected: Vec<bool> = cases.iter().map(|case| case.valid).collect();
    let alone: Vec<bool> = cases
        .iter()
        .map(|case| verify_ed25519(&case.key, &case.message, &case.signature))
        .collect();
    let items: Vec<Signed<'_>> = cases.iter().map(Case::signed).collect();
    assert_eq!(alone, expected, "alone");
    assert_eq!(verify_ed25519_batch(&items), expected, "in a batch");
    assert_eq!(
        cases.iter().map(oracle).collect::<Vec<_>>(),
        expected,
        "ed25519-zebra"
    );
}

#[test]
fn the_published_vectors_hold_alone_and_in_batches() {
    let cases = vectors();
    assert_eq!(cases.iter().filter(|case| case.valid).count(), 196);
    assert_all_agree(&cases);
    let valid: Vec<Case> = cases.into_iter().filter(|case| case.valid).collect();
    assert_all_agree(&valid);
}

#[test]
fn honest_and_damaged_signatures_get_the_same_verdict_in_any_batch_size() {
    for (count, damage_every) in [
        (1, 0),
        (3, 1),
        (5, 5),
        (40, 7),
        (300, 0),
        (300, 299),
        (700, 3),
    ] {
        assert_all_agree(&signatures(count, damage_every));
    }
    assert!(verify_ed25519_batch(&[]).is_empty());
}

#[test]
fn a_small_order_part_changes_no_verdict_between_alone_and_batch() {
    let cases: Vec<Case> = (0..64).map(with_torsion).collect();
    assert_all_agree(&cases);
    let mut mixed: Vec<Case> = (0..64).map(with_torsion).collect();
    mixed.extend(signatures(64, 5));
    mixed.extend(vectors());
    assert_all_agree(&mixed);
}

#[test]
fn enrolment_refuses_small_order_mixed_and_odd_encodings() {
    for number in 0..20 {
        let key = <[u8; 32]>::from(SigningKey::from(seed(number)).verification_key());
        assert!(is_torsion_free(&key));
    }
    for case in vectors() {
        assert!(!is_torsion_free(&case.key));
    }
    assert!(is_torsion_free(&with_torsion(0).key));
    for number in 1..8 {
        assert!(
            !is_torsion_free(&with_torsion(number).key),
            "torsion {number}"
        );
    }
    assert!(!is_torsion_free(&[1; 31]));
}
