//! Times of secret paths for two kinds of secrets: a measurement, not a gate.
//!
//! Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?" (DATE 2017): one class of
//! inputs is fixed, the other random, timings are interleaved in random order, and Welch's t
//! compares them, on all of them and without the slowest, which are the machine's. |t| above 4.5
//! many times over says that times differ; below it, that this many timings show no difference.
//!
//! `cargo test --release -p chain-he timing -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::compose::{digits, magnitude_bits, PlainReducer};
use crate::encoder::{bytes_of, encode};
use crate::keys::SecretKey;
use crate::params::{profile, Profile, LIMBS_MAX};
use crate::sampling::Sampler;
use crate::scheme::{decrypt, encrypt, PublicKey};

const ROUNDS: usize = 2_000;
/// Shares of the fastest timings that are compared.
const CROPS: [f64; 4] = [1.0, 0.9, 0.7, 0.5];
const FLOOD_BITS: u32 = 100;

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Fixed,
    Random,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn seed(&mut self) -> [u8; 32] {
        let words: Vec<u8> = (0..4).flat_map(|_| self.next().to_le_bytes()).collect();
        words.try_into().unwrap()
    }
}

// Mean, variance of the mean.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}

fn welch_t(fixed: &[f64], random: &[f64]) -> f64 {
    let ((a, of_a), (b, of_b)) = (moments(fixed), moments(random));
    (a - b) / (of_a + of_b).sqrt().max(f64::MIN_POSITIVE)
}

/// Prints t for every crop. `load` puts a secret of a class in the one place that `run` reads, so
/// that both classes meet the same addresses.
fn measure<T>(
    name: &str,
    place: &mut T,
    mut load: impl FnMut(&mut T, Class, &mut Random),
    mut run: impl FnMut(&mut T),
) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut timed: Vec<(f64, Class)> = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS + ROUNDS / 20 {
        let class = [Class::Fixed, Class::Random][random.next() as usize >> 8 & 1];
        load(place, class, &mut random);
        let start = Instant::now();
        run(place);
        let spent_ns = start.elapsed().as_nanos() as f64;
        // The first ones warm caches.
        if round >= ROUNDS / 20 {
            timed.push((spent_ns, class));
        }
    }
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median_us = timed[timed.len() / 2].0 / 1_000.0;
    let shown: Vec<String> = CROPS
        .iter()
        .map(|share| {
            let kept = &timed[..(timed.len() as f64 * share) as usize];
            let of = |wanted| {
                let times = kept.iter().filter(|(_, class)| *class == wanted);
                times.map(|(spent_ns, _)| *spent_ns).collect::<Vec<_>>()
            };
            format!("{:6.1}", welch_t(&of(Class::Fixed), &of(Class::Random)))
        })
        .collect();
    println!("{name:<28} {median_us:>9.1} us  t {}", shown.join(" "));
}

// Overwrites a key: all zero, or random and ternary.
fn load_key(key: &mut SecretKey, class: Class, random: &mut Random) {
    let ring = key.profile.ring;
    match class {
        Class::Fixed => key.coefficients.fill(0),
        Class::Random => {
            let fresh = Sampler::new(&random.seed()).ternary(ring.degree);
            key.coefficients.copy_from_slice(&fresh);
        }
    }
    for (limb, values) in key.values.iter_mut().enumerate() {
        ring.lift_into(&key.coefficients, 1, limb, values);
    }
}

fn sample_key(profile: &'static Profile) -> (SecretKey, Vec<u8>, Vec<u8>) {
    let key = SecretKey::from_seed(profile, &[1; 32]);
    let public = bytes_of(&key.public_key().unwrap()).into_owned();
    let parsed = PublicKey::parse(profile, &public).unwrap();
    let slots = bytes_of(&vec![3; profile.ring.degree]).into_owned();
    let sealed = encrypt(profile, &parsed, &slots, &[2; 32], profile.ring.limbs).unwrap();
    (key, public, bytes_of(&sealed).into_owned())
}

