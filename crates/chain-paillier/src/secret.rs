//! The secret key: two primes, and decryption by their squares.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, ConcatenatingMul, ConcatenatingSquare, Limb, NonZero, Odd, Resize};
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{is_prime, sieve_and_find, Flavor};
use rand_core::{CryptoRng, UnwrapErr};
use zeroize::{Zeroize, Zeroizing};

use crate::{PaillierError, PublicKey, KEY_SIZES_BITS};

/// One prime and what decryption modulo its square needs.
struct Side {
    prime: NonZero<BoxedUint>,
    square: BoxedMontyParams,
    /// p - 1.
    order: BoxedUint,
    /// (-q)^-1 mod p, the inverse of L(g^(p-1) mod p^2).
    scale: BoxedUint,
}

/// Two primes p and q.
pub struct SecretKey {
    public: PublicKey,
    sides: [Side; 2],
    /// p^-1 mod q.
    inverse: BoxedUint,
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        for side in &mut self.sides {
            side.order.zeroize();
            side.scale.zeroize();
            side.prime.zeroize();
        }
        self.inverse.zeroize();
    }
}

/// The operating system's generator.
pub fn system_rng() -> impl CryptoRng {
    UnwrapErr(getrandom::SysRng)
}

/// Bytes of a new key.
pub struct KeyPair {
    /// n.
    pub public: Box<[u8]>,
    /// p then q.
    pub secret: Zeroizing<Vec<u8>>,
}

/// Make a key pair.
///
/// # Errors
/// `Key` for a size that is not offered.
pub fn generate(bits: u32) -> Result<KeyPair, PaillierError> {
    if !KEY_SIZES_BITS.contains(&bits) {
        return Err(PaillierError::Key);
    }
    let mut rng = system_rng();
    loop {
        // Two leading ones each, so that the product has the full width.
        let (mut p, mut q) = (prime(&mut rng, bits / 2), prime(&mut rng, bits / 2));
        let distinct = p != q;
        let secret = Zeroizing::new([p.to_be_bytes(), q.to_be_bytes()].concat());
        let public = p.concatenating_mul(&q).to_be_bytes();
        p.zeroize();
        q.zeroize();
        if distinct {
            return Ok(KeyPair { public, secret });
        }
    }
}

fn prime<R: CryptoRng>(rng: &mut R, bits: u32) -> BoxedUint {
    let factory =
        SmallFactorsSieveFactory::new(Flavor::Any, bits, SetBits::TwoMsb).expect("a known width");
    sieve_and_find(rng, factory, |_, candidate| {
        is_prime(Flavor::Any, candidate)
    })
    .expect("the generator does not fail")
    .expect("there are primes of every width")
}

impl SecretKey {
    /// Read p then q, of equal width.
    ///
    /// # Errors
    /// `Secret`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PaillierError> {
        let bits = bytes.len() as u32 * 8;
        if !KEY_SIZES_BITS.contains(&bits) {
            return Err(PaillierError::Secret);
        }
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let [p, q] = [first, second].map(|half| {
            let value = BoxedUint::from_be_slice(half, bits / 2).ok()?;
            is_prime(Flavor::Any, &value).then_some(value)
        });
        let (p, q) = (
            p.ok_or(PaillierError::Secret)?,
            q.ok_or(PaillierError::Secret)?,
        );
        let modulus = p.concatenating_mul(&q).to_be_bytes();
        let public = PublicKey::from_bytes(&modulus).map_err(|_| PaillierError::Secret)?;
        let inverse =
            odd(&q).and_then(|modulus| Option::from(reduced(&p, &q).invert_odd_mod(&modulus)));
        let inverse = inverse.ok_or(PaillierError::Secret)?;
        let sides = [Side::new(&p, &q)?, Side::new(&q, &p)?];
        Ok(Self {
            public,
            sides,
            inverse,
        })
    }

    /// The public key.
    pub fn public_bytes(&self) -> Box<[u8]> {
        self.public.modulus.as_ref().to_be_bytes()
    }

    /// The residue modulo n that a ciphertext holds, of the key's width.
    ///
    /// # Errors
    /// `Ciphertext`.
    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, PaillierError> {
        let ciphertext = self.public.ciphertext(ciphertext)?;
        let [p, q] = &self.sides;
        let (left, right) = (p.residue(&ciphertext), q.residue(&ciphertext));
        // Garner: m = m_p + p ((m_q - m_p) / p mod q).
        let left_in_q = reduced(&left, q.prime.as_ref());
        let apart = right
            .sub_mod(&left_in_q, &q.prime)
            .mul_mod(&self.inverse, &q.prime);
        let value = apart
            .concatenating_mul(p.prime.as_ref())
            .wrapping_add(left.resize(self.public.modulus.bits_precision()));
        Ok(Zeroizing::new(value.to_be_bytes().into_vec()))
    }
}

impl Side {
    fn new(prime: &BoxedUint, other: &BoxedUint) -> Result<Self, PaillierError> {
        let square = odd(&prime.concatenating_square()).ok_or(PaillierError::Secret)?;
        let modulus = odd(prime).ok_or(PaillierError::Secret)?;
        let negated = prime.wrapping_sub(reduced(other, prime));
        let scale: Option<BoxedUint> = negated.invert_odd_mod(&modulus).into();
        Ok(Self {
            prime: modulus.as_nz_ref().clone(),
            square: BoxedMontyParams::new(square),
            order: prime.wrapping_sub(Limb::ONE),
            scale: scale.ok_or(PaillierError::Secret)?,
        })
    }

    /// m mod p: L(c^(p-1) mod p^2) times the scale, where L(x) = (x - 1) / p.
    fn residue(&self, ciphertext: &BoxedUint) -> BoxedUint {
        let base = ciphertext.rem(self.square.modulus().as_nz_ref());
        let power = BoxedMontyForm::new(base, &self.square)
            .pow(&self.order)
            .retrieve();
        let quotient = power.wrapping_sub(Limb::ONE).wrapping_div(&self.prime);
        let quotient = quotient.resize(self.prime.bits_precision());
        quotient.mul_mod(&self.scale, &self.prime)
    }
}

fn odd(value: &BoxedUint) -> Option<Odd<BoxedUint>> {
    value.to_odd().into()
}

fn reduced(value: &BoxedUint, modulus: &BoxedUint) -> BoxedUint {
    let modulus: Option<NonZero<BoxedUint>> = modulus.to_nz().into();
    value.rem(&modulus.expect("a prime is not zero"))
}
