//! Arithmetic modulo a prime below 2^44, constant time in its operands.
//!
//! Barrett reduction (Barrett, CRYPTO '86) for products, Shoup's trick for fixed operands
//! (Harvey, "Faster arithmetic for number-theoretic transforms", 2014).

/// A prime with the constants its reductions need.
#[derive(Clone, Copy, Debug)]
pub struct Modulus {
    /// The prime.
    pub value: u64,
    bits: u32,
    product_ratio: u64,
    word_ratio: u64,
    two_to_64: u64,
    /// 2^52 as a fixed factor, to fold the high half of a sum of 52-bit products.
    pub(crate) two_to_52: Factor,
    /// floor(2^52 / q).
    pub(crate) one_quotient_52: u64,
}

/// A fixed factor with its 64-bit Shoup quotient.
#[derive(Clone, Copy, Debug, Default)]
pub struct Factor {
    /// The factor, canonical.
    pub value: u64,
    /// floor(value * 2^64 / q).
    pub quotient: u64,
}

/// `x - q` when `x >= q`, without a branch.
#[inline(always)]
pub fn subtract_once(x: u64, q: u64) -> u64 {
    let reduced = x.wrapping_sub(q);
    reduced.wrapping_add(q & ((reduced as i64 >> 63) as u64))
}

const fn factor(value: u64, q: u64) -> Factor {
    Factor {
        value,
        quotient: (((value as u128) << 64) / q as u128) as u64,
    }
}

impl Modulus {
    /// Constants for a prime `value` below 2^44.
    pub const fn new(value: u64) -> Self {
        let bits = 64 - value.leading_zeros();
        Self {
            value,
            bits,
            product_ratio: ((1u128 << (2 * bits + 4)) / value as u128) as u64,
            word_ratio: ((1u128 << 64) / value as u128) as u64,
            two_to_64: ((1u128 << 64) % value as u128) as u64,
            two_to_52: factor((1 << 52) % value, value),
            one_quotient_52: (1 << 52) / value,
        }
    }

    /// q^-1 modulo 2^52, by Newton's iteration: each step doubles the right bits.
    #[inline]
    pub(crate) fn inverse_of_word(&self) -> u64 {
        let q = self.value;
        let inverse = (0..5).fold(q, |x, _| {
            x.wrapping_mul(2u64.wrapping_sub(q.wrapping_mul(x)))
        });
        inverse & ((1 << 52) - 1)
    }

    /// Bit length of the prime.
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// Sum of two canonical residues.
    #[inline(always)]
    pub fn add(&self, a: u64, b: u64) -> u64 {
        subtract_once(a + b, self.value)
    }

    /// Difference of two canonical residues.
    #[inline(always)]
    pub fn sub(&self, a: u64, b: u64) -> u64 {
        subtract_once(a + self.value - b, self.value)
    }

    /// Negative of a canonical residue.
    #[inline(always)]
    pub fn negate(&self, a: u64) -> u64 {
        self.sub(0, a)
    }

    /// Product of two canonical residues.
    #[inline(always)]
    pub fn mul(&self, a: u64, b: u64) -> u64 {
        let x = a as u128 * b as u128;
        let top = (x >> (self.bits - 2)) as u64;
        let estimate = ((top as u128 * self.product_ratio as u128) >> (self.bits + 6)) as u64;
        let rest = (x as u64).wrapping_sub(estimate.wrapping_mul(self.value));
        subtract_once(subtract_once(rest, self.value), self.value)
    }

    /// Any 64-bit word reduced.
    #[inline(always)]
    pub fn reduce(&self, x: u64) -> u64 {
        let estimate = ((x as u128 * self.word_ratio as u128) >> 64) as u64;
        subtract_once(
            x.wrapping_sub(estimate.wrapping_mul(self.value)),
            self.value,
        )
    }

    /// Any 128-bit word reduced.
    #[inline(always)]
    pub fn reduce_wide(&self, x: u128) -> u64 {
        let high = self.mul(self.reduce((x >> 64) as u64), self.two_to_64);
        self.add(high, self.reduce(x as u64))
    }

    /// A signed value of magnitude below the prime.
    #[inline(always)]
    pub fn from_small_signed(&self, x: i64) -> u64 {
        (x as u64).wrapping_add(self.value & ((x >> 63) as u64))
    }

    /// Any signed value.
    pub fn from_signed(&self, x: i64) -> u64 {
        let magnitude = self.reduce(x.unsigned_abs());
        if x < 0 {
            self.negate(magnitude)
        } else {
            magnitude
        }
    }

    /// `base` to the power `exponent` (public operands).
    pub fn power(&self, base: u64, mut exponent: u64) -> u64 {
        let mut result = 1;
        let mut square = base;
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = self.mul(result, square);
            }
            square = self.mul(square, square);
            exponent >>= 1;
        }
        result
    }

    /// Inverse by Fermat's little theorem.
    pub fn inverse(&self, a: u64) -> u64 {
        self.power(self.reduce(a), self.value - 2)
    }

    /// A canonical residue prepared as a fixed factor.
    pub fn factor(&self, value: u64) -> Factor {
        factor(value, self.value)
    }

    /// `a * factor` in [0, 2q) for any 64-bit `a`.
    #[inline(always)]
    pub fn mul_lazy(&self, a: u64, factor: &Factor) -> u64 {
        let estimate = ((a as u128 * factor.quotient as u128) >> 64) as u64;
        a.wrapping_mul(factor.value)
            .wrapping_sub(estimate.wrapping_mul(self.value))
    }

    /// `a * factor`, canonical, for any 64-bit `a`.
    #[inline(always)]
    pub fn mul_factor(&self, a: u64, factor: &Factor) -> u64 {
        subtract_once(self.mul_lazy(a, factor), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{MODULI, MODULI_M, PLAIN_M, PLAIN_S, PLAIN_S36, SPECIAL};

    #[test]
    fn reductions_agree_with_wide_division() {
        let mut word = 0x9e37_79b9_7f4a_7c15u64;
        let others = [SPECIAL, PLAIN_S, PLAIN_S36, PLAIN_M];
        for q in MODULI.into_iter().chain(MODULI_M).chain(others) {
            let modulus = Modulus::new(q);
            let mut edge = vec![0, 1, q - 1, q / 2];
            for _ in 0..2000 {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                edge.push(word % q);
            }
            for pair in edge.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                let wide = (a as u128) << 70 | (b as u128) << 31 | 0x1234;
                assert_eq!(
                    modulus.mul(a, b),
                    (a as u128 * b as u128 % q as u128) as u64
                );
                assert_eq!(modulus.reduce_wide(wide), (wide % q as u128) as u64);
                assert_eq!(modulus.reduce(wide as u64), wide as u64 % q);
                let factor = modulus.factor(b);
                let product = wide as u64 as u128 * b as u128 % q as u128;
                assert_eq!(modulus.mul_factor(wide as u64, &factor), product as u64);
            }
            assert_eq!(modulus.mul(q - 1, q - 1), 1);
            assert_eq!(
                modulus.reduce_wide(u128::MAX),
                (u128::MAX % q as u128) as u64
            );
        }
    }
}
