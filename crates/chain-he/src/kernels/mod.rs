//! Streaming kernels over 64-coefficient tiles: one reduction at the end of a sum.
//!
//! Results are canonical residues, so that every path gives the same bytes.

mod portable;

use crate::modulus::{Factor, Modulus};

/// Coefficients of one tile.
pub const TILE: usize = 64;

/// Vector constants of one transform.
pub struct VectorTable;

impl VectorTable {
    pub(crate) fn new(_modulus: &Modulus, _roots: &[Factor], _inverse_roots: &[Factor]) -> Self {
        Self
    }
}

pub(crate) fn forward_ntt(_table: &crate::ntt::NttTable, _a: &mut [u64]) -> bool {
    false
}

pub(crate) fn inverse_ntt(_table: &crate::ntt::NttTable, _a: &mut [u64]) -> bool {
    false
}

/// "avx512ifma" or "portable": the kernels this machine runs.
pub fn cpu_path() -> &'static str {
    "portable"
}

/// One limb plane of some columns with their weights modulo its prime.
pub struct Side<'a> {
    /// Words of each column's plane.
    pub planes: Vec<&'a [u64]>,
    /// One canonical weight per plane.
    pub weights: Vec<u64>,
    /// Added to every slot, canonical.
    pub constant: u64,
}

/// Which 64-word pieces of a plane a kernel reads: `count` pieces, one after another.
#[derive(Clone, Copy)]
pub struct Span {
    /// First word.
    pub offset: usize,
    /// Number of pieces.
    pub count: usize,
}

/// Weighted sum over columns and pieces.
pub fn weighted_sum(side: &Side<'_>, span: Span, q: &Modulus, out: &mut [u64]) {
    portable::weighted_sum(side, span, q, out);
}

/// Sum over pieces of left times right: the three polynomials of the tensor product.
///
/// `spans` are the pieces of the first and the second polynomial.
pub fn product_sum(
    left: &Side<'_>, right: &Side<'_>, spans: [Span; 2], q: &Modulus, out: &mut [u64],
) {
    portable::product_sum(left, right, spans, q, out);
}
