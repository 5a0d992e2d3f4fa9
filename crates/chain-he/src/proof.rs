//! Proof that the dealer of a piece knows the short secrets behind its first shares.
//!
//! Fiat-Shamir with aborts over the ring (Lyubashevsky, "Lattice Signatures Without Trapdoors",
//! EUROCRYPT 2012) for all equations of one profile at once: -b = a s + t e of the key share and,
//! with round 1 of relinearisation, h0 = w s - a u + t e0 and h1 = a s + t e1 of every digit. The
//! dealer commits to the same combinations of uniform masks, the hash of them gives a sparse
//! ternary challenge c, and what it shows is z = y + c x, only where z tells nothing of x.
//!
//! Extraction is relaxed: two answers to one commitment give, for the difference of two challenges
//! in place of 1, secrets below twice the bounds here. The challenge of a discarded try is used
//! like a public one: it is a hash of a commitment that nobody ever sees.

use sha2::{Digest, Sha256};
use sha3::digest::{ExtendableOutput, Update, XofReader};
use zeroize::Zeroizing;

use crate::council::{public_uniform, relin_uniform, RelinEphemeral};
use crate::encoder::bytes_of;
use crate::error::{refuse, HeResult};
use crate::keys::SecretKey;
use crate::params::Profile;
use crate::relin::scaled_secret;
use crate::sampling::{derive_seed, Sampler, ERROR_MAX};

/// Non-zero coefficients of a challenge: C(8192, 16) 2^16 > 2^179 of them.
pub const CHALLENGE_WEIGHT: usize = 16;
const DIGEST_BYTES: usize = 32;
const RESPONSE_BYTES: usize = 4;
// One passes with at least 1/e, so that all of these fail with a chance below 2^-160.
const TRIES_MAX: usize = 256;
const SIGN: u16 = 1 << 15;

type Short = Zeroizing<Vec<i64>>;

/// What a proof is bound to beside the shares: common seeds, and whatever names its place.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The profile of all shares.
    pub profile: &'static Profile,
    /// Seed of the key's common polynomial.
    pub key_seed: &'a [u8],
    /// Seed of the common polynomials of relinearisation, if round 1 of it is proven too.
    pub relin_seed: Option<&'a [u8]>,
    /// Epoch, piece and dealer.
    pub context: &'a [u8],
}

/// A dealer's first shares of one profile, with the proof for them.
pub struct FirstShares {
    /// The public key share.
    pub key: Vec<u64>,
    /// Round 1 of relinearisation, and its secret.
    pub relin: Option<(Vec<u64>, RelinEphemeral)>,
    /// What [`verify`] takes.
    pub proof: Vec<u8>,
}

impl SecretKey {
    /// The public key share and, where the claim has a seed for it, round 1, proven.
    pub fn first_shares(&self, claim: &Claim<'_>) -> HeResult<FirstShares> {
        if claim.profile.name != self.profile.name {
            return refuse("the claim is about another profile");
        }
        let (key, error) = self.key_share(claim.key_seed)?;
        let mut secrets = vec![self.coefficients.clone()];
        let mut errors = vec![error];
        let mut relin = None;
        if let Some(seed) = claim.relin_seed {
            let (share, ephemeral, more) = self.relin_shares(seed)?;
            secrets.push(ephemeral.mask.clone());
            errors.extend(more);
            relin = Some((share, ephemeral));
        }
        secrets.extend(errors);
        let shown = relin.as_ref().map_or(&[][..], |(share, _)| share);
        let statement = statement(claim, &bytes_of(&key), &bytes_of(shown));
        let proof = prove(&Relations::of(claim), &statement, &secrets)?;
        Ok(FirstShares { key, relin, proof })
    }
}

/// Refuses shares whose dealer did not prove that it knows short secrets behind them.
pub fn verify(
    claim: &Claim<'_>,
    key_share: &[u8],
    relin_share: Option<&[u8]>,
    proof: &[u8],
) -> HeResult<()> {
    let ring = claim.profile.ring;
    if claim.relin_seed.is_some() != relin_share.is_some() {
        return refuse("round 1 of relinearisation and its seed belong together");
    }
    let mut shares = ring
        .parse("public key share", key_share, 1, ring.all_limbs())?
        .into_owned();
    if let Some(share) = relin_share {
        let words = ring.parse("round 1 share", share, 2 * ring.limbs, ring.all_limbs())?;
        shares.extend_from_slice(&words);
    }
    let relations = Relations::of(claim);
    let (digest, responses) = relations.parse(proof)?;
    let statement = statement(claim, key_share, relin_share.unwrap_or(&[]));
    let answered = Some((Challenge::of(digest, ring.degree), &shares[..]));
    if relations.commitment(&statement, &responses, answered) != digest {
        return refuse("the proof does not belong to these shares, this place or this dealer");
    }
    Ok(())
}

