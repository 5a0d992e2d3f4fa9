//! The key council: joint public key, relinearisation key, and release shares, without a dealer.
//!
//! Protocols of Mouchet, Troncoso-Pastoriza, Bossuat and Hubaux, "Multiparty Homomorphic
//! Encryption from Ring-Learning-with-Errors" (PETS 2021), with errors times t for BGV. The joint
//! secret is the sum of the members' secrets. Release noise floods in multiples of t and fills the
//! modulus up to a margin, see [`flood_term_bits`].

use zeroize::Zeroizing;

use crate::compose::{digits, magnitude_bits, PlainReducer};
use crate::error::{refuse, HeResult};
use crate::keys::SecretKey;
use crate::params::{Profile, ALL_LIMBS, DEGREE, LIMBS};
use crate::poly::{
    add_product_row, add_row, lift, parse, parse_ciphertext, row, sum_shares, FULL_WORDS,
};
use crate::relin::scaled_secret;
use crate::sampling::{common_uniform, derive_seed, system_random, Sampler, FLOOD_TERM_BITS};
use crate::scheme::PublicKey;

/// Bits an honest scalar release leaves unused: a wrong share keeps them with probability 2^-12.
pub const SCALAR_MARGIN_BITS: u32 = 12;
/// The same for each of the 8,192 coefficients of a key switch, where one overflow is enough.
pub const SWITCH_MARGIN_BITS: u32 = 3;
const SMALLEST_FLOOD_BITS: u32 = 16;
const PARTIES_MAX: usize = 1 << 10;

/// A member's secret of relinearisation round 1, wiped when dropped.
pub struct RelinEphemeral {
    profile: &'static Profile,
    mask: Zeroizing<Vec<i64>>,
    seed: Zeroizing<[u8; 32]>,
}

/// Width of one flooding term: the flooding of all parties stays below
/// `2^(log2 Q - 2 - margin)`, so honest phases never wrap whatever the draw.
pub fn flood_term_bits(
    profile: &Profile,
    limbs: usize,
    parties: usize,
    margin: u32,
) -> HeResult<u32> {
    profile.check_limbs(limbs)?;
    if parties == 0 || parties > PARTIES_MAX {
        return refuse(format!("parties must be 1 to {PARTIES_MAX}, got {parties}"));
    }
    let spent = 2 + margin + profile.plain.modulus.bits() + (FLOOD_TERM_BITS - 1);
    let spent = spent + parties.next_power_of_two().trailing_zeros();
    let width = profile.modulus_bits(limbs).saturating_sub(spent);
    if width < SMALLEST_FLOOD_BITS {
        return refuse(format!("{limbs} limbs leave no room for flooding noise"));
    }
    Ok(width)
}

/// log2 of the standard deviation of one member's flooding noise, rounded down.
pub fn flood_bits(profile: &Profile, limbs: usize, parties: usize, scalar: bool) -> HeResult<u32> {
    let margin = if scalar {
        SCALAR_MARGIN_BITS
    } else {
        SWITCH_MARGIN_BITS
    };
    Ok(flood_term_bits(profile, limbs, parties, margin)? + profile.plain.modulus.bits() - 1)
}

fn public_uniform(profile: &Profile, seed: &[u8], limb: usize) -> Vec<u64> {
    common_uniform(
        seed,
        "public-key",
        [0, limb as u8],
        profile.ring.modulus(limb),
    )
}

fn relin_uniform(profile: &Profile, seed: &[u8], digit: usize, limb: usize) -> Vec<u64> {
    common_uniform(
        seed,
        "relin",
        [digit as u8, limb as u8],
        profile.ring.modulus(limb),
    )
}

