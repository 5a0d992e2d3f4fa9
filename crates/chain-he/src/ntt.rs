//! Negacyclic number-theoretic transform in Microsoft SEAL's order.
//!
//! Cooley-Tukey forward and Gentleman-Sande inverse with lazily reduced butterflies (Harvey 2014;
//! Longa and Naehrig, CANS 2016). Output i is the value at psi^(2 bitreverse(i) + 1), psi the
//! smallest primitive 2N-th root of unity.

use crate::kernels;
use crate::modulus::{subtract_once, Factor, Modulus};

/// `x` with its lowest `bits` bits in reverse order.
pub fn reverse_bits(x: usize, bits: u32) -> usize {
    x.reverse_bits() >> (usize::BITS - bits)
}

/// Roots of one prime and degree.
pub struct NttTable {
    /// The prime.
    pub modulus: Modulus,
    /// Powers of psi, bit-reversed.
    pub(crate) roots: Vec<Factor>,
    /// Powers of psi^-1, bit-reversed.
    pub(crate) inverse_roots: Vec<Factor>,
    pub(crate) degree_inverse: Factor,
    pub(crate) vector: kernels::VectorTable,
}

fn smallest_root(modulus: &Modulus, order: u64) -> u64 {
    let exponent = (modulus.value - 1) / order;
    let root = (2..)
        .map(|g| modulus.power(g, exponent))
        .find(|&r| modulus.power(r, order / 2) == modulus.value - 1)
        .unwrap_or(0);
    let square = modulus.mul(root, root);
    let mut current = root;
    let mut best = root;
    for _ in 0..order / 2 {
        best = best.min(current);
        current = modulus.mul(current, square);
    }
    best
}

impl NttTable {
    /// Tables for a prime that is 1 modulo twice the degree.
    pub fn new(prime: u64, degree: usize) -> Self {
        let modulus = Modulus::new(prime);
        let psi = smallest_root(&modulus, 2 * degree as u64);
        let inverse = modulus.inverse(psi);
        let powers = |base: u64| {
            let mut table = vec![Factor::default(); degree];
            let mut power = 1;
            for i in 0..degree {
                table[reverse_bits(i, degree.trailing_zeros())] = modulus.factor(power);
                power = modulus.mul(power, base);
            }
            table
        };
        let (roots, inverse_roots) = (powers(psi), powers(inverse));
        let degree_inverse = modulus.factor(modulus.inverse(degree as u64));
        Self {
            modulus,
            roots,
            inverse_roots,
            degree_inverse,
            vector: kernels::VectorTable::default(),
        }
    }

    /// The powers of psi and of its inverse, bit-reversed: each a value and its Shoup quotient.
    pub fn root_words(&self) -> [Vec<u64>; 2] {
        [&self.roots, &self.inverse_roots].map(|row| {
            let pairs = row.iter().map(|factor| [factor.value, factor.quotient]);
            pairs.flatten().collect()
        })
    }

    /// Coefficients below four times the prime to canonical values.
    pub fn forward(&self, a: &mut [u64]) {
        kernels::forward_ntt(self, a);
    }

    /// Values to coefficients, canonical in and out.
    pub fn inverse(&self, a: &mut [u64]) {
        kernels::inverse_ntt(self, a);
    }

    /// The transform in plain 64-bit arithmetic.
    pub fn forward_portable(&self, a: &mut [u64]) {
        let q = self.modulus.value;
        let twice = 2 * q;
        let mut gap = a.len();
        let mut groups = 1;
        while groups < a.len() {
            gap /= 2;
            for (group, pair) in a.chunks_exact_mut(2 * gap).enumerate() {
                let root = self.roots[groups + group];
                let (low, high) = pair.split_at_mut(gap);
                for (x, y) in low.iter_mut().zip(high) {
                    let u = subtract_once(*x, twice);
                    let v = self.modulus.mul_lazy(*y, &root);
                    *x = u + v;
                    *y = u + twice - v;
                }
            }
            groups *= 2;
        }
        for x in a {
            *x = subtract_once(subtract_once(*x, twice), q);
        }
    }

