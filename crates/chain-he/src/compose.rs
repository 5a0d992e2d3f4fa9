//! From residues to one centred integer: Garner's mixed-radix algorithm.

use zeroize::Zeroizing;

use crate::modulus::{Factor, Modulus};
use crate::params::{Ring, LIMBS_MAX};

/// Mixed-radix digits of an integer modulo the first limbs; digit i is below q_i.
pub type Digits = [u64; LIMBS_MAX];

// 64-bit words of the largest modulus.
const WIDE_WORDS: usize = 5;

/// Digits of the integer with these residues.
pub fn digits(ring: &Ring, residues: &[u64]) -> Digits {
    let mut out = [0; LIMBS_MAX];
    for (i, residue) in residues.iter().enumerate() {
        let q = ring.modulus(i);
        let mut value = *residue;
        for (j, inverse) in ring.garner[i].iter().enumerate() {
            value = q.mul_factor(q.sub(value, out[j]), inverse);
        }
        out[i] = value;
    }
    out
}

/// 1 when the integer exceeds half the modulus, that is when it stands for a negative; else 0.
///
/// The digits of (Q - 1) / 2 are (q_i - 1) / 2.
pub fn negative(ring: &Ring, digits: &Digits, limbs: usize) -> u64 {
    let mut greater = 0u64;
    for (digit, table) in digits.iter().zip(&ring.tables).take(limbs) {
        let half = table.modulus.value / 2;
        let above = half.wrapping_sub(*digit) >> 63;
        let below = digit.wrapping_sub(half) >> 63;
        greater = above | (greater & (1 - below));
    }
    greater
}

/// The centred integer modulo a plain modulus.
pub struct PlainReducer<'a> {
    ring: &'a Ring,
    plain: Modulus,
    products: [Factor; LIMBS_MAX],
    whole: u64,
    limbs: usize,
}

impl<'a> PlainReducer<'a> {
    /// Constants for the first `limbs` primes.
    pub fn new(ring: &'a Ring, plain: Modulus, limbs: usize) -> Self {
        let mut products = [Factor::default(); LIMBS_MAX];
        let mut whole = 1;
        for (i, product) in products.iter_mut().enumerate().take(limbs) {
            *product = plain.factor(whole);
            whole = plain.mul(whole, plain.reduce(ring.modulus(i).value));
        }
        Self {
            ring,
            plain,
            products,
            whole,
            limbs,
        }
    }

    /// Canonical residue modulo t of the centred integer.
    pub fn reduce(&self, digits: &Digits) -> u64 {
        let t = &self.plain;
        let mut sum = 0;
        for (digit, product) in digits.iter().zip(&self.products).take(self.limbs) {
            sum = t.add(sum, t.mul_factor(*digit, product));
        }
        t.sub(
            sum,
            self.whole & negative(self.ring, digits, self.limbs).wrapping_neg(),
        )
    }
}

/// Bit length of the magnitude of the centred integer.
pub fn magnitude_bits(ring: &Ring, digits: &Digits, limbs: usize) -> u32 {
    let mut value = Zeroizing::new(*digits);
    let prime = |i: usize| ring.modulus(i).value;
    // Q - x for a negative: complement every digit, then add one; without a branch on the value.
    let mut carry = negative(ring, digits, limbs);
    let flip = carry.wrapping_neg();
    for (i, digit) in value.iter_mut().enumerate().take(limbs) {
        *digit = (*digit & !flip) | ((prime(i) - 1 - *digit) & flip);
        *digit += carry;
        carry = (prime(i) - 1).wrapping_sub(*digit) >> 63;
        *digit -= prime(i) & carry.wrapping_neg();
    }
    let modulus_bits: u32 = (0..limbs).map(|i| ring.modulus(i).bits()).sum();
    let mut wide = Zeroizing::new([0u64; WIDE_WORDS]);
    let wide = &mut wide[..modulus_bits.div_ceil(64) as usize];
    for i in (0..limbs).rev() {
        let mut carry = value[i] as u128;
        for word in wide.iter_mut() {
            carry += *word as u128 * prime(i) as u128;
            *word = carry as u64;
            carry >>= 64;
        }
    }
    // A word that is never 0 spares the branch that counting its zeros takes on some processors.
    let bits = |(i, word): (usize, &u64)| {
        (64 * i as u32 + 64 - (word | 1).leading_zeros()) & u32::from(*word != 0).wrapping_neg()
    };
    wide.iter().enumerate().map(bits).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{ring_m, PLAIN_S36};

    #[test]
    fn centred_integers_come_back() {
        let t = Modulus::new(PLAIN_S36);
        let ring = ring_m();
        for limbs in 1..=LIMBS_MAX {
            let reducer = PlainReducer::new(ring, t, limbs);
            for value in [
                0i64,
                1,
                -1,
                5_000_000_000,
                -7_777_777_777,
                (1 << 40) + 3,
                -(1 << 40),
            ] {
                let residues: Vec<u64> = (0..limbs)
                    .map(|i| ring.modulus(i).from_signed(value))
                    .collect();
                let digits = digits(ring, &residues);
                assert_eq!(negative(ring, &digits, limbs), u64::from(value < 0));
                assert_eq!(reducer.reduce(&digits), t.from_signed(value));
                let bits = 64 - value.unsigned_abs().leading_zeros();
                assert_eq!(magnitude_bits(ring, &digits, limbs), bits);
            }
        }
    }
}
