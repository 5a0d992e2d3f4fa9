//! Host functions on Paillier ciphertexts: 0 and the result at `dst`, else why not.

use chain_paillier::{PaillierError, PublicKey};
use wasmi::{Caller, Error, Func, Store};

use crate::host::{charge, slice, step, CallData};
use crate::price::{self, Price};

type Guest<'a> = Caller<'a, CallData>;
/// Address and length in the guest's memory.
type Span = (i32, i32);

const DONE: i32 = 0;
const KEY_REFUSED: i32 = 1;
const CIPHERTEXT_REFUSED: i32 = 2;

/// Charge for the inputs, then compute from the guest's memory into it.
fn compute(
    guest: &mut Guest<'_>,
    price: Price,
    inputs: &[Span],
    out: i32,
    run: impl FnOnce(&PublicKey, &[&[u8]]) -> Result<Box<[u8]>, PaillierError>,
) -> Result<i32, Error> {
    let bytes = inputs.iter().map(|(_, length)| *length as u32 as usize);
    charge(guest, price, bytes.sum())?;
    step(guest, |memory, _| {
        let read = |span: &Span| slice(memory, span.0, span.1);
        let inputs = inputs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let Ok(key) = PublicKey::from_bytes(inputs[0]) else {
            return Ok(KEY_REFUSED);
        };
        slice(memory, out, key.ciphertext_size_bytes() as i32)?;
        let Ok(result) = run(&key, &inputs[1..]) else {
            return Ok(CIPHERTEXT_REFUSED);
        };
        memory.write(out, &result);
        Ok(DONE)
    })
}

fn number(low: i64, high: i64) -> i128 {
    i128::from(high) << 64 | i128::from(low as u64)
}

#[allow(clippy::too_many_arguments)] // The guest's signature.
fn add(
    mut guest: Guest<'_>,
    key: i32,
    key_length: i32,
    left: i32,
    left_length: i32,
    right: i32,
    right_length: i32,
    out: i32,
) -> Result<i32, Error> {
    let inputs = [
        (key, key_length),
        (left, left_length),
        (right, right_length),
    ];
    compute(
        &mut guest,
        price::PAILLIER_ADD,
        &inputs,
        out,
        |key, given| key.add(given[0], given[1]),
    )
}

#[allow(clippy::too_many_arguments)] // The guest's signature.
fn add_plain(
    mut guest: Guest<'_>,
    key: i32,
    key_length: i32,
    left: i32,
    left_length: i32,
    low: i64,
    high: i64,
    out: i32,
) -> Result<i32, Error> {
    let inputs = [(key, key_length), (left, left_length)];
    compute(
        &mut guest,
        price::PAILLIER_ADD_PLAIN,
        &inputs,
        out,
        |key, given| key.add_plain(given[0], number(low, high)),
    )
}

#[allow(clippy::too_many_arguments)] // The guest's signature.
fn scalar_multiply(
    mut guest: Guest<'_>,
    key: i32,
    key_length: i32,
    left: i32,
    left_length: i32,
    low: i64,
    high: i64,
    out: i32,
) -> Result<i32, Error> {
    let inputs = [(key, key_length), (left, left_length)];
    let price = price::PAILLIER_SCALAR_MULTIPLY;
    compute(&mut guest, price, &inputs, out, |key, given| {
        key.scalar_multiply(given[0], number(low, high))
    })
}

/// A function by name.
pub(crate) fn function(store: &mut Store<CallData>, name: &str) -> Option<Func> {
    Some(match name {
        "paillier_add" => Func::wrap(store, add),
        "paillier_add_plain" => Func::wrap(store, add_plain),
        "paillier_scalar_multiply" => Func::wrap(store, scalar_multiply),
        _ => return None,
    })
}
