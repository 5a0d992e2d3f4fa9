//! Weighted sums with AVX2: stored words are multiplied as four parts of 16 bits.
//!
//! The parts of two columns side by side times a digit of each column's weight, added up in pairs,
//! are one instruction for 16 parts (vpmaddwd). So columns are never unpacked: sums of parts are
//! put together at the end, whatever the packing. That instruction is signed, so it gets parts less
//! 2^15, and their sums start from what this takes away. Weights of one digit take one pass, any
//! others up to four.

use std::arch::x86_64::{
    __m256d, _mm256_add_epi32, _mm256_add_pd, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_cvtepi32_pd, _mm256_extracti128_si256, _mm256_fmadd_pd, _mm256_madd_epi16,
    _mm256_mul_pd, _mm256_permute2f128_pd, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_unpackhi_epi16, _mm256_unpackhi_pd, _mm256_unpacklo_epi16, _mm256_unpacklo_pd,
    _mm256_xor_si256,
};

use super::avx2::{load, numbers, splat, store, word, Constants, Factor, LANES, VECTORS};
use super::groups::{for_each_group, prefetch, Group, GROUP, PACKED};
use super::packing::{LINE, LINES, PARTS};
use super::{Side, Span, DIGIT_BITS, TILE};
use crate::modulus::Modulus;

// Digits of this total magnitude times parts below 2^16 fit 32 signed bits.
const MAGNITUDE_MAX: u32 = 32_767;
// Words of the sums of a piece: 32 bits for each part of an unpacked one.
const SUMS: usize = 2 * TILE;
const PART: f64 = 65_536.0;

fn magnitude(digits: &[i16]) -> u32 {
    digits.iter().map(|d| u32::from(d.unsigned_abs())).sum()
}

// Adds pieces of WORDS words times their digits to the sums of their parts; `fresh` ones are 0.
#[target_feature(enable = "avx2")]
#[inline]
fn add_pieces<const WORDS: usize>(
    pieces: [&[u64; WORDS]; GROUP],
    digits: [i16; GROUP],
    fresh: bool,
    sums: &mut [u64; SUMS],
) {
    let keep = _mm256_set1_epi32(if fresh { 0 } else { -1 });
    let total: i32 = digits.iter().map(|d| i32::from(*d)).sum();
    let owed = _mm256_set1_epi32(total << 15);
    let sign = _mm256_set1_epi16(i16::MIN);
    let mut pairs = [owed; GROUP / 2];
    for (i, pair) in pairs.iter_mut().enumerate() {
        let low = i32::from(digits[2 * i] as u16);
        *pair = _mm256_set1_epi32(low | i32::from(digits[2 * i + 1]) << 16);
    }
    for at in (0..WORDS).step_by(LANES) {
        let mut low = _mm256_and_si256(load(sums, 2 * at), keep);
        let mut high = _mm256_and_si256(load(sums, 2 * at + LANES), keep);
        low = _mm256_add_epi32(low, owed);
        high = _mm256_add_epi32(high, owed);
        for (i, pair) in pairs.iter().enumerate() {
            let x = _mm256_xor_si256(load(pieces[2 * i], at), sign);
            let y = _mm256_xor_si256(load(pieces[2 * i + 1], at), sign);
            let first = _mm256_madd_epi16(_mm256_unpacklo_epi16(x, y), *pair);
            let second = _mm256_madd_epi16(_mm256_unpackhi_epi16(x, y), *pair);
            low = _mm256_add_epi32(low, first);
            high = _mm256_add_epi32(high, second);
        }
        store(sums, 2 * at, low);
        store(sums, 2 * at + LANES, high);
    }
}

