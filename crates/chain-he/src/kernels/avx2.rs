//! The kernels with double-precision multiply-add (AVX2 and FMA): four coefficients an instruction.
//!
//! Residues are doubles that hold whole numbers, and every step is exact, so that the bytes are
//! those of integer arithmetic. For whole a and b, h = a b rounded and l = fma(a, b, -h) give
//! a b = h + l without error (Dekker, Numer. Math. 1971). With k = a b / q rounded to a whole
//! number, h - k q is a multiple of the last place of h (or whole) and below 2^53, so that
//! fma(-k, q, h) + l = a b - k q has no error either; van der Hoeven, Lecerf and Quintin (ACM TOMS
//! 2016) reduce like this, FLINT transforms like this. k itself may be off: from b / q to 53 bits,
//! a (b / q) has an error below 2^-52 |a|, so that |a| <= 2^50 and b < q leave a remainder within
//! (1/2 + 1/4) q. No number here is subnormal, so that no step's time depends on secrets.
//!
//! Sums of products keep a b = high 2^51 + low as whole numbers added up in 64-bit lanes: about
//! 1.5 2^103 the last place is 2^51, so that the bits of fma(a, b, 1.5 2^103) count whole high
//! units; what is left, at most 2^50 in magnitude, is counted in the same way about 1.5 2^52
//! (after Emmart, Zheng and Weems, ARITH 2018).

use std::arch::x86_64::{
    __m256d, __m256i, _mm256_add_epi64, _mm256_add_pd, _mm256_and_pd, _mm256_and_si256,
    _mm256_blendv_epi8, _mm256_castpd_si256, _mm256_castsi256_pd, _mm256_cmp_pd,
    _mm256_cmpgt_epi64, _mm256_fmadd_pd, _mm256_fmsub_pd, _mm256_fnmadd_pd, _mm256_loadu_si256,
    _mm256_mul_pd, _mm256_round_pd, _mm256_set1_epi64x, _mm256_set1_pd, _mm256_setzero_pd,
    _mm256_setzero_si256, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_sub_epi64, _mm256_sub_pd,
    _mm256_xor_si256, _CMP_GT_OQ, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT,
};

use super::{Division, TILE};
use crate::modulus::Modulus;

pub(super) const LANES: usize = 4;
pub(super) const VECTORS: usize = TILE / LANES;
/// Products of operands below 2^47 in one sum: high halves stay below 2^51.
pub(super) const PRODUCTS_MAX: usize = 200;

const SPLIT_BITS: i32 = 51;
const SPLIT: f64 = (1u64 << SPLIT_BITS) as f64;
// About these the last place is SPLIT, and 1.
const HIGH: f64 = 3.0 * SPLIT * SPLIT;
const LOW: f64 = 3.0 * SPLIT;
// Makes any sum of low halves positive, and is whole high units.
const LIFT_BITS: i32 = 62;
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

#[target_feature(enable = "avx2")]
pub(super) fn splat(x: f64) -> __m256d {
    _mm256_set1_pd(x)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load(words: &[u64], at: usize) -> __m256i {
    let words = &words[at..at + LANES];
    // SAFETY: the slice above holds the 32 bytes read; unaligned loads are allowed.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store(words: &mut [u64], at: usize, x: __m256i) {
    let words = &mut words[at..at + LANES];
    // SAFETY: the slice above holds the 32 bytes written; unaligned stores are allowed.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), x) }
}

/// A whole number of magnitude at most 2^51 as a double.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn number(x: __m256i) -> __m256d {
    let place = splat(LOW);
    let moved = _mm256_castsi256_pd(_mm256_add_epi64(x, _mm256_castpd_si256(place)));
    _mm256_sub_pd(moved, place)
}

/// A double that holds a whole number of magnitude at most 2^51.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn word(x: __m256d) -> __m256i {
    let place = splat(LOW);
    let moved = _mm256_castpd_si256(_mm256_add_pd(x, place));
    _mm256_sub_epi64(moved, _mm256_castpd_si256(place))
}

/// The residues at `at` as doubles.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn numbers(words: &[u64], at: usize) -> __m256d {
    number(load(words, at))
}

#[target_feature(enable = "avx2")]
#[inline]
fn nearest(x: __m256d) -> __m256d {
    _mm256_round_pd::<NEAREST>(x)
}

/// A fixed factor below q with its quotient by q.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    pub(super) value: __m256d,
    pub(super) quotient: __m256d,
}