impl SecretKey {
    /// b_i = -(a s_i + t e_i) over data limbs and special prime, a from the common seed.
    pub fn public_key_share(&self, common_seed: &[u8]) -> HeResult<Vec<u64>> {
        let error = Sampler::fresh()?.error();
        let mut out = Vec::with_capacity(FULL_WORDS);
        for limb in 0..ALL_LIMBS {
            let a = public_uniform(self.profile, common_seed, limb);
            out.extend(self.masked(&a, &error, limb));
        }
        Ok(out)
    }

    /// Round 1: per digit h0 = -u a + s w + t e0 and h1 = s a + t e1.
    pub fn relin_round1(&self, common_seed: &[u8]) -> HeResult<(Vec<u64>, RelinEphemeral)> {
        let profile = self.profile;
        let t = profile.t() as i64;
        let mut sampler = Sampler::fresh()?;
        let ephemeral = RelinEphemeral {
            profile,
            mask: sampler.ternary(),
            seed: system_random()?,
        };
        let mut out = Vec::with_capacity(LIMBS * 2 * FULL_WORDS);
        for digit in 0..LIMBS {
            let errors = [sampler.error(), sampler.error()];
            let mut second = Vec::with_capacity(FULL_WORDS);
            for limb in 0..ALL_LIMBS {
                let q = profile.ring.modulus(limb);
                let a = relin_uniform(profile, common_seed, digit, limb);
                let mut h0 = vec![0; DEGREE];
                add_product_row(&mut h0, &a, &lift(&ephemeral.mask, 1, limb), limb);
                h0.iter_mut().for_each(|x| *x = q.negate(*x));
                if let Some(scaled) = scaled_secret(profile, &self.values[limb], digit, limb) {
                    add_row(&mut h0, &scaled, limb);
                }
                add_row(&mut h0, &lift(&errors[0], t, limb), limb);
                out.extend(h0);
                let mut h1 = lift(&errors[1], t, limb).to_vec();
                add_product_row(&mut h1, &a, &self.values[limb], limb);
                second.extend(h1);
            }
            out.extend(second);
        }
        Ok((out, ephemeral))
    }

    /// Round 2: per digit s h0 + (u - s) h1 + fresh noise, the same bytes when asked again.
    pub fn relin_round2(&self, ephemeral: &RelinEphemeral, round1: &[u8]) -> HeResult<Vec<u64>> {
        let profile = self.profile;
        if ephemeral.profile.name != profile.name {
            return refuse("round 1 was run with another profile");
        }
        let words = parse("round 1", round1, LIMBS * 2, ALL_LIMBS)?;
        let digest = derive_seed("chainnode/he-relin-input/v1", &[round1]);
        let seed = derive_seed(
            "chainnode/he-relin/v1",
            &[ephemeral.seed.as_ref(), digest.as_ref()],
        );
        let mut sampler = Sampler::new(&seed);
        let t = profile.t() as i64;
        let difference: Zeroizing<Vec<i64>> = Zeroizing::new(
            ephemeral
                .mask
                .iter()
                .zip(self.coefficients.iter())
                .map(|(u, s)| u - s)
                .collect(),
        );
        let mut out = Vec::with_capacity(LIMBS * FULL_WORDS);
        for digit in 0..LIMBS {
            let errors = [sampler.error(), sampler.error()];
            for limb in 0..ALL_LIMBS {
                let mut share = lift(&errors[0], t, limb).to_vec();
                add_row(&mut share, &lift(&errors[1], t, limb), limb);
                let h0 = row(&words, 2 * digit, ALL_LIMBS, limb);
                let h1 = row(&words, 2 * digit + 1, ALL_LIMBS, limb);
                add_product_row(&mut share, h0, &self.values[limb], limb);
                add_product_row(&mut share, h1, &lift(&difference, 1, limb), limb);
                out.extend(share);
            }
        }
        Ok(out)
    }

