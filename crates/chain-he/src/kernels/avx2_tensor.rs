//! Sums of products of two to four linear combinations with AVX2.
//!
//! As with IFMA: a few pieces at a time are combined into rows that stay in the L1 cache, here as
//! doubles, then the rows are multiplied. Products between are reduced to within 2 q of 0.

use std::arch::x86_64::{
    __m256d, __m256i, _mm256_add_epi64, _mm256_add_pd, _mm256_and_si256, _mm256_castpd_si256,
    _mm256_castsi256_pd, _mm256_mul_epu32, _mm256_or_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_sub_epi64,
};

use super::avx2::{load, number, splat, store, word, Constants, Wide};
use super::avx2::{LANES, PRODUCTS_MAX, VECTORS};
use super::groups::{prefetch, PACKED};
use super::packing::{LINE, LOW, PACKED_BITS, PARTS};
use super::{Side, Span, FACTORS_MAX, TILE};
use crate::modulus::Modulus;

// Pieces between two looks at the running sums: their rows and the sums fit the L1 cache.
const CHUNK: usize = 4;
const ROWS: usize = 2 * FACTORS_MAX * CHUNK;
// A piece adds up to three products to one sum.
const PIECES_BEFORE_REDUCTION: usize = PRODUCTS_MAX / 3 / CHUNK * CHUNK;
const HIGH_END: i32 = PACKED_BITS as i32;
// A product of two linear polynomials has this many parts.
const PAIR: usize = 3;

// Row (factor, polynomial, piece) of the combinations, doubles.
#[repr(align(64))]
struct Rows([u64; ROWS * TILE]);

impl Rows {
    fn place(factor: usize, polynomial: usize, piece: usize) -> usize {
        ((2 * factor + polynomial) * CHUNK + piece) * TILE
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn pair(&self, factor: usize, piece: usize, at: usize) -> [__m256d; 2] {
        let first = load(&self.0, Self::place(factor, 0, piece) + at);
        let second = load(&self.0, Self::place(factor, 1, piece) + at);
        [_mm256_castsi256_pd(first), _mm256_castsi256_pd(second)]
    }
}

// The 64 residues of a piece, 48 or 64 words.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack(piece: &[u64]) -> [__m256i; VECTORS] {
    let mut out = [_mm256_setzero_si256(); VECTORS];
    if piece.len() == TILE {
        for (i, x) in out.iter_mut().enumerate() {
            *x = load(piece, i * LANES);
        }
        return out;
    }
    let mask = _mm256_set1_epi64x(LOW as i64);
    let (whole, spread) = out.split_at_mut(PACKED / LANES);
    for (i, x) in whole.iter_mut().enumerate() {
        *x = _mm256_and_si256(load(piece, i * LANES), mask);
    }
    // The high ends of three lines are the 16-bit parts of one.
    for (i, x) in spread.iter_mut().enumerate() {
        let first = i / 2 * PARTS * LINE + i % 2 * LANES;
        let low = _mm256_srli_epi64::<HIGH_END>(load(piece, first));
        let middle = _mm256_srli_epi64::<HIGH_END>(load(piece, first + LINE));
        let high = _mm256_srli_epi64::<HIGH_END>(load(piece, first + 2 * LINE));
        let upper = _mm256_or_si256(_mm256_slli_epi64::<16>(high), middle);
        *x = _mm256_or_si256(low, _mm256_slli_epi64::<16>(upper));
    }
    out
}

// x times a weight below 2^32.
#[target_feature(enable = "avx2")]
#[inline]
fn times(x: __m256i, weight: __m256i) -> __m256i {
    let high = _mm256_mul_epu32(_mm256_srli_epi64::<32>(x), weight);
    _mm256_add_epi64(_mm256_mul_epu32(x, weight), _mm256_slli_epi64::<32>(high))
}

