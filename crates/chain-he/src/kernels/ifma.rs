//! The kernels with 52-bit multiply-add (AVX-512 IFMA): eight coefficients an instruction.
//!
//! Products add up as low and high 52-bit halves; `reduce` brings hi 2^52 + lo to [0, q).

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpgt_epu64_mask, _mm512_loadu_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_add_epi64, _mm512_max_epu64,
    _mm512_min_epu64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_sub_epi64, _mm512_xor_si512, _mm_prefetch, _MM_HINT_T0,
    _MM_HINT_T1,
};

use super::{Division, Side, Span, TILE};
use crate::modulus::Modulus;

pub(super) const LANES: usize = 8;
pub(super) const MASK: i64 = (1 << 52) - 1;
// Columns read side by side: enough to hide the running sums' traffic (4 give 70 % of a pure read
// loop, 8 give 90 %, 14 no more), few enough for the prefetcher.
const GROUP: usize = 8;
pub(super) const VECTORS: usize = TILE / LANES;
// Low halves are below 2^52: this many fit 64 bits.
const SUMS_BEFORE_REDUCTION: usize = 4000;
// Pieces between two looks at the same row of sums, so that a chunk stays in the L1 cache.
pub(super) const CHUNK: usize = 8;
// A piece adds up to three products below 2^92: high halves stay below 2^52.
pub(super) const PIECES_BEFORE_REDUCTION: usize = 512;
pub(super) const SHARED_TERMS: usize = 3;

#[derive(Clone, Copy)]
pub(super) struct Constants {
    q: __m512i,
    twice: __m512i,
    mask: __m512i,
    pub(super) zero: __m512i,
    fold: __m512i,
    fold_quotient: __m512i,
    one_quotient: __m512i,
}

