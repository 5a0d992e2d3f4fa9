//! Many signatures at once: one random linear combination of their equations.
//!
//! Bernstein, Duif, Lange, Schwabe, Yang, "High-speed high-security signatures", section 5, in the
//! cofactored form of ZIP-215: with random 128-bit `z_i` the sum
//! `[8](-[sum z_i s_i]B + sum [z_i]R_i + sum [z_i k_i]A_i)` is the identity for valid signatures,
//! and for a set with an invalid one only with probability 2^-128. A sum that fails is split.

use std::collections::HashMap;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};

use crate::count_checked;
use crate::ed25519::{points, Equation};

/// Below this a linear combination costs more than the signatures one by one.
const COMBINE_MIN: usize = 4;
/// Signatures of one combination: larger sums gain nothing measurable and lose more when they fail.
const COMBINE_MAX: usize = 256;
/// Signatures of one part of a combination that failed. Two steps, not a bisection to the end: a
/// sender of bad signatures can then at most double the cost of checking one by one.
const COMBINE_AFTER_FAILURE: usize = 32;

/// One signature to check.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Ed25519 public key, 32 bytes; any other length is a refusal.
    pub public_key: &'a [u8],
    /// What was signed.
    pub message: &'a [u8],
    /// R and S, 64 bytes; any other length is a refusal.
    pub signature: &'a [u8],
}

/// The verdict of `verify_ed25519` for each item, decided in batches.
pub fn verify_ed25519_batch(items: &[Signed<'_>]) -> Vec<bool> {
    count_checked(items.len());
    let mut verdicts = vec![false; items.len()];
    let sized: Vec<(usize, [u8; 32])> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| Some((index, item.public_key.try_into().ok()?)))
        .collect();
    let keys: Vec<[u8; 32]> = sized.iter().map(|(_, key)| *key).collect();
    let mut pending: Vec<(usize, Equation)> = Vec::with_capacity(sized.len());
    for ((index, key), point) in sized.into_iter().zip(points(&keys)) {
        let equation = point.and_then(|a| Equation::new(&items[index], key, a));
        if let Some(equation) = equation {
            pending.push((index, equation));
        }
    }
    for part in pending.chunks(COMBINE_MAX) {
        if decide(part, &mut verdicts) {
            continue;
        }
        for smaller in part.chunks(COMBINE_AFTER_FAILURE) {
            if smaller.len() == part.len() || !decide(smaller, &mut verdicts) {
                for (index, equation) in smaller {
                    verdicts[*index] = equation.holds();
                }
            }
        }
    }
    verdicts
}

/// Marks the whole part valid if its combination holds; says whether it did.
fn decide(part: &[(usize, Equation)], verdicts: &mut [bool]) -> bool {
    let holds = part.len() >= COMBINE_MIN && combination_holds(part);
    if holds {
        for (index, _) in part {
            verdicts[*index] = true;
        }
    }
    holds
}

/// Whether the random linear combination of all equations is the identity.
fn combination_holds(part: &[(usize, Equation)]) -> bool {
    let mut random = vec![0_u8; 16 * part.len()];
    // Without fresh randomness a crafted set could cancel out: fall back to single checks.
    if getrandom::fill(&mut random).is_err() {
        return part.iter().all(|(_, equation)| equation.holds());
    }
    let mut base = Scalar::ZERO;
    let mut scalars: Vec<Scalar> = Vec::with_capacity(2 * part.len() + 1);
    let mut points: Vec<EdwardsPoint> = Vec::with_capacity(2 * part.len() + 1);
    // Signatures of one key share its term: a block of few senders costs little over half.
    let mut places: HashMap<[u8; 32], usize> = HashMap::with_capacity(part.len());
    for ((_, equation), bytes) in part.iter().zip(random.chunks_exact(16)) {
        let mut wide = [0_u8; 32];
        wide[..16].copy_from_slice(bytes);
        let z = Scalar::from_bytes_mod_order(wide);
        base -= z * equation.s;
        scalars.push(z);
        points.push(equation.r);
        let place = *places.entry(equation.key).or_insert_with(|| {
            scalars.push(Scalar::ZERO);
            points.push(equation.a);
            scalars.len() - 1
        });
        scalars[place] += z * equation.k;
    }
    scalars.push(base);
    points.push(ED25519_BASEPOINT_POINT);
    EdwardsPoint::vartime_multiscalar_mul(&scalars, &points)
        .mul_by_cofactor()
        .is_identity()
}
