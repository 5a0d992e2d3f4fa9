//! Secret keys, their sealed form, and ordinary public keys.
//!
//! Sealed form: 12-byte nonce, then ChaCha20-Poly1305 (RFC 8439) of N bytes, coefficient + 1
//! each (0, 1 or 2), with the associated data "chainnode/he-secret-key/v1/" + profile name.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use zeroize::Zeroizing;

use crate::error::{refuse, HeResult};
use crate::params::Profile;
use crate::sampling::{system_random, Sampler};

const SEAL_DOMAIN: &str = "chainnode/he-secret-key/v1/";
const NONCE_BYTES: usize = 12;

/// A ternary secret, wiped when dropped.
pub struct SecretKey {
    /// The profile the key belongs to.
    pub profile: &'static Profile,
    pub(crate) coefficients: Zeroizing<Vec<i64>>,
    pub(crate) values: Vec<Zeroizing<Vec<u64>>>,
}

impl SecretKey {
    fn from_coefficients(profile: &'static Profile, coefficients: Zeroizing<Vec<i64>>) -> Self {
        let ring = profile.ring;
        let values = (0..ring.all_limbs())
            .map(|i| ring.lift(&coefficients, 1, i))
            .collect();
        Self {
            profile,
            coefficients,
            values,
        }
    }

    /// A fresh key from system randomness.
    pub fn generate(profile: &'static Profile) -> HeResult<Self> {
        Ok(Self::from_coefficients(
            profile,
            Sampler::fresh()?.ternary(profile.ring.degree),
        ))
    }

    /// A key fixed by a seed: for reproducible tests and vectors.
    pub fn from_seed(profile: &'static Profile, seed: &[u8; 32]) -> Self {
        Self::from_coefficients(profile, Sampler::new(seed).ternary(profile.ring.degree))
    }

    /// Encrypts the key under a 32-byte key.
    pub fn seal(&self, key: &[u8]) -> HeResult<Vec<u8>> {
        let cipher = cipher(key)?;
        let random = system_random()?;
        let nonce = &random[..NONCE_BYTES];
        let plain: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.coefficients.iter().map(|c| (c + 1) as u8).collect());
        let aad = format!("{SEAL_DOMAIN}{}", self.profile.name);
        let payload = Payload {
            msg: &plain,
            aad: aad.as_bytes(),
        };
        match cipher.encrypt(Nonce::from_slice(nonce), payload) {
            Ok(body) => Ok([nonce, &body].concat()),
            Err(_) => refuse("sealing the secret key failed"),
        }
    }

    /// Opens a sealed key; refuses a wrong key, profile or content.
    pub fn unseal(profile: &'static Profile, sealed: &[u8], key: &[u8]) -> HeResult<Self> {
        let cipher = cipher(key)?;
        if sealed.len() < NONCE_BYTES {
            return refuse("sealed secret key is too short");
        }
        let (nonce, body) = sealed.split_at(NONCE_BYTES);
        let aad = format!("{SEAL_DOMAIN}{}", profile.name);
        let payload = Payload {
            msg: body,
            aad: aad.as_bytes(),
        };
        let Ok(plain) = cipher
            .decrypt(Nonce::from_slice(nonce), payload)
            .map(Zeroizing::new)
        else {
            return refuse("sealed secret key does not open with this key and profile");
        };
        if plain.len() != profile.ring.degree || plain.iter().any(|c| *c > 2) {
            return refuse("sealed secret key is not a ternary polynomial");
        }
        let coefficients = Zeroizing::new(plain.iter().map(|c| *c as i64 - 1).collect());
        Ok(Self::from_coefficients(profile, coefficients))
    }

    /// A fresh public key (b, a) over the data limbs, b = -(a s + t e).
    pub fn public_key(&self) -> HeResult<Vec<u64>> {
        let ring = self.profile.ring;
        let mut sampler = Sampler::fresh()?;
        let error = sampler.error(ring.degree);
        let mut out = Vec::with_capacity(2 * ring.limbs * ring.degree);
        let uniform: Vec<Vec<u64>> = (0..ring.limbs)
            .map(|i| sampler.uniform(ring.degree, ring.modulus(i)))
            .collect();
        for (limb, a) in uniform.iter().enumerate() {
            out.extend(self.masked(a, &error, limb));
        }
        out.extend(uniform.into_iter().flatten());
        Ok(out)
    }

    /// -(a s + t e) modulo the prime of `limb`, NTT form.
    pub(crate) fn masked(&self, a: &[u64], error: &[i64], limb: usize) -> Vec<u64> {
        let ring = self.profile.ring;
        let q = ring.modulus(limb);
        let mut row = vec![0; ring.degree];
        ring.add_product_row(&mut row, a, &self.values[limb], limb);
        ring.add_row(
            &mut row,
            &ring.lift(error, self.profile.t() as i64, limb),
            limb,
        );
        for x in &mut row {
            *x = q.negate(*x);
        }
        row
    }
}

fn cipher(key: &[u8]) -> HeResult<ChaCha20Poly1305> {
    if key.len() != 32 {
        return refuse(format!("sealing key must be 32 bytes, got {}", key.len()));
    }
    Ok(ChaCha20Poly1305::new(Key::from_slice(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::profile;

    #[test]
    fn sealing_round_trips_and_refuses_the_wrong_key() {
        let key = SecretKey::generate(profile("S").unwrap()).unwrap();
        let sealed = key.seal(&[3; 32]).unwrap();
        let opened = SecretKey::unseal(profile("S").unwrap(), &sealed, &[3; 32]).unwrap();
        assert_eq!(*opened.coefficients, *key.coefficients);
        assert!(SecretKey::unseal(profile("S").unwrap(), &sealed, &[4; 32]).is_err());
        assert!(SecretKey::unseal(profile("S36").unwrap(), &sealed, &[3; 32]).is_err());
        assert!(SecretKey::unseal(profile("S").unwrap(), &sealed[..9], &[3; 32]).is_err());
        assert!(key.seal(&[3; 31]).is_err());
    }
}
