//! The transform with 52-bit Shoup butterflies, eight at a time.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_min_epu64, _mm512_permutex2var_epi64, _mm512_permutexvar_epi64, _mm512_set1_epi64,
    _mm512_setr_epi64, _mm512_setzero_si512, _mm512_sub_epi64,
};

use super::ifma::{load, splat, store, LANES, MASK};
use crate::ntt::NttTable;

struct Butterfly {
    q: __m512i,
    twice: __m512i,
    mask: __m512i,
    zero: __m512i,
}

// Lanes of the lower and upper halves of butterflies among 16 words, and the way back.
struct Shuffle {
    lower: __m512i,
    upper: __m512i,
    first: __m512i,
    second: __m512i,
    root: __m512i,
    roots: usize,
}

#[target_feature(enable = "avx512f")]
fn lanes(x: [i64; 8]) -> __m512i {
    _mm512_setr_epi64(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7])
}

impl Shuffle {
    #[target_feature(enable = "avx512f")]
    fn new(gap: usize) -> Self {
        let gap = gap as i64;
        let lower = |j: i64| (j / gap) * 2 * gap + j % gap;
        let back = |element: i64| {
            let lane = (element / (2 * gap)) * gap + element % gap;
            if element % (2 * gap) < gap {
                lane
            } else {
                lane + 8
            }
        };
        let index = [0, 1, 2, 3, 4, 5, 6, 7];
        Self {
            lower: lanes(index.map(lower)),
            upper: lanes(index.map(|j| lower(j) + gap)),
            first: lanes(index.map(back)),
            second: lanes(index.map(|j| back(j + 8))),
            root: lanes(index.map(|j| j / gap)),
            roots: 8 / gap as usize,
        }
    }

    // The roots of 16 words: 8, 4 or 2 neighbours, spread over the lanes.
    #[target_feature(enable = "avx512f")]
    fn spread(&self, row: &[u64], at: usize) -> __m512i {
        let mut words = [0u64; LANES];
        words[..self.roots].copy_from_slice(&row[at..at + self.roots]);
        _mm512_permutexvar_epi64(self.root, load(&words, 0))
    }

    #[target_feature(enable = "avx512f")]
    fn split(&self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        (
            _mm512_permutex2var_epi64(a, self.lower, b),
            _mm512_permutex2var_epi64(a, self.upper, b),
        )
    }

    #[target_feature(enable = "avx512f")]
    fn join(&self, x: __m512i, y: __m512i) -> (__m512i, __m512i) {
        (
            _mm512_permutex2var_epi64(x, self.first, y),
            _mm512_permutex2var_epi64(x, self.second, y),
        )
    }
}

impl Butterfly {
    #[target_feature(enable = "avx512f")]
    fn new(table: &NttTable) -> Self {
        Self {
            q: splat(table.modulus.value),
            twice: splat(2 * table.modulus.value),
            mask: _mm512_set1_epi64(MASK),
            zero: _mm512_setzero_si512(),
        }
    }

