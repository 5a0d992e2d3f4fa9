//! BGV encryption and decryption (Brakerski, Gentry, Vaikuntanathan, ITCS 2012) over RNS limbs.
//!
//! No modulus switching is used, so there is no plaintext correction factor: a ciphertext of the
//! first limbs decrypts to c0 + c1 s + c2 s^2, centred modulo their product, modulo t.

use zeroize::Zeroizing;

use crate::compose::{digits, magnitude_bits, PlainReducer};
use crate::encoder::{decode, encode};
use crate::error::{refuse, HeResult};
use crate::keys::SecretKey;
use crate::params::{Profile, DEGREE, LIMBS};
use crate::poly::{
    add_product_row, add_row, check_residues, lift, parse_ciphertext, row, sum_shares, view,
};
use crate::sampling::{derive_seed, Sampler};

/// A public key with its residues checked once.
pub struct PublicKey<'a>(std::borrow::Cow<'a, [u64]>);

impl<'a> PublicKey<'a> {
    /// Checks (b, a) over the data limbs.
    pub fn parse(bytes: &'a [u8]) -> HeResult<Self> {
        let expected = 2 * LIMBS * DEGREE * 8;
        if bytes.len() != expected {
            return refuse(format!(
                "public key is {} bytes, expected {expected}",
                bytes.len()
            ));
        }
        let words = view(bytes);
        check_residues("public key", &words, LIMBS)?;
        Ok(Self(words))
    }

    /// Row `limb` of b (0) or a (1).
    pub(crate) fn row(&self, index: usize, limb: usize) -> &[u64] {
        row(&self.0, index, LIMBS, limb)
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
    if seed.len() != 32 {
        return refuse(format!(
            "encryption seed must be 32 bytes, got {}",
            seed.len()
        ));
    }
    let seed = derive_seed("chainnode/he-encrypt/v1", &[profile.name.as_bytes(), seed]);
    let mut sampler = Sampler::new(&seed);
    let mask = sampler.ternary();
    let mut message = encode(profile, slots)?;
    let t = profile.t() as i64;
    for (m, e) in message.iter_mut().zip(sampler.error().iter()) {
        *m += t * e;
    }
    let error = sampler.error();
    let mut out = vec![0; 2 * limbs * DEGREE];
    let (first, second) = out.split_at_mut(limbs * DEGREE);
    for limb in 0..limbs {
        let u = lift(&mask, 1, limb);
        let rows = [
            (first as &mut [u64], &message, 1),
            (second as &mut [u64], &error, t),
        ];
        for (index, (part, noise, scale)) in rows.into_iter().enumerate() {
            let target = &mut part[limb * DEGREE..][..DEGREE];
            target.copy_from_slice(&lift(noise, scale, limb));
            add_product_row(target, key.row(index, limb), &u, limb);
        }
    }
    Ok(out)
}

// c0 + c1 s (+ c2 s^2) as coefficients, one row per limb.
fn phase(secret: &SecretKey, bytes: &[u8], limbs: usize) -> HeResult<Zeroizing<Vec<u64>>> {
    let (words, polynomials) = parse_ciphertext(secret.profile, bytes, limbs)?;
    let mut out = Zeroizing::new(vec![0u64; limbs * DEGREE]);
    for limb in 0..limbs {
        let target = &mut out[limb * DEGREE..][..DEGREE];
        let s = &secret.values[limb];
        target.copy_from_slice(row(&words, 0, limbs, limb));
        add_product_row(target, row(&words, 1, limbs, limb), s, limb);
        if polynomials == 3 {
            let mut square = Zeroizing::new(vec![0u64; DEGREE]);
            add_product_row(&mut square, s, s, limb);
            add_product_row(target, row(&words, 2, limbs, limb), &square, limb);
        }
        secret.profile.ring.tables[limb].inverse(target);
    }
    Ok(out)
}

fn residues_at(rows: &[u64], limbs: usize, k: usize) -> [u64; LIMBS] {
    let mut out = [0; LIMBS];
    for limb in 0..limbs {
        out[limb] = rows[limb * DEGREE + k];
    }
    out
}

/// Slots of a ciphertext of two or three polynomials.
pub fn decrypt(secret: &SecretKey, bytes: &[u8], limbs: usize) -> HeResult<Zeroizing<Vec<u64>>> {
    let phase = phase(secret, bytes, limbs)?;
    let reducer = PlainReducer::new(secret.profile.plain.modulus, limbs);
    let coefficients = (0..DEGREE)
        .map(|k| reducer.reduce(&digits(&residues_at(&phase, limbs, k)[..limbs])))
        .collect();
    Ok(decode(secret.profile, Zeroizing::new(coefficients)))
}

/// Bits left before decryption fails: log2 Q - log2 of the largest phase coefficient - 1.
pub fn noise_budget_bits(secret: &SecretKey, bytes: &[u8], limbs: usize) -> HeResult<u32> {
    let phase = phase(secret, bytes, limbs)?;
    let largest = (0..DEGREE)
        .map(|k| magnitude_bits(&digits(&residues_at(&phase, limbs, k)[..limbs]), limbs))
        .max()
        .unwrap_or(0);
    Ok((secret.profile.modulus_bits(limbs)).saturating_sub(largest + 1))
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
    for limb in 0..limbs {
        add_row(
            &mut out[limb * DEGREE..][..DEGREE],
            &lift(&message, 1, limb),
            limb,
        );
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
    let message = encode(profile, slots)?;
    let mut out = vec![0; words.len()];
    let lifted: Vec<_> = (0..limbs).map(|limb| lift(&message, 1, limb)).collect();
    for (r, (target, source)) in out
        .chunks_exact_mut(DEGREE)
        .zip(words.chunks_exact(DEGREE))
        .enumerate()
    {
        add_product_row(target, source, &lifted[r % limbs], r % limbs);
    }
    Ok(out)
}

/// Point-wise product of two two-polynomial ciphertexts: three polynomials, not relinearised.
pub fn tensor(profile: &Profile, limbs: usize, left: &[u8], right: &[u8]) -> HeResult<Vec<u64>> {
    let (a, left_size) = parse_ciphertext(profile, left, limbs)?;
    let (b, right_size) = parse_ciphertext(profile, right, limbs)?;
    if left_size != 2 || right_size != 2 {
        return refuse("a product takes two ciphertexts of two polynomials");
    }
    let mut out = vec![0; 3 * limbs * DEGREE];
    for (r, target) in out.chunks_exact_mut(DEGREE).enumerate() {
        let (degree, limb) = (r / limbs, r % limbs);
        for i in degree.saturating_sub(1)..=degree.min(1) {
            let (x, y) = (row(&a, i, limbs, limb), row(&b, degree - i, limbs, limb));
            add_product_row(target, x, y, limb);
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
    let polynomials = if first.len() == 3 * limbs * DEGREE * 8 {
        3
    } else {
        2
    };
    sum_shares("ciphertext", ciphertexts, polynomials, limbs)
}
