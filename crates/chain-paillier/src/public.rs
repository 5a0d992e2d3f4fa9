//! What anyone can do with a public key.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{
    BoxedUint, ConcatenatingMul, ConcatenatingSquare, Gcd, NonZero, Odd, RandomMod, Resize,
};
use rand_core::CryptoRng;

use crate::{PaillierError, KEY_SIZES_BITS};

const BITS_PER_BYTE: u32 = 8;

/// n and n squared.
pub struct PublicKey {
    pub(crate) modulus: Odd<BoxedUint>,
    pub(crate) square: Odd<BoxedUint>,
}

impl PublicKey {
    /// Read n.
    ///
    /// # Errors
    /// `Key`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PaillierError> {
        let bits = bytes.len() as u64 * u64::from(BITS_PER_BYTE);
        let known = KEY_SIZES_BITS
            .into_iter()
            .find(|size| u64::from(*size) == bits);
        let bits = known.ok_or(PaillierError::Key)?;
        let modulus = BoxedUint::from_be_slice(bytes, bits).map_err(|_| PaillierError::Key)?;
        if modulus.bit_width_vartime() != bits {
            return Err(PaillierError::Key);
        }
        let square =
            Option::from(modulus.concatenating_square().into_odd()).ok_or(PaillierError::Key)?;
        let modulus = Option::from(modulus.into_odd()).ok_or(PaillierError::Key)?;
        Ok(Self { modulus, square })
    }

    /// Width of a ciphertext, bytes.
    pub fn ciphertext_size_bytes(&self) -> usize {
        (self.square.bits_precision() / BITS_PER_BYTE) as usize
    }

    /// The ciphertext of the sum of two ciphertexts' plaintexts: a b mod n^2.
    ///
    /// # Errors
    /// `Ciphertext`.
    pub fn add(&self, left: &[u8], right: &[u8]) -> Result<Box<[u8]>, PaillierError> {
        let product = self
            .ciphertext(left)?
            .concatenating_mul(&self.ciphertext(right)?);
        Ok(product.rem_vartime(self.square.as_nz_ref()).to_be_bytes())
    }

    /// The ciphertext of the plaintext plus a known number: c (1 + m n) mod n^2.
    ///
    /// # Errors
    /// `Ciphertext`.
    pub fn add_plain(&self, ciphertext: &[u8], value: i128) -> Result<Box<[u8]>, PaillierError> {
        let ciphertext = self.ciphertext(ciphertext)?;
        let magnitude = BoxedUint::from(value.unsigned_abs()).resize(self.modulus.bits_precision());
        let residue = if value < 0 {
            self.modulus.as_ref().wrapping_sub(&magnitude)
        } else {
            magnitude
        };
        let product = ciphertext.concatenating_mul(self.lifted(&residue));
        Ok(product.rem_vartime(self.square.as_nz_ref()).to_be_bytes())
    }

    /// The ciphertext of the plaintext times a known number: c^k mod n^2, inverted where k < 0.
    ///
    /// # Errors
    /// `Ciphertext`.
    pub fn scalar_multiply(
        &self,
        ciphertext: &[u8],
        factor: i128,
    ) -> Result<Box<[u8]>, PaillierError> {
        let mut base = self.ciphertext(ciphertext)?;
        if factor < 0 {
            base = Option::from(base.invert_odd_mod_vartime(&self.square))
                .ok_or(PaillierError::Ciphertext)?;
        }
        let params = BoxedMontyParams::new_vartime(self.square.clone());
        let exponent = BoxedUint::from(factor.unsigned_abs());
        let bits = exponent.bit_width_vartime();
        let power = BoxedMontyForm::new(base, &params).pow_bounded_exp(&exponent, bits);
        Ok(power.retrieve().to_be_bytes())
    }

    /// Encrypt a residue of the key's width, with randomness of the given generator.
    ///
    /// # Errors
    /// `Plaintext`.
    pub fn encrypt<R: CryptoRng>(
        &self,
        plaintext: &[u8],
        rng: &mut R,
    ) -> Result<Box<[u8]>, PaillierError> {
        let residue = BoxedUint::from_be_slice(plaintext, self.modulus.bits_precision())
            .map_err(|_| PaillierError::Plaintext)?;
        if plaintext.len() * 2 != self.ciphertext_size_bytes() || residue >= *self.modulus.as_ref()
        {
            return Err(PaillierError::Plaintext);
        }
        let blind = self.unit(rng).resize(self.square.bits_precision());
        let params = BoxedMontyParams::new_vartime(self.square.clone());
        let mask = BoxedMontyForm::new(blind, &params).pow(self.modulus.as_ref());
        let value = BoxedMontyForm::new(self.lifted(&residue), &params);
        Ok(value.mul(&mask).retrieve().to_be_bytes())
    }

    /// A checked ciphertext.
    pub(crate) fn ciphertext(&self, bytes: &[u8]) -> Result<BoxedUint, PaillierError> {
        if bytes.len() != self.ciphertext_size_bytes() {
            return Err(PaillierError::Ciphertext);
        }
        let value = BoxedUint::from_be_slice(bytes, self.square.bits_precision())
            .map_err(|_| PaillierError::Ciphertext)?;
        if value >= *self.square.as_ref() {
            return Err(PaillierError::Ciphertext);
        }
        let residue = value.rem_vartime(self.modulus.as_nz_ref());
        if !bool::from(self.modulus.gcd_vartime(&residue).as_ref().is_one()) {
            return Err(PaillierError::Ciphertext);
        }
        Ok(value)
    }

    /// 1 + m n, which is (n + 1)^m mod n^2.
    fn lifted(&self, residue: &BoxedUint) -> BoxedUint {
        residue
            .concatenating_mul(self.modulus.as_ref())
            .wrapping_add(crypto_bigint::Limb::ONE)
    }

    fn unit<R: CryptoRng>(&self, rng: &mut R) -> BoxedUint {
        let modulus: &NonZero<BoxedUint> = self.modulus.as_nz_ref();
        loop {
            let candidate = BoxedUint::random_mod_vartime(rng, modulus);
            if bool::from(self.modulus.gcd(&candidate).as_ref().is_one()) {
                return candidate;
            }
        }
    }
}