    // a w in [0, 2q) for any a below 2^52.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn mul_lazy(&self, a: __m512i, root: __m512i, quotient: __m512i) -> __m512i {
        let times = _mm512_madd52hi_epu64(self.zero, a, quotient);
        let product = _mm512_madd52lo_epu64(self.zero, a, root);
        let rest = _mm512_sub_epi64(product, _mm512_madd52lo_epu64(self.zero, times, self.q));
        _mm512_and_si512(rest, self.mask)
    }

    #[target_feature(enable = "avx512f")]
    fn once(&self, x: __m512i, bound: __m512i) -> __m512i {
        _mm512_min_epu64(x, _mm512_sub_epi64(x, bound))
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn forward(
        &self,
        x: __m512i,
        y: __m512i,
        root: __m512i,
        quotient: __m512i,
    ) -> (__m512i, __m512i) {
        let u = self.once(x, self.twice);
        let v = self.mul_lazy(y, root, quotient);
        (
            _mm512_add_epi64(u, v),
            _mm512_sub_epi64(_mm512_add_epi64(u, self.twice), v),
        )
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn inverse(
        &self,
        u: __m512i,
        v: __m512i,
        root: __m512i,
        quotient: __m512i,
    ) -> (__m512i, __m512i) {
        let sum = self.once(_mm512_add_epi64(u, v), self.twice);
        let difference = _mm512_sub_epi64(_mm512_add_epi64(u, self.twice), v);
        (sum, self.mul_lazy(difference, root, quotient))
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn forward(table: &NttTable, a: &mut [u64]) {
    let butterfly = Butterfly::new(table);
    let [[roots, quotients], _] = table.words();
    let mut gap = a.len() / 2;
    let mut groups = 1;
    while gap >= LANES {
        for (group, pair) in a.chunks_exact_mut(2 * gap).enumerate() {
            let (root, quotient) = (
                splat(roots[groups + group]),
                splat(quotients[groups + group]),
            );
            let (low, high) = pair.split_at_mut(gap);
            for at in (0..gap).step_by(LANES) {
                let (x, y) = butterfly.forward(load(low, at), load(high, at), root, quotient);
                store(low, at, x);
                store(high, at, y);
            }
        }
        gap /= 2;
        groups *= 2;
    }
    let shuffles = [Shuffle::new(4), Shuffle::new(2), Shuffle::new(1)];
    for (k, words) in a.chunks_exact_mut(2 * LANES).enumerate() {
        let mut pair = (load(words, 0), load(words, LANES));
        for (stage, shuffle) in shuffles.iter().enumerate() {
            let at = (groups << stage) + k * shuffle.roots;
            let (root, quotient) = (shuffle.spread(roots, at), shuffle.spread(quotients, at));
            let (x, y) = shuffle.split(pair.0, pair.1);
            let (x, y) = butterfly.forward(x, y, root, quotient);
            pair = shuffle.join(x, y);
        }
        for (i, x) in [pair.0, pair.1].into_iter().enumerate() {
            let x = butterfly.once(butterfly.once(x, butterfly.twice), butterfly.q);
            store(words, i * LANES, x);
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn inverse(table: &NttTable, a: &mut [u64]) {
    let butterfly = Butterfly::new(table);
    let [_, [roots, quotients]] = table.words();
    let mut groups = a.len() / 2;
    let shuffles = [Shuffle::new(1), Shuffle::new(2), Shuffle::new(4)];
    for (k, words) in a.chunks_exact_mut(2 * LANES).enumerate() {
        let mut pair = (load(words, 0), load(words, LANES));
        for (stage, shuffle) in shuffles.iter().enumerate() {
            let at = (groups >> stage) + k * shuffle.roots;
            let (root, quotient) = (shuffle.spread(roots, at), shuffle.spread(quotients, at));
            let (x, y) = shuffle.split(pair.0, pair.1);
            let (x, y) = butterfly.inverse(x, y, root, quotient);
            pair = shuffle.join(x, y);
        }
        store(words, 0, pair.0);
        store(words, LANES, pair.1);
    }
    groups >>= 3;
    let mut gap = LANES;
    while groups >= 1 {
        for (group, pair) in a.chunks_exact_mut(2 * gap).enumerate() {
            let (root, quotient) = (
                splat(roots[groups + group]),
                splat(quotients[groups + group]),
            );
            let (low, high) = pair.split_at_mut(gap);
            for at in (0..gap).step_by(LANES) {
                let (x, y) = butterfly.inverse(load(low, at), load(high, at), root, quotient);
                store(low, at, x);
                store(high, at, y);
            }
        }
        gap *= 2;
        groups /= 2;
    }
    let scale = splat(table.degree_inverse.value);
    let quotient = splat(table.degree_inverse.quotient >> 12);
    for at in (0..a.len()).step_by(LANES) {
        let x = butterfly.mul_lazy(load(a, at), scale, quotient);
        store(a, at, butterfly.once(x, butterfly.q));
    }
}
