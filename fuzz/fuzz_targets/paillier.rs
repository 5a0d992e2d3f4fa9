//! Paillier keys and ciphertexts of any bytes: a result is a ciphertext again, and sums commute.
#![no_main]

use arbitrary::Arbitrary;
use chain_paillier::PublicKey;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    modulus: [u8; 256],
    left: Vec<u8>,
    right: Vec<u8>,
    value: i128,
    raw: Vec<u8>,
}

fn sized(data: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![0; size];
    let used = data.len().min(size);
    out[size - used..].copy_from_slice(&data[..used]);
    out
}

fuzz_target!(|input: Input| {
    drop(PublicKey::from_bytes(&input.raw));
    let mut modulus = input.modulus;
    modulus[0] |= 0x80;
    modulus[255] |= 1;
    let Ok(key) = PublicKey::from_bytes(&modulus) else {
        return;
    };
    let size = key.ciphertext_size_bytes();
    let (left, right) = (sized(&input.left, size), sized(&input.right, size));
    drop(key.add(&input.raw, &left));
    let sum = key.add(&left, &right);
    assert_eq!(sum, key.add(&right, &left));
    for result in [sum, key.add_plain(&left, input.value)] {
        if let Ok(result) = result {
            assert_eq!(result.len(), size);
            // A product of units is a unit.
            assert!(key.add(&result, &result).is_ok());
        }
    }
    drop(key.scalar_multiply(&left, input.value));
});
