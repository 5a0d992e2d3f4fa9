//! Every path this machine has gives the bytes of the portable one.

use std::cell::Cell;

use super::*;
use crate::params::{profile, ring, ring_m, MODULI, MODULI_M};

thread_local! {
    // The path a test asks for.
    pub(super) static FORCED: Cell<Option<Path>> = const { Cell::new(None) };
}

// Runs a test on every path of this machine.
pub(crate) fn on_each_path(test: impl Fn()) {
    for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
        FORCED.set(Some(path));
        test();
    }
    FORCED.set(None);
}

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
const PACKINGS: [&[Packing]; 3] = [
    &[Packing::Eight],
    &[Packing::Six],
    &[Packing::Six, Packing::Eight, Packing::Six],
];

// Planes as their files hold them, the packings taken in turn.
fn stored(planes: &[Vec<u64>], packings: &[Packing]) -> Vec<(Vec<u64>, Packing)> {
    let store = |(plane, packing): (&Vec<u64>, &Packing)| {
        let mut words = Vec::new();
        for piece in plane.chunks_exact(TILE) {
            packing.pack(piece, &mut words);
        }
        (words, *packing)
    };
    let packings = packings.iter().cycle();
    planes.iter().zip(packings).map(store).collect()
}

fn sources(stored: &[(Vec<u64>, Packing)]) -> Vec<Source<'_>> {
    stored
        .iter()
        .map(|(words, packing)| Source::new(words, *packing))
        .collect()
}

fn planes(columns: usize, q: u64) -> Vec<Vec<u64>> {
    (0..columns)
        .map(|c| words(c as u64 + 1, 2 * PIECES * TILE, q))
        .collect()
}