fn with_keys(profile: &'static Profile) {
    let limbs = profile.ring.limbs;
    let (mut key, public, ciphertext) = sample_key(profile);
    let name = |what: &str| format!("{what}, {}", profile.name);
    let target = PublicKey::parse(profile, &public).unwrap();
    measure(&name("public key share"), &mut key, load_key, |key| {
        black_box(key.key_share(b"common").unwrap());
    });
    measure(&name("seal"), &mut key, load_key, |key| {
        black_box(key.seal(&[7; 32]).unwrap());
    });
    measure(&name("scalar share"), &mut key, load_key, |key| {
        black_box(key.scalar_share(&ciphertext, limbs, &[5; 32], 6).unwrap());
    });
    measure(&name("key-switch share"), &mut key, load_key, |key| {
        black_box(
            key.key_switch_share(&ciphertext, limbs, &target, &[5; 32], 6)
                .unwrap(),
        );
    });
    measure(&name("decrypt"), &mut key, load_key, |key| {
        black_box(decrypt(key, &ciphertext, limbs).unwrap());
    });
}

fn with_seeds(profile: &'static Profile) {
    let ring = profile.ring;
    let load = |seed: &mut [u8; 32], class, random: &mut Random| {
        *seed = match class {
            Class::Fixed => [0; 32],
            Class::Random => random.seed(),
        };
    };
    measure("ternary", &mut [0; 32], load, |seed| {
        black_box(Sampler::new(seed).ternary(ring.degree));
    });
    measure("error", &mut [0; 32], load, |seed| {
        black_box(Sampler::new(seed).error(ring.degree));
    });
    let moduli: Vec<_> = (0..ring.limbs).map(|limb| *ring.modulus(limb)).collect();
    measure("flooding", &mut [0; 32], load, |seed| {
        black_box(Sampler::new(seed).flood(ring.degree, FLOOD_BITS, profile.t(), &moduli));
    });
}

fn with_values(profile: &'static Profile) {
    let (ring, limbs) = (profile.ring, profile.ring.limbs);
    let load = |rows: &mut Zeroizing<Vec<u64>>, class, random: &mut Random| {
        for (place, x) in rows.iter_mut().enumerate() {
            let q = ring.modulus(place % limbs).value;
            *x = random.next() % q * u64::from(class == Class::Random);
        }
    };
    let mut rows = Zeroizing::new(vec![0; ring.degree * limbs]);
    let reducer = PlainReducer::new(ring, profile.plain.modulus, limbs);
    measure("recovery modulo t", &mut rows, load, |rows| {
        for residues in rows.chunks_exact(limbs) {
            black_box(reducer.reduce(&digits(ring, residues)));
        }
    });
    measure("size of noise", &mut rows, load, |rows| {
        for residues in rows.chunks_exact(limbs) {
            let mut all = [0; LIMBS_MAX];
            all[..limbs].copy_from_slice(residues);
            black_box(magnitude_bits(ring, &all, limbs));
        }
    });
    let load_slots = |slots: &mut Vec<u8>, class, random: &mut Random| {
        for word in slots.chunks_exact_mut(8) {
            let value = random.next() % profile.t() * u64::from(class == Class::Random);
            word.copy_from_slice(&value.to_le_bytes());
        }
    };
    let mut slots = vec![0; 8 * ring.degree];
    measure("encoding of slots", &mut slots, load_slots, |slots| {
        black_box(encode(profile, slots).unwrap());
    });
    // What a leak looks like: it stops at the first value that is not 0.
    measure("control: an early end", &mut slots, load_slots, |slots| {
        black_box(slots.iter().position(|x| *x != 0));
    });
}

#[test]
#[ignore = "a measurement of a quiet machine; prints t values and judges nothing"]
fn timing_of_secret_paths_for_two_classes_of_secrets() {
    println!("path, median, t of all timings and of the fastest {CROPS:?}");
    for name in ["S36", "M"] {
        with_keys(profile(name).unwrap());
    }
    with_seeds(profile("S36").unwrap());
    with_values(profile("S36").unwrap());
}
