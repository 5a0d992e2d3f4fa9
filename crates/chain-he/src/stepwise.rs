//! The same sums one operation after another, each a vectorised pass over whole ciphertexts.
//!
//! What a well-made library would do with our row kernels: the reference for tests, and the ideal
//! the fused kernels are measured against. Results are the same bytes.

use crate::error::{refuse, HeResult};
use crate::kernels::{add_products, add_row, scale_row};
use crate::params::{Profile, Ring, POLYNOMIALS_MAX};
use crate::poly::view;

/// One weighted column: its ciphertexts, one a block.
pub struct Weighted<'a> {
    /// The signed weight.
    pub weight: i64,
    /// Two-polynomial ciphertexts.
    pub blocks: Vec<&'a [u8]>,
}

// out += weight x, a row at a time; `scratch` holds the scaled ciphertext.
fn add_weighted(ring: &Ring, limbs: usize, out: &mut [u64], x: &[u64], weight: i64) {
    let mut scratch = vec![0; if weight == 1 { 0 } else { x.len() }];
    let source = if weight == 1 {
        x
    } else {
        let rows = scratch.chunks_exact_mut(ring.degree);
        for (r, (target, row)) in rows.zip(x.chunks_exact(ring.degree)).enumerate() {
            let q = ring.modulus(r % limbs);
            scale_row(target, row, q.from_signed(weight), q);
        }
        &scratch
    };
    let rows = out.chunks_exact_mut(ring.degree);
    for (r, (target, row)) in rows.zip(source.chunks_exact(ring.degree)).enumerate() {
        add_row(target, row, ring.modulus(r % limbs));
    }
}

fn multiply(ring: &Ring, limbs: usize, a: &[u64], b: &[u64]) -> Vec<u64> {
    let polynomials = |x: &[u64]| x.len() / (limbs * ring.degree);
    let (left, right) = (polynomials(a), polynomials(b));
    let mut out = vec![0; (left + right - 1) * limbs * ring.degree];
    for (r, target) in out.chunks_exact_mut(ring.degree).enumerate() {
        let (part, limb) = (r / limbs, r % limbs);
        let pairs: Vec<(&[u64], &[u64])> = (0..left)
            .filter(|i| (part + 1).saturating_sub(right) <= *i && *i <= part)
            .map(|i| {
                (
                    ring.row(a, i, limbs, limb),
                    ring.row(b, part - i, limbs, limb),
                )
            })
            .collect();
        add_products(target, &pairs, ring.modulus(limb));
    }
    out
}

/// Sum over blocks of the product of one to four weighted sums of columns.
pub fn sum(profile: &Profile, limbs: usize, factors: &[Vec<Weighted<'_>>]) -> HeResult<Vec<u64>> {
    profile.check_limbs(limbs)?;
    let ring = profile.ring;
    let size = 2 * limbs * ring.degree;
    let blocks = match factors.first().and_then(|factor| factor.first()) {
        Some(column) if factors.len() < POLYNOMIALS_MAX => column.blocks.len(),
        _ => return refuse("give one to four factors of at least one column"),
    };
    let columns = || factors.iter().flatten();
    if columns().any(|column| column.blocks.len() != blocks) {
        return refuse("columns differ in their block count");
    }
    if columns().any(|column| column.blocks.iter().any(|block| block.len() != 8 * size)) {
        return refuse(format!("a block is not {} bytes", 8 * size));
    }
    let mut total = vec![0; (factors.len() + 1) * limbs * ring.degree];
    for block in 0..blocks {
        let mut product: Option<Vec<u64>> = None;
        for factor in factors {
            let mut linear = vec![0; size];
            for column in factor {
                let words = view(column.blocks[block]);
                add_weighted(ring, limbs, &mut linear, &words, column.weight);
            }
            product = Some(match product {
                Some(left) => multiply(ring, limbs, &left, &linear),
                None => linear,
            });
        }
        if let Some(product) = product {
            add_weighted(ring, limbs, &mut total, &product, 1);
        }
    }
    Ok(total)
}
