//! Streaming kernels over 64-coefficient tiles, and the row operations of the ring.
//!
//! Sums are kept wide and reduced once at the end. Results are canonical residues, so that every
//! path gives the same bytes; the path is chosen once, by what the processor offers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_ntt;
#[cfg(target_arch = "x86_64")]
mod avx2_sums;
#[cfg(target_arch = "x86_64")]
mod avx2_tensor;
#[cfg(target_arch = "x86_64")]
mod groups;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(target_arch = "x86_64")]
mod ifma_ntt;
#[cfg(target_arch = "x86_64")]
mod ifma_panel;
#[cfg(target_arch = "x86_64")]
mod ifma_tensor;
mod packing;
mod portable;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::OnceLock;

pub use self::packing::{Packing, Source};
use crate::modulus::{Factor, Modulus};
use crate::ntt::NttTable;

/// Coefficients of one tile.
pub const TILE: usize = 64;
// Factors of the deepest product.
const FACTORS_MAX: usize = 4;
// Weights up to this total need no reduction before a product: values stay below 2^46.
const SMALL_WEIGHTS: u64 = 7;
// Digits of weights: products with 16-bit parts add up 31 times and more in 32 bits.
const DIGIT_BITS: u32 = 11;

/// Roots of one transform and of its inverse as separate rows, values and quotients; made for the
/// paths that run.
#[derive(Default)]
pub(crate) struct VectorTable {
    words: OnceLock<[[Vec<u64>; 2]; 2]>,
    numbers: OnceLock<[[Vec<f64>; 2]; 2]>,
}

fn rows<T>(table: &NttTable, of: impl Fn(&Factor) -> [T; 2]) -> [[Vec<T>; 2]; 2] {
    let part = |row: &[Factor], part: usize| {
        let picked = row.iter().map(|factor| of(factor).into_iter().nth(part));
        picked.flatten().collect()
    };
    [&table.roots, &table.inverse_roots].map(|row| [part(row, 0), part(row, 1)])
}

impl NttTable {
    // Quotients cut to 52 bits.
    fn words(&self) -> &[[Vec<u64>; 2]; 2] {
        let make = || rows(self, |f| [f.value, f.quotient >> 12]);
        self.vector.words.get_or_init(make)
    }

    // Quotients rounded to 53 bits.
    fn numbers(&self) -> &[[Vec<f64>; 2]; 2] {
        let q = self.modulus.value as f64;
        let make = || rows(self, |f| [f.value as f64, f.value as f64 / q]);
        self.vector.numbers.get_or_init(make)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    Ifma,
    Avx2,
    Portable,
}

impl Path {
    // The best first.
    const ALL: [Self; 3] = [Self::Ifma, Self::Avx2, Self::Portable];

    fn name(self) -> &'static str {
        match self {
            Self::Ifma => "avx512ifma",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512ifma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Ifma | Self::Avx2 => false,
            Self::Portable => true,
        }
    }
}

// Decided once; CHAINNODE_HE_KERNELS names the path to take, if this machine has it.
fn path() -> Path {
    static CHOICE: OnceLock<Path> = OnceLock::new();
    #[cfg(test)]
    if let Some(path) = tests::FORCED.get() {
        return path;
    }
    *CHOICE.get_or_init(|| {
        let wanted = std::env::var_os("CHAINNODE_HE_KERNELS");
        let is_wanted = |path: &Path| wanted.as_ref().is_some_and(|name| name == path.name());
        let available = || Path::ALL.into_iter().filter(|path| path.is_available());
        let first = available().next().unwrap_or(Path::Portable);
        available().find(is_wanted).unwrap_or(first)
    })
}

/// "avx512ifma", "avx2" or "portable": the kernels this machine runs.
pub fn cpu_path() -> &'static str {
    path().name()
}

/// The names of the paths this machine can run, the best first.
pub fn available_paths() -> Vec<&'static str> {
    let available = Path::ALL.into_iter().filter(|path| path.is_available());
    available.map(Path::name).collect()
}

macro_rules! dispatch {
    ($ifma:expr, $avx2:expr, $portable:expr) => {
        match path() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Path::Ifma` is chosen only where AVX-512 F, VL and IFMA were seen.
            Path::Ifma => unsafe { $ifma },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Path::Avx2` is chosen only where AVX2 and FMA were seen.
            Path::Avx2 => unsafe { $avx2 },
            _ => $portable,
        }
    };
}

