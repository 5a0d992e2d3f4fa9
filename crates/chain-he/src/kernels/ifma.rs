//! The kernels with 52-bit multiply-add (AVX-512 IFMA): eight coefficients an instruction.
//!
//! Products add up as low and high 52-bit halves; `reduce` brings hi 2^52 + lo to [0, q).

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpgt_epu64_mask, _mm512_loadu_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_add_epi64, _mm512_max_epu64,
    _mm512_min_epu64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_sub_epi64, _mm512_xor_si512,
};

use super::{Division, TILE};
use crate::modulus::Modulus;

pub(super) const LANES: usize = 8;
pub(super) const MASK: i64 = (1 << 52) - 1;
pub(super) const VECTORS: usize = TILE / LANES;
// Low halves are below 2^52: this many fit 64 bits.
pub(super) const SUMS_BEFORE_REDUCTION: usize = 4000;

#[derive(Clone, Copy)]
pub(super) struct Constants {
    pub(super) q: __m512i,
    twice: __m512i,
    mask: __m512i,
    pub(super) zero: __m512i,
    fold: __m512i,
    fold_quotient: __m512i,
    one_quotient: __m512i,
}

#[derive(Clone, Copy)]
pub(super) struct Wide {
    pub(super) low: __m512i,
    pub(super) high: __m512i,
}

#[target_feature(enable = "avx512f")]
pub(super) fn splat(x: u64) -> __m512i {
    _mm512_set1_epi64(x as i64)
}

#[target_feature(enable = "avx512f")]
pub(super) fn load(words: &[u64], at: usize) -> __m512i {
    let words = &words[at..at + LANES];
    // SAFETY: the slice above holds the 64 bytes read; unaligned loads are allowed.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
pub(super) fn store(words: &mut [u64], at: usize, x: __m512i) {
    let words = &mut words[at..at + LANES];
    // SAFETY: the slice above holds the 64 bytes written; unaligned stores are allowed.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), x) }
}

impl Constants {
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(q: &Modulus) -> Self {
        Self {
            q: splat(q.value),
            twice: splat(2 * q.value),
            mask: _mm512_set1_epi64(MASK),
            zero: _mm512_setzero_si512(),
            fold: splat(q.two_to_52.value),
            fold_quotient: splat(q.two_to_52.quotient >> 12),
            one_quotient: splat(q.one_quotient_52),
        }
    }

    // Canonical residue of hi 2^52 + lo for any lo and hi + lo / 2^52 below 2^52.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn reduce(&self, sum: Wide) -> __m512i {
        let rest = self.reduce_lazily(sum);
        let rest = _mm512_min_epu64(rest, _mm512_sub_epi64(rest, self.twice));
        _mm512_min_epu64(rest, _mm512_sub_epi64(rest, self.q))
    }

    // The same residue below 4 q.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn reduce_lazily(&self, sum: Wide) -> __m512i {
        let carry = _mm512_srli_epi64::<52>(sum.low);
        let high = _mm512_add_epi64(sum.high, carry);
        let low = _mm512_and_si512(sum.low, self.mask);
        let zero = self.zero;
        let high_times = _mm512_madd52hi_epu64(zero, high, self.fold_quotient);
        let low_times = _mm512_madd52hi_epu64(zero, low, self.one_quotient);
        let times = _mm512_add_epi64(high_times, low_times);
        let total = _mm512_madd52lo_epu64(low, high, self.fold);
        let rest = _mm512_sub_epi64(total, _mm512_madd52lo_epu64(zero, times, self.q));
        _mm512_and_si512(rest, self.mask)
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn wide(&self, x: __m512i) -> Wide {
        Wide {
            low: x,
            high: self.zero,
        }
    }
}

