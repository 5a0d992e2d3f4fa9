//! Bindings of `chain-crypto`: Ed25519 by the ZIP-215 rule.

use chain_crypto::Signed;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// Adds this module's functions to the extension.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify_ed25519, module)?)?;
    module.add_function(wrap_pyfunction!(verify_ed25519_batch, module)?)?;
    module.add_function(wrap_pyfunction!(is_torsion_free, module)?)?;
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
    if public_keys.len() != messages.len() || messages.len() != signatures.len() {
        return Err(PyValueError::new_err(format!(
            "{} keys, {} messages, {} signatures: the counts must be equal",
            public_keys.len(),
            messages.len(),
            signatures.len()
        )));
    }
    Ok(py.detach(|| {
        let items: Vec<Signed<'_>> = public_keys
            .iter()
            .zip(&messages)
            .zip(&signatures)
            .map(|((public_key, message), signature)| Signed {
                public_key,
                message,
                signature,
            })
            .collect();
        chain_crypto::verify_ed25519_batch(&items)
    }))
}

/// Whether a key may be enrolled.
#[pyfunction]
fn is_torsion_free(py: Python<'_>, public_key: &[u8]) -> bool {
    py.detach(|| chain_crypto::is_torsion_free(public_key))
}