/// One limb plane of some columns with their weights modulo its prime.
pub struct Side<'a> {
    planes: Vec<Source<'a>>,
    weights: Vec<u64>,
    constant: u64,
    // Magnitude and whether negative, when the weights are small enough to skip reductions.
    small: Option<Vec<(u64, bool)>>,
    // The centred weights in base 2^DIGIT_BITS, lowest first: at most half the base in magnitude.
    digits: Vec<Vec<i16>>,
}

// Digits of signed numbers, as many of each as the largest needs.
fn digits(mut numbers: Vec<i64>) -> Vec<Vec<i16>> {
    let base = 1 << DIGIT_BITS;
    let mut out = Vec::new();
    while numbers.iter().any(|x| *x != 0) {
        let lowest = |x: &mut i64| {
            let digit = (*x + base / 2).rem_euclid(base) - base / 2;
            *x = (*x - digit) / base;
            digit as i16
        };
        out.push(numbers.iter_mut().map(lowest).collect());
    }
    out
}

impl<'a> Side<'a> {
    /// Planes with one signed weight each and a constant added to every slot.
    pub fn new(planes: Vec<Source<'a>>, weights: &[i64], constant: i64, q: &Modulus) -> Self {
        let total = weights
            .iter()
            .fold(0u64, |sum, w| sum.saturating_add(w.unsigned_abs()));
        let small = weights.iter().map(|w| (w.unsigned_abs(), *w < 0)).collect();
        let weights: Vec<u64> = weights.iter().map(|w| q.from_signed(*w)).collect();
        let centred = weights.iter().map(|w| portable::centred(*w, q.value));
        let digits = digits(centred.collect());
        Self {
            planes,
            weights,
            constant: q.from_signed(constant),
            small: (total <= SMALL_WEIGHTS).then_some(small),
            digits,
        }
    }
}

/// Which pieces of 64 residues of a plane a kernel reads: `count`, one after another.
#[derive(Clone, Copy)]
pub struct Span {
    /// First piece.
    pub piece: usize,
    /// Number of pieces.
    pub count: usize,
}

/// Weighted sum over columns and pieces into one tile; the side's constant is left out.
pub fn weighted_sum(side: &Side<'_>, span: Span, q: &Modulus, out: &mut [u64]) {
    assert_eq!(out.len(), TILE);
    dispatch!(
        ifma_panel::weighted_sum(side, span, q, out),
        avx2_sums::weighted_sum(side, span, q, out),
        portable::weighted_sum(side, span, q, out)
    )
}

