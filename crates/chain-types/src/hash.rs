//! Domain-tagged SHA-256: every id, address and signed message of the chain.

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// SHA-256 over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The id of a transaction: `SHA-256("chainnode/tx-id/v1" || canonical payload)`.
pub fn tx_id(payload: &[u8]) -> Hash {
    sha256(&[b"chainnode/tx-id/v1", payload])
}

/// The hash of a transaction with its signatures: what a block lists.
pub fn wid(transaction: &[u8]) -> Hash {
    sha256(&[b"chainnode/wid/v1", transaction])
}

/// The address of a public key, for members and validators.
pub fn address(public_key: &[u8]) -> Hash {
    sha256(&[b"chainnode/address/v1", public_key])
}

/// What the sender signs.
pub fn sender_message(tx_id: &Hash) -> Vec<u8> {
    [b"chainnode/tx/v1".as_slice(), tx_id].concat()
}

/// What an endorser signs.
pub fn endorsement_message(tx_id: &Hash) -> Vec<u8> {
    [b"chainnode/endorse/v1".as_slice(), tx_id].concat()
}