// The sums of the four parts of four words, a vector for each part.
#[target_feature(enable = "avx2")]
#[inline]
fn parts(sums: &[u64], at: usize) -> [__m256d; 4] {
    let (even, odd) = (load(sums, 2 * at), load(sums, 2 * at + LANES));
    let a = _mm256_cvtepi32_pd(_mm256_castsi256_si128(even));
    let b = _mm256_cvtepi32_pd(_mm256_castsi256_si128(odd));
    let c = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(even));
    let d = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(odd));
    let (ab, cd) = (_mm256_unpacklo_pd(a, b), _mm256_unpacklo_pd(c, d));
    let (ab2, cd2) = (_mm256_unpackhi_pd(a, b), _mm256_unpackhi_pd(c, d));
    [
        _mm256_permute2f128_pd::<0x20>(ab, cd),
        _mm256_permute2f128_pd::<0x20>(ab2, cd2),
        _mm256_permute2f128_pd::<0x31>(ab, cd),
        _mm256_permute2f128_pd::<0x31>(ab2, cd2),
    ]
}

// Adds the residues of four words' sums by parts, times `power` if there is one, to canonical ones.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_line(
    constants: &Constants,
    power: Option<Factor>,
    [low, middle, high]: [__m256d; PARTS],
    out: &mut [u64],
) {
    let part = splat(PART);
    let top = constants.centred(_mm256_fmadd_pd(high, part, middle));
    let top = constants.centred(_mm256_mul_pd(top, part));
    let mut x = _mm256_add_pd(top, low);
    if let Some(power) = power {
        x = constants.times(x, power);
    }
    let x = constants.canonical(_mm256_add_pd(x, numbers(out, 0)));
    store(out, 0, word(x));
}

