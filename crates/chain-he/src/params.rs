//! Named 128-bit parameter profiles and the tables that follow from them.
//!
//! The Homomorphic Encryption Standard (2018) allows log2 QP of 218 at N = 8192 and of 438 at
//! N = 16384 for ternary secrets at 128 bits. S and S36 use 212 (42, 42, 42, 43 and a special prime
//! of 43 bits), M uses 344 (seven primes of 43 bits and a special one).

use std::sync::OnceLock;

use crate::error::{refuse, HeResult};
use crate::modulus::{Factor, Modulus};
use crate::ntt::{reverse_bits, NttTable};

/// Ring degree N of profiles S and S36; also their number of slots.
pub const DEGREE: usize = 8192;
/// Ring degree of profile M.
pub const DEGREE_M: usize = 16_384;
/// Data primes, 1 modulo 2N, in the order Microsoft SEAL creates and drops them.
pub const MODULI: [u64; 4] = [
    0x3ff_fff0_c001,
    0x3ff_fff3_c001,
    0x3ff_fffa_8001,
    0x7ff_fffc_8001,
];
/// The special prime of key switching.
pub const SPECIAL: u64 = 0x7ff_fffd_8001;
/// Data primes of profile M.
pub const MODULI_M: [u64; 7] = [
    0x7ff_ffcf_8001,
    0x7ff_ffd2_0001,
    0x7ff_ffd3_8001,
    0x7ff_ffdb_0001,
    0x7ff_fff6_8001,
    0x7ff_fffa_8001,
    0x7ff_fffc_8001,
];
/// Data limbs of the largest profile.
pub const LIMBS_MAX: usize = MODULI_M.len();
/// Plain modulus of profile S.
pub const PLAIN_S: u64 = 65_537;
/// Plain modulus of profile S36, the largest 36-bit prime that is 1 modulo 2N.
pub const PLAIN_S36: u64 = 68_719_230_977;
/// Plain modulus of profile M, the largest 36-bit prime that is 1 modulo 2N there.
pub const PLAIN_M: u64 = 68_718_428_161;
/// Polynomials of the deepest product a kernel leaves before relinearisation.
pub const POLYNOMIALS_MAX: usize = 5;

/// Tables of one ciphertext ring, shared by the profiles over it.
pub struct Ring {
    /// N.
    pub degree: usize,
    /// Number of data limbs.
    pub limbs: usize,
    /// The special prime of key switching.
    pub special: u64,
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
    /// "S", "S36" or "M".
    pub name: &'static str,
    /// The ciphertext ring.
    pub ring: &'static Ring,
    /// Transform modulo the plain modulus.
    pub plain: NttTable,
    /// `slot_index[i]` = place of slot i in bit-reversed transform order (SEAL's batching).
    pub slot_index: Vec<u32>,
    /// P^-1 modulo t, for the exact division by the special prime.
    pub special_inverse_plain: u64,
    /// Noise of a product of 1, 2, ... factors, one entry for each product the profile can release.
    ///
    /// Measured: bits of the largest coefficient for uniform slots, one key and one block.
    pub noise_bits: &'static [u32],
}

impl Ring {
    fn new(degree: usize, moduli: &[u64], special: u64) -> Self {
        let primes: Vec<u64> = moduli.iter().copied().chain([special]).collect();
        let tables: Vec<NttTable> = primes.iter().map(|&q| NttTable::new(q, degree)).collect();
        let inverse = |i: usize, value: u64| {
            let modulus = &tables[i].modulus;
            modulus.factor(modulus.inverse(value))
        };
        let limbs = moduli.len();
        let garner = (0..limbs)
            .map(|i| (0..i).map(|j| inverse(i, moduli[j])).collect())
            .collect();
        let special_inverse = (0..limbs).map(|i| inverse(i, special)).collect();
        let degree_inverse = (0..limbs).map(|i| inverse(i, degree as u64)).collect();
        Self {
            degree,
            limbs,
            special,
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

    /// Data limbs and the special prime.
    pub fn all_limbs(&self) -> usize {
        self.limbs + 1
    }

    /// Words of one full-basis polynomial (data limbs and the special prime).
    pub fn full_words(&self) -> usize {
        self.all_limbs() * self.degree
    }
}

/// The ring of profiles S and S36.
pub fn ring() -> &'static Ring {
    static RING: OnceLock<Ring> = OnceLock::new();
    RING.get_or_init(|| Ring::new(DEGREE, &MODULI, SPECIAL))
}

/// The ring of profile M.
pub fn ring_m() -> &'static Ring {
    static RING: OnceLock<Ring> = OnceLock::new();
    RING.get_or_init(|| Ring::new(DEGREE_M, &MODULI_M, SPECIAL))
}

