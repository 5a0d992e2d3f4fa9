//! SM2 keys with their multiples at hand.
//!
//! A check is `[s]G + [t]P` (GB/T 32918.2, B6). With the multiples `[d * 256^i]` of both points
//! computed beforehand that is some 130 additions instead of 256 doublings and as many additions
//! again (Brickell, Gordon, McCurley, Wilson, EUROCRYPT 92). Variable time: everything is public.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};

use sm2::dsa::Signature;
use sm2::elliptic_curve::ops::Reduce;
use sm2::elliptic_curve::point::AffineCoordinates;
use sm2::elliptic_curve::sec1::ToSec1Point;
use sm2::elliptic_curve::{BatchNormalize, Group, PrimeField};
use sm2::{AffinePoint, FieldBytes, ProjectivePoint, PublicKey, Scalar};
use sm3::{Digest, Sm3};

use crate::suites::SM2_IDENTITY;

/// Checks of a key after which its multiples are worth computing; they cost about one more.
const CHECKS_BEFORE_MULTIPLES: u32 = 2;
/// Bytes of a scalar, and one for the carry of the last.
const ROWS: usize = 33;
/// Signed digits to base 16 are at most this.
const DIGIT_MAX: usize = 8;

/// a, b and both coordinates of the generator, as Z hashes them (GB/T 32918.5).
#[rustfmt::skip]
const CURVE: [u8; 128] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc,
    0x28, 0xe9, 0xfa, 0x9e, 0x9d, 0x9f, 0x5e, 0x34, 0x4d, 0x5a, 0x9e, 0x4b, 0xcf, 0x65, 0x09, 0xa7,
    0xf3, 0x97, 0x89, 0xf5, 0x15, 0xab, 0x8f, 0x92, 0xdd, 0xbc, 0xbd, 0x41, 0x4d, 0x94, 0x0e, 0x93,
    0x32, 0xc4, 0xae, 0x2c, 0x1f, 0x19, 0x81, 0x19, 0x5f, 0x99, 0x04, 0x46, 0x6a, 0x39, 0xc9, 0x94,
    0x8f, 0xe3, 0x0b, 0xbf, 0xf2, 0x66, 0x0b, 0xe1, 0x71, 0x5a, 0x45, 0x89, 0x33, 0x4c, 0x74, 0xc7,
    0xbc, 0x37, 0x36, 0xa2, 0xf4, 0xf6, 0x77, 0x9c, 0x59, 0xbd, 0xce, 0xe3, 0x6b, 0x69, 0x21, 0x53,
    0xd0, 0xa9, 0x87, 0x7c, 0xc6, 0x2a, 0x47, 0x40, 0x02, 0xdf, 0x32, 0xe5, 0x21, 0x39, 0xf0, 0xa0,
];

static GENERATOR: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ProjectivePoint::GENERATOR));

/// A public key ready to check signatures.
pub(crate) struct Sm2Key {
    point: ProjectivePoint,
    /// Z: the identity, the curve and the key under SM3.
    identity_hash: [u8; 32],
    checks: AtomicU32,
    multiples: OnceLock<Multiples>,
}

impl Sm2Key {
    pub(crate) fn parse(bytes: &[u8; 33]) -> Option<Self> {
        let key = PublicKey::from_sec1_bytes(bytes).ok()?;
        let both = key.to_sec1_point(false);
        let identity_size_bits = u16::try_from(8 * SM2_IDENTITY.len()).ok()?;
        let identity_hash = Sm3::new()
            .chain_update(identity_size_bits.to_be_bytes())
            .chain_update(SM2_IDENTITY)
            .chain_update(CURVE)
            .chain_update(&both.as_bytes()[1..])
            .finalize();
        Some(Self {
            point: ProjectivePoint::from(&key),
            identity_hash: identity_hash.into(),
            checks: AtomicU32::new(0),
            multiples: OnceLock::new(),
        })
    }

    pub(crate) fn holds(&self, message: &[u8], signature: &Signature) -> bool {
        let digest = Sm3::new()
            .chain_update(self.identity_hash)
            .chain_update(message)
            .finalize();
        let e = <Scalar as Reduce<FieldBytes>>::reduce(&digest.0.into());
        let (r, s) = (*signature.r(), *signature.s());
        let t = r + s;
        if t.is_zero().into() {
            return false;
        }
        let point = self.sum(&s, &t);
        if point.is_identity().into() {
            return false;
        }
        let x = point.to_affine().x();
        r == e + <Scalar as Reduce<FieldBytes>>::reduce(&x)
    }

    /// `[s]G + [t]P`.
    fn sum(&self, s: &Scalar, t: &Scalar) -> ProjectivePoint {
        let met = self.checks.fetch_add(1, Ordering::Relaxed);
        let ready = self.multiples.get();
        if ready.is_none() && met < CHECKS_BEFORE_MULTIPLES {
            return combine(&[(&GENERATOR, s)]) + self.point * t;
        }
        let multiples = self.multiples.get_or_init(|| Multiples::of(self.point));
        combine(&[(&GENERATOR, s), (multiples, t)])
    }
}

/// `[d * 256^i]P` for d from 1 to 8 and every byte i of a scalar: 19 KiB.
struct Multiples(Vec<AffinePoint>);

impl Multiples {
    fn of(point: ProjectivePoint) -> Self {
        let mut all = Vec::with_capacity(ROWS * DIGIT_MAX);
        let mut base = point;
        for _ in 0..ROWS {
            let mut multiple = base;
            for _ in 0..DIGIT_MAX {
                all.push(multiple);
                multiple += &base;
            }
            for _ in 0..8 {
                base = base.double();
            }
        }
        Self(<ProjectivePoint as BatchNormalize<[_]>>::batch_normalize(
            &all,
        ))
    }

    fn add_to(&self, sum: &mut ProjectivePoint, row: usize, digit: i8) {
        if digit != 0 {
            let place = row * DIGIT_MAX + usize::from(digit.unsigned_abs()) - 1;
            let multiple = &self.0[place];
            if digit > 0 {
                *sum += multiple;
            } else {
                *sum -= multiple;
            }
        }
    }
}

/// The sum of scalars times points. Odd digits go through four doublings that all terms share.
fn combine(terms: &[(&Multiples, &Scalar)]) -> ProjectivePoint {
    let (mut even, mut odd) = (ProjectivePoint::IDENTITY, ProjectivePoint::IDENTITY);
    for (multiples, scalar) in terms {
        for (place, digit) in digits(scalar).into_iter().enumerate() {
            let sum = if place % 2 == 0 { &mut even } else { &mut odd };
            multiples.add_to(sum, place / 2, digit);
        }
    }
    for _ in 0..4 {
        odd = odd.double();
    }
    even + odd
}

/// Digits of a scalar to base 16, from -8 to 8, the lowest first.
fn digits(scalar: &Scalar) -> [i8; 2 * ROWS - 1] {
    let mut digits = [0_i8; 2 * ROWS - 1];
    let mut carry = 0;
    let bytes = scalar.to_repr();
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes.iter().rev()) {
        for (digit, nibble) in pair.iter_mut().zip([byte & 15, byte >> 4]) {
            let value = i8::try_from(nibble).expect("a nibble") + carry;
            carry = i8::from(value >= 8);
            *digit = value - 16 * carry;
        }
    }
    digits[2 * ROWS - 2] = carry;
    digits
}
