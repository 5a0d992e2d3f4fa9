//! Paillier's cryptosystem (Paillier, EUROCRYPT 1999) with generator n + 1.
//!
//! Numbers are big-endian and of fixed width: a public key is n, a ciphertext twice as long. What a
//! contract computes with is in `public`; everything on public data there runs in variable time.
//! What touches a secret is in `secret` and uses the constant-time half of `crypto-bigint`.

mod public;
mod secret;

pub use public::PublicKey;
pub use secret::{generate, system_rng, KeyPair, SecretKey};

/// Sizes of n that are accepted, bits.
pub const KEY_SIZES_BITS: [u32; 2] = [2048, 3072];

/// Why an input was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaillierError {
    /// Not an odd number of exactly 2048 or 3072 bits.
    #[error("the key is not an odd number of exactly 2048 or 3072 bits")]
    Key,
    /// Not between 0 and n squared, of another width, or not prime to n.
    #[error("the ciphertext is of another width, not in 1..n^2, or not prime to n")]
    Ciphertext,
    /// Not below n, or of another width.
    #[error("the plaintext is of another width or not below n")]
    Plaintext,
    /// Not two different primes of half the width of a key.
    #[error("the secret key is not two different primes of equal width")]
    Secret,
}