// Adds the residues of a piece's sums, times `power` if there is one, to canonical ones.
#[target_feature(enable = "avx2,fma")]
fn add_residues<const WORDS: usize>(
    constants: &Constants,
    power: Option<Factor>,
    sums: &[u64; SUMS],
    out: &mut [u64],
) {
    let mut spread = [splat(0.0); VECTORS];
    for (vector, at) in (0..WORDS).step_by(LANES).enumerate() {
        let [low, middle, high, rest] = parts(sums, at);
        add_line(constants, power, [low, middle, high], &mut out[at..]);
        spread[vector] = rest;
    }
    if WORDS == PACKED {
        // As `packing` has it: the rest of three lines is one line of residues.
        let line = LINE / LANES;
        for (vector, first) in [0, 1, LINES, LINES + 1].into_iter().enumerate() {
            let rest = [
                spread[first],
                spread[first + line],
                spread[first + 2 * line],
            ];
            add_line(constants, power, rest, &mut out[WORDS + vector * LANES..]);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn power(constants: &Constants, digit: usize, q: &Modulus) -> Option<Factor> {
    let value = q.power(1 << DIGIT_BITS, digit as u64);
    (digit > 0).then(|| constants.factor(value))
}

// The columns of one packing times one digit of each weight, added to `out`.
#[target_feature(enable = "avx2,fma")]
fn add_digit<const WORDS: usize>(
    side: &Side<'_>,
    row: &[i16],
    span: Span,
    constants: &Constants,
    power: Option<Factor>,
    out: &mut [u64],
) {
    let mut sums = [0; SUMS];
    let (mut fresh, mut pending, mut filled) = (true, 0, 0);
    let mut pieces = [&[0; WORDS]; GROUP];
    let mut digits = [0; GROUP];
    let chosen = |column: &usize| row[*column] != 0 && side.planes[*column].piece_words() == WORDS;
    let columns: Vec<usize> = (0..row.len()).filter(chosen).collect();
    for (number, column) in columns.iter().enumerate() {
        let source = side.planes[*column];
        let next = side.planes[*columns.get(number + 1).unwrap_or(&columns[0])];
        let (run, _) = source.run(span.piece, span.count).as_chunks();
        for (index, piece) in run.iter().enumerate() {
            prefetch(next.address(span.piece + index), WORDS);
            pieces[filled] = piece;
            digits[filled] = row[*column];
            filled += 1;
            let is_last = number + 1 == columns.len() && index + 1 == run.len();
            if filled < GROUP && !is_last {
                continue;
            }
            let first = pieces[0];
            pieces[filled..].fill(first);
            digits[filled..].fill(0);
            filled = 0;
            if pending + magnitude(&digits) > MAGNITUDE_MAX {
                add_residues::<WORDS>(constants, power, &sums, out);
                (fresh, pending) = (true, 0);
            }
            add_pieces::<WORDS>(pieces, digits, fresh, &mut sums);
            pending += magnitude(&digits);
            fresh = false;
        }
    }
    if !fresh {
        add_residues::<WORDS>(constants, power, &sums, out);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn weighted_sum(side: &Side<'_>, span: Span, q: &Modulus, out: &mut [u64]) {
    let constants = Constants::new(q);
    out.fill(0);
    for (digit, row) in side.digits.iter().enumerate() {
        let power = power(&constants, digit, q);
        add_digit::<TILE>(side, row, span, &constants, power, out);
        add_digit::<PACKED>(side, row, span, &constants, power, out);
    }
}

// Adds the residues of all sums of a panel to `out`.
#[target_feature(enable = "avx2,fma")]
fn add_panel(
    constants: &Constants,
    power: Option<Factor>,
    words: usize,
    scratch: &[u64],
    out: &mut [u64],
) {
    for (sums, out) in scratch.as_chunks().0.iter().zip(out.chunks_exact_mut(TILE)) {
        match words {
            PACKED => add_residues::<PACKED>(constants, power, sums, out),
            _ => add_residues::<TILE>(constants, power, sums, out),
        }
    }
}

// Adds a group of columns to one model's sums over one run, asking for the next ones.
#[target_feature(enable = "avx2,fma")]
fn add_columns<const WORDS: usize>(
    group: &Group<'_>,
    digits: [i16; GROUP],
    fresh: bool,
    sums: &mut [u64],
) {
    let mut pieces = [&[0; WORDS]; GROUP];
    for (index, sums) in sums.as_chunks_mut().0.iter_mut().enumerate() {
        for (i, piece) in pieces.iter_mut().enumerate() {
            prefetch(group.next[i].wrapping_add(index * WORDS), WORDS);
            *piece = &group.runs[i].as_chunks().0[index];
        }
        add_pieces::<WORDS>(pieces, digits, fresh, sums);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn weighted_panel(
    models: &[&Side<'_>],
    spans: &[Span],
    q: &Modulus,
    scratch: &mut [u64],
    out: &mut [u64],
) {
    let constants = Constants::new(q);
    let run = spans[0].count * SUMS;
    out.fill(0);
    let most = models.iter().map(|side| side.digits.len()).max();
    for digit in 0..most.unwrap_or(0) {
        let power = power(&constants, digit, q);
        let zeros = vec![0; models[0].planes.len()];
        let row = |side: &Side<'_>| side.digits.get(digit).unwrap_or(&zeros).clone();
        let rows: Vec<Vec<i16>> = models.iter().map(|side| row(side)).collect();
        // Words of the pieces added up in `scratch`, and what their digits come to at most.
        let (mut held, mut pending) = (None, 0);
        for_each_group(models[0], spans, |group| {
            if group.run == 0 {
                let added = rows.iter().map(|row| magnitude(&group.pick(row)));
                let added = added.max().unwrap_or(0);
                match held {
                    Some(words) if words != group.words || pending + added > MAGNITUDE_MAX => {
                        add_panel(&constants, power, words, scratch, out);
                        (held, pending) = (None, 0);
                    }
                    _ => {}
                }
                pending += added;
            }
            for (row, sums) in rows.iter().zip(scratch.chunks_exact_mut(spans.len() * run)) {
                let digits = group.pick(row);
                let sums = &mut sums[group.run * run..][..run];
                match group.words {
                    PACKED => add_columns::<PACKED>(group, digits, held.is_none(), sums),
                    _ => add_columns::<TILE>(group, digits, held.is_none(), sums),
                }
            }
            if group.is_last_run {
                held = Some(group.words);
            }
        });
        if let Some(words) = held {
            add_panel(&constants, power, words, scratch, out);
        }
    }
}