/// A sum of products as whole high and low halves, each off by what `reduce` knows.
#[derive(Clone, Copy)]
pub(super) struct Wide {
    low: __m256i,
    high: __m256i,
}

#[derive(Clone, Copy)]
pub(super) struct Constants {
    pub(super) q: __m256d,
    inverse: __m256d,
    high: __m256d,
    both: __m256d,
    split: Factor,
    modulus: f64,
}

impl Constants {
    #[target_feature(enable = "avx2")]
    pub(super) fn new(q: &Modulus) -> Self {
        let modulus = q.value as f64;
        let factor = |value: u64| Factor {
            value: splat(value as f64),
            quotient: splat(value as f64 / modulus),
        };
        Self {
            q: splat(modulus),
            inverse: splat(1.0 / modulus),
            high: splat(HIGH),
            both: splat(HIGH + LOW),
            split: factor(q.reduce(1 << SPLIT_BITS)),
            modulus,
        }
    }

    /// A canonical residue as a fixed factor.
    #[target_feature(enable = "avx2")]
    pub(super) fn factor(&self, value: u64) -> Factor {
        Factor {
            value: splat(value as f64),
            quotient: splat(value as f64 / self.modulus),
        }
    }

    /// a times a fixed factor modulo q, within 3/4 q of 0 for |a| <= 2^50, within q for 2^51.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub(super) fn times(&self, a: __m256d, factor: Factor) -> __m256d {
        let times = nearest(_mm256_mul_pd(a, factor.quotient));
        self.rest(a, factor.value, times)
    }

    /// a b modulo q, within q of 0, for |a b| <= 2^50 q.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub(super) fn product(&self, a: __m256d, b: __m256d) -> __m256d {
        let times = nearest(_mm256_mul_pd(_mm256_mul_pd(a, b), self.inverse));
        self.rest(a, b, times)
    }

    // a b - times q.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn rest(&self, a: __m256d, b: __m256d, times: __m256d) -> __m256d {
        let high = _mm256_mul_pd(a, b);
        let low = _mm256_fmsub_pd(a, b, high);
        _mm256_add_pd(_mm256_fnmadd_pd(times, self.q, high), low)
    }

    /// The residue of least magnitude, give or take 1, of a whole |x| <= 2^60 with |x| <= 2^50 q.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub(super) fn centred(&self, x: __m256d) -> __m256d {
        let times = nearest(_mm256_mul_pd(x, self.inverse));
        _mm256_fnmadd_pd(times, self.q, x)
    }

    /// The residue in [0, q) of |x| <= 2^52.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub(super) fn canonical(&self, x: __m256d) -> __m256d {
        let x = self.centred(x);
        let below = _mm256_cmp_pd::<_CMP_LT_OQ>(x, _mm256_setzero_pd());
        _mm256_add_pd(x, _mm256_and_pd(below, self.q))
    }

    /// Adds a b, |a b| below 2^94.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub(super) fn add_product(&self, sum: &mut Wide, a: __m256d, b: __m256d) {
        let high = _mm256_fmadd_pd(a, b, self.high);
        let low = _mm256_fmadd_pd(a, b, _mm256_sub_pd(self.both, high));
        sum.high = _mm256_add_epi64(sum.high, _mm256_castpd_si256(high));
        sum.low = _mm256_add_epi64(sum.low, _mm256_castpd_si256(low));
    }

    /// The residue of a sum of so many products, at most `PRODUCTS_MAX`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn reduce(&self, sum: Wide, products: usize) -> __m256d {
        let off = |place: f64| (products as i64).wrapping_mul(place.to_bits() as i64);
        let low_off = off(LOW).wrapping_sub(1 << LIFT_BITS);
        let low = _mm256_sub_epi64(sum.low, _mm256_set1_epi64x(low_off));
        let carry = _mm256_srli_epi64::<SPLIT_BITS>(low);
        let rest = _mm256_and_si256(low, _mm256_set1_epi64x((1 << SPLIT_BITS) - 1));
        let high_off = off(HIGH).wrapping_add(1 << (LIFT_BITS - SPLIT_BITS));
        let high = _mm256_sub_epi64(sum.high, _mm256_set1_epi64x(high_off));
        let folded = self.times(number(_mm256_add_epi64(high, carry)), self.split);
        self.canonical(_mm256_add_pd(folded, number(rest)))
    }
}

