//! BGV encryption and decryption (Brakerski, Gentry, Vaikuntanathan, ITCS 2012) over RNS limbs.
//!
//! No modulus switching is used, so there is no plaintext correction factor: a ciphertext of the
//! first limbs decrypts to c0 + c1 s + c2 s^2, centred modulo their product, modulo t.

use zeroize::Zeroizing;

use crate::compose::{digits, magnitude_bits, Digits, PlainReducer};
use crate::encoder::{decode, encode};
use crate::error::{refuse, HeResult};
use crate::keys::SecretKey;
use crate::params::{Profile, Ring, LIMBS_MAX};
use crate::poly::{parse_ciphertext, view};
use crate::sampling::{derive_seed, Sampler};
use crate::threads::each;

/// A public key with its residues checked once.
pub struct PublicKey<'a> {
    ring: &'static Ring,
    words: std::borrow::Cow<'a, [u64]>,
}

impl<'a> PublicKey<'a> {
    /// Checks (b, a) over the data limbs.
    pub fn parse(profile: &Profile, bytes: &'a [u8]) -> HeResult<Self> {
        let ring = profile.ring;
        let expected = 2 * ring.limbs * ring.degree * 8;
        if bytes.len() != expected {
            return refuse(format!(
                "public key is {} bytes, expected {expected}",
                bytes.len()
            ));
        }
        let words = view(bytes);
        ring.check_residues("public key", &words, ring.limbs)?;
        Ok(Self { ring, words })
    }

    /// Row `limb` of b (0) or a (1).
    pub(crate) fn row(&self, index: usize, limb: usize) -> &[u64] {
        self.ring.row(&self.words, index, self.ring.limbs, limb)
    }
}

/// Encrypts slots with all randomness from `seed`: (b u + t e0 + m, a u + t e1).
pub fn encrypt(
    profile: &Profile,
    key: &PublicKey<'_>,
    slots: &[u8],
    seed: &[u8],
    limbs: usize,
) -> HeResult<Vec<u64>> {
    profile.check_limbs(limbs)?;
    let (ring, degree) = (profile.ring, profile.ring.degree);
    if key.ring.degree != degree {
        return refuse("the public key belongs to another profile");
    }
    if seed.len() != 32 {
        return refuse(format!(
            "encryption seed must be 32 bytes, got {}",
            seed.len()
        ));
    }
    let seed = derive_seed("chainnode/he-encrypt/v1", &[profile.name.as_bytes(), seed]);
    let mut sampler = Sampler::new(&seed);
    let mask = sampler.ternary(degree);
    let mut message = encode(profile, slots)?;
    let t = profile.t() as i64;
    for (m, e) in message.iter_mut().zip(sampler.error(degree).iter()) {
        *m += t * e;
    }
    let error = sampler.error(degree);
    let mut out = vec![0; 2 * limbs * degree];
    let (first, second) = out.split_at_mut(limbs * degree);
    for limb in 0..limbs {
        let u = ring.lift(&mask, 1, limb);
        let rows = [
            (first as &mut [u64], &message, 1),
            (second as &mut [u64], &error, t),
        ];
        for (index, (part, noise, scale)) in rows.into_iter().enumerate() {
            let target = &mut part[limb * degree..][..degree];
            ring.lift_into(noise, scale, limb, target);
            ring.add_product_row(target, key.row(index, limb), &u, limb);
        }
    }
    Ok(out)
}

// c0 + c1 s + c2 s^2 ... as coefficients, one row per limb.
fn phase(secret: &SecretKey, bytes: &[u8], limbs: usize) -> HeResult<Zeroizing<Vec<u64>>> {
    let (words, polynomials) = parse_ciphertext(secret.profile, bytes, limbs)?;
    let ring = secret.profile.ring;
    let mut out = Zeroizing::new(vec![0u64; limbs * ring.degree]);
    for (limb, target) in out.chunks_exact_mut(ring.degree).enumerate() {
        let s = &secret.values[limb];
        target.copy_from_slice(ring.row(&words, 0, limbs, limb));
        let mut power = Zeroizing::new(s.to_vec());
        for index in 1..polynomials {
            ring.add_product_row(target, ring.row(&words, index, limbs, limb), &power, limb);
            let mut next = Zeroizing::new(vec![0u64; ring.degree]);
            ring.add_product_row(&mut next, &power, s, limb);
            power = next;
        }
        ring.tables[limb].inverse(target);
    }
    Ok(out)
}

