//! Bindings of `chain-paillier`.

use chain_paillier::{generate, system_rng, PaillierError, PublicKey, SecretKey};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Adds this module's functions to the extension.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(paillier_generate, module)?)?;
    module.add_function(wrap_pyfunction!(paillier_public_key, module)?)?;
    module.add_function(wrap_pyfunction!(paillier_encrypt, module)?)?;
    module.add_function(wrap_pyfunction!(paillier_decrypt, module)?)?;
    module.add_function(wrap_pyfunction!(paillier_add, module)?)?;
    module.add_function(wrap_pyfunction!(paillier_add_plain, module)?)?;
    module.add_function(wrap_pyfunction!(paillier_scalar_multiply, module)?)
}

fn refused(error: PaillierError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn bytes<'py>(
    py: Python<'py>,
    run: impl FnOnce() -> Result<Box<[u8]>, PaillierError> + Send,
) -> PyResult<Bound<'py, PyBytes>> {
    let made = py.detach(run).map_err(refused)?;
    Ok(PyBytes::new(py, &made))
}

/// A key pair.
#[pyfunction]
fn paillier_generate<'py>(
    py: Python<'py>,
    bits: u32,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let pair = py.detach(|| generate(bits)).map_err(refused)?;
    Ok((
        PyBytes::new(py, &pair.public),
        PyBytes::new(py, &pair.secret),
    ))
}

/// The public key of a secret one.
#[pyfunction]
fn paillier_public_key<'py>(py: Python<'py>, secret_key: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    bytes(py, || Ok(SecretKey::from_bytes(secret_key)?.public_bytes()))
}

/// A fresh ciphertext.
#[pyfunction]
fn paillier_encrypt<'py>(
    py: Python<'py>,
    public_key: &[u8],
    plaintext: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    bytes(py, || {
        PublicKey::from_bytes(public_key)?.encrypt(plaintext, &mut system_rng())
    })
}

/// The residue modulo n.
#[pyfunction]
fn paillier_decrypt<'py>(
    py: Python<'py>,
    secret_key: &[u8],
    ciphertext: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let made = py.detach(|| SecretKey::from_bytes(secret_key)?.decrypt(ciphertext));
    Ok(PyBytes::new(py, &made.map_err(refused)?))
}

/// The sum.
#[pyfunction]
fn paillier_add<'py>(
    py: Python<'py>,
    public_key: &[u8],
    left: &[u8],
    right: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    bytes(py, || PublicKey::from_bytes(public_key)?.add(left, right))
}

/// The sum with a known number.
#[pyfunction]
fn paillier_add_plain<'py>(
    py: Python<'py>,
    public_key: &[u8],
    ciphertext: &[u8],
    value: i128,
) -> PyResult<Bound<'py, PyBytes>> {
    bytes(py, || {
        PublicKey::from_bytes(public_key)?.add_plain(ciphertext, value)
    })
}

/// The product with a known number.
#[pyfunction]
fn paillier_scalar_multiply<'py>(
    py: Python<'py>,
    public_key: &[u8],
    ciphertext: &[u8],
    factor: i128,
) -> PyResult<Bound<'py, PyBytes>> {
    bytes(py, || {
        PublicKey::from_bytes(public_key)?.scalar_multiply(ciphertext, factor)
    })
}
