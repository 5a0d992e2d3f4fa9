//! Random polynomials: ternary secrets, centred binomial errors, uniform elements, flooding noise.
//!
//! Everything is drawn from ChaCha20 under a 32-byte seed (RFC 8439 block function), public
//! uniform elements from SHAKE128, so that a seed fixes every byte. Error sigma is
//! sqrt(10.5) = 3.24: the difference of two 21-bit weights, the distribution SEAL uses.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use sha3::digest::{ExtendableOutput, Update, XofReader};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{refuse, HeResult};
use crate::kernels::add_products;
use crate::modulus::Modulus;

const BINOMIAL_BITS: u32 = 21;
const BINOMIAL_MASK: u64 = (1 << BINOMIAL_BITS) - 1;
/// The largest magnitude of an error's coefficient.
pub const ERROR_MAX: i64 = BINOMIAL_BITS as i64;
const TRITS_PER_WORD: usize = 8;
/// How many uniform values add up to one flooding value.
const FLOOD_TERMS: usize = 4;
// Sums of `FLOOD_TERMS` digits are operands of the kernels' products: below 2^47.
const DIGIT_BITS: u32 = 44;
// Values of a step of flooding, so that its rows stay in the L1 cache.
const FLOOD_PIECE: usize = 256;
/// Bits by which a flooding value may exceed one of its terms.
pub const FLOOD_TERM_BITS: u32 = FLOOD_TERMS.trailing_zeros();

/// A stream of secret randomness.
pub struct Sampler(ChaCha20Rng);

/// A domain-separated 32-byte seed from fixed-length parts.
pub fn derive_seed(domain: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    Digest::update(&mut hash, domain.as_bytes());
    for part in parts {
        Digest::update(&mut hash, (part.len() as u64).to_be_bytes());
        Digest::update(&mut hash, part);
    }
    Zeroizing::new(hash.finalize().into())
}

/// Fresh bytes of the operating system.
pub fn system_random() -> HeResult<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0u8; 32]);
    match getrandom::fill(seed.as_mut()) {
        Ok(()) => Ok(seed),
        Err(error) => refuse(format!("no system randomness: {error}")),
    }
}

impl Sampler {
    /// A stream under a seed.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(*seed))
    }

    /// A stream under fresh system randomness.
    pub fn fresh() -> HeResult<Self> {
        Ok(Self::new(&*system_random()?))
    }

    fn words(&mut self, count: usize) -> Zeroizing<Vec<u64>> {
        let mut words = Zeroizing::new(vec![0u64; count]);
        self.0.fill_bytes(bytemuck::cast_slice_mut(&mut words[..]));
        for word in words.iter_mut() {
            *word = u64::from_le(*word);
        }
        words
    }

    /// Uniform coefficients of {-1, 0, 1} (bias below 2^-50).
    pub fn ternary(&mut self, degree: usize) -> Zeroizing<Vec<i64>> {
        let words = self.words(degree / TRITS_PER_WORD);
        let mut out = Zeroizing::new(Vec::with_capacity(degree));
        for word in words.iter() {
            let mut fraction = *word;
            for _ in 0..TRITS_PER_WORD {
                let wide = fraction as u128 * 3;
                out.push((wide >> 64) as i64 - 1);
                fraction = wide as u64;
            }
        }
        out
    }

    /// Centred binomial coefficients of variance 10.5.
    pub fn error(&mut self, degree: usize) -> Zeroizing<Vec<i64>> {
        let words = self.words(degree);
        let weight = |x: u64| (x & BINOMIAL_MASK).count_ones() as i64;
        Zeroizing::new(
            words
                .iter()
                .map(|w| weight(*w) - weight(w >> BINOMIAL_BITS))
                .collect(),
        )
    }

    /// Uniform integers of [-2^bits, 2^bits).
    pub fn masks(&mut self, degree: usize, bits: u32) -> Zeroizing<Vec<i64>> {
        let words = self.words(degree);
        let mask = (2u64 << bits) - 1;
        let centred = |x: &u64| (x & mask) as i64 - (1 << bits);
        Zeroizing::new(words.iter().map(centred).collect())
    }

    /// Uniform residues by rejection.
    pub fn uniform(&mut self, degree: usize, modulus: &Modulus) -> Vec<u64> {
        let rng = &mut self.0;
        rejection(degree, modulus, |bytes| rng.fill_bytes(bytes))
    }

    /// `count` flooding values, each the sum of four uniform `bits`-bit integers, centred; given
    /// as residues, one row per modulus, each multiplied by `scale`.
    ///
    /// A smooth bounded bell: decryption cannot fail by a tail, and the divergence of a shift by B
    /// falls with (B / sigma)^2 as for a Gaussian, sigma = 2^(bits + 0.2).
    pub fn flood(
        &mut self,
        count: usize,
        bits: u32,
        scale: u64,
        moduli: &[Modulus],
    ) -> Zeroizing<Vec<u64>> {
        let width = bits.div_ceil(64) as usize;
        let digits = bits.div_ceil(DIGIT_BITS) as usize;
        let constants: Vec<_> = moduli
            .iter()
            .map(|q| FloodRow::new(q, bits, digits, scale))
            .collect();
        let mut words = Zeroizing::new(vec![0u64; FLOOD_PIECE * FLOOD_TERMS * width]);
        let mut sums = Zeroizing::new(vec![[0u64; FLOOD_PIECE]; digits]);
        let mut padded = Zeroizing::new([0u64; FLOOD_PIECE]);
        let mut out = Zeroizing::new(vec![0u64; moduli.len() * count]);
        // Piece by piece, so that what is drawn is used while it is in the L1 cache.
        for first in (0..count).step_by(FLOOD_PIECE) {
            let values = FLOOD_PIECE.min(count - first);
            let drawn = &mut words[..values * FLOOD_TERMS * width];
            self.0.fill_bytes(bytemuck::cast_slice_mut(drawn));
            add_up_digits(drawn, bits, width, &mut sums);
            for (q, (row, constants)) in moduli
                .iter()
                .zip(out.chunks_exact_mut(count).zip(&constants))
            {
                let weights = constants.weights.iter();
                let pairs: Vec<(&[u64], &[u64])> = sums
                    .iter()
                    .zip(weights)
                    .map(|(digits, weight)| (&digits[..], &weight[..]))
                    .collect();
                padded.fill(constants.shift);
                add_products(&mut padded[..], &pairs, q);
                row[first..first + values].copy_from_slice(&padded[..values]);
            }
        }
        out
    }
}

