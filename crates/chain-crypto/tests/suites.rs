//! The verdicts of `tests/vectors/suites.json`, alone and on several threads.

use std::num::NonZeroUsize;

use chain_crypto::{verify_many, Signed, Suite};

struct Case {
    name: String,
    suite: Suite,
    key: Vec<u8>,
    signature: Vec<u8>,
    valid: bool,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn vectors() -> (Vec<u8>, Vec<Case>) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/suites.json"
    );
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |item: &serde_json::Value, field: &str| item[field].as_str().unwrap().to_owned();
    let cases = file["vectors"].as_array().unwrap().iter().map(|item| Case {
        name: text(item, "name"),
        suite: Suite::named(&text(item, "suite")).unwrap(),
        key: unhex(&text(item, "public_key")),
        signature: unhex(&text(item, "signature")),
        valid: item["valid"].as_bool().unwrap(),
    });
    (unhex(&text(&file, "message")), cases.collect())
}

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[test]
fn every_vector_gets_its_verdict_alone() {
    let (message, cases) = vectors();
    for case in &cases {
        let item = Signed {
            public_key: &case.key,
            message: &message,
            signature: &case.signature,
        };
        let verdict = verify_many(case.suite, &[item], threads(1));
        assert_eq!(verdict, [case.valid], "{}", case.name);
        let other = Signed {
            message: b"another message",
            ..item
        };
        let verdict = verify_many(case.suite, &[other], threads(1));
        assert_eq!(verdict, [false], "{}", case.name);
    }
}

#[test]
fn verdicts_do_not_depend_on_the_number_of_threads() {
    let (message, cases) = vectors();
    for suite in [Suite::P256, Suite::Sm2] {
        let of_suite: Vec<&Case> = cases.iter().filter(|case| case.suite == suite).collect();
        let items: Vec<Signed<'_>> = (0..150)
            .map(|number| {
                let case = of_suite[number * 7 % of_suite.len()];
                Signed {
                    public_key: &case.key,
                    message: &message,
                    signature: &case.signature,
                }
            })
            .collect();
        let expected: Vec<bool> = (0..150)
            .map(|number| of_suite[number * 7 % of_suite.len()].valid)
            .collect();
        assert!(expected.contains(&true) && expected.contains(&false));
        for count in [1, 2, 3, 8, 64] {
            assert_eq!(verify_many(suite, &items, threads(count)), expected);
        }
    }
    assert!(verify_many(Suite::Ed25519, &[], threads(4)).is_empty());
}