impl Wide {
    #[target_feature(enable = "avx2")]
    pub(super) fn zero() -> Self {
        Self {
            low: _mm256_setzero_si256(),
            high: _mm256_setzero_si256(),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn add_products(out: &mut [u64], pairs: &[(&[u64], &[u64])], q: &Modulus) {
    let constants = Constants::new(q);
    for at in (0..out.len()).step_by(LANES) {
        let mut sum = Wide::zero();
        for (a, b) in pairs {
            constants.add_product(&mut sum, numbers(a, at), numbers(b, at));
        }
        let total = _mm256_add_pd(constants.reduce(sum, pairs.len()), numbers(out, at));
        store(out, at, word(constants.canonical(total)));
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn read(words: &[u64]) -> u64 {
    let mut sums = [_mm256_setzero_si256(); VECTORS / 2];
    for piece in words.chunks_exact(TILE / 2) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_xor_si256(*sum, load(piece, i * LANES));
        }
    }
    let mut out = [0; TILE / 2];
    for (i, sum) in sums.into_iter().enumerate() {
        store(&mut out, i * LANES, sum);
    }
    out.iter().fold(0, |all, x| all ^ x)
}

// The comparison is signed: both sides are moved by 2^63.
#[target_feature(enable = "avx2")]
pub(super) fn largest(words: &[u64]) -> u64 {
    let moved = _mm256_set1_epi64x(i64::MIN);
    let mut most = [moved; VECTORS / 4];
    let pieces = words.chunks_exact(TILE / 4);
    let rest = pieces.remainder();
    for piece in pieces {
        for (i, most) in most.iter_mut().enumerate() {
            let x = _mm256_xor_si256(load(piece, i * LANES), moved);
            *most = _mm256_blendv_epi8(*most, x, _mm256_cmpgt_epi64(x, *most));
        }
    }
    let mut out = [0; TILE / 4];
    for (i, most) in most.into_iter().enumerate() {
        store(&mut out, i * LANES, _mm256_xor_si256(most, moved));
    }
    out.iter().chain(rest).fold(0, |max, x| max.max(*x))
}

#[target_feature(enable = "avx2")]
pub(super) fn add_row(out: &mut [u64], x: &[u64], q: &Modulus) {
    let q = _mm256_set1_epi64x(q.value as i64);
    for at in (0..out.len()).step_by(LANES) {
        let less = _mm256_sub_epi64(_mm256_add_epi64(load(out, at), load(x, at)), q);
        let below = _mm256_cmpgt_epi64(_mm256_setzero_si256(), less);
        let sum = _mm256_add_epi64(less, _mm256_and_si256(below, q));
        store(out, at, sum);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn scale_row(out: &mut [u64], x: &[u64], weight: u64, q: &Modulus) {
    let constants = Constants::new(q);
    let weight = constants.factor(weight);
    for at in (0..out.len()).step_by(LANES) {
        let product = constants.times(numbers(x, at), weight);
        store(out, at, word(constants.canonical(product)));
    }
}

// The centred representative of a canonical residue.
#[target_feature(enable = "avx2")]
fn centre(x: __m256d, modulus: u64) -> __m256d {
    let above = _mm256_cmp_pd::<_CMP_GT_OQ>(x, splat((modulus / 2) as f64));
    _mm256_sub_pd(x, _mm256_and_pd(above, splat(modulus as f64)))
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn special_quotient(out: &mut [u64], special: &[u64], division: &Division) {
    let t = &division.plain;
    let constants = Constants::new(t);
    let factor = constants.factor(t.negate(division.inverse));
    for at in (0..out.len()).step_by(LANES) {
        let delta = centre(numbers(special, at), division.special);
        let quotient = constants.times(delta, factor);
        store(out, at, word(constants.canonical(quotient)));
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn special_correction(
    out: &mut [u64],
    special: &[u64],
    quotient: &[u64],
    division: &Division,
    q: &Modulus,
) {
    let constants = Constants::new(q);
    let factor = constants.factor(q.reduce(division.special));
    for at in (0..out.len()).step_by(LANES) {
        let delta = centre(numbers(special, at), division.special);
        let k = centre(numbers(quotient, at), division.plain.value);
        let sum = _mm256_add_pd(constants.times(k, factor), delta);
        store(out, at, word(constants.canonical(sum)));
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn subtract_scale(x: &mut [u64], c: &[u64], weight: u64, q: &Modulus) {
    let constants = Constants::new(q);
    let weight = constants.factor(weight);
    for at in (0..x.len()).step_by(LANES) {
        let difference = _mm256_sub_pd(numbers(x, at), numbers(c, at));
        let product = constants.times(difference, weight);
        store(x, at, word(constants.canonical(product)));
    }
}