impl Wide {
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn add_product(&mut self, a: __m512i, b: __m512i) {
        self.low = _mm512_madd52lo_epu64(self.low, a, b);
        self.high = _mm512_madd52hi_epu64(self.high, a, b);
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn add_products(out: &mut [u64], pairs: &[(&[u64], &[u64])], q: &Modulus) {
    let constants = Constants::new(q);
    for at in (0..out.len()).step_by(LANES) {
        let mut sum = constants.wide(load(out, at));
        for (a, b) in pairs {
            sum.add_product(load(a, at), load(b, at));
        }
        store(out, at, constants.reduce(sum));
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn read(words: &[u64]) -> u64 {
    let mut sums = [_mm512_setzero_si512(); VECTORS];
    for piece in words.chunks_exact(TILE) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_xor_si512(*sum, load(piece, i * LANES));
        }
    }
    let mut out = [0; TILE];
    for (i, sum) in sums.into_iter().enumerate() {
        store(&mut out, i * LANES, sum);
    }
    out.iter().fold(0, |all, x| all ^ x)
}

#[target_feature(enable = "avx512f")]
pub(super) fn largest(words: &[u64]) -> u64 {
    let mut most = [_mm512_setzero_si512(); VECTORS];
    let pieces = words.chunks_exact(TILE);
    let rest = pieces.remainder();
    for piece in pieces {
        for (i, most) in most.iter_mut().enumerate() {
            *most = _mm512_max_epu64(*most, load(piece, i * LANES));
        }
    }
    let mut out = [0; TILE];
    for (i, most) in most.into_iter().enumerate() {
        store(&mut out, i * LANES, most);
    }
    out.iter().chain(rest).fold(0, |max, x| max.max(*x))
}

#[target_feature(enable = "avx512f")]
pub(super) fn add_row(out: &mut [u64], x: &[u64], q: &Modulus) {
    let q = splat(q.value);
    for at in (0..out.len()).step_by(LANES) {
        let sum = _mm512_add_epi64(load(out, at), load(x, at));
        store(out, at, _mm512_min_epu64(sum, _mm512_sub_epi64(sum, q)));
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn scale_row(out: &mut [u64], x: &[u64], weight: u64, q: &Modulus) {
    let constants = Constants::new(q);
    let weight = splat(weight);
    for at in (0..out.len()).step_by(LANES) {
        let mut sum = constants.wide(constants.zero);
        sum.add_product(load(x, at), weight);
        store(out, at, constants.reduce(sum));
    }
}

// x, or x + shift where x exceeds half: the centred representative plus a multiple of a modulus.
#[target_feature(enable = "avx512f")]
fn centre(x: __m512i, half: __m512i, shift: __m512i) -> __m512i {
    _mm512_mask_add_epi64(x, _mm512_cmpgt_epu64_mask(x, half), x, shift)
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn special_quotient(out: &mut [u64], special: &[u64], division: &Division) {
    let t = &division.plain;
    let constants = Constants::new(t);
    let half = splat(division.special / 2);
    let shift = splat(t.value - t.reduce(division.special));
    let factor = splat(t.negate(division.inverse));
    for at in (0..out.len()).step_by(LANES) {
        let x = load(special, at);
        let residue = constants.reduce(constants.wide(x));
        let above = _mm512_cmpgt_epu64_mask(x, half);
        let centred = _mm512_mask_add_epi64(residue, above, residue, shift);
        let mut product = constants.wide(constants.zero);
        product.add_product(centred, factor);
        store(out, at, constants.reduce(product));
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn special_correction(
    out: &mut [u64],
    special: &[u64],
    quotient: &[u64],
    division: &Division,
    q: &Modulus,
) {
    let constants = Constants::new(q);
    let (p, t) = (division.special, division.plain.value);
    let half = [splat(p / 2), splat(t / 2)];
    let shift = [splat(p.div_ceil(q.value) * q.value - p), splat(q.value - t)];
    let factor = splat(q.reduce(p));
    for at in (0..out.len()).step_by(LANES) {
        let delta = centre(load(special, at), half[0], shift[0]);
        let k = centre(load(quotient, at), half[1], shift[1]);
        let mut sum = constants.wide(delta);
        sum.add_product(k, factor);
        store(out, at, constants.reduce(sum));
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn subtract_scale(x: &mut [u64], c: &[u64], weight: u64, q: &Modulus) {
    let constants = Constants::new(q);
    let weight = splat(weight);
    for at in (0..x.len()).step_by(LANES) {
        let difference = _mm512_sub_epi64(_mm512_add_epi64(load(x, at), constants.q), load(c, at));
        let mut product = constants.wide(constants.zero);
        product.add_product(difference, weight);
        store(x, at, constants.reduce(product));
    }
}