fn statement(claim: &Claim<'_>, key_share: &[u8], relin_share: &[u8]) -> Zeroizing<[u8; 32]> {
    let name = claim.profile.name.as_bytes();
    let relin_seed = claim.relin_seed.unwrap_or(&[]);
    let seeds = [name, claim.context, claim.key_seed, relin_seed];
    let parts = [&seeds[..], &[key_share, relin_share]].concat();
    derive_seed("chainnode/he-proof-statement/v1", &parts)
}

fn prove(relations: &Relations, statement: &[u8; 32], secrets: &[Short]) -> HeResult<Vec<u8>> {
    let mut sampler = Sampler::fresh()?;
    for _ in 0..TRIES_MAX {
        if let Some(proof) = attempt(relations, statement, secrets, &mut sampler) {
            return Ok(proof);
        }
    }
    refuse("no proof of the shares in many tries: the system's randomness is broken")
}

// One try; the only branch on what it computes is whether it is kept.
fn attempt(
    relations: &Relations,
    statement: &[u8; 32],
    secrets: &[Short],
    sampler: &mut Sampler,
) -> Option<Vec<u8>> {
    let degree = relations.profile.ring.degree;
    let mut values: Vec<Short> = (0..secrets.len())
        .map(|place| sampler.masks(degree, relations.mask_bits(place)))
        .collect();
    let digest = relations.commitment(statement, &values, None);
    let challenge = Challenge::of(digest, degree);
    let mut beyond = 0;
    for (place, (value, secret)) in values.iter_mut().zip(secrets).enumerate() {
        challenge.add_multiple(value, secret);
        beyond |= any_beyond(value, relations.response_limit(place));
    }
    (beyond == 0).then(|| encode(&digest, &values))
}

// 1 if a value is not strictly between -limit and limit; every value is looked at.
fn any_beyond(values: &[i64], limit: i64) -> u64 {
    let signs = values
        .iter()
        .fold(0, |signs, x| signs | (limit - 1 - x) | (limit - 1 + x));
    (signs as u64) >> 63
}

fn encode(digest: &[u8; DIGEST_BYTES], responses: &[Short]) -> Vec<u8> {
    let words = responses.iter().flat_map(|values| values.iter());
    let bytes = words.flat_map(|x| (*x as i32).to_le_bytes());
    digest.iter().copied().chain(bytes).collect()
}

// A sparse ternary polynomial: places and signs.
struct Challenge(Vec<(usize, i64)>);

impl Challenge {
    fn of(digest: [u8; DIGEST_BYTES], degree: usize) -> Self {
        let mut shake = sha3::Shake128::default();
        shake.update(b"chainnode/he-proof-challenge/v1");
        shake.update(&digest);
        let mut reader = shake.finalize_xof();
        let mut places: Vec<(usize, i64)> = Vec::with_capacity(CHALLENGE_WEIGHT);
        while places.len() < CHALLENGE_WEIGHT {
            let mut word = [0; 2];
            reader.read(&mut word);
            let word = u16::from_le_bytes(word);
            let place = usize::from(word) & (degree - 1);
            if places.iter().all(|(taken, _)| *taken != place) {
                places.push((place, if word & SIGN == 0 { 1 } else { -1 }));
            }
        }
        Self(places)
    }

    // out += c x in the ring of X^N + 1.
    fn add_multiple(&self, out: &mut [i64], x: &[i64]) {
        for &(place, sign) in &self.0 {
            let (wrapped, straight) = out.split_at_mut(place);
            let (low, high) = x.split_at(x.len() - place);
            straight
                .iter_mut()
                .zip(low)
                .for_each(|(a, b)| *a += sign * b);
            wrapped
                .iter_mut()
                .zip(high)
                .for_each(|(a, b)| *a -= sign * b);
        }
    }

    fn coefficients(&self, degree: usize, factor: i64) -> Vec<i64> {
        let mut out = vec![0; degree];
        for &(place, sign) in &self.0 {
            out[place] = factor * sign;
        }
        out
    }
}

// The equations of a claim. Their secrets come in this order: s, u if there is relinearisation,
// then an error for each equation: the key's, then h0 and h1 of every digit.
struct Relations {
    profile: &'static Profile,
    key: Vec<Vec<u64>>,
    relin: Vec<Vec<Vec<u64>>>,
}

impl Relations {
    fn of(claim: &Claim<'_>) -> Self {
        let (profile, limbs) = (claim.profile, claim.profile.ring.all_limbs());
        let key = (0..limbs).map(|limb| public_uniform(profile, claim.key_seed, limb));
        let digits = claim.relin_seed.map_or(0, |_| profile.ring.limbs);
        let seed = claim.relin_seed.unwrap_or(&[]);
        let digit = |digit| {
            let rows = (0..limbs).map(|limb| relin_uniform(profile, seed, digit, limb));
            rows.collect()
        };
        Self {
            profile,
            key: key.collect(),
            relin: (0..digits).map(digit).collect(),
        }
    }

    fn ternaries(&self) -> usize {
        if self.relin.is_empty() {
            1
        } else {
            2
        }
    }

