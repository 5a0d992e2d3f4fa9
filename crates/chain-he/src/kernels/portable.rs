//! The kernels in 128-bit integer arithmetic.

use super::{Division, Side, Span, TILE};
use crate::modulus::Modulus;

// Products are below 2^86: this many fit a 128-bit sum.
const SUMS_BEFORE_REDUCTION: usize = 1 << 40;

fn add_weighted(side: &Side<'_>, piece: usize, sums: &mut [u128; TILE]) {
    for (plane, weight) in side.planes.iter().zip(&side.weights) {
        for (sum, x) in sums.iter_mut().zip(plane.unpack(piece)) {
            *sum += x as u128 * *weight as u128;
        }
    }
}

pub(super) fn weighted_sum(side: &Side<'_>, span: Span, q: &Modulus, out: &mut [u64]) {
    assert!(side.planes.len() * span.count < SUMS_BEFORE_REDUCTION);
    let mut sums = [0u128; TILE];
    for piece in 0..span.count {
        add_weighted(side, span.piece + piece, &mut sums);
    }
    for (x, sum) in out.iter_mut().zip(&sums) {
        *x = q.reduce_wide(*sum);
    }
}

pub(super) fn weighted_panel(models: &[&Side<'_>], spans: &[Span], q: &Modulus, out: &mut [u64]) {
    let count = spans[0].count;
    let words = spans.len() * count * TILE;
    for (side, part) in models.iter().zip(out.chunks_exact_mut(words)) {
        for (place, tile) in part.chunks_exact_mut(TILE).enumerate() {
            let piece = spans[place / count].piece + place % count;
            weighted_sum(side, Span { piece, count: 1 }, q, tile);
        }
    }
}

fn linear(side: &Side<'_>, piece: usize, constant: u64, q: &Modulus) -> [u64; TILE] {
    let mut sums = [constant as u128; TILE];
    add_weighted(side, piece, &mut sums);
    sums.map(|sum| q.reduce_wide(sum))
}

// Values of one factor's two polynomials at one place.
fn both(side: &Side<'_>, spans: [Span; 2], piece: usize, q: &Modulus) -> Vec<[u64; TILE]> {
    let [first, second] = spans.map(|span| span.piece + piece);
    vec![
        linear(side, first, side.constant, q),
        linear(side, second, 0, q),
    ]
}

fn add_convolution(sums: &mut [[u128; TILE]], left: &[[u64; TILE]], right: &[[u64; TILE]]) {
    for (i, x) in left.iter().enumerate() {
        for (j, y) in right.iter().enumerate() {
            for k in 0..TILE {
                sums[i + j][k] += x[k] as u128 * y[k] as u128;
            }
        }
    }
}

pub(super) fn tensor_sum(sides: &[&Side<'_>], spans: [Span; 2], q: &Modulus, out: &mut [u64]) {
    let mut sums = vec![[0u128; TILE]; sides.len() + 1];
    for piece in 0..spans[0].count {
        let mut product = both(sides[0], spans, piece, q);
        for side in &sides[1..sides.len() - 1] {
            let mut next = vec![[0u128; TILE]; product.len() + 1];
            add_convolution(&mut next, &product, &both(side, spans, piece, q));
            product = next
                .iter()
                .map(|part| part.map(|sum| q.reduce_wide(sum)))
                .collect();
        }
        let last = both(sides[sides.len() - 1], spans, piece, q);
        add_convolution(&mut sums, &product, &last);
    }
    for (x, sum) in out.iter_mut().zip(sums.iter().flatten()) {
        *x = q.reduce_wide(*sum);
    }
}

pub(super) fn add_products(out: &mut [u64], pairs: &[(&[u64], &[u64])], q: &Modulus) {
    for (k, x) in out.iter_mut().enumerate() {
        let sum = pairs
            .iter()
            .map(|(a, b)| a[k] as u128 * b[k] as u128)
            .sum::<u128>();
        *x = q.reduce_wide(sum + *x as u128);
    }
}

pub(super) fn read(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, x| all ^ x)
}

pub(super) fn largest(words: &[u64]) -> u64 {
    words.iter().fold(0, |max, x| max.max(*x))
}

pub(super) fn add_row(out: &mut [u64], x: &[u64], q: &Modulus) {
    for (a, b) in out.iter_mut().zip(x) {
        *a = q.add(*a, *b);
    }
}

pub(super) fn scale_row(out: &mut [u64], x: &[u64], weight: u64, q: &Modulus) {
    for (a, b) in out.iter_mut().zip(x) {
        *a = q.mul(*b, weight);
    }
}

/// The representative of least magnitude of a canonical residue.
pub(super) fn centred(x: u64, modulus: u64) -> i64 {
    if x > modulus / 2 {
        x as i64 - modulus as i64
    } else {
        x as i64
    }
}

pub(super) fn special_quotient(out: &mut [u64], special: &[u64], division: &Division) {
    let t = &division.plain;
    for (k, x) in out.iter_mut().zip(special) {
        let delta = t.from_signed(centred(*x, division.special));
        *k = t.negate(t.mul(delta, division.inverse));
    }
}

pub(super) fn special_correction(
    out: &mut [u64],
    special: &[u64],
    quotient: &[u64],
    division: &Division,
    q: &Modulus,
) {
    let factor = q.reduce(division.special);
    for ((c, x), k) in out.iter_mut().zip(special).zip(quotient) {
        let k = q.from_signed(centred(*k, division.plain.value));
        let delta = q.from_signed(centred(*x, division.special));
        *c = q.add(delta, q.mul(k, factor));
    }
}

pub(super) fn subtract_scale(x: &mut [u64], c: &[u64], weight: u64, q: &Modulus) {
    for (a, b) in x.iter_mut().zip(c) {
        *a = q.mul(q.sub(*a, *b), weight);
    }
}
