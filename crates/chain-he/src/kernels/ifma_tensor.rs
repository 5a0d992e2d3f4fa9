//! Sums of products of three or four linear combinations: values stay in registers throughout.

use std::arch::x86_64::__m512i;

use super::ifma::{linear, splat, store, Constants, Wide, CHUNK, LANES, VECTORS};
use super::ifma::{PIECES_BEFORE_REDUCTION, SHARED_TERMS};
use super::{Side, Span, TILE};
use crate::modulus::Modulus;

// A product of two linear polynomials has this many parts.
const PAIR: usize = 3;
const _: () = assert!(SHARED_TERMS >= PAIR);

// The three parts of (l0 + l1 s)(r0 + r1 s), each below 4 q.
#[target_feature(enable = "avx512f,avx512ifma")]
fn pair(constants: &Constants, l: [__m512i; 2], r: [__m512i; 2]) -> [__m512i; PAIR] {
    let mut sums = [constants.wide(constants.zero); PAIR];
    sums[0].add_product(l[0], r[0]);
    sums[1].add_product(l[0], r[1]);
    sums[1].add_product(l[1], r[0]);
    sums[2].add_product(l[1], r[1]);
    sums.map(|sum| constants.reduce_lazily(sum))
}

// Both polynomials of one factor at one place.
#[target_feature(enable = "avx512f,avx512ifma")]
fn both(
    side: &Side<'_>,
    at: [usize; 2],
    ahead: usize,
    constant: __m512i,
    constants: &Constants,
) -> [__m512i; 2] {
    [
        linear(side, at[0], ahead, constant, constants),
        linear(side, at[1], ahead, constants.zero, constants),
    ]
}

// PARTS is the number of factors plus one.
#[target_feature(enable = "avx512f,avx512ifma")]
fn tensor<const PARTS: usize>(
    sides: &[&Side<'_>],
    spans: [Span; 2],
    ahead: usize,
    q: &Modulus,
    out: &mut [u64],
) {
    let constants = Constants::new(q);
    let last = sides.len() - 1;
    let shift = [0, 1, 2, last].map(|i| splat(sides[i].constant));
    let mut sums = [[constants.wide(constants.zero); PARTS]; VECTORS];
    let mut pending = 0;
    for start in (0..spans[0].count).step_by(CHUNK) {
        let end = spans[0].count.min(start + CHUNK);
        for (i, row) in sums.iter_mut().enumerate() {
            let mut parts: [Wide; PARTS] = *row;
            for piece in start..end {
                let at = spans.map(|span| span.offset + piece * TILE + i * LANES);
                let a = both(sides[0], at, ahead, shift[0], &constants);
                let b = both(sides[1], at, ahead, shift[1], &constants);
                let left = pair(&constants, a, b);
                let c = both(sides[2], at, ahead, shift[2], &constants);
                let mut right = [c[0], c[1], constants.zero];
                if PARTS == 5 {
                    let d = both(sides[last], at, ahead, shift[3], &constants);
                    right = pair(&constants, c, d);
                }
                for (j, y) in right.iter().enumerate().take(PARTS - 2) {
                    for (k, x) in left.iter().enumerate() {
                        parts[j + k].add_product(*x, *y);
                    }
                }
            }
            *row = parts;
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
pub(super) fn tensor_sum(
    sides: &[&Side<'_>],
    spans: [Span; 2],
    ahead: usize,
    q: &Modulus,
    out: &mut [u64],
) {
    match sides.len() {
        3 => tensor::<4>(sides, spans, ahead, q, out),
        _ => tensor::<5>(sides, spans, ahead, q, out),
    }
}