    // Unpredictable to others, the same on a resend, different for another ciphertext.
    fn release_sampler(&self, kind: &str, limbs: usize, ciphertext: &[u8], seed: &[u8]) -> Sampler {
        let secret: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.coefficients.iter().map(|c| (c + 1) as u8).collect());
        let key = derive_seed("chainnode/he-flood-key/v1", &[&secret]);
        let digest = derive_seed("chainnode/he-flood-input/v1", &[ciphertext]);
        let name = self.profile.name.as_bytes();
        let parts = [
            key.as_ref(),
            name,
            kind.as_bytes(),
            &[limbs as u8],
            seed,
            digest.as_ref(),
        ];
        Sampler::new(&derive_seed("chainnode/he-flood/v1", &parts))
    }

    /// Share of the constant coefficient: N^-1 sum of c1 s, flooded; one word a limb.
    pub fn scalar_share(
        &self,
        ciphertext: &[u8],
        limbs: usize,
        flood_seed: &[u8],
        parties: usize,
    ) -> HeResult<Vec<u64>> {
        let profile = self.profile;
        let width = flood_term_bits(profile, limbs, parties, SCALAR_MARGIN_BITS)?;
        let words = parse_two(profile, ciphertext, limbs)?;
        let moduli: Vec<_> = (0..limbs).map(|i| *profile.ring.modulus(i)).collect();
        let seed = [flood_seed, &(parties as u64).to_be_bytes()].concat();
        let flood = self
            .release_sampler("scalar", limbs, ciphertext, &seed)
            .flood(1, width, profile.t(), &moduli);
        Ok((0..limbs)
            .map(|limb| {
                let q = &moduli[limb];
                let c1 = row(&words, 1, limbs, limb);
                let terms = c1.iter().zip(self.values[limb].iter());
                let sum = q.reduce_wide(terms.map(|(x, s)| *x as u128 * *s as u128).sum());
                q.add(
                    q.mul_factor(sum, &profile.ring.degree_inverse[limb]),
                    flood[limb],
                )
            })
            .collect())
    }

    /// Share of a switch to another key: (s c1 + p0 u + t flood, p1 u + t e).
    pub fn key_switch_share(
        &self,
        ciphertext: &[u8],
        limbs: usize,
        target: &PublicKey<'_>,
        flood_seed: &[u8],
        parties: usize,
    ) -> HeResult<Vec<u64>> {
        let profile = self.profile;
        let t = profile.t();
        let width = flood_term_bits(profile, limbs, parties, SWITCH_MARGIN_BITS)?;
        let words = parse_two(profile, ciphertext, limbs)?;
        let moduli: Vec<_> = (0..limbs).map(|i| *profile.ring.modulus(i)).collect();
        let seed = [flood_seed, &(parties as u64).to_be_bytes()].concat();
        let mut sampler = self.release_sampler("switch", limbs, ciphertext, &seed);
        let mask = sampler.ternary();
        let error = sampler.error();
        let mut flood = sampler.flood(DEGREE, width, t, &moduli);
        let mut out = vec![0; 2 * limbs * DEGREE];
        let (first, second) = out.split_at_mut(limbs * DEGREE);
        for limb in 0..limbs {
            let u = lift(&mask, 1, limb);
            let rows = limb * DEGREE..(limb + 1) * DEGREE;
            profile.ring.tables[limb].forward(&mut flood[rows.clone()]);
            let h0 = &mut first[rows.clone()];
            h0.copy_from_slice(&flood[rows.clone()]);
            add_product_row(h0, row(&words, 1, limbs, limb), &self.values[limb], limb);
            add_product_row(h0, target.row(0, limb), &u, limb);
            let h1 = &mut second[rows];
            h1.copy_from_slice(&lift(&error, t as i64, limb));
            add_product_row(h1, target.row(1, limb), &u, limb);
        }
        Ok(out)
    }
}

fn parse_two<'a>(
    profile: &Profile,
    bytes: &'a [u8],
    limbs: usize,
) -> HeResult<std::borrow::Cow<'a, [u64]>> {
    match parse_ciphertext(profile, bytes, limbs)? {
        (words, 2) => Ok(words),
        _ => refuse("a release takes a ciphertext of two polynomials: relinearise first"),
    }
}