#[derive(Clone, Copy)]
pub(super) struct Wide {
    low: __m512i,
    high: __m512i,
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

#[target_feature(enable = "avx512f")]
fn prefetch(plane: &[u64], offset: usize) {
    for line in 0..VECTORS {
        let address = plane.as_ptr().wrapping_add(offset + line * LANES);
        // A prefetch never faults, so the end of the plane needs no check.
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
}

// One column after another, so that each is read as one long run.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn weighted_sum(side: &Side<'_>, span: Span, q: &Modulus, out: &mut [u64]) {
    let constants = Constants::new(q);
    let mut sums = [constants.wide(constants.zero); VECTORS];
    let mut pending = 0;
    for (column, (plane, weight)) in side.planes.iter().zip(&side.weights).enumerate() {
        let weight = splat(*weight);
        if let Some(next) = side.planes.get(column + 1) {
            prefetch(next, span.offset);
        }
        let words = &plane[span.offset..span.offset + span.count * TILE];
        for piece in words.chunks_exact(TILE) {
            for (i, sum) in sums.iter_mut().enumerate() {
                sum.add_product(load(piece, i * LANES), weight);
            }
            pending += 1;
            if pending == SUMS_BEFORE_REDUCTION {
                sums = sums.map(|sum| constants.wide(constants.reduce(sum)));
                pending = 0;
            }
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        store(out, i * LANES, constants.reduce(sum));
    }
}

// Adds GROUP columns to one model's running sums over one run, asking for the next ones; `fresh`
// sums start from zero.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_columns(
    planes: [&[u64]; GROUP],
    next: [*const u64; GROUP],
    weights: [u64; GROUP],
    sums: (&mut [u64], &mut [u64]),
    fresh: bool,
) {
    let weights = weights.map(|weight| splat(weight));
    let length = sums.0.len();
    let planes = planes.map(|plane| &plane[..length]);
    let keep = splat(if fresh { 0 } else { u64::MAX });
    let (low, high) = (
        sums.0.chunks_exact_mut(LANES),
        sums.1.chunks_exact_mut(LANES),
    );
    for (i, (low, high)) in low.zip(high).enumerate() {
        let at = i * LANES;
        for start in next {
            // A prefetch never faults, so the end of the plane needs no check.
            _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at).cast());
        }
        let mut sum = Wide {
            low: _mm512_and_si512(load(low, 0), keep),
            high: _mm512_and_si512(load(high, 0), keep),
        };
        for (plane, weight) in planes.iter().zip(weights) {
            sum.add_product(load(plane, at), weight);
        }
        store(low, 0, sum.low);
        store(high, 0, sum.high);
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn weighted_panel(
    models: &[&Side<'_>],
    spans: &[Span],
    q: &Modulus,
    scratch: &mut [u64],
    out: &mut [u64],
) {
    let constants = Constants::new(q);
    let run = spans[0].count * TILE;
    let words = spans.len() * run;
    let stride = spans
        .get(1)
        .map_or(run, |span| span.offset - spans[0].offset);
    let columns = models.first().map_or(0, |side| side.planes.len());
    let mut pending = 0;
    for first in (0..columns).step_by(GROUP) {
        // A group that is not full repeats a column with weight zero.
        let index = std::array::from_fn::<_, GROUP, _>(|i| (first + i).min(columns - 1));
        for (number, span) in spans.iter().enumerate() {
            let planes = index.map(|c| &models[0].planes[c][span.offset..span.offset + run]);
            let next = std::array::from_fn(|i| {
                let (column, skip) = match first + GROUP + i {
                    later if later < columns => (later, 0),
                    _ => (i.min(columns - 1), spans.len() * stride),
                };
                models[0].planes[column]
                    .as_ptr()
                    .wrapping_add(span.offset + skip)
            });
            for (side, sums) in models.iter().zip(scratch.chunks_exact_mut(2 * words)) {
                let weights =
                    std::array::from_fn(|i| side.weights.get(first + i).copied().unwrap_or(0));
                let (low, high) = sums.split_at_mut(words);
                let part = number * run..(number + 1) * run;
                let sums = (&mut low[part.clone()], &mut high[part]);
                add_columns(planes, next, weights, sums, first == 0);
            }
        }
        pending += GROUP;
        if pending >= SUMS_BEFORE_REDUCTION {
            reduce_panel(&constants, scratch, words, None);
            pending = 0;
        }
    }
    reduce_panel(&constants, scratch, words, Some(out));
}

// Reduces running sums in place, or into `out`.
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduce_panel(
    constants: &Constants,
    scratch: &mut [u64],
    words: usize,
    mut out: Option<&mut [u64]>,
) {
    for (model, sums) in scratch.chunks_exact_mut(2 * words).enumerate() {
        let (low, high) = sums.split_at_mut(words);
        for at in (0..words).step_by(LANES) {
            let sum = constants.reduce(Wide {
                low: load(low, at),
                high: load(high, at),
            });
            match &mut out {
                Some(out) => store(out, model * words + at, sum),
                None => {
                    store(low, at, sum);
                    store(high, at, constants.zero);
                }
            }
        }
    }
}

// The linear combination at one place: below 8 q when the weights are small, else canonical.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn linear(
    side: &Side<'_>,
    at: usize,
    ahead: usize,
    constant: __m512i,
    constants: &Constants,
) -> __m512i {
    if let Some(small) = &side.small {
        let mut sum = constant;
        for (plane, (weight, negative)) in side.planes.iter().zip(small) {
            let mut x = load(plane, at);
            // The next tile lies behind this one; a prefetch never faults.
            _mm_prefetch::<_MM_HINT_T1>(plane.as_ptr().wrapping_add(at + ahead).cast());
            if *negative {
                x = _mm512_sub_epi64(constants.q, x);
            }
            sum = match weight {
                1 => _mm512_add_epi64(sum, x),
                _ => _mm512_madd52lo_epu64(sum, x, splat(*weight)),
            };
        }
        return sum;
    }
    let mut sum = constants.wide(constant);
    let mut pending = 0;
    for (plane, weight) in side.planes.iter().zip(&side.weights) {
        sum.add_product(load(plane, at), splat(*weight));
        pending += 1;
        if pending == SUMS_BEFORE_REDUCTION {
            sum = constants.wide(constants.reduce(sum));
            pending = 0;
        }
    }
    constants.reduce(sum)
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn product_sum(
    left: &Side<'_>,
    right: &Side<'_>,
    spans: [Span; 2],
    ahead: usize,
    q: &Modulus,
    out: &mut [u64],
) {
    let constants = Constants::new(q);
    let zero = constants.zero;
    let (left_constant, right_constant) = (splat(left.constant), splat(right.constant));
    let mut sums = [[constants.wide(zero); 3]; VECTORS];
    let mut pending = 0;
    for start in (0..spans[0].count).step_by(CHUNK) {
        let end = spans[0].count.min(start + CHUNK);
        for (i, row) in sums.iter_mut().enumerate() {
            let [mut first, mut second, mut third] = *row;
            for piece in start..end {
                let [a, b] = spans.map(|span| span.offset + piece * TILE + i * LANES);
                let l0 = linear(left, a, ahead, left_constant, &constants);
                let l1 = linear(left, b, ahead, zero, &constants);
                let r0 = linear(right, a, ahead, right_constant, &constants);
                let r1 = linear(right, b, ahead, zero, &constants);
                first.add_product(l0, r0);
                second.add_product(l0, r1);
                second.add_product(l1, r0);
                third.add_product(l1, r1);
            }
            *row = [first, second, third];
        }
        pending += CHUNK;
        if pending >= PIECES_BEFORE_REDUCTION {
            for sum in sums.iter_mut().flatten() {
                *sum = constants.wide(constants.reduce(*sum));
            }
            pending = 0;
        }
    }
    for (i, row) in sums.into_iter().enumerate() {
        for (part, sum) in row.into_iter().enumerate() {
            store(out, part * TILE + i * LANES, constants.reduce(sum));
        }
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
