//! `ring` against RustCrypto's `p256`, and our SM2 sums against its `sm2`: every input gets one
//! verdict from both.

use std::num::NonZeroUsize;

use chain_crypto::{samples, verify_many, Sample, Signed, Suite, SM2_IDENTITY};
use der::asn1::UintRef;
use der::{Decode, Reader, SliceReader};
use p256::ecdsa::signature::Verifier;
use p256::elliptic_curve::ops::Reduce;
use p256::elliptic_curve::point::AffineCoordinates;
use p256::elliptic_curve::scalar::IsHigh;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::elliptic_curve::PrimeField;
use p256::{FieldBytes, ProjectivePoint, Scalar};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SAMPLES: u32 = 8;

fn ours(suite: Suite, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let item = Signed {
        public_key: key,
        message,
        signature,
    };
    verify_many(suite, &[item], NonZeroUsize::MIN) == [true]
}

/// The rule of docs/spec/signatures.md by the other library.
fn theirs(suite: Suite, key: &[u8], message: &[u8], signature: &[u8]) -> Option<bool> {
    if key.len() != 33 || !matches!(key[0], 2 | 3) {
        return None;
    }
    let mut both = [0; 64];
    for (half, integer) in both.chunks_exact_mut(32).zip(halves(signature)?) {
        let start = 32_usize.checked_sub(integer.len())?;
        half[start..].copy_from_slice(&integer);
    }
    if suite == Suite::Sm2 {
        let key = sm2::dsa::VerifyingKey::from_sec1_bytes(SM2_IDENTITY, key).ok()?;
        let signature = sm2::dsa::Signature::from_slice(&both).ok()?;
        return Some(sm2::dsa::signature::Verifier::verify(&key, message, &signature).is_ok());
    }
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
    let signature = p256::ecdsa::Signature::from_slice(&both).ok()?;
    let low = !bool::from(signature.s().is_high());
    Some(low && key.verify(message, &signature).is_ok())
}

/// Both integers of a strict DER sequence.
fn halves(signature: &[u8]) -> Option<[Vec<u8>; 2]> {
    let mut reader = SliceReader::new(signature).ok()?;
    let both = reader
        .sequence(|inner| -> der::Result<_> {
            Ok([UintRef::decode(inner)?, UintRef::decode(inner)?])
        })
        .ok()?;
    let both = both.map(|integer| integer.as_bytes().to_vec());
    reader.is_finished().then_some(both)
}

fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |digits: &[u8]| {
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        let digits = &digits[zeros.min(digits.len().saturating_sub(1))..];
        let sign = digits.first().is_none_or(|digit| digit & 0x80 != 0);
        let zero = if sign { &[0][..] } else { &[] };
        let size = u8::try_from(digits.len() + zero.len()).unwrap();
        [&[2, size], zero, digits].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

/// A valid signature with the `s` asked for: the key is chosen to fit.
fn with_s(s: Scalar, message: &[u8]) -> Sample {
    let k = Scalar::from(0x1234_5678_u64);
    let x = (ProjectivePoint::GENERATOR * k).to_affine().x();
    let r = <Scalar as Reduce<FieldBytes>>::reduce(&x);
    let digest: [u8; 32] = Sha256::digest(message).into();
    let e = <Scalar as Reduce<FieldBytes>>::reduce(&digest.into());
    let secret = (s * k - e) * r.invert().unwrap();
    let point = (ProjectivePoint::GENERATOR * secret).to_affine();
    Sample {
        public_key: point.to_sec1_point(true).as_bytes().to_vec(),
        message: message.to_vec(),
        signature: der(&r.to_repr(), &s.to_repr()),
    }
}

#[derive(Clone, Debug)]
enum Change {
    None,
    KeyBit(usize),
    KeyTag(u8),
    KeyX([u8; 32]),
    KeyLength(usize),
    MessageBit(usize),
    SignatureBit(usize),
    SignatureLength(usize),
    HighS,
    R(Vec<u8>),
    S(Vec<u8>),
    Swapped,
}

fn change() -> impl Strategy<Value = Change> {
    let order = (-Scalar::ONE).to_repr().to_vec();
    let mut beyond = order.clone();
    beyond[31] += 1;
    let number = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![0]),
        Just(vec![1]),
        Just(order),
        Just(beyond),
        Just(vec![0xff; 32]),
    ];
    prop_oneof![
        Just(Change::None),
        any::<usize>().prop_map(Change::KeyBit),
        any::<u8>().prop_map(Change::KeyTag),
        (4_u8..6).prop_map(Change::KeyTag),
        any::<[u8; 32]>().prop_map(Change::KeyX),
        (0_usize..70).prop_map(Change::KeyLength),
        any::<usize>().prop_map(Change::MessageBit),
        any::<usize>().prop_map(Change::SignatureBit),
        (0_usize..90).prop_map(Change::SignatureLength),
        Just(Change::HighS),
        number.clone().prop_map(Change::R),
        number.prop_map(Change::S),
        Just(Change::Swapped),
    ]
}