// The linear combination at one piece: within 8 q of 0 when the weights are small, else canonical.
#[target_feature(enable = "avx2,fma")]
fn combine(
    side: &Side<'_>,
    piece: usize,
    ahead: usize,
    constant: u64,
    constants: &Constants,
    out: &mut [u64],
) {
    let Some(small) = &side.small else {
        return combine_wide(side, piece, ahead, constant, constants, out);
    };
    let mut sums = [_mm256_set1_epi64x(constant as i64); VECTORS];
    for (source, (weight, negative)) in side.planes.iter().zip(small) {
        let words = source.piece(piece);
        prefetch(source.address(piece + ahead), words.len());
        let mut residues = unpack(words);
        if *weight != 1 {
            let weight = _mm256_set1_epi64x(*weight as i64);
            for x in &mut residues {
                *x = times(*x, weight);
            }
        }
        for (sum, x) in sums.iter_mut().zip(residues) {
            *sum = match negative {
                true => _mm256_sub_epi64(*sum, x),
                false => _mm256_add_epi64(*sum, x),
            };
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        store(out, i * LANES, _mm256_castpd_si256(number(sum)));
    }
}

#[target_feature(enable = "avx2,fma")]
fn combine_wide(
    side: &Side<'_>,
    piece: usize,
    ahead: usize,
    constant: u64,
    constants: &Constants,
    out: &mut [u64],
) {
    let mut totals = [splat(constant as f64); VECTORS];
    let columns: Vec<_> = side.planes.iter().zip(&side.weights).collect();
    for few in columns.chunks(PRODUCTS_MAX) {
        let mut wide = [Wide::zero(); VECTORS];
        for (source, weight) in few {
            let words = source.piece(piece);
            prefetch(source.address(piece + ahead), words.len());
            let weight = splat(**weight as f64);
            for (sum, x) in wide.iter_mut().zip(unpack(words)) {
                constants.add_product(sum, number(x), weight);
            }
        }
        for (total, sum) in totals.iter_mut().zip(wide) {
            let sum = constants.reduce(sum, few.len());
            *total = constants.canonical(_mm256_add_pd(*total, sum));
        }
    }
    for (i, total) in totals.into_iter().enumerate() {
        store(out, i * LANES, _mm256_castpd_si256(total));
    }
}

// The three parts of (l0 + l1 s)(r0 + r1 s), each within 2 q of 0: operands are within 8 q.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn pair(constants: &Constants, l: [__m256d; 2], r: [__m256d; 2]) -> [__m256d; PAIR] {
    let middle = [constants.product(l[0], r[1]), constants.product(l[1], r[0])];
    [
        constants.product(l[0], r[0]),
        _mm256_add_pd(middle[0], middle[1]),
        constants.product(l[1], r[1]),
    ]
}

// Adds the products of `count` pieces in `rows` to the running sums; PARTS is factors plus one.
#[target_feature(enable = "avx2,fma")]
fn multiply<const PARTS: usize>(
    rows: &Rows,
    count: usize,
    constants: &Constants,
    sums: &mut [[Wide; PARTS]; VECTORS],
) {
    for (i, row) in sums.iter_mut().enumerate() {
        let at = i * LANES;
        let mut parts = *row;
        for piece in 0..count {
            let (a, b) = (rows.pair(0, piece, at), rows.pair(1, piece, at));
            if PARTS == 3 {
                constants.add_product(&mut parts[0], a[0], b[0]);
                constants.add_product(&mut parts[1], a[0], b[1]);
                constants.add_product(&mut parts[1], a[1], b[0]);
                constants.add_product(&mut parts[2], a[1], b[1]);
                continue;
            }
            let left = pair(constants, a, b);
            let c = rows.pair(2, piece, at);
            let mut right = [c[0], c[1], c[1]];
            if PARTS == 5 {
                right = pair(constants, c, rows.pair(3, piece, at));
            }
            for (j, y) in right.iter().enumerate().take(PARTS - 2) {
                for (k, x) in left.iter().enumerate() {
                    constants.add_product(&mut parts[j + k], *x, *y);
                }
            }
        }
        *row = parts;
    }
}

// Products a piece adds to part number `part`.
fn products(part: usize, parts: usize) -> usize {
    let left = if parts == 3 { 2 } else { PAIR };
    let right = parts + 1 - left;
    (part + 1).min(parts - part).min(left).min(right)
}

#[target_feature(enable = "avx2,fma")]
fn tensor<const PARTS: usize>(
    sides: &[&Side<'_>],
    spans: [Span; 2],
    ahead: usize,
    q: &Modulus,
    out: &mut [u64],
) {
    let constants = Constants::new(q);
    let mut rows = Rows([0; ROWS * TILE]);
    let mut sums = [[Wide::zero(); PARTS]; VECTORS];
    let mut totals = [[splat(0.0); PARTS]; VECTORS];
    let mut pending = 0;
    for start in (0..spans[0].count).step_by(CHUNK) {
        let count = CHUNK.min(spans[0].count - start);
        for (factor, side) in sides.iter().enumerate() {
            for (polynomial, span) in spans.iter().enumerate() {
                let constant = if polynomial == 0 { side.constant } else { 0 };
                for piece in 0..count {
                    let from = span.piece + start + piece;
                    let row = &mut rows.0[Rows::place(factor, polynomial, piece)..][..TILE];
                    combine(side, from, ahead, constant, &constants, row);
                }
            }
        }
        multiply(&rows, count, &constants, &mut sums);
        pending += count;
        if pending >= PIECES_BEFORE_REDUCTION || start + count == spans[0].count {
            for (total, sum) in totals.iter_mut().zip(&mut sums) {
                for part in 0..PARTS {
                    let reduced = constants.reduce(sum[part], pending * products(part, PARTS));
                    total[part] = constants.canonical(_mm256_add_pd(total[part], reduced));
                    sum[part] = Wide::zero();
                }
            }
            pending = 0;
        }
    }
    for (i, total) in totals.into_iter().enumerate() {
        for (part, x) in total.into_iter().enumerate() {
            store(out, part * TILE + i * LANES, word(x));
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn tensor_sum(
    sides: &[&Side<'_>],
    spans: [Span; 2],
    ahead: usize,
    q: &Modulus,
    out: &mut [u64],
) {
    match sides.len() {
        2 => tensor::<3>(sides, spans, ahead, q, out),
        3 => tensor::<4>(sides, spans, ahead, q, out),
        _ => tensor::<5>(sides, spans, ahead, q, out),
    }
}
