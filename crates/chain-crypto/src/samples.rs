//! Signatures to measure and to test with. The keys are public knowledge.

use p256::ecdsa::signature::Signer;
use sha2::{Digest, Sha256};

use crate::suites::SM2_IDENTITY;
use crate::Suite;

/// A key, a message and its signature in the suite's encoding.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The public key.
    pub public_key: Vec<u8>,
    /// What was signed.
    pub message: Vec<u8>,
    /// A valid signature.
    pub signature: Vec<u8>,
}

/// Valid signatures by `count` different keys, the same for the same arguments.
///
/// None for Ed25519: this crate never signs with it.
pub fn samples(suite: Suite, count: u32, message_size_bytes: usize) -> Vec<Sample> {
    (0..count)
        .filter_map(|number| {
            let seed: [u8; 32] = Sha256::new()
                .chain_update(b"chainnode/sample-signature/v1")
                .chain_update(number.to_be_bytes())
                .finalize()
                .into();
            let message = seed.iter().copied().cycle().take(message_size_bytes);
            sign(suite, &seed, message.collect())
        })
        .collect()
}

fn sign(suite: Suite, seed: &[u8; 32], message: Vec<u8>) -> Option<Sample> {
    let (public_key, both) = match suite {
        Suite::Ed25519 => return None,
        Suite::P256 => {
            let key = p256::ecdsa::SigningKey::from_slice(seed).ok()?;
            let signature: p256::ecdsa::Signature = key.sign(&message);
            let point = key.verifying_key().to_sec1_point(true);
            let both = signature.normalize_s().to_bytes().to_vec();
            (point.as_bytes().to_vec(), both)
        }
        Suite::Sm2 => {
            let secret = sm2::SecretKey::from_slice(seed).ok()?;
            let key = sm2::dsa::SigningKey::new(SM2_IDENTITY, &secret).ok()?;
            let signature: sm2::dsa::Signature = sm2::dsa::signature::Signer::sign(&key, &message);
            let point =
                sm2::elliptic_curve::sec1::ToSec1Point::to_sec1_point(&secret.public_key(), true);
            (point.as_bytes().to_vec(), signature.to_bytes().to_vec())
        }
    };
    Some(Sample {
        public_key,
        message,
        signature: der_of(&both),
    })
}

/// The DER sequence of two 32-byte integers.
fn der_of(both: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for half in both.chunks_exact(32) {
        let digits = &half[half.iter().take_while(|byte| **byte == 0).count()..];
        let sign = usize::from(digits.first().is_none_or(|byte| byte & 0x80 != 0));
        body.extend([0x02, u8::try_from(digits.len() + sign).unwrap_or(0)]);
        body.extend(std::iter::repeat_n(0, sign));
        body.extend(digits);
    }
    [&[0x30, u8::try_from(body.len()).unwrap_or(0)], &body[..]].concat()
}
