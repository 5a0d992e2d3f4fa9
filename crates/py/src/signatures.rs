//! Bindings of `chain-crypto`: Ed25519 by the ZIP-215 rule, ECDSA P-256, SM2.

use std::num::NonZeroUsize;

use chain_crypto::{Signed, Suite};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// Adds this module's functions to the extension.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify_ed25519, module)?)?;
    module.add_function(wrap_pyfunction!(verify_ed25519_batch, module)?)?;
    module.add_function(wrap_pyfunction!(is_torsion_free, module)?)?;
    module.add_function(wrap_pyfunction!(verify_signatures, module)?)?;
    module.add_function(wrap_pyfunction!(sample_signatures, module)?)?;
    module.add_function(wrap_pyfunction!(signatures_checked, module)?)?;
    module.add("CURVE_BACKEND", chain_crypto::curve_backend())
}

/// One signature.
#[pyfunction]
fn verify_ed25519(py: Python<'_>, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    py.detach(|| chain_crypto::verify_ed25519(public_key, message, signature))
}

/// Many signatures, the same verdicts.
#[pyfunction]
fn verify_ed25519_batch(
    py: Python<'_>,
    public_keys: Vec<PyBackedBytes>,
    messages: Vec<PyBackedBytes>,
    signatures: Vec<PyBackedBytes>,
) -> PyResult<Vec<bool>> {
    same_counts(&public_keys, &messages, &signatures)?;
    Ok(py.detach(|| {
        chain_crypto::verify_ed25519_batch(&together(&public_keys, &messages, &signatures))
    }))
}

/// Many signatures of any suite, on several threads.
#[pyfunction]
#[pyo3(signature = (suite, public_keys, messages, signatures, threads = 1))]
fn verify_signatures(
    py: Python<'_>,
    suite: &str,
    public_keys: Vec<PyBackedBytes>,
    messages: Vec<PyBackedBytes>,
    signatures: Vec<PyBackedBytes>,
    threads: usize,
) -> PyResult<Vec<bool>> {
    let suite = named(suite)?;
    same_counts(&public_keys, &messages, &signatures)?;
    Ok(py.detach(|| {
        let items = together(&public_keys, &messages, &signatures);
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        chain_crypto::verify_many(suite, &items, threads)
    }))
}

fn named(suite: &str) -> PyResult<Suite> {
    Suite::named(suite)
        .ok_or_else(|| PyValueError::new_err(format!("suite {suite}: use ed25519, p256 or sm2")))
}

fn same_counts(
    public_keys: &[PyBackedBytes],
    messages: &[PyBackedBytes],
    signatures: &[PyBackedBytes],
) -> PyResult<()> {
    if public_keys.len() == messages.len() && messages.len() == signatures.len() {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "{} keys, {} messages, {} signatures: the counts must be equal",
        public_keys.len(),
        messages.len(),
        signatures.len()
    )))
}

fn together<'a>(
    public_keys: &'a [PyBackedBytes],
    messages: &'a [PyBackedBytes],
    signatures: &'a [PyBackedBytes],
) -> Vec<Signed<'a>> {
    let pairs = public_keys.iter().zip(messages).zip(signatures);
    pairs
        .map(|((public_key, message), signature)| Signed {
            public_key,
            message,
            signature,
        })
        .collect()
}

/// Three columns: keys, messages, signatures.
type Columns<'py> = [Vec<Bound<'py, PyBytes>>; 3];

/// Valid signatures of a suite to measure and test with.
#[pyfunction]
fn sample_signatures<'py>(
    py: Python<'py>,
    suite: &str,
    count: u32,
    message_size_bytes: usize,
) -> PyResult<Columns<'py>> {
    let suite = named(suite)?;
    if suite == Suite::Ed25519 {
        return Err(PyValueError::new_err("sign Ed25519 with `cryptography`"));
    }
    let made = py.detach(|| chain_crypto::samples(suite, count, message_size_bytes));
    let mut columns = [const { Vec::new() }; 3];
    for sample in &made {
        let row = [&sample.public_key, &sample.message, &sample.signature];
        for (column, bytes) in columns.iter_mut().zip(row) {
            column.push(PyBytes::new(py, bytes));
        }
    }
    Ok(columns)
}

/// Signatures checked by this process so far.
#[pyfunction]
fn signatures_checked() -> u64 {
    chain_crypto::signatures_checked()
}

/// Whether a key may be enrolled.
#[pyfunction]
fn is_torsion_free(py: Python<'_>, public_key: &[u8]) -> bool {
    py.detach(|| chain_crypto::is_torsion_free(public_key))
}
