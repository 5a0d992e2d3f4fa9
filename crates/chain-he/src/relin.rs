//! Relinearisation with RNS digits and one special prime.
//!
//! Digits are the residues themselves (Bajard et al., SAC 2016), the key hides P s^2 in the digit's
//! own limb (hybrid key switching, Gentry, Halevi, Smart, CRYPTO 2012), and the division by P
//! subtracts the multiple of t that is congruent modulo P, so that it is exact for BGV.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::error::{refuse, HeResult};
use crate::kernels::add_products;
use crate::modulus::Modulus;
use crate::params::{Profile, ALL_LIMBS, DEGREE, LIMBS, SPECIAL, SPECIAL_INDEX};
use crate::poly::{add_row, check_residues, parse_ciphertext, row, view, FULL_WORDS};

/// Words of a relinearisation key: per digit (b, a) over data limbs and special prime.
pub const KEY_WORDS: usize = LIMBS * 2 * FULL_WORDS;

fn check_key(bytes: &[u8]) -> HeResult<Cow<'_, [u64]>> {
    if bytes.len() != KEY_WORDS * 8 {
        return refuse(format!(
            "relinearisation key is {} bytes, expected {}",
            bytes.len(),
            KEY_WORDS * 8
        ));
    }
    let words = view(bytes);
    check_residues("relinearisation key", &words, ALL_LIMBS)?;
    Ok(words)
}

// Digit `j` (coefficients below q_j) in NTT form modulo the prime of `limb`.
fn digit_in_limb(profile: &Profile, digit: &[u64], limb: usize) -> Vec<u64> {
    let table = &profile.ring.tables[limb];
    let mut out: Vec<u64> = digit.iter().map(|x| table.modulus.reduce(*x)).collect();
    table.forward(&mut out);
    out
}

// (acc - c) / P with c = acc modulo P and 0 modulo t, in place on the data limbs.
fn divide_by_special(profile: &Profile, rows: &mut [Vec<u64>], mut special: Vec<u64>) {
    let ring = profile.ring;
    ring.tables[SPECIAL_INDEX].inverse(&mut special);
    let t = &profile.plain.modulus;
    let half_t = t.value / 2;
    // c = delta + P k with k = -delta / P modulo t, both centred.
    let pairs: Vec<(i64, i64)> = special
        .iter()
        .map(|d| {
            let delta = if *d > SPECIAL / 2 {
                *d as i64 - SPECIAL as i64
            } else {
                *d as i64
            };
            let k = t.negate(t.mul(t.from_signed(delta), profile.special_inverse_plain));
            (
                delta,
                if k > half_t {
                    k as i64 - t.value as i64
                } else {
                    k as i64
                },
            )
        })
        .collect();
    for (limb, target) in rows.iter_mut().enumerate() {
        let table = &ring.tables[limb];
        let q = &table.modulus;
        let special = q.factor(q.reduce(SPECIAL));
        let mut correction: Vec<u64> = pairs
            .iter()
            .map(|(delta, k)| correction(q, *delta, *k, &special))
            .collect();
        table.forward(&mut correction);
        for (x, c) in target.iter_mut().zip(&correction) {
            *x = q.mul_factor(q.sub(*x, *c), &ring.special_inverse[limb]);
        }
    }
}

fn correction(q: &Modulus, delta: i64, k: i64, special: &crate::modulus::Factor) -> u64 {
    q.add(
        q.from_signed(delta),
        q.mul_factor(q.from_signed(k), special),
    )
}

/// Turns a three-polynomial ciphertext into one of two with the same slots.
pub fn relinearise(
    profile: &Profile,
    limbs: usize,
    ciphertext: &[u8],
    key: &[u8],
) -> HeResult<Vec<u64>> {
    let (words, polynomials) = parse_ciphertext(profile, ciphertext, limbs)?;
    if polynomials != 3 {
        return refuse("relinearisation takes a ciphertext of three polynomials");
    }
    let key = check_key(key)?;
    let digits: Vec<Vec<u64>> = (0..limbs)
        .map(|j| {
            let mut digit = row(&words, 2, limbs, j).to_vec();
            profile.ring.tables[j].inverse(&mut digit);
            digit
        })
        .collect();
    let mut sums = [vec![Vec::new(); limbs], vec![Vec::new(); limbs]];
    let mut specials = [Vec::new(), Vec::new()];
    for limb in (0..limbs).chain([SPECIAL_INDEX]) {
        let [b, a] = multiply_digits(profile, &digits, &words, &key, limb);
        if limb == SPECIAL_INDEX {
            specials = [b, a];
        } else {
            sums[0][limb] = b;
            sums[1][limb] = a;
        }
    }
    let mut out = words[..2 * limbs * DEGREE].to_vec();
    for (index, (mut rows, special)) in sums.into_iter().zip(specials).enumerate() {
        divide_by_special(profile, &mut rows, special);
        for (limb, values) in rows.iter().enumerate() {
            add_row(
                &mut out[(index * limbs + limb) * DEGREE..][..DEGREE],
                values,
                limb,
            );
        }
    }
    Ok(out)
}

// Sum over digits of digit x key modulo the prime of `limb`, reduced once.
fn multiply_digits(
    profile: &Profile,
    digits: &[Vec<u64>],
    words: &[u64],
    key: &[u64],
    limb: usize,
) -> [Vec<u64>; 2] {
    let limbs = digits.len();
    let lifted: Vec<Cow<'_, [u64]>> = digits
        .iter()
        .enumerate()
        .map(|(j, digit)| match limb == j {
            true => Cow::Borrowed(row(words, 2, limbs, j)),
            false => Cow::Owned(digit_in_limb(profile, digit, limb)),
        })
        .collect();
    [0, 1].map(|part| {
        let pairs: Vec<(&[u64], &[u64])> = lifted
            .iter()
            .enumerate()
            .map(|(j, values)| {
                (
                    &**values,
                    row(&key[j * 2 * FULL_WORDS..], part, ALL_LIMBS, limb),
                )
            })
            .collect();
        let mut out = vec![0; DEGREE];
        add_products(&mut out, &pairs, profile.ring.modulus(limb));
        out
    })
}

/// s w_j: the secret times P in the digit's own limb, zero elsewhere.
pub(crate) fn scaled_secret(
    profile: &Profile,
    values: &[u64],
    digit: usize,
    limb: usize,
) -> Option<Zeroizing<Vec<u64>>> {
    (digit == limb).then(|| {
        let q = profile.ring.modulus(limb);
        let factor = q.factor(q.reduce(SPECIAL));
        Zeroizing::new(values.iter().map(|x| q.mul_factor(*x, &factor)).collect())
    })
}