// What makes a residue of the digits of a flooding value.
struct FloodRow {
    // Of each digit, repeated.
    weights: Vec<[u64; FLOOD_PIECE]>,
    // Minus the scaled centre.
    shift: u64,
}

impl FloodRow {
    fn new(q: &Modulus, bits: u32, digits: usize, scale: u64) -> Self {
        // Half of the largest sum, rounded: 2 (2^bits - 1).
        let centre = q.mul(2, q.sub(q.power(2, bits as u64), 1));
        let scale = q.reduce(scale);
        let weight = |digit| q.mul(q.power(2, u64::from(DIGIT_BITS) * digit as u64), scale);
        Self {
            weights: (0..digits)
                .map(|digit| [weight(digit); FLOOD_PIECE])
                .collect(),
            shift: q.negate(q.mul(centre, scale)),
        }
    }
}

// Digits of the sums of `FLOOD_TERMS` terms of `width` little-endian words, lowest first, their
// carries not passed on: below 2^46 each.
fn add_up_digits(words: &[u64], bits: u32, width: usize, sums: &mut [[u64; FLOOD_PIECE]]) {
    for (digit, row) in sums.iter_mut().enumerate() {
        let place = DIGIT_BITS * digit as u32;
        let (word, shift) = ((place / 64) as usize, place % 64);
        let mask = u64::MAX >> (64 - (bits - place).min(DIGIT_BITS));
        // What a digit takes of the word after its first; that word is the first again where the
        // digit ends in it, and then its bits are masked out.
        let next = (word + 1).min(width - 1);
        let ends_before = shift + DIGIT_BITS <= 64 || word + 1 == width;
        let further = if ends_before { 0 } else { mask };
        for (sum, terms) in row.iter_mut().zip(words.chunks_exact(FLOOD_TERMS * width)) {
            let part = |term: &[u64]| {
                let low = u64::from_le(term[word]) >> shift;
                let high = u64::from_le(term[next]) << 1 << (63 - shift);
                (low & mask) | (high & further)
            };
            *sum = terms.chunks_exact(width).map(part).sum();
        }
    }
}

fn rejection(degree: usize, modulus: &Modulus, mut fill: impl FnMut(&mut [u8])) -> Vec<u64> {
    let mask = u64::MAX >> (64 - modulus.bits());
    let mut out = Vec::with_capacity(degree);
    let mut buffer = [0u8; 1344];
    while out.len() < degree {
        fill(&mut buffer);
        for bytes in buffer.chunks_exact(8) {
            let mut word = [0u8; 8];
            word.copy_from_slice(bytes);
            let value = u64::from_le_bytes(word) & mask;
            if value < modulus.value && out.len() < degree {
                out.push(value);
            }
        }
    }
    buffer.zeroize();
    out
}

