//! The transform in double precision, four butterflies at a time; the words hold doubles meanwhile.
//!
//! Blocks that do not fit the L1 cache are halved after one stage, the halves taken one after the
//! other. Forward, a product lies within 3/4 q of 0 and the other side is never reduced: after s
//! stages of an input below 4 q values are below (4 + 3 s / 4) q < 2^48. Inverse, sums double at
//! each stage and are centred at every fourth: they stay below 2^48 as well.

use std::arch::x86_64::{
    __m256d, _mm256_add_pd, _mm256_castpd_si256, _mm256_castsi256_pd, _mm256_permute2f128_pd,
    _mm256_setr_pd, _mm256_sub_pd, _mm256_unpackhi_pd, _mm256_unpacklo_pd,
};

use super::avx2::{load, numbers, splat, store, word, Constants, Factor, LANES};
use crate::ntt::NttTable;

const STAGES_UNREDUCED: u32 = 4;
// Words of a block that is worked on in the L1 cache.
const BLOCK: usize = 2048;
// Both 128-bit halves of two vectors, the low ones and the high ones.
const LOW_HALVES: i32 = 0x20;
const HIGH_HALVES: i32 = 0x31;

#[target_feature(enable = "avx2")]
#[inline]
fn load_number(words: &[u64; LANES]) -> __m256d {
    _mm256_castsi256_pd(load(words, 0))
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_number(words: &mut [u64; LANES], x: __m256d) {
    store(words, 0, _mm256_castpd_si256(x));
}

// Roots and their quotients.
#[derive(Clone, Copy)]
struct Roots<'a>(&'a [f64], &'a [f64]);

impl Roots<'_> {
    #[target_feature(enable = "avx2")]
    fn one(&self, at: usize) -> Factor {
        Factor {
            value: splat(self.0[at]),
            quotient: splat(self.1[at]),
        }
    }

    #[target_feature(enable = "avx2")]
    fn two(&self, at: usize) -> Factor {
        let twice = |row: &[f64]| _mm256_setr_pd(row[at], row[at], row[at + 1], row[at + 1]);
        Factor {
            value: twice(self.0),
            quotient: twice(self.1),
        }
    }

    #[target_feature(enable = "avx2")]
    fn four(&self, at: usize) -> Factor {
        let four = |row: &[f64]| {
            let x = &row[at..at + LANES];
            _mm256_setr_pd(x[0], x[1], x[2], x[3])
        };
        Factor {
            value: four(self.0),
            quotient: four(self.1),
        }
    }
}

type Pair = (__m256d, __m256d);