impl Profile {
    fn new(
        name: &'static str,
        ring: &'static Ring,
        plain_modulus: u64,
        noise_bits: &'static [u32],
    ) -> Self {
        let plain = NttTable::new(plain_modulus, ring.degree);
        let special = plain.modulus.reduce(ring.special);
        let special_inverse_plain = plain.modulus.inverse(special);
        Self {
            name,
            ring,
            plain,
            slot_index: slot_index(ring.degree),
            special_inverse_plain,
            noise_bits,
        }
    }

    /// The plain modulus t.
    pub fn t(&self) -> u64 {
        self.plain.modulus.value
    }

    /// Factors a product may have.
    pub fn factors_max(&self) -> usize {
        self.noise_bits.len()
    }

    /// Bits of the product of the first `limbs` primes.
    pub fn modulus_bits(&self, limbs: usize) -> u32 {
        (0..limbs).map(|i| self.ring.modulus(i).bits()).sum()
    }

    /// Refuses a limb count the profile does not have.
    pub fn check_limbs(&self, limbs: usize) -> HeResult<()> {
        let most = self.ring.limbs;
        if limbs == 0 || limbs > most {
            return refuse(format!("limbs must be 1 to {most}, got {limbs}"));
        }
        Ok(())
    }
}

// SEAL's BatchEncoder: the slots are two rows, each an orbit of the Galois element 3.
fn slot_index(degree: usize) -> Vec<u32> {
    let bits = degree.trailing_zeros();
    let mask = 2 * degree - 1;
    let mut index = vec![0u32; degree];
    let mut position = 1usize;
    for i in 0..degree / 2 {
        index[i] = reverse_bits((position - 1) >> 1, bits) as u32;
        index[degree / 2 + i] = reverse_bits((2 * degree - position - 1) >> 1, bits) as u32;
        position = (position * 3) & mask;
    }
    index
}

/// The profile of a name; refuses unknown names.
pub fn profile(name: &str) -> HeResult<&'static Profile> {
    static S: OnceLock<Profile> = OnceLock::new();
    static S36: OnceLock<Profile> = OnceLock::new();
    static M: OnceLock<Profile> = OnceLock::new();
    match name {
        "S" => Ok(S.get_or_init(|| Profile::new("S", ring(), PLAIN_S, &[28, 59, 91]))),
        "S36" => Ok(S36.get_or_init(|| Profile::new("S36", ring(), PLAIN_S36, &[48, 99]))),
        "M" => Ok(M.get_or_init(|| Profile::new("M", ring_m(), PLAIN_M, &[49, 101, 153, 206]))),
        _ => refuse(format!(
            "unknown profile {name:?}: use \"S\", \"S36\" or \"M\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Table 1 of the Homomorphic Encryption Standard (2018), ternary secret, 128-bit classical.
    const STANDARD_BITS: [(usize, u32); 2] = [(8192, 218), (16_384, 438)];

    fn is_prime(n: u64) -> bool {
        (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
    }

    fn check(ring: &Ring, plain: &[u64], expected_bits: &[u32]) {
        let primes: Vec<u64> = ring.tables.iter().map(|t| t.modulus.value).collect();
        let bits: Vec<u32> = primes.iter().map(|q| 64 - q.leading_zeros()).collect();
        assert_eq!(bits, expected_bits);
        let (_, allowed) = STANDARD_BITS[usize::from(ring.degree != DEGREE)];
        assert!(bits.iter().sum::<u32>() <= allowed);
        for q in primes.iter().chain(plain) {
            assert!(is_prime(*q), "{q}");
            assert_eq!(q % (2 * ring.degree as u64), 1);
        }
    }

    #[test]
    fn parameter_tables_are_within_the_standard() {
        assert_eq!(STANDARD_BITS.map(|(n, _)| n), [DEGREE, DEGREE_M]);
        check(ring(), &[PLAIN_S, PLAIN_S36], &[42, 42, 42, 43, 43]);
        check(ring_m(), &[PLAIN_M], &[43; 8]);
        assert_eq!(64 - PLAIN_S36.leading_zeros(), 36);
        assert_eq!(64 - PLAIN_M.leading_zeros(), 36);
    }

    #[test]
    fn names_are_the_only_way_in() {
        assert_eq!(profile("S").unwrap().t(), PLAIN_S);
        assert_eq!(profile("S36").unwrap().t(), PLAIN_S36);
        assert_eq!(profile("M").unwrap().t(), PLAIN_M);
        assert!(profile("XL").is_err());
        assert!(profile("M").unwrap().check_limbs(8).is_err());
        assert!(profile("S").unwrap().check_limbs(0).is_err());
        assert!(profile("S").unwrap().check_limbs(5).is_err());
    }
}
