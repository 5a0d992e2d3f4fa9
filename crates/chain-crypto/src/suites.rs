//! The other signature suites: ECDSA P-256 with SHA-256, and SM2 with SM3 (GB/T 32918.2).
//!
//! One encoding of everything, or two nodes could hold one transaction for two: keys are compressed
//! points (33 bytes), signatures strict DER, and of the two ECDSA signatures (r, s) and (r, n - s)
//! only the low one is valid. SM2 has no such twin. The SM2 identity is the standard's default.

use std::num::NonZeroUsize;
use std::sync::Arc;

use der::asn1::UintRef;
use der::{Decode, Reader, SliceReader};
use p256::elliptic_curve::sec1::ToSec1Point;
use ring::signature::{UnparsedPublicKey, ECDSA_P256_SHA256_FIXED};

use crate::batch::verify_ed25519_batch;
use crate::cache::{Cache, KEYS_MAX};
use crate::sm2_key::Sm2Key;
use crate::{count_checked, share, Signed};

/// Identity hashed into every SM2 signature where the protocol names none (GM/T 0009).
pub const SM2_IDENTITY: &str = "1234567812345678";
/// Below this a thread costs more than its share of the work.
const SIGNATURES_PER_THREAD_MIN: usize = 16;
/// Smaller batches lose to their size what another thread gains.
const ED25519_PER_THREAD_MIN: usize = 64;
/// Longest DER of two 32-byte integers.
const DER_SIZE_MAX_BYTES: usize = 72;

/// SM2 keys kept, each with 19 KiB of multiples once it is met again: 80 MiB.
const SM2_KEYS_MAX: NonZeroUsize = NonZeroUsize::new(1 << 12).unwrap();
/// (n - 1) / 2 of P-256, big-endian: the largest s that is valid.
const P256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// A P-256 key as `ring` takes it: tag 4 and both coordinates.
type Uncompressed = [u8; 65];

static P256_KEYS: Cache<33, Uncompressed> = Cache::new(KEYS_MAX);
static SM2_KEYS: Cache<33, Arc<Sm2Key>> = Cache::new(SM2_KEYS_MAX);

/// How the members of a chain sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Ed25519 by the ZIP-215 rule, in batches.
    Ed25519,
    /// ECDSA P-256 with SHA-256.
    P256,
    /// SM2 with SM3.
    Sm2,
}

impl Suite {
    /// The suite a name stands for: `ed25519`, `p256` or `sm2`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ed25519" => Some(Self::Ed25519),
            "p256" => Some(Self::P256),
            "sm2" => Some(Self::Sm2),
            _ => None,
        }
    }
}

/// The verdict on each signature, decided by up to `threads` threads, the caller's included.
///
/// The verdicts are the same for every number of threads.
pub fn verify_many(suite: Suite, items: &[Signed<'_>], threads: NonZeroUsize) -> Vec<bool> {
    let part_min = match suite {
        Suite::Ed25519 => ED25519_PER_THREAD_MIN,
        Suite::P256 | Suite::Sm2 => SIGNATURES_PER_THREAD_MIN,
    };
    share(items, part_min, threads, |part| verify_part(suite, part))
}

fn verify_part(suite: Suite, items: &[Signed<'_>]) -> Vec<bool> {
    match suite {
        Suite::Ed25519 => verify_ed25519_batch(items),
        Suite::P256 => with_keys(&P256_KEYS, items, parse_p256, p256_holds),
        Suite::Sm2 => with_keys(&SM2_KEYS, items, parse_sm2, sm2_holds),
    }
}

fn with_keys<K: Clone>(
    cache: &Cache<33, K>,
    items: &[Signed<'_>],
    parse: fn(&[u8; 33]) -> Option<K>,
    holds: fn(&K, &Signed<'_>) -> Option<bool>,
) -> Vec<bool> {
    count_checked(items.len());
    // An encoding of another length becomes one that no key has.
    let encodings: Vec<[u8; 33]> = items
        .iter()
        .map(|item| item.public_key.try_into().unwrap_or([0; 33]))
        .collect();
    let keys = cache.keys(&encodings, parse);
    items
        .iter()
        .zip(&keys)
        .map(|(item, key)| {
            let verdict = key.as_ref().and_then(|key| holds(key, item));
            verdict.unwrap_or(false)
        })
        .collect()
}

fn parse_p256(bytes: &[u8; 33]) -> Option<Uncompressed> {
    let key = p256::PublicKey::from_sec1_bytes(compressed(bytes)?).ok()?;
    key.to_sec1_point(false).as_bytes().try_into().ok()
}

/// The bytes if they begin as a compressed point does: SEC 1 knows another form of 33 bytes.
fn compressed(bytes: &[u8; 33]) -> Option<&[u8; 33]> {
    matches!(bytes[0], 2 | 3).then_some(bytes)
}

fn parse_sm2(bytes: &[u8; 33]) -> Option<Arc<Sm2Key>> {
    Sm2Key::parse(compressed(bytes)?).map(Arc::new)
}

fn p256_holds(key: &Uncompressed, item: &Signed<'_>) -> Option<bool> {
    let both = integers(item.signature)?;
    if both[32..] > P256_HALF_ORDER[..] {
        return None;
    }
    // Refuses r and s of 0 or from the order on.
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
    Some(key.verify(item.message, &both).is_ok())
}

fn sm2_holds(key: &Arc<Sm2Key>, item: &Signed<'_>) -> Option<bool> {
    let signature = sm2::dsa::Signature::from_slice(&integers(item.signature)?).ok()?;
    Some(key.holds(item.message, &signature))
}

/// r and s of a strict DER sequence of two integers, 32 bytes each.
fn integers(signature: &[u8]) -> Option<[u8; 64]> {
    if signature.len() > DER_SIZE_MAX_BYTES {
        return None;
    }
    let mut reader = SliceReader::new(signature).ok()?;
    let (r, s) = reader
        .sequence(|inner| -> der::Result<_> {
            Ok((UintRef::decode(inner)?, UintRef::decode(inner)?))
        })
        .ok()?;
    if !reader.is_finished() {
        return None;
    }
    let mut both = [0; 64];
    for (half, integer) in both.chunks_exact_mut(32).zip([r, s]) {
        let bytes = integer.as_bytes();
        let start = 32_usize.checked_sub(bytes.len())?;
        half[start..].copy_from_slice(bytes);
    }
    Some(both)
}
