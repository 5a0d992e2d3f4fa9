//! What a council member receives in a key ceremony, with changed bytes: proofs hold for the very
//! shares they were made for, sealed pieces open unchanged only, sums take what is in range.
#![no_main]

mod changes;

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use chain_he::council::{
    aggregate_public_key, aggregate_relin_round1, combine_key_switch, combine_scalar, relin_key,
    RelinEphemeral,
};
use chain_he::encoder::bytes_of;
use chain_he::keys::SecretKey;
use chain_he::params::{profile, Profile};
use chain_he::proof::{verify, Claim};
use chain_he::scheme::{encrypt, PublicKey};
use changes::{changed, in_range, Change};
use libfuzzer_sys::fuzz_target;

const KEY_SEED: &[u8] = &[5; 32];
const RELIN_SEED: &[u8] = &[6; 32];
const CONTEXT: &[u8] = b"epoch seed, piece and dealer";
const TRANSPORT: &[u8; 32] = &[9; 32];
const FLOOD: &[u8; 32] = &[8; 32];
const PARTIES: usize = 2;
const VALUE: u64 = 41;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Of two dealers in profile S36, which has round 1; else S, which has none.
    multiplied: bool,
    operation: u8,
    /// Which of several messages the changes are made to.
    place: u8,
    changes: Vec<Change>,
    raw: Vec<u8>,
}

/// What one dealer of a profile sent.
struct Dealer {
    secret: SecretKey,
    key: Vec<u8>,
    relin: Option<(Vec<u8>, RelinEphemeral)>,
    proof: Vec<u8>,
    sealed: Vec<u8>,
}

/// A ceremony of two dealers, and a ciphertext under their key.
struct Material {
    profile: &'static Profile,
    dealers: [Dealer; PARTIES],
    public: Vec<u8>,
    round1: Vec<u8>,
    round2: Vec<Vec<u8>>,
    ciphertext: Vec<u8>,
    shares: Vec<Vec<u8>>,
    switches: Vec<Vec<u8>>,
}

fn claim(profile: &'static Profile) -> Claim<'static> {
    Claim {
        profile,
        key_seed: KEY_SEED,
        relin_seed: (profile.name != "S").then_some(RELIN_SEED),
        context: CONTEXT,
    }
}

fn owned(words: &[u64]) -> Vec<u8> {
    bytes_of(words).into_owned()
}

fn slices(parts: &[Vec<u8>]) -> Vec<&[u8]> {
    parts.iter().map(Vec::as_slice).collect()
}

fn dealer(profile: &'static Profile, seed: u8) -> Dealer {
    let secret = SecretKey::from_seed(profile, &[seed; 32]);
    let made = secret.first_shares(&claim(profile)).expect("made");
    let sealed = secret.seal(TRANSPORT).expect("sealed");
    Dealer {
        secret,
        key: owned(&made.key),
        relin: made.relin.map(|(share, kept)| (owned(&share), kept)),
        proof: made.proof,
        sealed,
    }
}

fn make(name: &str) -> Material {
    let profile = profile(name).expect("known");
    let limbs = profile.ring.limbs;
    let dealers = [1, 2].map(|seed| dealer(profile, seed));
    let keys: Vec<&[u8]> = dealers.iter().map(|dealer| &*dealer.key).collect();
    let public = owned(&aggregate_public_key(profile, KEY_SEED, &keys).expect("added"));
    let key = PublicKey::parse(profile, &public).expect("parsed");
    let firsts = dealers.iter().filter_map(|dealer| dealer.relin.as_ref());
    let firsts: Vec<&[u8]> = firsts.map(|(share, _)| &**share).collect();
    let round1 = aggregate_relin_round1(profile, &firsts);
    let round1 = round1.map_or(Vec::new(), |words| owned(&words));
    let second = |dealer: &Dealer| {
        let (_, kept) = dealer.relin.as_ref()?;
        let share = dealer.secret.relin_round2(kept, &round1);
        Some(owned(&share.expect("round 2")))
    };
    let round2 = dealers.iter().filter_map(second).collect();
    let ciphertext = encrypt(profile, &key, &VALUE.to_le_bytes(), &[3; 32], limbs);
    let ciphertext = owned(&ciphertext.expect("encrypted"));
    let scalar = |dealer: &Dealer| {
        let share = dealer
            .secret
            .scalar_share(&ciphertext, limbs, FLOOD, PARTIES);
        owned(&share.expect("share"))
    };
    let switch = |dealer: &Dealer| {
        let share = dealer
            .secret
            .key_switch_share(&ciphertext, limbs, &key, FLOOD, PARTIES);
        owned(&share.expect("share"))
    };
    let (shares, switches) = (
        dealers.iter().map(scalar).collect(),
        dealers.iter().map(switch).collect(),
    );
    Material {
        profile,
        dealers,
        public,
        round1,
        round2,
        ciphertext,
        shares,
        switches,
    }
}

fn material(multiplied: bool) -> &'static Material {
    static MADE: [OnceLock<Material>; 2] = [OnceLock::new(), OnceLock::new()];
    let name = if multiplied { "S36" } else { "S" };
    MADE[usize::from(multiplied)].get_or_init(|| make(name))
}

/// The parts with the changes made to one of them.
fn with_change(m: &Material, parts: &[&[u8]], input: &Input) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
    let place = usize::from(input.place) % out.len();
    let limbs = m.profile.ring.all_limbs();
    out[place] = changed(m.profile, limbs, &out[place], &input.changes);
    out
}

