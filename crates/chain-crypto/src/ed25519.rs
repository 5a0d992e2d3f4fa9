//! One signature under ZIP-215 (<https://zips.z.cash/zip-0215>).
//!
//! `A` and `R` may be any encoding of a curve point, non-canonical ones included; `S` must be below
//! the group order; the equation is the cofactored `[8][S]B = [8]R + [8][k]A`. This is the only
//! rule under which checking alone and checking in a batch agree for every input.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest, Sha512};

use crate::batch::Signed;
use crate::cache::{Cache, KEYS_MAX};
use crate::count_checked;

static KEYS: Cache<32, EdwardsPoint> = Cache::new(KEYS_MAX);

/// The points of the keys, `None` for one that is not on the curve.
pub(crate) fn points(keys: &[[u8; 32]]) -> Vec<Option<EdwardsPoint>> {
    KEYS.keys(keys, |key| CompressedEdwardsY(*key).decompress())
}

/// A signature taken apart; what is left is the equation.
pub(crate) struct Equation {
    pub(crate) key: [u8; 32],
    pub(crate) a: EdwardsPoint,
    pub(crate) r: EdwardsPoint,
    pub(crate) s: Scalar,
    pub(crate) k: Scalar,
}

impl Equation {
    /// Takes one signature apart, given the point of its key. `None`: refused before any equation.
    pub(crate) fn new(item: &Signed<'_>, key: [u8; 32], a: EdwardsPoint) -> Option<Self> {
        let signature: &[u8; 64] = item.signature.try_into().ok()?;
        let (r_bytes, s_bytes) = signature.split_at(32);
        let s = Option::from(Scalar::from_canonical_bytes(s_bytes.try_into().ok()?))?;
        let r = CompressedEdwardsY(r_bytes.try_into().ok()?).decompress()?;
        let digest = Sha512::new()
            .chain_update(r_bytes)
            .chain_update(key)
            .chain_update(item.message);
        let k = Scalar::from_bytes_mod_order_wide(&digest.finalize().into());
        Some(Self { key, a, r, s, k })
    }

    /// Decides the equation alone.
    pub(crate) fn holds(&self) -> bool {
        let r = EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.k, &-self.a, &self.s);
        (r - self.r).mul_by_cofactor().is_identity()
    }
}

/// Whether the signature is valid under ZIP-215.
pub fn verify_ed25519(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    count_checked(1);
    let Ok(key) = <[u8; 32]>::try_from(public_key) else {
        return false;
    };
    let item = Signed {
        public_key,
        message,
        signature,
    };
    points(&[key])[0]
        .and_then(|a| Equation::new(&item, key, a))
        .is_some_and(|equation| equation.holds())
}

/// Whether a key is the one canonical encoding of a point of the prime-order subgroup, other than
/// the identity. Asked once, at enrolment.
pub fn is_torsion_free(public_key: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 32]>::try_from(public_key) else {
        return false;
    };
    CompressedEdwardsY(bytes).decompress().is_some_and(|point| {
        point.compress().0 == bytes && !point.is_small_order() && point.is_torsion_free()
    })
}
