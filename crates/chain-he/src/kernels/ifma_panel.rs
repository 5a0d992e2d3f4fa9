//! Weighted sums with AVX-512 IFMA: pieces are unpacked into registers and multiplied there.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_or_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_ternarylogic_epi64,
};

use super::groups::{for_each_group, prefetch, Group, GROUP, PACKED};
use super::ifma::{load, splat, store, Constants, Wide};
use super::ifma::{LANES, SUMS_BEFORE_REDUCTION, VECTORS};
use super::packing::{LINES, LOW};
use super::{Side, Span, TILE};
use crate::modulus::Modulus;

// Bits of m ? a : b.
const SELECT: i32 = 0xca;

// The residue whose 16-bit parts are the high ends of three lines.
#[target_feature(enable = "avx512f")]
#[inline]
fn gather(lines: [__m512i; 3]) -> __m512i {
    let low = _mm512_srli_epi64::<48>(lines[0]);
    let middle = _mm512_slli_epi64::<16>(_mm512_srli_epi64::<48>(lines[1]));
    let high = _mm512_srli_epi64::<16>(lines[2]);
    let upper = splat(0xffff << 32);
    let rest = _mm512_or_si512(low, middle);
    _mm512_ternarylogic_epi64::<SELECT>(upper, high, rest)
}

/// The 64 residues of a piece, 48 or 64 words.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn unpack(piece: &[u64]) -> [__m512i; VECTORS] {
    if piece.len() == TILE {
        return std::array::from_fn(|i| load(piece, i * LANES));
    }
    let line: [__m512i; LINES] = std::array::from_fn(|i| load(piece, i * LANES));
    let mask = splat(LOW);
    let low = line.map(|x| _mm512_and_si512(x, mask));
    let first = gather([line[0], line[1], line[2]]);
    let second = gather([line[3], line[4], line[5]]);
    [
        low[0], low[1], low[2], low[3], low[4], low[5], first, second,
    ]
}

// One column after another, so that each is read as one long run.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn weighted_sum(side: &Side<'_>, span: Span, q: &Modulus, out: &mut [u64]) {
    let constants = Constants::new(q);
    let mut sums = [constants.wide(constants.zero); VECTORS];
    let mut pending = 0;
    for (column, (source, weight)) in side.planes.iter().zip(&side.weights).enumerate() {
        let weight = splat(*weight);
        let next = side.planes.get(column + 1).unwrap_or(&side.planes[0]);
        for piece in span.piece..span.piece + span.count {
            prefetch(next.address(piece), source.piece_words());
            let residues = unpack(source.piece(piece));
            for (sum, x) in sums.iter_mut().zip(residues) {
                sum.add_product(x, weight);
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

// Adds a group of columns to one model's running sums over one run, asking for the next ones; the
// panel's first group starts from zero. WORDS are those of a piece.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_columns<const WORDS: usize>(
    group: &Group<'_>,
    weights: [u64; GROUP],
    sums: (&mut [u64], &mut [u64]),
) {
    let keep = splat(if group.is_first { 0 } else { u64::MAX });
    let pieces = sums
        .0
        .chunks_exact_mut(TILE)
        .zip(sums.1.chunks_exact_mut(TILE));
    for (index, (low, high)) in pieces.enumerate() {
        let mut wide: [Wide; VECTORS] = std::array::from_fn(|i| Wide {
            low: _mm512_and_si512(load(low, i * LANES), keep),
            high: _mm512_and_si512(load(high, i * LANES), keep),
        });
        for (column, weight) in weights.iter().enumerate() {
            let words = &group.runs[column][index * WORDS..][..WORDS];
            prefetch(group.next[column].wrapping_add(index * WORDS), WORDS);
            let residues = unpack(words);
            let weight = splat(*weight);
            for (sum, x) in wide.iter_mut().zip(residues) {
                sum.add_product(x, weight);
            }
        }
        for (i, sum) in wide.into_iter().enumerate() {
            store(low, i * LANES, sum.low);
            store(high, i * LANES, sum.high);
        }
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
    let run_words = spans[0].count * TILE;
    let words = spans.len() * run_words;
    let mut pending = 0;
    for_each_group(models[0], spans, |group| {
        for (side, sums) in models.iter().zip(scratch.chunks_exact_mut(2 * words)) {
            let weights = group.pick(&side.weights);
            let (low, high) = sums.split_at_mut(words);
            let part = group.run * run_words..(group.run + 1) * run_words;
            let sums = (&mut low[part.clone()], &mut high[part]);
            match group.words {
                PACKED => add_columns::<PACKED>(group, weights, sums),
                _ => add_columns::<TILE>(group, weights, sums),
            }
        }
        pending += if group.is_last_run { GROUP } else { 0 };
        if pending >= SUMS_BEFORE_REDUCTION {
            reduce_panel(&constants, scratch, words, None);
            pending = 0;
        }
    });
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
