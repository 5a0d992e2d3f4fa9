//! Relinearisation with RNS digits and one special prime.
//!
//! Digits are the residues themselves (Bajard et al., SAC 2016), the key hides P s^2 in the digit's
//! own limb (hybrid key switching, Gentry, Halevi, Smart, CRYPTO 2012), and the division by P
//! subtracts the multiple of t that is congruent modulo P, so that it is exact for BGV.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::error::{refuse, HeResult};
use crate::kernels::Division;
use crate::kernels::{add_products, special_correction, special_quotient, subtract_scale};
use crate::params::{Profile, Ring};
use crate::poly::parse_ciphertext;

// Words of a relinearisation key: per digit (b, a) over data limbs and special prime.
fn check_key<'a>(ring: &Ring, bytes: &'a [u8]) -> HeResult<Cow<'a, [u64]>> {
    ring.parse(
        "relinearisation key",
        bytes,
        2 * ring.limbs,
        ring.all_limbs(),
    )
}

// Digit `j` in NTT form modulo the prime of `limb`: coefficients below q_j are below four times any
// other prime of the ring, which the transform takes.
fn digit_in_limb(profile: &Profile, digit: &[u64], limb: usize) -> Vec<u64> {
    let table = &profile.ring.tables[limb];
    let mut out = digit.to_vec();
    table.forward(&mut out);
    out
}

// (acc - c) / P with c = acc modulo P and 0 modulo t, in place on the data limbs.
fn divide_by_special(profile: &Profile, rows: &mut [Vec<u64>], mut special: Vec<u64>) {
    let ring = profile.ring;
    ring.tables[ring.limbs].inverse(&mut special);
    let division = Division {
        special: ring.special,
        plain: profile.plain.modulus,
        inverse: profile.special_inverse_plain,
    };
    // c = delta + P k with k = -delta / P modulo t, both centred.
    let mut quotient = vec![0; ring.degree];
    special_quotient(&mut quotient, &special, &division);
    let mut correction = vec![0; ring.degree];
    for (limb, target) in rows.iter_mut().enumerate() {
        let table = &ring.tables[limb];
        let q = &table.modulus;
        special_correction(&mut correction, &special, &quotient, &division, q);
        table.forward(&mut correction);
        subtract_scale(target, &correction, ring.special_inverse[limb].value, q);
    }
}

/// Turns a ciphertext of three to five polynomials into one of two with the same slots.
///
/// From the top down, c_d s^d = (c_d s^2) s^(d-2): one key for s^2 serves every degree, and the
/// switching noise times s^(d-2) stays far below the noise of the product itself (ADR 10).
pub fn relinearise(
    profile: &Profile,
    limbs: usize,
    ciphertext: &[u8],
    key: &[u8],
) -> HeResult<Vec<u64>> {
    let (words, polynomials) = parse_ciphertext(profile, ciphertext, limbs)?;
    if polynomials < 3 {
        return refuse("relinearisation takes a ciphertext of three to five polynomials");
    }
    let ring = profile.ring;
    let key = check_key(ring, key)?;
    let mut out = words.into_owned();
    for top in (2..polynomials).rev() {
        let switched = switch(profile, limbs, &out[top * limbs * ring.degree..], &key);
        out.truncate(top * limbs * ring.degree);
        for (index, rows) in switched.iter().enumerate() {
            for (limb, values) in rows.iter().enumerate() {
                let first = ((top - 2 + index) * limbs + limb) * ring.degree;
                ring.add_row(&mut out[first..first + ring.degree], values, limb);
            }
        }
    }
    Ok(out)
}

// (b, a) with b + a s = x s^2, one row per limb each.
fn switch(profile: &Profile, limbs: usize, x: &[u64], key: &[u64]) -> [Vec<Vec<u64>>; 2] {
    let ring = profile.ring;
    let digits: Vec<Vec<u64>> = (0..limbs)
        .map(|j| {
            let mut digit = ring.row(x, 0, limbs, j).to_vec();
            ring.tables[j].inverse(&mut digit);
            digit
        })
        .collect();
    let (b, a) = (0..limbs)
        .map(|limb| <(_, _)>::from(multiply_digits(profile, &digits, x, key, limb)))
        .unzip();
    let mut sums: [Vec<Vec<u64>>; 2] = [b, a];
    let specials = multiply_digits(profile, &digits, x, key, ring.limbs);
    for (rows, special) in sums.iter_mut().zip(specials) {
        divide_by_special(profile, rows, special);
    }
    sums
}

// Sum over digits of digit x key modulo the prime of `limb`, reduced once.
fn multiply_digits(
    profile: &Profile,
    digits: &[Vec<u64>],
    words: &[u64],
    key: &[u64],
    limb: usize,
) -> [Vec<u64>; 2] {
    let ring = profile.ring;
    let limbs = digits.len();
    let lifted: Vec<Cow<'_, [u64]>> = digits
        .iter()
        .enumerate()
        .map(|(j, digit)| match limb == j {
            true => Cow::Borrowed(ring.row(words, 0, limbs, j)),
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
                    ring.row(
                        &key[j * 2 * ring.full_words()..],
                        part,
                        ring.all_limbs(),
                        limb,
                    ),
                )
            })
            .collect();
        let mut out = vec![0; ring.degree];
        add_products(&mut out, &pairs, ring.modulus(limb));
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
        let factor = q.factor(q.reduce(profile.ring.special));
        Zeroizing::new(values.iter().map(|x| q.mul_factor(*x, &factor)).collect())
    })
}
