//! Sums of products of two to four linear combinations with AVX-512 IFMA.
//!
//! A few pieces at a time: first every factor's combination is unpacked and added up into rows that
//! stay in the L1 cache, then the rows are multiplied. Products between are reduced as Montgomery
//! does (Math. Comp. 1985), with R = 2^52, which the last reduction makes up for.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_srli_epi64,
    _mm512_sub_epi64,
};

use super::groups::prefetch;
use super::ifma::{load, splat, store, Constants, Wide};
use super::ifma::{LANES, SUMS_BEFORE_REDUCTION, VECTORS};
use super::ifma_panel::unpack;
use super::{Side, Span, FACTORS_MAX, TILE};
use crate::modulus::Modulus;

// Pieces between two looks at the running sums: their rows and the sums fit the L1 cache.
const CHUNK: usize = 4;
const ROWS: usize = 2 * FACTORS_MAX * CHUNK;
// A piece adds up to three products below 2^92: high halves stay below 2^52.
const PIECES_BEFORE_REDUCTION: usize = 512;
// A product of two linear polynomials has this many parts.
const PAIR: usize = 3;

// Row (factor, polynomial, piece) of the combinations, aligned to whole lines.
#[repr(align(64))]
struct Rows([u64; ROWS * TILE]);

impl Rows {
    fn place(factor: usize, polynomial: usize, piece: usize) -> usize {
        ((2 * factor + polynomial) * CHUNK + piece) * TILE
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn pair(&self, factor: usize, piece: usize, at: usize) -> [__m512i; 2] {
        [0, 1].map(|p| load(&self.0, Self::place(factor, p, piece) + at))
    }
}

struct Montgomery {
    q: __m512i,
    inverse: __m512i,
}

impl Montgomery {
    #[target_feature(enable = "avx512f")]
    fn new(q: &Modulus) -> Self {
        Self {
            q: splat(q.value),
            inverse: splat(q.inverse_of_word()),
        }
    }

    // (hi 2^52 + lo) / 2^52 modulo q, below 2 q; `sum.high` carries a q that keeps it positive.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn reduce(&self, constants: &Constants, sum: Wide) -> __m512i {
        let times = _mm512_madd52lo_epu64(constants.zero, sum.low, self.inverse);
        let excess = _mm512_madd52hi_epu64(constants.zero, times, self.q);
        let carry = _mm512_srli_epi64::<52>(sum.low);
        _mm512_sub_epi64(_mm512_add_epi64(sum.high, carry), excess)
    }

    // The three parts of (l0 + l1 s)(r0 + r1 s) / 2^52, each below 2 q: operands are below 8 q, so
    // that high halves stay below q / 4.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn pair(&self, constants: &Constants, l: [__m512i; 2], r: [__m512i; 2]) -> [__m512i; PAIR] {
        let mut sums = [Wide {
            low: constants.zero,
            high: self.q,
        }; PAIR];
        sums[0].add_product(l[0], r[0]);
        sums[1].add_product(l[0], r[1]);
        sums[1].add_product(l[1], r[0]);
        sums[2].add_product(l[1], r[1]);
        sums.map(|sum| self.reduce(constants, sum))
    }
}

// The linear combination at one piece: below 8 q when the weights are small, else canonical.
#[target_feature(enable = "avx512f,avx512ifma")]
fn combine(
    side: &Side<'_>,
    piece: usize,
    ahead: usize,
    constant: u64,
    constants: &Constants,
    out: &mut [u64],
) {
    let mut pending = 0;
    let mut wide = [constants.wide(splat(constant)); VECTORS];
    for (column, source) in side.planes.iter().enumerate() {
        let words = source.piece(piece);
        prefetch(source.address(piece + ahead), words.len());
        let mut residues = unpack(words);
        let Some(small) = &side.small else {
            let weight = splat(side.weights[column]);
            for (sum, x) in wide.iter_mut().zip(residues) {
                sum.add_product(x, weight);
            }
            pending += 1;
            if pending == SUMS_BEFORE_REDUCTION {
                wide = wide.map(|sum| constants.wide(constants.reduce(sum)));
                pending = 0;
            }
            continue;
        };
        let (weight, negative) = small[column];
        if negative {
            residues = residues.map(|x| _mm512_sub_epi64(constants.q, x));
        }
        let factor = splat(weight);
        for (sum, x) in wide.iter_mut().zip(residues) {
            sum.low = match weight {
                1 => _mm512_add_epi64(sum.low, x),
                _ => _mm512_madd52lo_epu64(sum.low, x, factor),
            };
        }
    }
    for (i, sum) in wide.into_iter().enumerate() {
        let x = match side.small {
            Some(_) => sum.low,
            None => constants.reduce(sum),
        };
        store(out, i * LANES, x);
    }
}

// Adds the products of `count` pieces in `rows` to the running sums; PARTS is factors plus one.
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply<const PARTS: usize>(
    rows: &Rows,
    count: usize,
    constants: &Constants,
    montgomery: &Montgomery,
    sums: &mut [[Wide; PARTS]; VECTORS],
) {
    for (i, row) in sums.iter_mut().enumerate() {
        let at = i * LANES;
        let mut parts = *row;
        for piece in 0..count {
            let (a, b) = (rows.pair(0, piece, at), rows.pair(1, piece, at));
            if PARTS == 3 {
                parts[0].add_product(a[0], b[0]);
                parts[1].add_product(a[0], b[1]);
                parts[1].add_product(a[1], b[0]);
                parts[2].add_product(a[1], b[1]);
                continue;
            }
            let left = montgomery.pair(constants, a, b);
            let c = rows.pair(2, piece, at);
            let mut right = [c[0], c[1], constants.zero];
            if PARTS == 5 {
                right = montgomery.pair(constants, c, rows.pair(3, piece, at));
            }
            for (j, y) in right.iter().enumerate().take(PARTS - 2) {
                for (k, x) in left.iter().enumerate() {
                    parts[j + k].add_product(*x, *y);
                }
            }
        }
        *row = parts;
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn tensor<const PARTS: usize>(
    sides: &[&Side<'_>],
    spans: [Span; 2],
    ahead: usize,
    q: &Modulus,
    out: &mut [u64],
) {
    let constants = Constants::new(q);
    let montgomery = Montgomery::new(q);
    let mut rows = Rows([0; ROWS * TILE]);
    let mut sums = [[constants.wide(constants.zero); PARTS]; VECTORS];
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
        multiply(&rows, count, &constants, &montgomery, &mut sums);
        pending += CHUNK;
        if pending >= PIECES_BEFORE_REDUCTION {
            for sum in sums.iter_mut().flatten() {
                *sum = constants.wide(constants.reduce(*sum));
            }
            pending = 0;
        }
    }
    // Each pair left a factor 2^-52 behind.
    let owed = splat((3..PARTS).fold(1, |power, _| q.mul(power, q.two_to_52.value)));
    for (i, row) in sums.into_iter().enumerate() {
        for (part, sum) in row.into_iter().enumerate() {
            let mut product = constants.wide(constants.zero);
            product.add_product(constants.reduce(sum), owed);
            store(out, part * TILE + i * LANES, constants.reduce(product));
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
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