/// The joint public key (b, a) over the data limbs.
pub fn aggregate_public_key(
    profile: &Profile,
    common_seed: &[u8],
    shares: &[&[u8]],
) -> HeResult<Vec<u64>> {
    let mut out = sum_shares("public key share", shares, 1, ALL_LIMBS)?;
    out.truncate(LIMBS * DEGREE);
    for limb in 0..LIMBS {
        out.extend(public_uniform(profile, common_seed, limb));
    }
    Ok(out)
}

/// Sum of round 1 shares.
pub fn aggregate_relin_round1(shares: &[&[u8]]) -> HeResult<Vec<u64>> {
    sum_shares("round 1 share", shares, LIMBS * 2, ALL_LIMBS)
}

/// The joint relinearisation key.
pub fn relin_key(round1: &[u8], round2_shares: &[&[u8]]) -> HeResult<Vec<u64>> {
    let words = parse("round 1", round1, LIMBS * 2, ALL_LIMBS)?;
    let sums = sum_shares("round 2 share", round2_shares, LIMBS, ALL_LIMBS)?;
    let mut out = Vec::with_capacity(2 * LIMBS * FULL_WORDS);
    for digit in 0..LIMBS {
        out.extend_from_slice(&sums[digit * FULL_WORDS..][..FULL_WORDS]);
        out.extend_from_slice(&words[(2 * digit + 1) * FULL_WORDS..][..FULL_WORDS]);
    }
    Ok(out)
}

/// The slot sum modulo t and the noise bits left: below [`SCALAR_MARGIN_BITS`] a share is wrong.
pub fn combine_scalar(
    profile: &Profile,
    limbs: usize,
    ciphertext: &[u8],
    shares: &[&[u8]],
) -> HeResult<(u64, u32)> {
    let words = parse_two(profile, ciphertext, limbs)?;
    if shares.is_empty() {
        return refuse("no scalar share given");
    }
    let mut residues = [0; LIMBS];
    for (limb, residue) in residues.iter_mut().enumerate().take(limbs) {
        let q = profile.ring.modulus(limb);
        let sum = row(&words, 0, limbs, limb).iter().map(|x| *x as u128).sum();
        *residue = q.mul_factor(q.reduce_wide(sum), &profile.ring.degree_inverse[limb]);
    }
    for (place, share) in shares.iter().enumerate() {
        if share.len() != 8 * limbs {
            return refuse(format!("scalar share {place} is not 8 bytes a limb"));
        }
        for (limb, word) in crate::poly::view(share).iter().enumerate() {
            let q = profile.ring.modulus(limb);
            if *word >= q.value {
                return refuse(format!(
                    "scalar share {place} limb {limb} is not below its prime"
                ));
            }
            residues[limb] = q.add(residues[limb], *word);
        }
    }
    let digits = digits(&residues[..limbs]);
    let t = &profile.plain.modulus;
    let constant = PlainReducer::new(*t, limbs).reduce(&digits);
    let left = profile
        .modulus_bits(limbs)
        .saturating_sub(magnitude_bits(&digits, limbs) + 1);
    Ok((t.mul(constant, t.reduce(DEGREE as u64)), left))
}

/// The ciphertext under the target key: (c0 + sum h0, sum h1).
pub fn combine_key_switch(
    profile: &Profile,
    limbs: usize,
    ciphertext: &[u8],
    shares: &[&[u8]],
) -> HeResult<Vec<u64>> {
    let words = parse_two(profile, ciphertext, limbs)?;
    let mut out = sum_shares("key switch share", shares, 2, limbs)?;
    for limb in 0..limbs {
        add_row(
            &mut out[limb * DEGREE..][..DEGREE],
            row(&words, 0, limbs, limb),
            limb,
        );
    }
    Ok(out)
}