    /// The inverse transform in plain 64-bit arithmetic.
    pub fn inverse_portable(&self, a: &mut [u64]) {
        let twice = 2 * self.modulus.value;
        let mut gap = 1;
        let mut groups = a.len() / 2;
        while groups >= 1 {
            for (group, pair) in a.chunks_exact_mut(2 * gap).enumerate() {
                let root = self.inverse_roots[groups + group];
                let (low, high) = pair.split_at_mut(gap);
                for (x, y) in low.iter_mut().zip(high) {
                    let (u, v) = (*x, *y);
                    *x = subtract_once(u + v, twice);
                    *y = self.modulus.mul_lazy(u + twice - v, &root);
                }
            }
            gap *= 2;
            groups /= 2;
        }
        for x in a {
            *x = self.modulus.mul_factor(*x, &self.degree_inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::on_each_path;
    use crate::params::{profile, ring, ring_m, MODULI};

    #[test]
    fn values_are_evaluations_at_odd_powers_of_psi() {
        let table = NttTable::new(MODULI[0], 64);
        let q = &table.modulus;
        let psi = table.roots[reverse_bits(1, 6)].value;
        let coefficients: Vec<u64> = (0..64).map(|i| q.power(3, 1000 + i)).collect();
        let mut values = coefficients.clone();
        table.forward_portable(&mut values);
        for (i, value) in values.iter().enumerate() {
            let x = q.power(psi, 2 * reverse_bits(i, 6) as u64 + 1);
            let expected = coefficients
                .iter()
                .rev()
                .fold(0, |sum, c| q.add(q.mul(sum, x), *c));
            assert_eq!(*value, expected);
        }
        table.inverse_portable(&mut values);
        assert_eq!(values, coefficients);
    }

    // Words at which lazy bounds would show, then any.
    fn rows(degree: usize, bound: u64) -> Vec<Vec<u64>> {
        let modulus = Modulus::new(MODULI[0]);
        let mut random: Vec<u64> = (0..degree as u64)
            .map(|i| modulus.power(5, i * i + 7) % bound)
            .collect();
        random[..2].copy_from_slice(&[bound - 1, 0]);
        let alternating = |period: usize| {
            let place = |i: usize| {
                if (i / period).is_multiple_of(2) {
                    bound - 1
                } else {
                    0
                }
            };
            (0..degree).map(place).collect()
        };
        let mut out = vec![random, vec![bound - 1; degree]];
        out.extend([1, 2, 4, degree / 2].map(alternating));
        out
    }

    #[test]
    fn unreduced_digits_of_every_prime_transform_alike() {
        on_each_path(|| {
            for table in ring().tables.iter().chain(&ring_m().tables) {
                let (degree, q) = (table.roots.len(), table.modulus.value);
                for bound in [q, 4 * q] {
                    for mut a in rows(degree, bound) {
                        let mut b: Vec<u64> = a.iter().map(|x| x % q).collect();
                        let mut c = a.clone();
                        table.forward(&mut a);
                        table.forward(&mut b);
                        table.forward_portable(&mut c);
                        assert_eq!(a, b);
                        assert_eq!(a, c);
                    }
                }
            }
        });
    }

    #[test]
    fn every_path_equals_the_portable_one() {
        let tables = || ring().tables.iter().chain(&ring_m().tables);
        let plain = ["S", "S36", "M"].map(|name| &profile(name).unwrap().plain);
        on_each_path(|| {
            for table in tables().chain(plain) {
                for original in rows(table.roots.len(), table.modulus.value) {
                    let (mut a, mut b) = (original.clone(), original.clone());
                    table.forward(&mut a);
                    table.forward_portable(&mut b);
                    assert_eq!(a, b);
                    table.inverse(&mut a);
                    assert_eq!(a, original);
                    let (mut a, mut b) = (original.clone(), original);
                    table.inverse(&mut a);
                    table.inverse_portable(&mut b);
                    assert_eq!(a, b);
                }
            }
        });
    }
}
