//! From residues to one centred integer: Garner's mixed-radix algorithm.

use zeroize::Zeroizing;

use crate::params::{ring, LIMBS, MODULI};

/// Mixed-radix digits of an integer modulo the first limbs; digit i is below q_i.
pub type Digits = [u64; LIMBS];

/// Digits of the integer with these residues.
pub fn digits(residues: &[u64]) -> Digits {
    let ring = ring();
    let mut out = [0; LIMBS];
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
pub fn negative(digits: &Digits, limbs: usize) -> u64 {
    let mut greater = 0u64;
    for (digit, prime) in digits.iter().zip(MODULI).take(limbs) {
        let half = prime / 2;
        let above = half.wrapping_sub(*digit) >> 63;
        let below = digit.wrapping_sub(half) >> 63;
        greater = above | (greater & (1 - below));
    }
    greater
}

/// The centred integer modulo a plain modulus.
pub struct PlainReducer {
    plain: crate::modulus::Modulus,
    products: [u64; LIMBS],
    whole: u64,
    limbs: usize,
}

impl PlainReducer {
    /// Constants for the first `limbs` primes.
    pub fn new(plain: crate::modulus::Modulus, limbs: usize) -> Self {
        let mut products = [0; LIMBS];
        let mut whole = 1;
        for i in 0..limbs {
            products[i] = whole;
            whole = plain.mul(whole, plain.reduce(MODULI[i]));
        }
        Self {
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
        for (digit, product) in digits.iter().zip(self.products).take(self.limbs) {
            sum = t.add(sum, t.mul(t.reduce(*digit), product));
        }
        t.sub(
            sum,
            self.whole & negative(digits, self.limbs).wrapping_neg(),
        )
    }
}

/// Bit length of the magnitude of the centred integer.
pub fn magnitude_bits(digits: &Digits, limbs: usize) -> u32 {
    let mut value = Zeroizing::new(*digits);
    if negative(digits, limbs) == 1 {
        // Q - x: complement every digit, then add one.
        for i in 0..limbs {
            value[i] = MODULI[i] - 1 - value[i];
        }
        for i in 0..limbs {
            value[i] += 1;
            if value[i] < MODULI[i] {
                break;
            }
            value[i] = 0;
        }
    }
    let mut wide = [0u64; 4];
    for i in (0..limbs).rev() {
        let mut carry = value[i] as u128;
        for word in &mut wide {
            carry += *word as u128 * MODULI[i] as u128;
            *word = carry as u64;
            carry >>= 64;
        }
    }
    (0..4)
        .rev()
        .find(|i| wide[*i] != 0)
        .map_or(0, |i| 64 * i as u32 + 64 - wide[i].leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modulus::Modulus;
    use crate::params::PLAIN_S36;

    #[test]
    fn centred_integers_come_back() {
        let t = Modulus::new(PLAIN_S36);
        for limbs in 1..=LIMBS {
            let reducer = PlainReducer::new(t, limbs);
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
                    .map(|i| ring().modulus(i).from_signed(value))
                    .collect();
                let digits = digits(&residues);
                assert_eq!(negative(&digits, limbs), u64::from(value < 0));
                assert_eq!(reducer.reduce(&digits), t.from_signed(value));
                let bits = 64 - value.unsigned_abs().leading_zeros();
                assert_eq!(magnitude_bits(&digits, limbs), bits);
            }
        }
    }
}
