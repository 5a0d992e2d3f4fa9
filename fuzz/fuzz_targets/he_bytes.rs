//! Ciphertexts, keys and shares with changed bytes: used only if every residue is in range.
#![no_main]

mod changes;

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use chain_he::council::{aggregate_public_key, combine_key_switch, combine_scalar};
use chain_he::encoder::bytes_of;
use chain_he::keys::SecretKey;
use chain_he::params::{profile, Profile};
use chain_he::poly::parse_ciphertext;
use chain_he::proof::Claim;
use chain_he::relin::relinearise;
use chain_he::scheme::{add, add_plain, decrypt, encrypt, multiply_plain, tensor, PublicKey};
use changes::Change;
use libfuzzer_sys::fuzz_target;

const LIMBS: usize = 2;

#[derive(Arbitrary, Debug)]
struct Input {
    changes: Vec<Change>,
    limbs: u8,
    slots: Vec<u64>,
    raw: Vec<u8>,
    operation: u8,
}

struct Material {
    profile: &'static Profile,
    secret: SecretKey,
    public: Vec<u8>,
    one: Vec<u8>,
    product: Vec<u8>,
    relin: Vec<u8>,
    sealed: Vec<u8>,
}

fn material() -> &'static Material {
    static MADE: OnceLock<Material> = OnceLock::new();
    MADE.get_or_init(|| {
        let profile = profile("S36").expect("known");
        let secret = SecretKey::from_seed(profile, &[7; 32]);
        let public = bytes_of(&secret.public_key().expect("made")).into_owned();
        let key = PublicKey::parse(profile, &public).expect("parsed");
        let one = encrypt(profile, &key, &1_u64.to_le_bytes(), &[3; 32], LIMBS).expect("encrypted");
        let one = bytes_of(&one).into_owned();
        let product = tensor(profile, LIMBS, &one, &one).expect("multiplied");
        let product = bytes_of(&product).into_owned();
        let seed: &[u8] = &[5; 32];
        let claim = Claim {
            profile,
            key_seed: seed,
            relin_seed: Some(seed),
            context: b"",
        };
        let made = secret.first_shares(&claim).expect("first shares");
        let (first, ephemeral) = made.relin.expect("round one");
        let first = bytes_of(&first).into_owned();
        let second = secret.relin_round2(&ephemeral, &first).expect("round two");
        let second = bytes_of(&second).into_owned();
        let relin = chain_he::council::relin_key(profile, &first, &[&second]).expect("key");
        let relin = bytes_of(&relin).into_owned();
        let sealed = secret.seal(&[9; 32]).expect("sealed");
        Material {
            profile,
            secret,
            public,
            one,
            product,
            relin,
            sealed,
        }
    })
}

fn changed(data: &[u8], input: &Input) -> Vec<u8> {
    changes::changed(material().profile, LIMBS, data, &input.changes)
}

/// The definition of a ciphertext, written once more.
fn in_range(profile: &Profile, data: &[u8], limbs: usize) -> bool {
    let polynomials = data.len() / (limbs * profile.ring.degree * 8);
    (2..=5).contains(&polynomials) && changes::in_range(profile, data, polynomials, limbs)
}

fuzz_target!(|input: Input| {
    let m = material();
    let p = m.profile;
    let limbs = 1 + usize::from(input.limbs % 4);
    let bytes = changed(&m.one, &input);
    let slots: Vec<u8> = input
        .slots
        .iter()
        .flat_map(|slot| slot.to_le_bytes())
        .collect();
    assert_eq!(
        parse_ciphertext(p, &bytes, limbs).is_ok(),
        in_range(p, &bytes, limbs)
    );
    match input.operation % 12 {
        0 => {
            let sum = add(p, LIMBS, &[&m.one, &bytes]);
            if let Ok(sum) = sum {
                assert!(in_range(p, &bytes_of(&sum), LIMBS));
            }
        }
        1 => drop(add_plain(p, LIMBS, &bytes, &slots)),
        2 => drop(multiply_plain(p, LIMBS, &bytes, &slots)),
        3 => drop(tensor(p, LIMBS, &m.one, &bytes)),
        4 => drop(relinearise(
            p,
            LIMBS,
            &changed(&m.product, &input),
            &m.relin,
        )),
        5 => drop(relinearise(
            p,
            LIMBS,
            &m.product,
            &changed(&m.relin, &input),
        )),
        6 => drop(decrypt(&m.secret, &bytes, limbs)),
        7 => {
            let key = changed(&m.public, &input);
            if let Ok(key) = PublicKey::parse(p, &key) {
                drop(encrypt(p, &key, &slots, &[1; 32], limbs));
            }
        }
        8 => {
            let sealed = changed(&m.sealed, &input);
            let opened = SecretKey::unseal(p, &sealed, &[9; 32]);
            assert_eq!(
                opened.is_ok(),
                sealed == m.sealed,
                "a changed sealed key opens"
            );
            drop(SecretKey::unseal(p, &input.raw, &[9; 32]));
        }
        9 => drop(combine_scalar(p, LIMBS, &bytes, &[&input.raw, &input.raw])),
        10 => drop(combine_key_switch(
            p,
            LIMBS,
            &bytes,
            &[&m.one, &changed(&m.one, &input)],
        )),
        _ => drop(aggregate_public_key(
            p,
            &[5; 32],
            &[&changed(&m.public, &input), &input.raw],
        )),
    }
});
