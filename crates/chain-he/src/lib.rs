//! The homomorphic engine: BGV over RNS, exact integers, ring- and byte-compatible with SEAL.
//!
//! A ciphertext is little-endian u64 residues [polynomial][limb][coefficient] in NTT form. Secrets
//! are handled in constant time and wiped; evaluation is integer only, so that every machine and
//! thread count gives the same bytes.

pub mod compose;
pub mod council;
pub mod encoder;
pub mod error;
pub mod guard;
pub mod kernels;
pub mod keys;
pub mod memory;
pub mod modulus;
pub mod ntt;
pub mod params;
pub mod pass;
pub mod poly;
pub mod proof;
mod readahead;
pub mod relin;
pub mod sampling;
pub mod scheme;
pub mod stepwise;
pub mod store;
mod threads;
pub mod tiles;
#[cfg(test)]
mod timing;

pub use error::{HeError, HeResult};
