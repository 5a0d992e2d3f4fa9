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
use crate::params::{Profile, LIMBS_MAX};
use crate::poly::parse_ciphertext;
use crate::relin::scaled_secret;
use crate::sampling::{common_uniform, derive_seed, system_random, Sampler, FLOOD_TERM_BITS};
use crate::scheme::PublicKey;
use crate::threads::each;

/// Bits an honest scalar release leaves unused: a wrong share keeps them with probability 2^-12.
pub const SCALAR_MARGIN_BITS: u32 = 12;
/// The same for each of the 8,192 coefficients of a key switch, where one overflow is enough.
pub const SWITCH_MARGIN_BITS: u32 = 3;
const SMALLEST_FLOOD_BITS: u32 = 16;
const PARTIES_MAX: usize = 1 << 10;

/// A member's secret of relinearisation round 1, wiped when dropped.
pub struct RelinEphemeral {
    profile: &'static Profile,
    pub(crate) mask: Zeroizing<Vec<i64>>,
    seed: Zeroizing<[u8; 32]>,
}

type RelinShares = (Vec<u64>, RelinEphemeral, Vec<Zeroizing<Vec<i64>>>);

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

pub(crate) fn public_uniform(profile: &Profile, seed: &[u8], limb: usize) -> Vec<u64> {
    common_uniform(
        profile.ring.degree,
        seed,
        "public-key",
        [0, limb as u8],
        profile.ring.modulus(limb),
    )
}

pub(crate) fn relin_uniform(profile: &Profile, seed: &[u8], digit: usize, limb: usize) -> Vec<u64> {
    common_uniform(
        profile.ring.degree,
        seed,
        "relin",
        [digit as u8, limb as u8],
        profile.ring.modulus(limb),
    )
}

impl SecretKey {
    // b_i = -(a s_i + t e_i) over data limbs and special prime, a from the common seed; and e_i.
    pub(crate) fn key_share(
        &self,
        common_seed: &[u8],
    ) -> HeResult<(Vec<u64>, Zeroizing<Vec<i64>>)> {
        let ring = self.profile.ring;
        let error = Sampler::fresh()?.error(ring.degree);
        let mut out = Vec::with_capacity(ring.full_words());
        for limb in 0..ring.all_limbs() {
            let a = public_uniform(self.profile, common_seed, limb);
            out.extend(self.masked(&a, &error, limb));
        }
        Ok((out, error))
    }

    // Round 1: per digit h0 = -u a + s w + t e0 and h1 = s a + t e1; its secret, and the errors of
    // all h0 and h1 in their order.
    pub(crate) fn relin_shares(&self, common_seed: &[u8]) -> HeResult<RelinShares> {
        let profile = self.profile;
        let (ring, degree) = (profile.ring, profile.ring.degree);
        let t = profile.t() as i64;
        let mut sampler = Sampler::fresh()?;
        let ephemeral = RelinEphemeral {
            profile,
            mask: sampler.ternary(degree),
            seed: system_random()?,
        };
        let mut out = Vec::with_capacity(ring.limbs * 2 * ring.full_words());
        let mut all_errors = Vec::with_capacity(2 * ring.limbs);
        for digit in 0..ring.limbs {
            let errors = [sampler.error(degree), sampler.error(degree)];
            let mut second = Vec::with_capacity(ring.full_words());
            for limb in 0..ring.all_limbs() {
                let q = profile.ring.modulus(limb);
                let a = relin_uniform(profile, common_seed, digit, limb);
                let mut h0 = vec![0; degree];
                ring.add_product_row(&mut h0, &a, &ring.lift(&ephemeral.mask, 1, limb), limb);
                h0.iter_mut().for_each(|x| *x = q.negate(*x));
                if let Some(scaled) = scaled_secret(profile, &self.values[limb], digit, limb) {
                    ring.add_row(&mut h0, &scaled, limb);
                }
                ring.add_row(&mut h0, &ring.lift(&errors[0], t, limb), limb);
                out.extend(h0);
                let mut h1 = ring.lift(&errors[1], t, limb).to_vec();
                ring.add_product_row(&mut h1, &a, &self.values[limb], limb);
                second.extend(h1);
            }
            out.extend(second);
            all_errors.extend(errors);
        }
        Ok((out, ephemeral, all_errors))
    }