/// A proof with its shares, one of them changed.
fn check_proof(m: &Material, input: &Input) {
    let dealer = &m.dealers[0];
    let mut parts: Vec<&[u8]> = vec![&dealer.proof, &dealer.key];
    parts.extend(dealer.relin.as_ref().map(|(share, _)| &**share));
    let shown = with_change(m, &parts, input);
    let relin = shown.get(2).map(Vec::as_slice);
    let holds = verify(&claim(m.profile), &shown[1], relin, &shown[0]).is_ok();
    assert_eq!(holds, slices(&shown) == parts, "a proof of other shares");
}

/// A proof at another place: epoch, piece, dealer or seeds.
fn check_claim(m: &Material, input: &Input) {
    let dealer = &m.dealers[0];
    let right = claim(m.profile);
    let mut other = right;
    match input.place % 3 {
        0 => other.context = &input.raw,
        1 => other.key_seed = &input.raw,
        _ => other.relin_seed = (!input.raw.is_empty()).then_some(&input.raw),
    }
    let same = other.context == right.context
        && other.key_seed == right.key_seed
        && other.relin_seed == right.relin_seed;
    let relin = dealer.relin.as_ref().map(|(share, _)| &**share);
    let holds = verify(&other, &dealer.key, relin, &dealer.proof).is_ok();
    assert_eq!(holds, same, "a proof of another place");
    let theirs = verify(&right, &m.dealers[1].key, relin, &dealer.proof);
    assert!(theirs.is_err(), "a proof of another dealer's share");
}

fn check_first_sums(m: &Material, input: &Input) {
    let (p, limbs) = (m.profile, m.profile.ring.all_limbs());
    let keys: Vec<&[u8]> = m.dealers.iter().map(|dealer| &*dealer.key).collect();
    let shown = with_change(m, &keys, input);
    let whole = shown.iter().all(|share| in_range(p, share, 1, limbs));
    match aggregate_public_key(p, KEY_SEED, &slices(&shown)) {
        Ok(sum) => {
            assert!(whole && in_range(p, &bytes_of(&sum), 2, p.ring.limbs));
            PublicKey::parse(p, &bytes_of(&sum)).expect("a sum of shares is a key");
            assert!(slices(&shown) != keys || *bytes_of(&sum) == *m.public);
        }
        Err(_) => assert!(!whole),
    }
}

fn check_relinearisation(m: &Material, input: &Input) {
    let (p, limbs) = (m.profile, m.profile.ring.all_limbs());
    let polynomials = 2 * p.ring.limbs;
    let firsts = m.dealers.iter().filter_map(|dealer| dealer.relin.as_ref());
    let firsts: Vec<&[u8]> = firsts.map(|(share, _)| &**share).collect();
    if firsts.is_empty() {
        return;
    }
    let shown = with_change(m, &firsts, input);
    let whole = shown.iter().all(|s| in_range(p, s, polynomials, limbs));
    assert_eq!(aggregate_relin_round1(p, &slices(&shown)).is_ok(), whole);
    let shown = with_change(m, &slices(&m.round2), input);
    let whole = shown.iter().all(|s| in_range(p, s, p.ring.limbs, limbs));
    assert_eq!(relin_key(p, &m.round1, &slices(&shown)).is_ok(), whole);
    let shown = with_change(m, &[&m.round1], input);
    let whole = in_range(p, &shown[0], polynomials, limbs);
    assert_eq!(relin_key(p, &shown[0], &slices(&m.round2)).is_ok(), whole);
    if let Some((_, kept)) = &m.dealers[0].relin {
        let second = m.dealers[0].secret.relin_round2(kept, &shown[0]);
        assert_eq!(second.is_ok(), whole);
    }
}

fn check_sealed(m: &Material, input: &Input) {
    let sealed = &m.dealers[0].sealed;
    let shown = with_change(m, &[sealed, TRANSPORT], input);
    let opened = SecretKey::unseal(m.profile, &shown[0], &shown[1]);
    let same = shown[0] == *sealed && shown[1] == TRANSPORT;
    assert_eq!(opened.is_ok(), same, "a changed piece opens");
    assert!(SecretKey::unseal(m.profile, &input.raw, TRANSPORT).is_err());
    let other = material(!input.multiplied).profile;
    assert!(SecretKey::unseal(other, sealed, TRANSPORT).is_err());
}

fn check_releases(m: &Material, input: &Input) {
    let (p, limbs) = (m.profile, m.profile.ring.limbs);
    let shown = with_change(m, &slices(&m.shares), input);
    let opened = combine_scalar(p, limbs, &m.ciphertext, &slices(&shown));
    if shown == m.shares {
        assert_eq!(opened.expect("right shares").0, VALUE);
    } else if let Ok((value, _)) = opened {
        assert!(value < p.t());
    }
    let shown = with_change(m, &slices(&m.switches), input);
    let whole = shown.iter().all(|share| in_range(p, share, 2, limbs));
    match combine_key_switch(p, limbs, &m.ciphertext, &slices(&shown)) {
        Ok(switched) => assert!(whole && in_range(p, &bytes_of(&switched), 2, limbs)),
        Err(_) => assert!(!whole),
    }
}

fuzz_target!(|input: Input| {
    let m = material(input.multiplied);
    match input.operation % 8 {
        0..=2 => check_proof(m, &input),
        3 => check_claim(m, &input),
        4 => check_first_sums(m, &input),
        5 => check_relinearisation(m, &input),
        6 => check_sealed(m, &input),
        _ => check_releases(m, &input),
    }
});