fn digits_at(ring: &Ring, rows: &[u64], limbs: usize, k: usize) -> Digits {
    let mut out = [0; LIMBS_MAX];
    for limb in 0..limbs {
        out[limb] = rows[limb * ring.degree + k];
    }
    digits(ring, &out[..limbs])
}

/// Slots and the noise bits left, from one pass over the ciphertext.
pub fn open(
    secret: &SecretKey,
    bytes: &[u8],
    limbs: usize,
) -> HeResult<(Zeroizing<Vec<u64>>, u32)> {
    let (profile, ring) = (secret.profile, secret.profile.ring);
    let phase = phase(secret, bytes, limbs)?;
    let reducer = PlainReducer::new(ring, profile.plain.modulus, limbs);
    let mut largest = 0;
    let coefficients = (0..ring.degree)
        .map(|k| {
            let digits = digits_at(ring, &phase, limbs, k);
            largest = largest.max(magnitude_bits(ring, &digits, limbs));
            reducer.reduce(&digits)
        })
        .collect();
    let slots = decode(profile, Zeroizing::new(coefficients));
    let room = profile.modulus_bits(limbs).saturating_sub(largest + 1);
    Ok((slots, room))
}

/// Slots of a ciphertext of two to five polynomials.
pub fn decrypt(secret: &SecretKey, bytes: &[u8], limbs: usize) -> HeResult<Zeroizing<Vec<u64>>> {
    let ring = secret.profile.ring;
    let phase = phase(secret, bytes, limbs)?;
    let reducer = PlainReducer::new(ring, secret.profile.plain.modulus, limbs);
    let coefficients = (0..ring.degree)
        .map(|k| reducer.reduce(&digits_at(ring, &phase, limbs, k)))
        .collect();
    Ok(decode(secret.profile, Zeroizing::new(coefficients)))
}

/// Bits left before decryption fails: log2 Q - log2 of the largest phase coefficient - 1.
pub fn noise_budget_bits(secret: &SecretKey, bytes: &[u8], limbs: usize) -> HeResult<u32> {
    let ring = secret.profile.ring;
    let phase = phase(secret, bytes, limbs)?;
    let largest = (0..ring.degree)
        .map(|k| magnitude_bits(ring, &digits_at(ring, &phase, limbs, k), limbs))
        .max()
        .unwrap_or(0);
    Ok((secret.profile.modulus_bits(limbs)).saturating_sub(largest + 1))
}

// Slots as a plaintext polynomial in NTT form, one row per limb.
fn plaintext(profile: &Profile, limbs: usize, slots: &[u8]) -> HeResult<Zeroizing<Vec<u64>>> {
    let message = encode(profile, slots)?;
    let (ring, degree) = (profile.ring, profile.ring.degree);
    let mut rows = Zeroizing::new(vec![0; limbs * degree]);
    for (limb, row) in rows.chunks_exact_mut(degree).enumerate() {
        ring.lift_into(&message, 1, limb, row);
    }
    Ok(rows)
}

// Adds the product of every polynomial with a plaintext.
fn add_masked(ring: &Ring, limbs: usize, out: &mut [u64], words: &[u64], plain: &[u64]) {
    let rows = out.chunks_exact_mut(ring.degree);
    for (r, (target, source)) in rows.zip(words.chunks_exact(ring.degree)).enumerate() {
        ring.add_product_row(
            target,
            source,
            ring.row(plain, 0, limbs, r % limbs),
            r % limbs,
        );
    }
}

