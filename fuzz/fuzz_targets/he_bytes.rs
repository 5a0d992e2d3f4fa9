//! Ciphertexts, keys and shares with changed bytes: used only if every residue is in range.
#![no_main]

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use chain_he::council::{aggregate_public_key, combine_key_switch, combine_scalar};
use chain_he::encoder::bytes_of;
use chain_he::keys::SecretKey;
use chain_he::params::{profile, Profile};
use chain_he::poly::parse_ciphertext;
use chain_he::relin::relinearise;
use chain_he::scheme::{add, add_plain, decrypt, encrypt, multiply_plain, tensor, PublicKey};
use libfuzzer_sys::fuzz_target;

const LIMBS: usize = 2;
const SIZE_MAX_BYTES: usize = 1 << 21;

/// One change of right bytes.
#[derive(Arbitrary, Debug)]
enum Change {
    Cut(u32),
    Append(Vec<u8>),
    Word(u32, u64),
    Flip(u32, u8),
    Prime(u32, i8),
    Repeat(u8),
}

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
        let (first, ephemeral) = secret.relin_round1(&[5; 32]).expect("round one");
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
    let mut out = data.to_vec();
    for change in input.changes.iter().take(8) {
        let length = out.len().max(1);
        match change {
            Change::Cut(size) => out.truncate(*size as usize % (length + 1)),
            Change::Append(more) => out.extend_from_slice(&more[..more.len().min(64)]),
            Change::Word(at, value) => write(&mut out, *at, *value),
            Change::Flip(at, bits) => {
                if let Some(byte) = out.get_mut(*at as usize % length) {
                    *byte ^= bits;
                }
            }
            Change::Prime(at, offset) => {
                let modulus = material().profile.ring.modulus(*at as usize % LIMBS).value;
                write(
                    &mut out,
                    *at,
                    modulus.wrapping_add_signed(i64::from(*offset)),
                );
            }
            Change::Repeat(times) if out.len() < SIZE_MAX_BYTES => {
                out = out.repeat(1 + usize::from(times % 4));
            }
            Change::Repeat(_) => {}
        }
    }
    out
}

fn write(out: &mut [u8], at: u32, value: u64) {
    let words = out.len() / 8;
    if words > 0 {
        let start = at as usize % words * 8;
        out[start..start + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// The definition of a ciphertext, written once more.
fn in_range(profile: &Profile, data: &[u8], limbs: usize) -> bool {
    let row = profile.ring.degree * 8;
    let polynomials = data.len() / (limbs * row);
    polynomials >= 2
        && polynomials <= 5
        && data.len() == polynomials * limbs * row
        && data.chunks_exact(row).enumerate().all(|(index, row)| {
            let prime = profile.ring.modulus(index % limbs).value;
            let words = row.chunks_exact(8);
            words
                .map(|w| u64::from_le_bytes(w.try_into().expect("eight")))
                .all(|w| w < prime)
        })
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
