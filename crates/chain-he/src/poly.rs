//! Polynomials as rows of residues: shapes, checks, and pointwise arithmetic.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::error::{refuse, HeResult};
use crate::kernels::{add_products, add_row, largest};
use crate::params::{Profile, Ring, POLYNOMIALS_MAX};

/// Words of a byte string, without a copy where the machine allows it.
pub fn view(bytes: &[u8]) -> Cow<'_, [u64]> {
    if cfg!(target_endian = "little") {
        if let Ok(words) = bytemuck::try_cast_slice(bytes) {
            return Cow::Borrowed(words);
        }
    }
    Cow::Owned(
        bytes
            .chunks_exact(8)
            .map(|c| u64::from_le_bytes(c.try_into().unwrap_or([0; 8])))
            .collect(),
    )
}

/// A ciphertext of two to five polynomials, checked; returns how many it has.
pub fn parse_ciphertext<'a>(
    profile: &Profile,
    bytes: &'a [u8],
    limbs: usize,
) -> HeResult<(Cow<'a, [u64]>, usize)> {
    profile.check_limbs(limbs)?;
    let polynomials = (bytes.len() / (limbs * profile.ring.degree * 8)).clamp(2, POLYNOMIALS_MAX);
    let words = profile
        .ring
        .parse("ciphertext", bytes, polynomials, limbs)?;
    Ok((words, polynomials))
}

impl Ring {
    /// Refuses words outside their primes; `words` holds polynomials of `limbs` rows.
    pub fn check_residues(&self, what: &str, words: &[u64], limbs: usize) -> HeResult<()> {
        for (row, residues) in words.chunks_exact(self.degree).enumerate() {
            let q = self.modulus(row % limbs).value;
            if largest(residues) >= q {
                return refuse(format!(
                    "{what}: a residue of polynomial {} limb {} is not below its prime",
                    row / limbs,
                    row % limbs
                ));
            }
        }
        Ok(())
    }

    /// A byte string of exactly `polynomials` polynomials of `limbs` limbs, checked.
    pub fn parse<'a>(
        &self,
        what: &str,
        bytes: &'a [u8],
        polynomials: usize,
        limbs: usize,
    ) -> HeResult<Cow<'a, [u64]>> {
        let expected = polynomials * limbs * self.degree * 8;
        if bytes.len() != expected {
            return refuse(format!(
                "{what} is {} bytes, expected {expected}",
                bytes.len()
            ));
        }
        let words = view(bytes);
        self.check_residues(what, &words, limbs)?;
        Ok(words)
    }

    /// Row `limb` of polynomial `index`.
    pub fn row<'a>(&self, words: &'a [u64], index: usize, limbs: usize, limb: usize) -> &'a [u64] {
        &words[(index * limbs + limb) * self.degree..][..self.degree]
    }

    /// Adds `b` to `a` modulo the prime of `limb`.
    pub fn add_row(&self, a: &mut [u64], b: &[u64], limb: usize) {
        add_row(a, b, self.modulus(limb));
    }

    /// Adds `b * c` to `a` modulo the prime of `limb`.
    pub fn add_product_row(&self, a: &mut [u64], b: &[u64], c: &[u64], limb: usize) {
        add_products(a, &[(b, c)], self.modulus(limb));
    }

    /// Small signed coefficients times `scale`, in NTT form modulo the prime of `limb`.
    ///
    /// Magnitudes of `scale * coefficient` must be below every prime.
    pub fn lift(&self, coefficients: &[i64], scale: i64, limb: usize) -> Zeroizing<Vec<u64>> {
        let mut out = Zeroizing::new(vec![0; coefficients.len()]);
        self.lift_into(coefficients, scale, limb, &mut out);
        out
    }

    /// As `lift`, into a row of any content.
    #[inline]
    pub fn lift_into(&self, coefficients: &[i64], scale: i64, limb: usize, out: &mut [u64]) {
        let table = &self.tables[limb];
        let q = &table.modulus;
        for (x, c) in out.iter_mut().zip(coefficients) {
            *x = q.from_small_signed(c * scale);
        }
        table.forward(out);
    }

    /// Adds `b * c` of every pair to `a` modulo the prime of `limb`.
    pub fn add_product_rows(&self, a: &mut [u64], pairs: &[(&[u64], &[u64])], limb: usize) {
        add_products(a, pairs, self.modulus(limb));
    }

    /// Sum of equal-shaped byte strings of `limbs`-limb polynomials.
    pub fn sum_shares(
        &self,
        what: &str,
        shares: &[&[u8]],
        polynomials: usize,
        limbs: usize,
    ) -> HeResult<Vec<u64>> {
        let Some((first, others)) = shares.split_first() else {
            return refuse(format!("no {what} given"));
        };
        let mut total = self.parse(what, first, polynomials, limbs)?.into_owned();
        for share in others {
            let words = self.parse(what, share, polynomials, limbs)?;
            for (r, (a, b)) in total
                .chunks_exact_mut(self.degree)
                .zip(words.chunks_exact(self.degree))
                .enumerate()
            {
                self.add_row(a, b, r % limbs);
            }
        }
        Ok(total)
    }
}
