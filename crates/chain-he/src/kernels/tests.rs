//! The chosen path gives the bytes of the portable one.

use super::*;
use crate::params::{ring, ring_m, MODULI, MODULI_M};

fn words(seed: u64, count: usize, bound: u64) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out: Vec<u64> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        })
        .collect();
    // The extremes, where a lazy bound would show.
    out[0] = bound - 1;
    out[1] = 0;
    out[TILE] = bound - 1;
    out
}

const PIECES: usize = 21;

fn planes(columns: usize, q: u64) -> Vec<Vec<u64>> {
    (0..columns)
        .map(|c| words(c as u64 + 1, 2 * PIECES * TILE, q))
        .collect()
}

#[test]
fn weighted_sums_are_equal() {
    for (limb, prime) in MODULI.into_iter().enumerate() {
        let q = ring().modulus(limb);
        let data = planes(7, prime);
        for weights in [
            [1i64, -1, 2, 3, 0, 4, 5],
            [i64::MAX, i64::MIN, -113, 7, 1 << 41, -1, 9],
        ] {
            let side = Side::new(data.iter().map(Vec::as_slice).collect(), &weights, 0, q);
            let span = Span {
                offset: TILE,
                count: PIECES,
            };
            let mut fast = vec![0; TILE];
            let mut slow = vec![0; TILE];
            weighted_sum(&side, span, q, &mut fast);
            portable::weighted_sum(&side, span, q, &mut slow);
            assert_eq!(fast, slow);
        }
    }
}

#[test]
fn long_sums_of_the_largest_residues_do_not_overflow() {
    let q = ring().modulus(3);
    let data = vec![q.value - 1; 70 * TILE];
    let side = Side::new(vec![&data; 130], &[-1; 130], 0, q);
    let mut fast = vec![0; TILE];
    weighted_sum(
        &side,
        Span {
            offset: 0,
            count: 70,
        },
        q,
        &mut fast,
    );
    // 130 x 70 times (q - 1)^2 is 1 each.
    assert_eq!(fast, vec![130 * 70; TILE]);
    let whole = vec![q.value - 1; 1300 * TILE];
    let side = Side::new(vec![&whole], &[7], 0, q);
    let spans = [Span {
        offset: 0,
        count: 1300,
    }; 2];
    let mut fast = vec![0; 3 * TILE];
    let mut slow = vec![0; 3 * TILE];
    product_sum(&side, &side, spans, 0, q, &mut fast);
    portable::product_sum(&side, &side, spans, q, &mut slow);
    assert_eq!(fast, slow);
    assert_eq!(fast[0], 49 * 1300);
    assert_eq!(fast[TILE], 2 * 49 * 1300);
}

#[test]
fn panels_are_equal_for_any_number_of_columns() {
    let q = ring().modulus(3);
    let data = planes(9, q.value);
    for columns in 1..=9 {
        let weights: Vec<i64> = (0..columns).map(|c| (c as i64 - 4) << (5 * c)).collect();
        let negated: Vec<i64> = weights.iter().map(|w| -w).collect();
        let side =
            |w: &[i64]| Side::new(data[..columns].iter().map(Vec::as_slice).collect(), w, 0, q);
        let (first, second) = (side(&weights), side(&negated));
        let spans: Vec<Span> = (0..3)
            .map(|run| Span {
                offset: (1 + 9 * run) * TILE,
                count: 7,
            })
            .collect();
        let mut fast = vec![0; 2 * 21 * TILE];
        let mut slow = fast.clone();
        let models = [&first, &second];
        let mut scratch = vec![7; 2 * fast.len()];
        weighted_panel(&models, &spans, q, &mut scratch, &mut fast);
        portable::weighted_panel(&models, &spans, q, &mut slow);
        assert_eq!(fast, slow);
    }
}

#[test]
fn product_sums_are_equal() {
    for (limb, prime) in MODULI.into_iter().enumerate() {
        let q = ring().modulus(limb);
        let data = planes(4, prime);
        let side = |from: usize, weights: &[i64], constant: i64| {
            let planes = data[from..from + weights.len()]
                .iter()
                .map(Vec::as_slice)
                .collect();
            Side::new(planes, weights, constant, q)
        };
        let lefts = [
            side(0, &[1, -1], 1),
            side(0, &[3, -4], -5),
            side(0, &[900, -12_345], 77),
        ];
        let rights = [
            side(2, &[1], 0),
            side(2, &[-1, 6], -1),
            side(2, &[1 << 40], 0),
        ];
        for (left, right) in lefts.iter().zip(&rights) {
            let spans = [
                Span {
                    offset: 0,
                    count: PIECES,
                },
                Span {
                    offset: PIECES * TILE,
                    count: PIECES,
                },
            ];
            let mut fast = vec![0; 3 * TILE];
            let mut slow = vec![0; 3 * TILE];
            product_sum(left, right, spans, 0, q, &mut fast);
            portable::product_sum(left, right, spans, q, &mut slow);
            assert_eq!(fast, slow);
        }
    }
}