/// Weighted sums over columns, one per model and piece, into `out` [model][piece][64].
///
/// The models share their planes; `spans` are equally long and equally far apart; `scratch` has
/// twice the length of `out` and any content.
pub fn weighted_panel(
    models: &[&Side<'_>],
    spans: &[Span],
    q: &Modulus,
    scratch: &mut [u64],
    out: &mut [u64],
) {
    assert!(spans.iter().all(|span| span.count == spans[0].count));
    assert!(models.iter().all(|side| !side.planes.is_empty()));
    assert_eq!(
        out.len(),
        models.len() * spans.len() * spans[0].count * TILE
    );
    assert_eq!(scratch.len(), 2 * out.len());
    dispatch!(
        ifma_panel::weighted_panel(models, spans, q, scratch, out),
        avx2_sums::weighted_panel(models, spans, q, scratch, out),
        portable::weighted_panel(models, spans, q, out)
    )
}

/// Sum over pieces of the product of two to four factors, one tile per polynomial of the result.
///
/// `spans` are the pieces of the first and the second polynomial, `ahead` the pieces from one to
/// that at its place in the next tile.
pub fn tensor_sum(
    sides: &[&Side<'_>],
    spans: [Span; 2],
    ahead: usize,
    q: &Modulus,
    out: &mut [u64],
) {
    assert!((2..=FACTORS_MAX).contains(&sides.len()));
    assert_eq!(out.len(), (sides.len() + 1) * TILE);
    dispatch!(
        ifma_tensor::tensor_sum(sides, spans, ahead, q, out),
        avx2_tensor::tensor_sum(sides, spans, ahead, q, out),
        portable::tensor_sum(sides, spans, q, out)
    )
}

/// Exclusive or of all words: reads as fast as memory gives them.
pub fn read(words: &[u64]) -> u64 {
    dispatch!(ifma::read(words), avx2::read(words), portable::read(words))
}

/// The largest word; 0 of none.
pub fn largest(words: &[u64]) -> u64 {
    dispatch!(
        ifma::largest(words),
        avx2::largest(words),
        portable::largest(words)
    )
}

/// Adds a row of canonical residues to another.
pub fn add_row(out: &mut [u64], x: &[u64], q: &Modulus) {
    assert!(out.len() == x.len() && x.len().is_multiple_of(8));
    dispatch!(
        ifma::add_row(out, x, q),
        avx2::add_row(out, x, q),
        portable::add_row(out, x, q)
    )
}

/// A row times a canonical residue.
pub fn scale_row(out: &mut [u64], x: &[u64], weight: u64, q: &Modulus) {
    assert!(out.len() == x.len() && x.len().is_multiple_of(8));
    dispatch!(
        ifma::scale_row(out, x, weight, q),
        avx2::scale_row(out, x, weight, q),
        portable::scale_row(out, x, weight, q)
    )
}

/// Adds the sum of `pairs` of products to a row; at most 64 pairs, rows of equal length.
pub fn add_products(out: &mut [u64], pairs: &[(&[u64], &[u64])], q: &Modulus) {
    assert!(pairs.len() <= 64 && out.len().is_multiple_of(8));
    assert!(pairs
        .iter()
        .all(|(a, b)| a.len() == out.len() && b.len() == out.len()));
    dispatch!(
        ifma::add_products(out, pairs, q),
        avx2::add_products(out, pairs, q),
        portable::add_products(out, pairs, q)
    )
}

/// What the exact division by the special prime needs.
pub struct Division {
    /// The special prime P.
    pub special: u64,
    /// The plain modulus t.
    pub plain: Modulus,
    /// P^-1 modulo t.
    pub inverse: u64,
}

/// k = -delta / P modulo t, delta the centred representative of each residue modulo P.
pub fn special_quotient(out: &mut [u64], special: &[u64], division: &Division) {
    assert!(out.len() == special.len() && out.len().is_multiple_of(8));
    dispatch!(
        ifma::special_quotient(out, special, division),
        avx2::special_quotient(out, special, division),
        portable::special_quotient(out, special, division)
    )
}

/// delta + P k modulo q, both centred: 0 modulo t and delta modulo P.
pub fn special_correction(
    out: &mut [u64],
    special: &[u64],
    quotient: &[u64],
    division: &Division,
    q: &Modulus,
) {
    assert!(out.len() == special.len() && out.len() == quotient.len());
    assert!(out.len().is_multiple_of(8) && division.plain.value < q.value);
    dispatch!(
        ifma::special_correction(out, special, quotient, division, q),
        avx2::special_correction(out, special, quotient, division, q),
        portable::special_correction(out, special, quotient, division, q)
    )
}

/// (x - c) times a canonical residue, in place.
pub fn subtract_scale(x: &mut [u64], c: &[u64], weight: u64, q: &Modulus) {
    assert!(x.len() == c.len() && x.len().is_multiple_of(8));
    dispatch!(
        ifma::subtract_scale(x, c, weight, q),
        avx2::subtract_scale(x, c, weight, q),
        portable::subtract_scale(x, c, weight, q)
    )
}

/// The forward transform on this machine's path.
pub(crate) fn forward_ntt(table: &NttTable, a: &mut [u64]) {
    if a.len() < 16 {
        return table.forward_portable(a);
    }
    dispatch!(
        ifma_ntt::forward(table, a),
        avx2_ntt::forward(table, a),
        table.forward_portable(a)
    )
}

/// The inverse transform on this machine's path.
pub(crate) fn inverse_ntt(table: &NttTable, a: &mut [u64]) {
    if a.len() < 16 {
        return table.inverse_portable(a);
    }
    dispatch!(
        ifma_ntt::inverse(table, a),
        avx2_ntt::inverse(table, a),
        table.inverse_portable(a)
    )
}