/// Adds the slots to a ciphertext.
pub fn add_plain(
    profile: &Profile,
    limbs: usize,
    ciphertext: &[u8],
    slots: &[u8],
) -> HeResult<Vec<u64>> {
    let mut out = parse_ciphertext(profile, ciphertext, limbs)?.0.into_owned();
    let message = encode(profile, slots)?;
    let (ring, degree) = (profile.ring, profile.ring.degree);
    let mut row = Zeroizing::new(vec![0; degree]);
    for (limb, target) in out.chunks_exact_mut(degree).take(limbs).enumerate() {
        ring.lift_into(&message, 1, limb, &mut row);
        ring.add_row(target, &row, limb);
    }
    Ok(out)
}

/// Multiplies a ciphertext slot by slot.
pub fn multiply_plain(
    profile: &Profile,
    limbs: usize,
    ciphertext: &[u8],
    slots: &[u8],
) -> HeResult<Vec<u64>> {
    let (words, _) = parse_ciphertext(profile, ciphertext, limbs)?;
    let plain = plaintext(profile, limbs, slots)?;
    let mut out = vec![0; words.len()];
    add_masked(profile.ring, limbs, &mut out, &words, &plain);
    Ok(out)
}

/// Every ciphertext times its mask plus its addend, slot by slot: the bytes of `multiply_plain` and
/// then `add_plain`, without the pass between. Equal masks in a row are transformed once.
pub fn mask_add(
    profile: &Profile,
    limbs: usize,
    ciphertexts: &[&[u8]],
    masks: &[&[u8]],
    addends: &[&[u8]],
    threads: usize,
) -> HeResult<Vec<Vec<u64>>> {
    let (degree, count) = (profile.ring.degree, ciphertexts.len());
    if masks.len() != count || addends.len() != count {
        return refuse(format!(
            "{} masks and {} addends given for {count} ciphertexts",
            masks.len(),
            addends.len()
        ));
    }
    profile.check_limbs(limbs)?;
    let firsts: Vec<usize> = (0..count)
        .filter(|place| *place == 0 || masks[*place] != masks[*place - 1])
        .collect();
    let plains = each(firsts.len(), threads, |run| {
        plaintext(profile, limbs, masks[firsts[run]])
    })?;
    each(count, threads, |place| {
        let (words, _) = parse_ciphertext(profile, ciphertexts[place], limbs)?;
        let run = firsts.partition_point(|first| *first <= place) - 1;
        let addend = encode(profile, addends[place])?;
        let mut out = vec![0; words.len()];
        for (limb, row) in out.chunks_exact_mut(degree).take(limbs).enumerate() {
            profile.ring.lift_into(&addend, 1, limb, row);
        }
        add_masked(profile.ring, limbs, &mut out, &words, &plains[run]);
        Ok(out)
    })
}

/// Point-wise product of two two-polynomial ciphertexts: three polynomials, not relinearised.
pub fn tensor(profile: &Profile, limbs: usize, left: &[u8], right: &[u8]) -> HeResult<Vec<u64>> {
    let (a, left_size) = parse_ciphertext(profile, left, limbs)?;
    let (b, right_size) = parse_ciphertext(profile, right, limbs)?;
    if left_size != 2 || right_size != 2 {
        return refuse("a product takes two ciphertexts of two polynomials");
    }
    let ring = profile.ring;
    let mut out = vec![0; 3 * limbs * ring.degree];
    for (r, target) in out.chunks_exact_mut(ring.degree).enumerate() {
        let (degree, limb) = (r / limbs, r % limbs);
        for i in degree.saturating_sub(1)..=degree.min(1) {
            let (x, y) = (
                ring.row(&a, i, limbs, limb),
                ring.row(&b, degree - i, limbs, limb),
            );
            ring.add_product_row(target, x, y, limb);
        }
    }
    Ok(out)
}

/// Sum of equal-shaped ciphertexts.
pub fn add(profile: &Profile, limbs: usize, ciphertexts: &[&[u8]]) -> HeResult<Vec<u64>> {
    profile.check_limbs(limbs)?;
    let Some(first) = ciphertexts.first() else {
        return refuse("no ciphertext given");
    };
    let (_, polynomials) = parse_ciphertext(profile, first, limbs)?;
    profile
        .ring
        .sum_shares("ciphertext", ciphertexts, polynomials, limbs)
}
