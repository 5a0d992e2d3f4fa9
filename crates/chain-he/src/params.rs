//! Named 128-bit parameter profiles and the tables that follow from them.
//!
//! N = 8192, Q of 42, 42, 42, 43 bits and a 43-bit special prime: log2 QP = 212, under the 218
//! bits the Homomorphic Encryption Standard (2018) allows for ternary secrets at 128 bits.

use std::sync::OnceLock;

use crate::error::{refuse, HeResult};
use crate::modulus::{Factor, Modulus};
use crate::ntt::{reverse_bits, NttTable};

/// Ring degree N; also the number of slots.
pub const DEGREE: usize = 8192;
/// Data primes, 1 modulo 2N, in the order Microsoft SEAL creates and drops them.
pub const MODULI: [u64; 4] = [
    0x3ff_fff0_c001,
    0x3ff_fff3_c001,
    0x3ff_fffa_8001,
    0x7ff_fffc_8001,
];
/// The special prime of key switching.
pub const SPECIAL: u64 = 0x7ff_fffd_8001;
/// Number of data limbs.
pub const LIMBS: usize = MODULI.len();
/// Index of the special prime among the ring's tables.
pub const SPECIAL_INDEX: usize = LIMBS;
/// Data limbs and the special prime.
pub const ALL_LIMBS: usize = LIMBS + 1;
/// Plain modulus of profile S.
pub const PLAIN_S: u64 = 65_537;
/// Plain modulus of profile S36, the largest 36-bit prime that is 1 modulo 2N.
pub const PLAIN_S36: u64 = 68_719_230_977;

/// Tables of the ciphertext ring, shared by all profiles.
pub struct Ring {
    /// Transforms modulo each data prime, then the special prime.
    pub tables: Vec<NttTable>,
    /// `garner[i][j]` = q_j^-1 modulo q_i for j < i.
    pub garner: Vec<Vec<Factor>>,
    /// P^-1 modulo each data prime.
    pub special_inverse: Vec<Factor>,
    /// N^-1 modulo each data prime.
    pub degree_inverse: Vec<Factor>,
}

/// A named parameter set.
pub struct Profile {
    /// "S" or "S36".
    pub name: &'static str,
    /// The ciphertext ring.
    pub ring: &'static Ring,
    /// Transform modulo the plain modulus.
    pub plain: NttTable,
    /// `slot_index[i]` = place of slot i in bit-reversed transform order (SEAL's batching).
    pub slot_index: Vec<u32>,
    /// P^-1 modulo t, for the exact division by the special prime.
    pub special_inverse_plain: u64,
}

impl Ring {
    fn new() -> Self {
        let primes: Vec<u64> = MODULI.into_iter().chain([SPECIAL]).collect();
        let tables: Vec<NttTable> = primes.iter().map(|&q| NttTable::new(q, DEGREE)).collect();
        let inverse = |i: usize, value: u64| {
            let modulus = &tables[i].modulus;
            modulus.factor(modulus.inverse(value))
        };
        let garner = (0..LIMBS)
            .map(|i| (0..i).map(|j| inverse(i, MODULI[j])).collect())
            .collect();
        let special_inverse = (0..LIMBS).map(|i| inverse(i, SPECIAL)).collect();
        let degree_inverse = (0..LIMBS).map(|i| inverse(i, DEGREE as u64)).collect();
        Self {
            tables,
            garner,
            special_inverse,
            degree_inverse,
        }
    }

    /// The modulus of limb `i`.
    #[inline]
    pub fn modulus(&self, i: usize) -> &Modulus {
        &self.tables[i].modulus
    }
}

/// The shared ring.
pub fn ring() -> &'static Ring {
    static RING: OnceLock<Ring> = OnceLock::new();
    RING.get_or_init(Ring::new)
}

impl Profile {
    fn new(name: &'static str, plain_modulus: u64) -> Self {
        let plain = NttTable::new(plain_modulus, DEGREE);
        let special = plain.modulus.reduce(SPECIAL);
        let special_inverse_plain = plain.modulus.inverse(special);
        Self {
            name,
            ring: ring(),
            plain,
            slot_index: slot_index(),
            special_inverse_plain,
        }
    }

    /// The plain modulus t.
    pub fn t(&self) -> u64 {
        self.plain.modulus.value
    }

    /// Bits of the product of the first `limbs` primes.
    pub fn modulus_bits(&self, limbs: usize) -> u32 {
        MODULI[..limbs].iter().map(|q| 64 - q.leading_zeros()).sum()
    }

    /// Refuses a limb count outside 1..=4.
    pub fn check_limbs(&self, limbs: usize) -> HeResult<()> {
        if limbs == 0 || limbs > LIMBS {
            return refuse(format!("limbs must be 1 to {LIMBS}, got {limbs}"));
        }
        Ok(())
    }
}

// SEAL's BatchEncoder: the slots are two rows, each an orbit of the Galois element 3.
fn slot_index() -> Vec<u32> {
    let bits = DEGREE.trailing_zeros();
    let mask = 2 * DEGREE - 1;
    let mut index = vec![0u32; DEGREE];
    let mut position = 1usize;
    for i in 0..DEGREE / 2 {
        index[i] = reverse_bits((position - 1) >> 1, bits) as u32;
        index[DEGREE / 2 + i] = reverse_bits((2 * DEGREE - position - 1) >> 1, bits) as u32;
        position = (position * 3) & mask;
    }
    index
}

/// The profile of a name; refuses unknown names.
pub fn profile(name: &str) -> HeResult<&'static Profile> {
    static S: OnceLock<Profile> = OnceLock::new();
    static S36: OnceLock<Profile> = OnceLock::new();
    match name {
        "S" => Ok(S.get_or_init(|| Profile::new("S", PLAIN_S))),
        "S36" => Ok(S36.get_or_init(|| Profile::new("S36", PLAIN_S36))),
        _ => refuse(format!("unknown profile {name:?}: use \"S\" or \"S36\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Table 1 of the Homomorphic Encryption Standard (2018), ternary secret, 128-bit classical.
    const STANDARD_BITS_8192: u32 = 218;

    fn is_prime(n: u64) -> bool {
        (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
    }

    #[test]
    fn parameter_table_is_within_the_standard() {
        let primes: Vec<u64> = MODULI.into_iter().chain([SPECIAL]).collect();
        let bits: Vec<u32> = primes.iter().map(|q| 64 - q.leading_zeros()).collect();
        assert_eq!(bits, [42, 42, 42, 43, 43]);
        assert_eq!(bits.iter().sum::<u32>(), 212);
        assert!(bits.iter().sum::<u32>() <= STANDARD_BITS_8192);
        for q in primes.into_iter().chain([PLAIN_S, PLAIN_S36]) {
            assert!(is_prime(q), "{q}");
            assert_eq!(q % (2 * DEGREE as u64), 1);
        }
        assert_eq!(64 - PLAIN_S36.leading_zeros(), 36);
    }

    #[test]
    fn names_are_the_only_way_in() {
        assert_eq!(profile("S").unwrap().t(), PLAIN_S);
        assert_eq!(profile("S36").unwrap().t(), PLAIN_S36);
        assert!(profile("XL").is_err());
        assert!(profile("S").unwrap().check_limbs(0).is_err());
        assert!(profile("S").unwrap().check_limbs(5).is_err());
    }
}
