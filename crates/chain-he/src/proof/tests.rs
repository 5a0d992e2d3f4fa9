use super::*;
use crate::params::profile;

const CONTEXT: &[u8] = b"epoch 1, piece 2, bank-a";

fn claim(name: &str, relin: bool) -> Claim<'static> {
    Claim {
        profile: profile(name).unwrap(),
        key_seed: b"key seed",
        relin_seed: relin.then_some(b"relin seed"),
        context: CONTEXT,
    }
}

fn check(claim: &Claim<'_>, made: &FirstShares, proof: &[u8]) -> HeResult<()> {
    let relin = made.relin.as_ref().map(|(share, _)| bytes_of(share));
    verify(claim, &bytes_of(&made.key), relin.as_deref(), proof)
}

fn made(claim: &Claim<'_>) -> FirstShares {
    let key = SecretKey::generate(claim.profile).unwrap();
    key.first_shares(claim).unwrap()
}

#[test]
fn honest_shares_of_every_profile_are_proven() {
    for (name, relin, size) in [
        ("S", false, 65_568),
        ("S36", true, 360_480),
        ("M", true, 1_114_144),
        ("M", false, 131_104),
    ] {
        let claim = claim(name, relin);
        let honest = made(&claim);
        assert_eq!(honest.proof.len(), size);
        check(&claim, &honest, &honest.proof).unwrap();
    }
}

#[test]
fn a_proof_is_bound_to_its_place() {
    let right = claim("S36", true);
    let honest = made(&right);
    let named = |context| Claim { context, ..right };
    for other in [
        named(b"epoch 2, piece 2, bank-a"),
        named(b"epoch 1, piece 3, bank-a"),
        named(b"epoch 1, piece 2, bank-b"),
        Claim {
            key_seed: b"other",
            ..right
        },
        Claim {
            relin_seed: Some(b"other"),
            ..right
        },
        Claim {
            profile: profile("S").unwrap(),
            ..right
        },
    ] {
        assert!(check(&other, &honest, &honest.proof).is_err());
    }
    assert!(check(&claim("S36", false), &honest, &honest.proof).is_err());
    assert!(check(&claim("M", true), &honest, &honest.proof).is_err());
}

#[test]
fn a_proof_is_bound_to_its_shares() {
    let right = claim("S36", true);
    let (honest, other) = (made(&right), made(&right));
    let relin = |made: &FirstShares| made.relin.as_ref().unwrap().0.clone();
    for (key, second) in [(&other, &honest), (&honest, &other), (&other, &other)] {
        let (key, second) = (bytes_of(&key.key), relin(second));
        assert!(verify(&right, &key, Some(&bytes_of(&second)), &honest.proof).is_err());
    }
    let mut moved = relin(&honest);
    moved[7] ^= 1;
    let key = bytes_of(&honest.key);
    assert!(verify(&right, &key, Some(&bytes_of(&moved)), &honest.proof).is_err());
    assert!(verify(&right, &key, None, &honest.proof).is_err());
}

// Own share less everyone else's: the joint key would be the own key.
#[test]
fn a_rogue_share_is_not_proven_by_the_own_secret() {
    let claim = claim("S", false);
    let ring = claim.profile.ring;
    let key = SecretKey::generate(claim.profile).unwrap();
    let (own, error) = key.key_share(claim.key_seed).unwrap();
    let secrets = [key.coefficients.clone(), error];
    let relations = Relations::of(&claim);
    let try_with = |share: &[u64]| {
        let statement = statement(&claim, &bytes_of(share), &[]);
        let proof = prove(&relations, &statement, &secrets).unwrap();
        verify(&claim, &bytes_of(share), None, &proof)
    };
    try_with(&own).unwrap();
    let mut rogue = own;
    let others = [made(&claim).key, made(&claim).key];
    for (place, x) in rogue.iter_mut().enumerate() {
        let q = ring.modulus(place / ring.degree);
        *x = others.iter().fold(*x, |x, other| q.sub(x, other[place]));
    }
    assert!(try_with(&rogue).is_err());
}

#[test]
fn changed_bytes_and_lengths_are_refused() {
    let claim = claim("S", false);
    let honest = made(&claim);
    let size = honest.proof.len();
    for place in [0, 31, 32, 33, 34, size / 2, size - 4, size - 3, size - 2] {
        let mut proof = honest.proof.clone();
        proof[place] ^= 1;
        assert!(check(&claim, &honest, &proof).is_err(), "byte {place}");
    }
    for proof in [&[][..], &honest.proof[..31], &honest.proof[..size - 4]] {
        assert!(check(&claim, &honest, proof).is_err());
    }
    let longer = [&honest.proof[..], &[0; 4]].concat();
    assert!(check(&claim, &honest, &longer).is_err());
}

#[test]
fn too_large_responses_are_refused_before_anything_is_computed() {
    let claim = claim("S36", true);
    let relations = Relations::of(&claim);
    let degree = claim.profile.ring.degree;
    let honest = made(&claim).proof;
    for place in 0..11 {
        let limit = relations.response_limit(place) as i32;
        let at = DIGEST_BYTES + (place * degree + degree - 1) * RESPONSE_BYTES;
        let with = |value: i32| {
            let mut proof = honest.clone();
            proof[at..at + RESPONSE_BYTES].copy_from_slice(&value.to_le_bytes());
            relations.parse(&proof).is_ok()
        };
        assert!(with(limit - 1) && with(1 - limit));
        assert!(!with(limit) && !with(-limit) && !with(i32::MIN) && !with(i32::MAX));
    }
}

#[test]
fn a_try_passes_with_a_third_and_challenges_are_many() {
    for (name, relin) in [("S", false), ("S36", true), ("M", true), ("M", false)] {
        let relations = Relations::of(&claim(name, relin));
        let degree = relations.profile.ring.degree as i32;
        let passes: f64 = (0..relations.ternaries() + relations.equations())
            .map(|place| {
                let all = f64::from(2u32 << relations.mask_bits(place));
                ((2 * relations.response_limit(place) - 1) as f64 / all).powi(degree)
            })
            .product();
        assert!((1.0 / 3.0..0.5).contains(&passes), "{name}: {passes}");
        let places = (0..CHALLENGE_WEIGHT).map(|k| {
            let (degree, k) = (f64::from(degree), k as f64);
            (2.0 * (degree - k) / (k + 1.0)).log2()
        });
        assert!(places.sum::<f64>() > 179.0);
    }
}

#[test]
fn tries_pass_as_often_as_computed_and_shown_values_are_centred() {
    let claim = claim("S", false);
    let relations = Relations::of(&claim);
    let key = SecretKey::generate(claim.profile).unwrap();
    let (_, error) = key.key_share(claim.key_seed).unwrap();
    let secrets = [key.coefficients.clone(), error];
    let mut sampler = Sampler::new(&[5; 32]);
    let kept: Vec<_> = (0..300)
        .filter_map(|_| attempt(&relations, &[0; 32], &secrets, &mut sampler))
        .collect();
    assert!((85..165).contains(&kept.len()), "{}", kept.len());
    for proof in &kept {
        let (_, responses) = relations.parse(proof).unwrap();
        for (place, values) in responses.iter().enumerate() {
            let mean = values.iter().sum::<i64>() / values.len() as i64;
            assert!(mean.abs() < relations.response_limit(place) / 25);
        }
    }
}