#[test]
fn products_of_three_and_four_factors_are_equal() {
    let primes = MODULI
        .into_iter()
        .enumerate()
        .map(|(i, _)| ring().modulus(i));
    let primes = primes.chain((0..MODULI_M.len()).map(|i| ring_m().modulus(i)));
    for q in primes {
        let data = planes(6, q.value);
        let side = |from: usize, weights: &[i64], constant: i64| {
            let planes = data[from..from + weights.len()]
                .iter()
                .map(Vec::as_slice)
                .collect();
            Side::new(planes, weights, constant, q)
        };
        let sides = [
            side(0, &[1, -1], 0),
            side(2, &[-3, 4], 5),
            side(4, &[-7], 1),
            side(5, &[1 << 40], -9),
        ];
        for count in [2, 3, 4] {
            let chosen: Vec<&Side<'_>> = sides[..count].iter().rev().collect();
            let spans = [0, PIECES * TILE].map(|offset| Span {
                offset,
                count: PIECES,
            });
            let mut fast = vec![0; (count + 1) * TILE];
            let mut slow = fast.clone();
            tensor_sum(&chosen, spans, 0, q, &mut fast);
            portable::tensor_sum(&chosen, spans, q, &mut slow);
            assert_eq!(fast, slow);
        }
    }
}

#[test]
fn deep_products_of_the_largest_residues_do_not_overflow() {
    let q = ring_m().modulus(0);
    let whole = vec![q.value - 1; 1300 * TILE];
    let side = Side::new(vec![&whole], &[7], 0, q);
    let spans = [Span {
        offset: 0,
        count: 1300,
    }; 2];
    for (count, binomial) in [(3usize, 3), (4, 6)] {
        let sides = vec![&side; count];
        let mut fast = vec![0; (count + 1) * TILE];
        tensor_sum(&sides, spans, 0, q, &mut fast);
        // (-7)^count per product; the third part collects `binomial` of them.
        let one = if count == 3 { q.value - 343 } else { 2401 };
        assert_eq!(fast[0], q.mul(one, 1300));
        assert_eq!(fast[2 * TILE], q.mul(one, 1300 * binomial));
    }
}

#[test]
fn the_largest_word_is_found_anywhere() {
    for place in [0, 1, 63, 64, 700, 703] {
        let mut data = vec![5; 704];
        data[place] = u64::MAX - 1;
        assert_eq!(largest(&data), u64::MAX - 1);
        assert_eq!(largest(&data[..place]), if place == 0 { 0 } else { 5 });
    }
}

#[test]
fn row_products_are_equal() {
    for (limb, prime) in MODULI.into_iter().enumerate() {
        let q = ring().modulus(limb);
        let data = planes(9, prime);
        let pairs: Vec<(&[u64], &[u64])> = data[1..]
            .chunks_exact(2)
            .map(|p| (p[0].as_slice(), p[1].as_slice()))
            .collect();
        let mut fast = data[0].clone();
        let mut slow = data[0].clone();
        add_products(&mut fast, &pairs, q);
        portable::add_products(&mut slow, &pairs, q);
        assert_eq!(fast, slow);
        add_row(&mut fast, &data[1], q);
        portable::add_row(&mut slow, &data[1], q);
        assert_eq!(fast, slow);
        let (source, weight) = (fast.clone(), prime - 2);
        scale_row(&mut fast, &source, weight, q);
        portable::scale_row(&mut slow, &source, weight, q);
        assert_eq!(fast, slow);
    }
}

#[test]
fn divisions_by_the_special_prime_are_equal() {
    for name in ["S", "S36", "M"] {
        let profile = crate::params::profile(name).unwrap();
        let division = Division {
            special: profile.ring.special,
            plain: profile.plain.modulus,
            inverse: profile.special_inverse_plain,
        };
        let mut special = words(3, 256, division.special);
        special[2] = division.special / 2;
        special[3] = division.special / 2 + 1;
        let (mut fast, mut slow) = (vec![0; 256], vec![0; 256]);
        special_quotient(&mut fast, &special, &division);
        portable::special_quotient(&mut slow, &special, &division);
        assert_eq!(fast, slow);
        let mut quotient = fast.clone();
        quotient[5] = profile.t() / 2;
        quotient[6] = profile.t() / 2 + 1;
        for limb in 0..profile.ring.limbs {
            let q = profile.ring.modulus(limb);
            special_correction(&mut fast, &special, &quotient, &division, q);
            portable::special_correction(&mut slow, &special, &quotient, &division, q);
            assert_eq!(fast, slow);
            let c = words(8, 256, q.value);
            let weight = profile.ring.special_inverse[limb].value;
            subtract_scale(&mut fast, &c, weight, q);
            portable::subtract_scale(&mut slow, &c, weight, q);
            assert_eq!(fast, slow);
        }
    }
}