/// A public uniform polynomial everyone derives alike from a common seed.
pub fn common_uniform(
    degree: usize,
    seed: &[u8],
    label: &str,
    index: [u8; 2],
    modulus: &Modulus,
) -> Vec<u64> {
    let mut shake = sha3::Shake128::default();
    for part in [
        b"chainnode/he-common/v1".as_slice(),
        label.as_bytes(),
        &index,
        seed,
    ] {
        shake.update(&(part.len() as u64).to_be_bytes());
        shake.update(part);
    }
    let mut reader = shake.finalize_xof();
    rejection(degree, modulus, |bytes| reader.read(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{DEGREE, MODULI};

    #[test]
    fn distributions_have_their_moments() {
        let mut sampler = Sampler::new(&[7; 32]);
        let ternary = sampler.ternary(DEGREE);
        for value in -1..=1 {
            let count = ternary.iter().filter(|x| **x == value).count();
            assert!((2500..2960).contains(&count), "{value}: {count}");
        }
        let error = sampler.error(DEGREE);
        let variance = error.iter().map(|x| (x * x) as f64).sum::<f64>() / DEGREE as f64;
        assert!((9.7..11.3).contains(&variance), "{variance}");
        assert!(error.iter().all(|x| x.abs() <= 21));
    }

    #[test]
    fn flooding_is_bounded_centred_and_alike_in_all_limbs() {
        let moduli = [Modulus::new(MODULI[0]), Modulus::new(MODULI[1])];
        let rows = Sampler::new(&[1; 32]).flood(512, 30, 3, &moduli);
        let centred = |x: u64, q: u64| {
            if x > q / 2 {
                x as i64 - q as i64
            } else {
                x as i64
            }
        };
        let mut sum = 0i64;
        for k in 0..512 {
            let value = centred(rows[k], MODULI[0]);
            assert_eq!(value, centred(rows[512 + k], MODULI[1]));
            assert_eq!(value % 3, 0);
            assert!(value.abs() <= 3 << (30 + FLOOD_TERM_BITS - 1));
            sum += value / 3;
        }
        assert!(sum.abs() / 512 < 1 << 28);
        assert!(rows[..512]
            .iter()
            .any(|x| centred(*x, MODULI[0]).abs() > 3 << 29));
    }

    #[test]
    fn flooding_is_the_centred_sum_of_its_terms() {
        // Two pieces and a part of one.
        const COUNT: usize = 2 * FLOOD_PIECE + 88;
        for bits in [30, 44, 45, 64, 65, 88, 89, 100, 127] {
            let q = Modulus::new(MODULI[3]);
            let rows = Sampler::new(&[4; 32]).flood(COUNT, bits, 65_537, &[q]);
            let width = bits.div_ceil(64) as usize;
            let words = Sampler::new(&[4; 32]).words(COUNT * FLOOD_TERMS * width);
            for (row, terms) in rows.iter().zip(words.chunks_exact(FLOOD_TERMS * width)) {
                let mut value = 0;
                for term in terms.chunks_exact(width) {
                    let high = if width == 2 { term[1] as u128 } else { 0 };
                    let whole = (high << 64 | term[0] as u128) & (u128::MAX >> (128 - bits));
                    value = q.add(value, q.reduce_wide(whole));
                }
                let centre = q.reduce_wide(2 * ((1u128 << bits) - 1));
                assert_eq!(*row, q.mul(q.sub(value, centre), 65_537));
            }
        }
    }

    #[test]
    fn wide_flooding_matches_across_limbs_and_repeats() {
        let moduli = [Modulus::new(MODULI[0]), Modulus::new(MODULI[1])];
        let first = Sampler::new(&[2; 32]).flood(4, 131, 65_537, &moduli);
        assert_eq!(
            *first,
            *Sampler::new(&[2; 32]).flood(4, 131, 65_537, &moduli)
        );
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn common_elements_depend_on_every_input() {
        let q = Modulus::new(MODULI[0]);
        let base = common_uniform(DEGREE, b"seed", "pk", [0, 0], &q);
        assert!(base.iter().all(|x| *x < q.value));
        assert_ne!(base, common_uniform(DEGREE, b"seed", "pk", [0, 1], &q));
        assert_ne!(base, common_uniform(DEGREE, b"seed", "rk", [0, 0], &q));
        assert_ne!(base, common_uniform(DEGREE, b"sees", "pk", [0, 0], &q));
    }
}