    fn equations(&self) -> usize {
        1 + 2 * self.relin.len()
    }

    // Masks are uniform below 2^bits in magnitude. A value is lost with a chance of at most what
    // c x moves it by, divided by 2^bits: 1/4 for all ternary secrets, 3/4 for all errors, so that
    // a try passes with about 1/e or more.
    fn mask_bits(&self, place: usize) -> u32 {
        let moved = CHALLENGE_WEIGHT * self.profile.ring.degree;
        let wanted = if place < self.ternaries() {
            4 * self.ternaries() * moved
        } else {
            (4 * self.equations() * moved * ERROR_MAX as usize).div_ceil(3)
        };
        wanted.next_power_of_two().trailing_zeros()
    }

    // Every response strictly below this in magnitude is equally likely, whatever the secret.
    fn response_limit(&self, place: usize) -> i64 {
        let most = if place < self.ternaries() {
            1
        } else {
            ERROR_MAX
        };
        (1 << self.mask_bits(place)) - CHALLENGE_WEIGHT as i64 * most
    }

    fn parse(&self, proof: &[u8]) -> HeResult<([u8; DIGEST_BYTES], Vec<Short>)> {
        let degree = self.profile.ring.degree;
        let count = self.ternaries() + self.equations();
        let expected = DIGEST_BYTES + count * degree * RESPONSE_BYTES;
        let digest = match proof.first_chunk::<DIGEST_BYTES>() {
            Some(digest) if proof.len() == expected => *digest,
            _ => return refuse(format!("proof is {} bytes, not {expected}", proof.len())),
        };
        let rows = proof[DIGEST_BYTES..].chunks_exact(degree * RESPONSE_BYTES);
        let mut responses = Vec::with_capacity(count);
        for (place, row) in rows.enumerate() {
            let values = row.chunks_exact(RESPONSE_BYTES);
            let values: Vec<i64> = values
                .map(|x| i32::from_le_bytes(x.try_into().unwrap_or([0; 4])).into())
                .collect();
            if any_beyond(&values, self.response_limit(place)) != 0 {
                return refuse(format!("response {place} of the proof is too large"));
            }
            responses.push(Zeroizing::new(values));
        }
        Ok((digest, responses))
    }

    // The hash of every equation's value at `values`, less c times its share if one is given: of
    // masks, and of responses to c, it is the same.
    fn commitment(
        &self,
        statement: &[u8; 32],
        values: &[Short],
        answered: Option<(Challenge, &[u64])>,
    ) -> [u8; DIGEST_BYTES] {
        let ring = self.profile.ring;
        let mut hash = Sha256::new_with_prefix("chainnode/he-proof/v1");
        Digest::update(&mut hash, statement);
        let (ternaries, errors) = values.split_at(self.ternaries());
        for limb in 0..ring.all_limbs() {
            let lifted: Vec<_> = ternaries.iter().map(|x| ring.lift(x, 1, limb)).collect();
            // The key share is the negative of its equation.
            let challenges = answered.as_ref().map(|(challenge, _)| {
                [1, -1].map(|f| ring.lift(&challenge.coefficients(ring.degree, f), 1, limb))
            });
            for (equation, error) in errors.iter().enumerate() {
                let mut row = self.value(equation, limb, &lifted, &ring.lift(error, 1, limb));
                if let (Some(factors), Some((_, shares))) = (&challenges, &answered) {
                    let share = ring.row(shares, equation, ring.all_limbs(), limb);
                    let factor = &factors[usize::from(equation > 0)];
                    ring.add_product_row(&mut row, share, factor, limb);
                }
                Digest::update(&mut hash, bytes_of(&row));
            }
        }
        hash.finalize().into()
    }

    // An equation's right side modulo the prime of `limb`.
    fn value(
        &self,
        equation: usize,
        limb: usize,
        ternaries: &[Zeroizing<Vec<u64>>],
        error: &[u64],
    ) -> Zeroizing<Vec<u64>> {
        let ring = self.profile.ring;
        let q = ring.modulus(limb);
        let t = q.factor(q.reduce(self.profile.t()));
        let mut row = Zeroizing::new(vec![0; ring.degree]);
        let masked = equation % 2 == 1;
        let a = match equation.checked_sub(1) {
            None => &self.key[limb],
            Some(place) => &self.relin[place / 2][limb],
        };
        ring.add_product_row(&mut row, a, &ternaries[usize::from(masked)], limb);
        if masked {
            row.iter_mut().for_each(|x| *x = q.negate(*x));
            if let Some(scaled) = scaled_secret(self.profile, &ternaries[0], equation / 2, limb) {
                ring.add_row(&mut row, &scaled, limb);
            }
        }
        let scaled: Zeroizing<Vec<u64>> =
            Zeroizing::new(error.iter().map(|x| q.mul_factor(*x, &t)).collect());
        ring.add_row(&mut row, &scaled, limb);
        row
    }
}

#[cfg(test)]
mod tests;