#[test]
fn packed_residues_come_back() {
    let mut residues = words(9, 3 * TILE, 1 << packing::PACKED_BITS);
    residues[TILE + 63] = (1 << packing::PACKED_BITS) - 1;
    for packing in [Packing::Eight, Packing::Six] {
        let held = stored(std::slice::from_ref(&residues), &[packing]);
        assert_eq!(held[0].0.len() * 8, 3 * TILE * packing.residue_bytes());
        let source = sources(&held)[0];
        let back: Vec<u64> = (0..3).flat_map(|piece| source.unpack(piece)).collect();
        assert_eq!(back, residues);
    }
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_residue_of_more_bits_is_not_packed() {
    Packing::Six.pack(&[1 << packing::PACKED_BITS; TILE], &mut Vec::new());
}

#[test]
fn weighted_sums_are_equal() {
    on_each_path(|| {
        for (limb, prime) in MODULI.into_iter().enumerate() {
            let q = ring().modulus(limb);
            let data = planes(7, prime);
            for weights in [
                [1i64, -1, 2, 3, 0, 4, 5],
                [i64::MAX, i64::MIN, -113, 7, 1 << 41, -1, 9],
            ] {
                let results = PACKINGS.map(|packings| {
                    let held = stored(&data, packings);
                    let side = Side::new(sources(&held), &weights, 0, q);
                    let span = Span {
                        piece: 1,
                        count: PIECES,
                    };
                    let mut fast = vec![0; TILE];
                    let mut slow = vec![0; TILE];
                    weighted_sum(&side, span, q, &mut fast);
                    portable::weighted_sum(&side, span, q, &mut slow);
                    assert_eq!(fast, slow);
                    fast
                });
                assert!(results.iter().all(|result| *result == results[0]));
            }
        }
    });
}

#[test]
fn long_sums_of_the_largest_residues_do_not_overflow() {
    on_each_path(|| {
        let q = ring().modulus(3);
        let data = vec![q.value - 1; 70 * TILE];
        let side = Side::new(
            vec![Source::new(&data, Packing::Eight); 130],
            &[-1; 130],
            0,
            q,
        );
        let mut fast = vec![0; TILE];
        let span = Span {
            piece: 0,
            count: 70,
        };
        weighted_sum(&side, span, q, &mut fast);
        // 130 x 70 times (q - 1)^2 is 1 each.
        assert_eq!(fast, vec![130 * 70; TILE]);
    });
}

#[test]
fn panels_are_equal_for_any_number_of_columns() {
    on_each_path(|| {
        let q = ring().modulus(3);
        let data = planes(9, q.value);
        for columns in 1..=9 {
            let weights: Vec<i64> = (0..columns).map(|c| (c as i64 - 4) << (5 * c)).collect();
            let negated: Vec<i64> = weights.iter().map(|w| -w).collect();
            let results = PACKINGS.map(|packings| {
                let held = stored(&data[..columns], packings);
                let side = |w: &[i64]| Side::new(sources(&held), w, 0, q);
                let (first, second) = (side(&weights), side(&negated));
                let spans: Vec<Span> = (0..3)
                    .map(|run| Span {
                        piece: 1 + 9 * run,
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
                fast
            });
            assert!(results.iter().all(|result| *result == results[0]));
        }
    });
}

#[test]
fn products_of_two_to_four_factors_are_equal() {
    on_each_path(|| {
        let primes = (0..MODULI.len()).map(|i| ring().modulus(i));
        let primes = primes.chain((0..MODULI_M.len()).map(|i| ring_m().modulus(i)));
        for (number, q) in primes.enumerate() {
            let data = planes(6, q.value);
            let held = stored(&data, PACKINGS[number % PACKINGS.len()]);
            let all = sources(&held);
            let side = |from: usize, weights: &[i64], constant: i64| {
                Side::new(
                    all[from..from + weights.len()].to_vec(),
                    weights,
                    constant,
                    q,
                )
            };
            let sides = [
                side(0, &[1, -1], 1),
                side(2, &[-3, 4], 5),
                side(4, &[-7], 1),
                side(5, &[1 << 40], -9),
            ];
            for chosen in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]] {
                for count in [2, 3, 4] {
                    let chosen: Vec<&Side<'_>> =
                        chosen[..count].iter().map(|i| &sides[*i]).collect();
                    let spans = [0, PIECES].map(|piece| Span {
                        piece,
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
    });
}

#[test]
fn deep_products_of_the_largest_residues_do_not_overflow() {
    on_each_path(|| {
        for q in [ring_m().modulus(0), ring().modulus(0), ring().modulus(3)] {
            let held = stored(&[vec![q.value - 1; 1300 * TILE]], &[Packing::Six]);
            let side = Side::new(sources(&held), &[7], 0, q);
            let spans = [Span {
                piece: 0,
                count: 1300,
            }; 2];
            for (count, binomial) in [(2usize, 2), (3, 3), (4, 6)] {
                let sides = vec![&side; count];
                let mut fast = vec![0; (count + 1) * TILE];
                tensor_sum(&sides, spans, 0, q, &mut fast);
                // (-7)^count per product; the middle part collects `binomial` of them.
                let one = [49, q.value - 343, 2401][count - 2];
                assert_eq!(fast[0], q.mul(one, 1300));
                assert_eq!(fast[count / 2 * TILE], q.mul(one, 1300 * binomial));
            }
        }
    });
}

#[test]
fn the_largest_word_is_found_anywhere() {
    on_each_path(|| {
        for place in [0, 1, 63, 64, 700, 703] {
            let mut data = vec![5; 704];
            data[place] = u64::MAX - 1;
            assert_eq!(largest(&data), u64::MAX - 1);
            assert_eq!(largest(&data[..place]), if place == 0 { 0 } else { 5 });
        }
    });
}

#[test]
fn row_products_are_equal() {
    on_each_path(|| {
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
    });
}

#[test]
fn divisions_by_the_special_prime_are_equal() {
    on_each_path(|| {
        for name in ["S", "S36", "M"] {
            let profile = profile(name).unwrap();
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
    });
}

// Residues at which an estimate of a quotient or a sum of halves is furthest off.
fn edges(q: u64) -> Vec<u64> {
    let near = |x: u64| [x.saturating_sub(1), x, x + 1];
    let mut out: Vec<u64> = [q / 2, q / 3, 1 << 26, 1 << 16, 1 << 41, 3 << 40]
        .into_iter()
        .flat_map(near)
        .chain([0, 1, 2, q - 2, q - 1])
        .map(|x| x % q)
        .collect();
    out.resize(24, q - 1);
    out
}

#[test]
fn products_of_edges_are_exact() {
    let rings = [ring(), ring_m()];
    let primes = rings.iter().flat_map(|r| &r.tables).map(|t| t.modulus);
    let plain = ["S", "S36", "M"].map(|name| profile(name).unwrap().plain.modulus);
    let primes: Vec<Modulus> = primes.chain(plain).collect();
    on_each_path(|| {
        for q in &primes {
            let row = edges(q.value);
            for weight in row.iter().copied().chain(words(5, 200, q.value)) {
                let mut out = vec![0; row.len()];
                scale_row(&mut out, &row, weight, q);
                let mut sums = row.clone();
                let repeated = vec![weight; row.len()];
                add_products(&mut sums, &[(row.as_slice(), repeated.as_slice()); 64], q);
                for ((x, product), sum) in row.iter().zip(&out).zip(&sums) {
                    let exact = *x as u128 * weight as u128;
                    assert_eq!(*product as u128, exact % q.value as u128);
                    assert_eq!(*sum as u128, (*x as u128 + 64 * exact) % q.value as u128);
                }
            }
        }
    });
}

#[test]
fn digits_add_up_to_the_weights() {
    let q = ring_m().modulus(0);
    let half = (q.value / 2) as i64;
    let weights = vec![0, 1, -1, 1023, 1024, -1024, -1025, half, -half, half - 1024];
    let rows = digits(weights.clone());
    assert_eq!(rows.len(), 4);
    for (column, weight) in weights.iter().enumerate() {
        let sum = rows.iter().rev().fold(0, |sum, row| {
            assert!(row[column].unsigned_abs() <= 1 << (DIGIT_BITS - 1));
            (sum << DIGIT_BITS) + i64::from(row[column])
        });
        assert_eq!(sum, *weight);
    }
    assert!(digits(vec![0, 0]).is_empty());
}

#[test]
fn panels_of_many_large_weights_do_not_overflow() {
    let q = ring_m().modulus(0);
    let data = vec![vec![q.value - 1; 4 * TILE]; 130];
    on_each_path(|| {
        for packings in PACKINGS {
            let held = stored(&data, packings);
            for weight in [1024, -1024, (q.value / 2) as i64, 0] {
                let side = Side::new(sources(&held), &[weight; 130], 0, q);
                let mut out = vec![9; 4 * TILE];
                let mut scratch = vec![7; 2 * out.len()];
                let spans = [Span { piece: 0, count: 4 }];
                weighted_panel(&[&side], &spans, q, &mut scratch, &mut out);
                let sum = q.mul(q.from_signed(-weight), 130);
                assert_eq!(out, vec![sum; 4 * TILE]);
                let mut total = vec![9; TILE];
                weighted_sum(&side, spans[0], q, &mut total);
                assert_eq!(total, vec![q.mul(sum, 4); TILE]);
            }
        }
    });
}

#[test]
fn a_named_path_is_taken_where_it_is_available() {
    let names = available_paths();
    assert_eq!(names.last(), Some(&"portable"));
    on_each_path(|| assert!(names.contains(&cpu_path())));
}
