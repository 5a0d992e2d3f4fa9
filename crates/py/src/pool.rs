//! Bindings of `chain-pool`.

use std::num::NonZeroUsize;

use chain_pool::{Limits, Pool};
use chain_types::Hash;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// Adds this module's classes to the extension.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Admissions>()?;
    module.add_class::<TxPool>()?;
    module.add_function(wrap_pyfunction!(count_transactions, module)?)
}

/// Verdicts of one batch, in its order.
#[pyclass(frozen, module = "chainnode._native")]
struct Admissions(chain_pool::Admissions);

#[pymethods]
impl Admissions {
    #[getter]
    fn codes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.codes)
    }

    #[getter]
    fn tx_ids<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let bytes = |id: &Option<Hash>| id.as_ref().map_or_else(Vec::new, |id| id.to_vec());
        self.0
            .tx_ids
            .iter()
            .map(|id| PyBytes::new(py, &bytes(id)))
            .collect()
    }

    fn response<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        count: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let end = start.checked_add(count);
        let range = end.filter(|end| *end <= self.0.codes.len());
        let range = start..range.ok_or_else(|| PyValueError::new_err("beyond the batch"))?;
        Ok(PyBytes::new(py, &self.0.response(range)))
    }

    #[getter]
    fn fresh<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.fresh)
    }
}

/// Pending transactions, verified once, first come first served.
#[pyclass(frozen, module = "chainnode._native")]
struct TxPool(Pool);

#[pymethods]
impl TxPool {
    #[new]
    #[pyo3(signature = (
        chain_id, *, expiry_window, transactions_max, size_max_bytes, transaction_size_max_bytes,
        threads = 1
    ))]
    fn new(
        chain_id: &str,
        expiry_window: u64,
        transactions_max: usize,
        size_max_bytes: usize,
        transaction_size_max_bytes: usize,
        threads: usize,
    ) -> Self {
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        let limits = Limits {
            expiry_window,
            transactions_max,
            size_max_bytes,
            transaction_size_max_bytes,
        };
        Self(Pool::new(chain_id, limits, threads))
    }

    #[pyo3(signature = (batch, height, submitted=None))]
    fn add(
        &self,
        py: Python<'_>,
        batch: PyBackedBytes,
        height: u64,
        submitted: Option<usize>,
    ) -> PyResult<Admissions> {
        py.detach(|| self.0.add(&batch, height, submitted))
            .map(Admissions)
            .map_err(malformed)
    }

    fn set_member(&self, py: Python<'_>, public_key: PyBackedBytes, member: bool) -> PyResult<()> {
        let public_key = hash(&public_key)?;
        py.detach(|| self.0.set_member(public_key, member));
        Ok(())
    }

    fn propose<'py>(
        &self,
        py: Python<'py>,
        transactions_max: usize,
        size_max_bytes: usize,
    ) -> Vec<Bound<'py, PyBytes>> {
        let wids = py.detach(|| self.0.propose(transactions_max, size_max_bytes));
        to_python(py, &wids)
    }

    fn missing<'py>(
        &self,
        py: Python<'py>,
        wids: Vec<PyBackedBytes>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let wids = hashes(&wids)?;
        let missing = py.detach(|| self.0.missing(&wids));
        Ok(to_python(py, &missing))
    }

    #[pyo3(signature = (batch, wanted=None))]
    fn add_bodies(
        &self,
        py: Python<'_>,
        batch: PyBackedBytes,
        wanted: Option<Vec<PyBackedBytes>>,
    ) -> PyResult<usize> {
        let wanted = wanted.map(|wids| hashes(&wids)).transpose()?;
        let wanted = wanted.map(|wids| wids.into_iter().collect());
        py.detach(|| self.0.add_bodies(&batch, wanted.as_ref()))
            .map_err(malformed)
    }

    fn bodies<'py>(
        &self,
        py: Python<'py>,
        wids: Vec<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let wids = hashes(&wids)?;
        let batch = py
            .detach(|| self.0.bodies(&wids))
            .map_err(|not_held| PyKeyError::new_err(not_held.to_string()))?;
        Ok(PyBytes::new(py, &batch))
    }

    fn pending<'py>(
        &self,
        py: Python<'py>,
        tx_ids: Vec<PyBackedBytes>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let tx_ids = hashes(&tx_ids)?;
        let pending = py.detach(|| self.0.pending(&tx_ids));
        Ok(to_python(py, &pending))
    }

    fn held_size_bytes(&self, py: Python<'_>, wids: Vec<PyBackedBytes>) -> PyResult<usize> {
        let wids = hashes(&wids)?;
        Ok(py.detach(|| self.0.held_size_bytes(&wids)))
    }

    fn verified<'py>(
        &self,
        py: Python<'py>,
        wids: Vec<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let wids = hashes(&wids)?;
        Ok(PyBytes::new(py, &py.detach(|| self.0.verified(&wids))))
    }

    fn commit(&self, py: Python<'_>, wids: Vec<PyBackedBytes>, height: u64) -> PyResult<usize> {
        let wids = hashes(&wids)?;
        Ok(py.detach(|| self.0.commit(&wids, height)))
    }

    fn executed(
        &self,
        py: Python<'_>,
        tx_ids: Vec<PyBackedBytes>,
        expiry_heights: Vec<u64>,
        height: u64,
    ) -> PyResult<usize> {
        let outcomes = with_expiries(&tx_ids, expiry_heights)?;
        Ok(py.detach(|| self.0.executed(outcomes, height)))
    }

    fn restore(
        &self,
        py: Python<'_>,
        tx_ids: Vec<PyBackedBytes>,
        expiry_heights: Vec<u64>,
    ) -> PyResult<()> {
        let used = with_expiries(&tx_ids, expiry_heights)?;
        py.detach(|| self.0.restore(used));
        Ok(())
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        // A method that holds the lock may be on another thread without the interpreter lock.
        py.detach(|| self.0.len())
    }

    #[getter]
    fn size_bytes(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.size_bytes())
    }
}

fn malformed(error: chain_types::FormatError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn hash(item: &PyBackedBytes) -> PyResult<Hash> {
    Hash::try_from(item.as_ref())
        .map_err(|_| PyValueError::new_err(format!("{} bytes, not 32", item.len())))
}

fn hashes(items: &[PyBackedBytes]) -> PyResult<Vec<Hash>> {
    items.iter().map(hash).collect()
}

/// Transactions in an encoded batch.
#[pyfunction]
fn count_transactions(batch: &[u8]) -> PyResult<usize> {
    chain_pool::count_transactions(batch).map_err(malformed)
}

fn with_expiries(tx_ids: &[PyBackedBytes], expiry_heights: Vec<u64>) -> PyResult<Vec<(Hash, u64)>> {
    if tx_ids.len() != expiry_heights.len() {
        return Err(PyValueError::new_err("one expiry height per tx id"));
    }
    Ok(hashes(tx_ids)?.into_iter().zip(expiry_heights).collect())
}

fn to_python<'py>(py: Python<'py>, hashes: &[Hash]) -> Vec<Bound<'py, PyBytes>> {
    hashes.iter().map(|hash| PyBytes::new(py, hash)).collect()
}
