//! Against `phe` 1.5.0 (tests/vectors/make_paillier.py), and what must be refused.

use chain_paillier::{generate, system_rng, KeyPair, PaillierError, PublicKey, SecretKey};
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/paillier.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().as_bytes();
    let digits = |pair: &[u8]| std::str::from_utf8(pair).unwrap().to_owned();
    text.chunks(2)
        .map(|pair| u8::from_str_radix(&digits(pair), 16).unwrap())
        .collect()
}

fn items<'a>(set: &'a Value, name: &str) -> &'a Vec<Value> {
    set[name].as_array().unwrap()
}

fn number(value: &Value) -> i128 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn every_operation_has_the_bytes_of_an_independent_library() {
    for set in vectors() {
        let key = PublicKey::from_bytes(&hex(&set["public_key"])).unwrap();
        let held: Vec<_> = items(&set, "encryptions")
            .iter()
            .map(|item| hex(&item["ciphertext"]))
            .collect();
        let at = |item: &Value, name: &str| &held[item[name].as_u64().unwrap() as usize];
        for item in items(&set, "add") {
            let sum = key.add(at(item, "left"), at(item, "right")).unwrap();
            assert_eq!(*sum, *hex(&item["result"]));
        }
        for item in items(&set, "add_plain") {
            let value = number(&item["value"]);
            let sum = key.add_plain(at(item, "left"), value).unwrap();
            assert_eq!(*sum, *hex(&item["result"]), "{value}");
        }
        for item in items(&set, "scalar_multiply") {
            let value = number(&item["value"]);
            let product = key.scalar_multiply(at(item, "left"), value).unwrap();
            assert_eq!(*product, *hex(&item["result"]), "{value}");
        }
    }
}

#[test]
fn decryption_gives_the_plaintexts_and_encryption_is_undone() {
    for set in vectors() {
        let secret = SecretKey::from_bytes(&hex(&set["secret_key"])).unwrap();
        assert_eq!(*secret.public_bytes(), *hex(&set["public_key"]));
        let key = PublicKey::from_bytes(&secret.public_bytes()).unwrap();
        for item in items(&set, "encryptions") {
            let plaintext = hex(&item["plaintext"]);
            assert_eq!(
                *secret.decrypt(&hex(&item["ciphertext"])).unwrap(),
                plaintext
            );
            let first = key.encrypt(&plaintext, &mut system_rng()).unwrap();
            let second = key.encrypt(&plaintext, &mut system_rng()).unwrap();
            assert_ne!(first, second);
            assert_eq!(*secret.decrypt(&first).unwrap(), plaintext);
        }
    }
}

#[test]
fn generated_keys_work_and_have_the_full_width() {
    let KeyPair { public, secret } = generate(2048).unwrap();
    assert_eq!((public.len(), secret.len()), (256, 256));
    let key = PublicKey::from_bytes(&public).unwrap();
    let secret = SecretKey::from_bytes(&secret).unwrap();
    let mut plaintext = vec![0; 256];
    plaintext[255] = 42;
    let ciphertext = key.encrypt(&plaintext, &mut system_rng()).unwrap();
    let tripled = key.scalar_multiply(&ciphertext, 3).unwrap();
    plaintext[255] = 126;
    assert_eq!(*secret.decrypt(&tripled).unwrap(), plaintext);
    assert!(generate(1024).is_err());
}

#[test]
fn keys_of_the_wrong_shape_are_refused() {
    let n = hex(&vectors()[0]["public_key"]);
    let (mut even, mut short_number) = (n.clone(), n.clone());
    even[255] &= 0xfe;
    short_number[0] &= 0x7f;
    let cases = [
        Vec::new(),
        n[1..].to_vec(),
        [&[0], &n[..]].concat(),
        even,
        short_number,
    ];
    for bytes in cases {
        assert_eq!(
            PublicKey::from_bytes(&bytes).err(),
            Some(PaillierError::Key)
        );
    }
    let p = hex(&vectors()[0]["secret_key"])[..128].to_vec();
    for bytes in [[&p[..], &p].concat(), n, p] {
        assert_eq!(
            SecretKey::from_bytes(&bytes).err(),
            Some(PaillierError::Secret)
        );
    }
}

#[test]
fn numbers_that_are_no_ciphertexts_are_refused() {
    let set = &vectors()[0];
    let n = hex(&set["public_key"]);
    let key = PublicKey::from_bytes(&n).unwrap();
    let good = hex(&items(set, "encryptions")[3]["ciphertext"]);
    let multiple_of_n = [vec![0; 256], n.clone()].concat();
    let p = hex(&set["secret_key"])[..128].to_vec();
    let multiple_of_p = [vec![0; 384], p].concat();
    let cases = [
        vec![0; 512],
        vec![0xff; 512],
        multiple_of_n,
        multiple_of_p,
        good[1..].to_vec(),
        [&[0], &good[..]].concat(),
        Vec::new(),
    ];
    for bytes in cases {
        let refused = Err(PaillierError::Ciphertext);
        assert_eq!(key.add(&good, &bytes), refused);
        assert_eq!(key.add(&bytes, &good), refused);
        assert_eq!(key.add_plain(&bytes, 1), refused);
        assert_eq!(key.scalar_multiply(&bytes, 0), refused);
    }
    let above = key.encrypt(&n, &mut system_rng());
    assert_eq!(above, Err(PaillierError::Plaintext));
}

#[test]
#[ignore = "prints times"]
fn times() {
    for set in vectors() {
        let key = PublicKey::from_bytes(&hex(&set["public_key"])).unwrap();
        let secret = SecretKey::from_bytes(&hex(&set["secret_key"])).unwrap();
        let c = hex(&items(&set, "encryptions")[3]["ciphertext"]);
        let m = hex(&items(&set, "encryptions")[3]["plaintext"]);
        let time = |name: &str, run: &dyn Fn()| {
            let start = std::time::Instant::now();
            (0..20).for_each(|_| run());
            println!("{} {name} {:?}", set["bits"], start.elapsed() / 20);
        };
        time("key", &|| {
            drop(PublicKey::from_bytes(&hex(&set["public_key"])))
        });
        time("add", &|| drop(key.add(&c, &c)));
        time("add_plain", &|| drop(key.add_plain(&c, -7)));
        time("scalar i128 max", &|| {
            drop(key.scalar_multiply(&c, i128::MAX))
        });
        time("scalar i128 min", &|| {
            drop(key.scalar_multiply(&c, i128::MIN))
        });
        time("encrypt", &|| drop(key.encrypt(&m, &mut system_rng())));
        time("secret", &|| {
            drop(SecretKey::from_bytes(&hex(&set["secret_key"])))
        });
        time("decrypt", &|| drop(secret.decrypt(&c)));
    }
}