fn flip(bytes: &mut [u8], bit: usize) {
    let bit = bit % (8 * bytes.len());
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn changed(mut sample: Sample, change: &Change) -> Sample {
    let [r, s] = halves(&sample.signature).unwrap();
    match change {
        Change::None => {}
        Change::KeyBit(bit) => flip(&mut sample.public_key, *bit),
        Change::KeyTag(tag) => sample.public_key[0] = *tag,
        Change::KeyX(x) => sample.public_key[1..].copy_from_slice(x),
        Change::KeyLength(length) => sample.public_key.resize(*length, 0),
        Change::MessageBit(bit) => flip(&mut sample.message, *bit),
        Change::SignatureBit(bit) => flip(&mut sample.signature, *bit),
        Change::SignatureLength(length) => sample.signature.resize(*length, 0),
        Change::HighS => {
            let mut padded = [0; 32];
            padded[32 - s.len()..].copy_from_slice(&s);
            let low = Scalar::from_repr(padded.into()).unwrap();
            sample.signature = der(&r, &(-low).to_repr());
        }
        Change::R(r) => sample.signature = der(r, &s),
        Change::S(s) => sample.signature = der(&r, s),
        Change::Swapped => sample.signature = der(&s, &r),
    }
    sample
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn both_libraries_give_one_verdict(
        sm2 in any::<bool>(), number in 0..SAMPLES as usize, change in change()
    ) {
        let suite = if sm2 { Suite::Sm2 } else { Suite::P256 };
        let Sample { public_key, message, signature } =
            changed(samples(suite, SAMPLES, 40).swap_remove(number), &change);
        let expected = theirs(suite, &public_key, &message, &signature).unwrap_or(false);
        prop_assert_eq!(ours(suite, &public_key, &message, &signature), expected);
        if matches!(change, Change::None) {
            prop_assert!(expected);
        }
    }
}

/// The first checks of a key are without its multiples, the later ones with them.
#[test]
fn an_sm2_key_gives_the_same_verdicts_whenever_it_is_met() {
    for Sample {
        public_key,
        message,
        signature,
    } in samples(Suite::Sm2, 40, 33).split_off(SAMPLES as usize)
    {
        for _ in 0..6 {
            assert!(ours(Suite::Sm2, &public_key, &message, &signature));
            assert!(!ours(Suite::Sm2, &public_key, b"another", &signature));
        }
    }
}

#[test]
fn the_largest_low_s_is_valid_and_the_next_is_not() {
    let half = Scalar::ONE.double().invert().unwrap();
    // 1/2 is (n + 1) / 2.
    for (s, valid) in [
        (half - Scalar::ONE, true),
        (half, false),
        (Scalar::ONE, true),
    ] {
        let sample = with_s(s, b"boundary");
        let Sample {
            public_key,
            message,
            signature,
        } = &sample;
        assert_eq!(ours(Suite::P256, public_key, message, signature), valid);
        assert_eq!(
            theirs(Suite::P256, public_key, message, signature),
            Some(valid)
        );
    }
}

#[test]
fn a_compact_point_is_no_second_encoding_of_a_key() {
    for suite in [Suite::P256, Suite::Sm2] {
        for mut sample in samples(suite, SAMPLES, 40) {
            sample.public_key[0] = 5;
            let item = Signed {
                public_key: &sample.public_key,
                message: &sample.message,
                signature: &sample.signature,
            };
            assert_eq!(verify_many(suite, &[item], NonZeroUsize::MIN), [false]);
        }
    }
}