    /// Round 2: per digit s h0 + (u - s) h1 + fresh noise, the same bytes when asked again.
    pub fn relin_round2(&self, ephemeral: &RelinEphemeral, round1: &[u8]) -> HeResult<Vec<u64>> {
        let profile = self.profile;
        let (ring, degree) = (profile.ring, profile.ring.degree);
        if ephemeral.profile.name != profile.name {
            return refuse("round 1 was run with another profile");
        }
        let words = ring.parse("round 1", round1, ring.limbs * 2, ring.all_limbs())?;
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
        let mut out = Vec::with_capacity(ring.limbs * ring.full_words());
        for digit in 0..ring.limbs {
            let errors = [sampler.error(degree), sampler.error(degree)];
            for limb in 0..ring.all_limbs() {
                let mut share = ring.lift(&errors[0], t, limb).to_vec();
                ring.add_row(&mut share, &ring.lift(&errors[1], t, limb), limb);
                let h0 = ring.row(&words, 2 * digit, ring.all_limbs(), limb);
                let h1 = ring.row(&words, 2 * digit + 1, ring.all_limbs(), limb);
                ring.add_product_row(&mut share, h0, &self.values[limb], limb);
                ring.add_product_row(&mut share, h1, &ring.lift(&difference, 1, limb), limb);
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
        let ring = profile.ring;
        let words = parse_two(profile, ciphertext, limbs)?;
        let moduli: Vec<_> = (0..limbs).map(|i| *profile.ring.modulus(i)).collect();
        let seed = [flood_seed, &(parties as u64).to_be_bytes()].concat();
        let flood = self
            .release_sampler("scalar", limbs, ciphertext, &seed)
            .flood(1, width, profile.t(), &moduli);
        Ok((0..limbs)
            .map(|limb| {
                let q = &moduli[limb];
                let c1 = ring.row(&words, 1, limbs, limb);
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
        let ring = profile.ring;
        let words = parse_two(profile, ciphertext, limbs)?;
        let moduli: Vec<_> = (0..limbs).map(|i| *profile.ring.modulus(i)).collect();
        let seed = [flood_seed, &(parties as u64).to_be_bytes()].concat();
        let mut sampler = self.release_sampler("switch", limbs, ciphertext, &seed);
        let degree = ring.degree;
        let mask = sampler.ternary(degree);
        let error = sampler.error(degree);
        let flood = sampler.flood(degree, width, t, &moduli);
        let mut u = Zeroizing::new(vec![0; degree]);
        let mut out = vec![0; 2 * limbs * degree];
        out[..limbs * degree].copy_from_slice(&flood);
        let (first, second) = out.split_at_mut(limbs * degree);
        for limb in 0..limbs {
            ring.lift_into(&mask, 1, limb, &mut u);
            let rows = limb * degree..(limb + 1) * degree;
            let h0 = &mut first[rows.clone()];
            ring.tables[limb].forward(h0);
            let switched = (ring.row(&words, 1, limbs, limb), &**self.values[limb]);
            ring.add_product_rows(h0, &[switched, (target.row(0, limb), &u)], limb);
            let h1 = &mut second[rows];
            ring.lift_into(&error, t as i64, limb, h1);
            ring.add_product_row(h1, target.row(1, limb), &u, limb);
        }
        Ok(out)
    }

    /// `key_switch_share` of several ciphertexts, each with its own flooding seed.
    pub fn key_switch_shares(
        &self,
        ciphertexts: &[&[u8]],
        limbs: usize,
        target: &PublicKey<'_>,
        flood_seeds: &[&[u8]],
        parties: usize,
        threads: usize,
    ) -> HeResult<Vec<Vec<u64>>> {
        let count = ciphertexts.len();
        if flood_seeds.len() != count {
            let seeds = flood_seeds.len();
            return refuse(format!("{seeds} seeds given for {count} ciphertexts"));
        }
        each(count, threads, |place| {
            let (ciphertext, seed) = (ciphertexts[place], flood_seeds[place]);
            self.key_switch_share(ciphertext, limbs, target, seed, parties)
        })
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
    let ring = profile.ring;
    let mut out = ring.sum_shares("public key share", shares, 1, ring.all_limbs())?;
    out.truncate(ring.limbs * ring.degree);
    for limb in 0..ring.limbs {
        out.extend(public_uniform(profile, common_seed, limb));
    }
    Ok(out)
}

/// Sum of round 1 shares.
pub fn aggregate_relin_round1(profile: &Profile, shares: &[&[u8]]) -> HeResult<Vec<u64>> {
    let ring = profile.ring;
    ring.sum_shares("round 1 share", shares, ring.limbs * 2, ring.all_limbs())
}

/// The joint relinearisation key.
pub fn relin_key(profile: &Profile, round1: &[u8], round2_shares: &[&[u8]]) -> HeResult<Vec<u64>> {
    let ring = profile.ring;
    let full_words = ring.full_words();
    let words = ring.parse("round 1", round1, ring.limbs * 2, ring.all_limbs())?;
    let sums = ring.sum_shares("round 2 share", round2_shares, ring.limbs, ring.all_limbs())?;
    let mut out = Vec::with_capacity(2 * ring.limbs * full_words);
    for digit in 0..ring.limbs {
        out.extend_from_slice(&sums[digit * full_words..][..full_words]);
        out.extend_from_slice(&words[(2 * digit + 1) * full_words..][..full_words]);
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
    let ring = profile.ring;
    let mut residues = [0; LIMBS_MAX];
    for (limb, residue) in residues.iter_mut().enumerate().take(limbs) {
        let q = profile.ring.modulus(limb);
        let sum = ring
            .row(&words, 0, limbs, limb)
            .iter()
            .map(|x| *x as u128)
            .sum();
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
    let digits = digits(ring, &residues[..limbs]);
    let t = &profile.plain.modulus;
    let constant = PlainReducer::new(ring, *t, limbs).reduce(&digits);
    let left = profile
        .modulus_bits(limbs)
        .saturating_sub(magnitude_bits(ring, &digits, limbs) + 1);
    Ok((t.mul(constant, t.reduce(ring.degree as u64)), left))
}

/// The ciphertext under the target key: (c0 + sum h0, sum h1).
pub fn combine_key_switch(
    profile: &Profile,
    limbs: usize,
    ciphertext: &[u8],
    shares: &[&[u8]],
) -> HeResult<Vec<u64>> {
    let words = parse_two(profile, ciphertext, limbs)?;
    let ring = profile.ring;
    let mut out = ring.sum_shares("key switch share", shares, 2, limbs)?;
    for limb in 0..limbs {
        ring.add_row(
            &mut out[limb * ring.degree..][..ring.degree],
            ring.row(&words, 0, limbs, limb),
            limb,
        );
    }
    Ok(out)
}