#[target_feature(enable = "avx2,fma")]
#[inline]
fn down(constants: &Constants, (x, y): Pair, root: Factor) -> Pair {
    let v = constants.times(y, root);
    (_mm256_add_pd(x, v), _mm256_sub_pd(x, v))
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn up(constants: &Constants, (u, v): Pair, root: Factor) -> Pair {
    let difference = _mm256_sub_pd(u, v);
    (_mm256_add_pd(u, v), constants.times(difference, root))
}

#[target_feature(enable = "avx2")]
#[inline]
fn halves((x, y): Pair) -> Pair {
    (
        _mm256_permute2f128_pd::<LOW_HALVES>(x, y),
        _mm256_permute2f128_pd::<HIGH_HALVES>(x, y),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn neighbours((x, y): Pair) -> Pair {
    (_mm256_unpacklo_pd(x, y), _mm256_unpackhi_pd(x, y))
}

// One stage of a block: butterflies between its halves.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn stage_down(constants: &Constants, block: &mut [u64], root: Factor) {
    let (low, high) = block.split_at_mut(block.len() / 2);
    let (low, high) = (low.as_chunks_mut().0, high.as_chunks_mut().0);
    for (low, high) in low.iter_mut().zip(high) {
        let (x, y) = down(constants, (load_number(low), load_number(high)), root);
        store_number(low, x);
        store_number(high, y);
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn stage_up(constants: &Constants, block: &mut [u64], root: Factor) {
    let is_reduced = block
        .len()
        .trailing_zeros()
        .is_multiple_of(STAGES_UNREDUCED);
    let (low, high) = block.split_at_mut(block.len() / 2);
    let (low, high) = (low.as_chunks_mut().0, high.as_chunks_mut().0);
    for (low, high) in low.iter_mut().zip(high) {
        let (mut x, y) = up(constants, (load_number(low), load_number(high)), root);
        if is_reduced {
            x = constants.centred(x);
        }
        store_number(low, x);
        store_number(high, y);
    }
}

// The stages of a block whose first root is number `node`.
#[target_feature(enable = "avx2,fma")]
fn block_down(constants: &Constants, roots: Roots<'_>, block: &mut [u64], node: usize) {
    if block.len() > BLOCK {
        stage_down(constants, block, roots.one(node));
        let (low, high) = block.split_at_mut(block.len() / 2);
        block_down(constants, roots, low, 2 * node);
        return block_down(constants, roots, high, 2 * node + 1);
    }
    let (mut size, mut first) = (block.len(), node);
    while size > LANES {
        for (group, part) in block.chunks_exact_mut(size).enumerate() {
            stage_down(constants, part, roots.one(first + group));
        }
        (size, first) = (size / 2, 2 * first);
    }
    for (k, [low, high]) in pairs(block).enumerate() {
        let pair = halves((load_number(low), load_number(high)));
        let pair = down(constants, pair, roots.two(first + 2 * k));
        let pair = down(constants, neighbours(pair), roots.four(2 * first + 4 * k));
        let (x, y) = halves(neighbours(pair));
        store(low, 0, word(constants.canonical(x)));
        store(high, 0, word(constants.canonical(y)));
    }
}

#[target_feature(enable = "avx2,fma")]
fn block_up(constants: &Constants, roots: Roots<'_>, block: &mut [u64], node: usize) {
    if block.len() > BLOCK {
        let (low, high) = block.split_at_mut(block.len() / 2);
        block_up(constants, roots, low, 2 * node);
        block_up(constants, roots, high, 2 * node + 1);
        return stage_up(constants, block, roots.one(node));
    }
    let (mut size, mut first) = (2 * LANES, node * block.len() / LANES);
    for (k, [low, high]) in pairs(block).enumerate() {
        let pair = halves((numbers(low, 0), numbers(high, 0)));
        let pair = up(constants, neighbours(pair), roots.four(2 * first + 4 * k));
        let pair = up(constants, neighbours(pair), roots.two(first + 2 * k));
        let (x, y) = halves(pair);
        store_number(low, x);
        store_number(high, y);
    }
    while size <= block.len() {
        first /= 2;
        for (group, part) in block.chunks_exact_mut(size).enumerate() {
            stage_up(constants, part, roots.one(first + group));
        }
        size *= 2;
    }
}

fn pairs(block: &mut [u64]) -> impl Iterator<Item = &mut [[u64; LANES]; 2]> {
    block.as_chunks_mut().0.as_chunks_mut().0.iter_mut()
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn forward(table: &NttTable, a: &mut [u64]) {
    let constants = Constants::new(&table.modulus);
    let [[values, quotients], _] = table.numbers();
    for words in a.as_chunks_mut().0 {
        store_number(words, numbers(words, 0));
    }
    block_down(&constants, Roots(values, quotients), a, 1);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn inverse(table: &NttTable, a: &mut [u64]) {
    let constants = Constants::new(&table.modulus);
    let [_, [values, quotients]] = table.numbers();
    block_up(&constants, Roots(values, quotients), a, 1);
    let scale = constants.factor(table.degree_inverse.value);
    for words in a.as_chunks_mut().0 {
        let x = constants.times(load_number(words), scale);
        store(words, 0, word(constants.canonical(x)));
    }
}
