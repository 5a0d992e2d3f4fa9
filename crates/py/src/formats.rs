//! Bindings of `chain-types`: ids, canonical transactions, Merkle trees.

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// Adds this module's functions to the extension.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(tx_id, module)?)?;
    module.add_function(wrap_pyfunction!(wid, module)?)?;
    module.add_function(wrap_pyfunction!(address, module)?)?;
    module.add_function(wrap_pyfunction!(check_transaction, module)?)?;
    module.add_function(wrap_pyfunction!(merkle_root, module)?)?;
    module.add_function(wrap_pyfunction!(merkle_path, module)?)?;
    module.add_function(wrap_pyfunction!(verify_merkle_path, module)?)
}

/// Hash of a canonical payload.
#[pyfunction]
fn tx_id<'py>(py: Python<'py>, payload: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &chain_types::tx_id(payload))
}

/// Hash of a canonical transaction.
#[pyfunction]
fn wid<'py>(py: Python<'py>, transaction: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &chain_types::wid(transaction))
}

/// Address of a public key.
#[pyfunction]
fn address<'py>(py: Python<'py>, public_key: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &chain_types::address(public_key))
}

/// The tx id of a canonical, well-formed transaction.
#[pyfunction]
fn check_transaction<'py>(py: Python<'py>, transaction: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let checked = chain_types::decode_transaction(transaction)
        .map_err(|e| PyValueError::new_err(e.to_string()))?;
    Ok(PyBytes::new(py, &checked.tx_id))
}

/// Merkle root of the leaves.
#[pyfunction]
fn merkle_root(py: Python<'_>, leaves: Vec<PyBackedBytes>) -> Bound<'_, PyBytes> {
    let root = py.detach(|| chain_types::merkle_root(&leaves));
    PyBytes::new(py, &root)
}

/// Siblings of one leaf, leaf to root.
#[pyfunction]
fn merkle_path<'py>(
    py: Python<'py>,
    leaves: Vec<PyBackedBytes>,
    index: usize,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let path = py
        .detach(|| chain_types::merkle_path(&leaves, index))
        .ok_or_else(|| PyIndexError::new_err(format!("no leaf {index} of {}", leaves.len())))?;
    Ok(path.iter().map(|hash| PyBytes::new(py, hash)).collect())
}

/// Whether the path leads from the leaf to the root.
#[pyfunction]
fn verify_merkle_path(
    root: &[u8],
    leaf: &[u8],
    index: u64,
    leaf_count: u64,
    path: Vec<PyBackedBytes>,
) -> bool {
    root.try_into()
        .is_ok_and(|root| chain_types::verify_merkle_path(&root, leaf, index, leaf_count, &path))
}
