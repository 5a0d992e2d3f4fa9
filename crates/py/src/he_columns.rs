//! Encrypted columns for Python: opened by folder, computed on without the interpreter lock.

use std::path::Path;

use chain_he::encoder::bytes_of;
use chain_he::kernels::Packing;
use chain_he::pass::Pass;
use chain_he::stepwise::{self, Weighted};
use chain_he::store;
use chain_he::tiles::{self, Columns, Linear};
use chain_he::HeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::he::{container, slices, value_error, words};

type Side = (Vec<String>, Vec<i64>, i64);

/// Ciphertext columns in memory-mapped tiles.
#[pyclass(frozen, module = "chainnode._native")]
struct HeColumns(Columns);

#[pymethods]
impl HeColumns {
    #[staticmethod]
    #[pyo3(signature = (directory, column, profile, limbs, blocks, residue_bytes = None))]
    fn write(
        py: Python<'_>,
        directory: &str,
        column: &str,
        profile: &str,
        limbs: usize,
        blocks: Vec<PyBackedBytes>,
        residue_bytes: Option<usize>,
    ) -> PyResult<()> {
        py.detach(|| {
            let profile = chain_he::params::profile(profile)?;
            let packing = match residue_bytes {
                None => store::PACKING,
                Some(bytes) => Packing::of(bytes).ok_or_else(|| {
                    HeError::Refused(format!("a residue takes 6 or 8 bytes, not {bytes}"))
                })?,
            };
            let blocks = slices(&blocks);
            store::write_column(
                Path::new(directory),
                column,
                profile,
                limbs,
                packing,
                &blocks,
            )
        })
        .map_err(value_error)
    }

    #[staticmethod]
    fn open(py: Python<'_>, directory: &str, profile: &str) -> PyResult<Self> {
        py.detach(|| tiles::open(Path::new(directory), profile).map(Self))
            .map_err(value_error)
    }

    #[getter]
    fn columns(&self) -> Vec<String> {
        self.0.names()
    }

    fn block_count(&self, column: &str) -> PyResult<usize> {
        self.0.block_count(column).map_err(value_error)
    }

    fn residue_bytes(&self, column: &str) -> PyResult<usize> {
        self.0.residue_bytes(column).map_err(value_error)
    }

    fn roots<'py>(&self, py: Python<'py>, column: &str) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let roots = self.0.roots(column).map_err(value_error)?;
        Ok(roots.iter().map(|root| PyBytes::new(py, root)).collect())
    }

    fn stored<'py>(
        &self,
        py: Python<'py>,
        column: &str,
        limb: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        words(py, || self.0.stored(column, limb))
    }

    fn check_pass(
        &self,
        columns: Vec<String>,
        limbs: usize,
        first_block: usize,
        block_count: usize,
    ) -> PyResult<usize> {
        self.0
            .check_pass(&columns, pass(limbs, first_block, block_count, 1))
            .map_err(value_error)
    }

    fn verify(&self, py: Python<'_>, columns: Vec<String>) -> PyResult<()> {
        py.detach(|| self.0.verify(&columns)).map_err(value_error)
    }

    fn evict(&self, py: Python<'_>, columns: Vec<String>) -> PyResult<()> {
        py.detach(|| self.0.evict(&columns)).map_err(value_error)
    }

    fn preload(&self, py: Python<'_>, columns: Vec<String>, limbs: usize) -> PyResult<()> {
        py.detach(|| self.0.preload(&columns, limbs))
            .map_err(value_error)
    }

    fn read_all(&self, py: Python<'_>, columns: Vec<String>, limbs: usize) -> PyResult<u64> {
        py.detach(|| self.0.read_all(&columns, limbs))
            .map_err(value_error)
    }

    #[pyo3(signature = (columns, weights, limbs, first_block, block_count, threads = 1))]
    #[allow(clippy::too_many_arguments)]
    fn mac_scalar<'py>(
        &self,
        py: Python<'py>,
        columns: Vec<String>,
        weights: Vec<Vec<i64>>,
        limbs: usize,
        first_block: usize,
        block_count: usize,
        threads: usize,
    ) -> PyResult<Vec<Vec<Bound<'py, PyBytes>>>> {
        let pass = pass(limbs, first_block, block_count, threads);
        let out = py
            .detach(|| self.0.mac_scalar(&columns, &weights, pass))
            .map_err(value_error)?;
        let ciphertext = |words: &Vec<u64>| PyBytes::new(py, &bytes_of(words));
        Ok(out
            .iter()
            .map(|model| model.iter().map(ciphertext).collect())
            .collect())
    }

    #[pyo3(signature = (columns, weights, limbs, first_block, block_count, threads = 1))]
    #[allow(clippy::too_many_arguments)]
    fn sum<'py>(
        &self,
        py: Python<'py>,
        columns: Vec<String>,
        weights: Vec<i64>,
        limbs: usize,
        first_block: usize,
        block_count: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let pass = pass(limbs, first_block, block_count, threads);
        words(py, || self.0.sum(&columns, &weights, pass))
    }

    #[pyo3(signature = (factors, limbs, first_block, block_count, threads = 1))]
    fn tensor_sum<'py>(
        &self,
        py: Python<'py>,
        factors: Vec<Side>,
        limbs: usize,
        first_block: usize,
        block_count: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let pass = pass(limbs, first_block, block_count, threads);
        words(py, || {
            let factors: Vec<Linear<'_>> = factors.iter().map(linear).collect();
            self.0.tensor_sum(&factors, pass)
        })
    }

    #[pyo3(signature = (outputs, limbs, first_block, block_count, threads = 1))]
    fn sums<'py>(
        &self,
        py: Python<'py>,
        outputs: Vec<Vec<Vec<Side>>>,
        limbs: usize,
        first_block: usize,
        block_count: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let pass = pass(limbs, first_block, block_count, threads);
        let sums = py
            .detach(|| {
                let terms: Vec<Vec<Linear<'_>>> = outputs
                    .iter()
                    .flatten()
                    .map(|term| term.iter().map(linear).collect())
                    .collect();
                let terms: Vec<&[Linear<'_>]> = terms.iter().map(Vec::as_slice).collect();
                let sums = self.0.sums(&terms, pass)?;
                let counts = outputs.iter().map(Vec::len);
                Ok(self.0.add_up(sums, counts, limbs))
            })
            .map_err(value_error)?;
        container(py, &sums)
    }
}

fn pass(limbs: usize, first_block: usize, block_count: usize, threads: usize) -> Pass {
    Pass {
        limbs,
        first_block,
        block_count,
        threads,
    }
}

fn linear(side: &Side) -> Linear<'_> {
    Linear {
        columns: &side.0,
        weights: &side.1,
        constant: side.2,
    }
}

#[pyfunction]
fn he_stepwise_sum<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    factors: Vec<Vec<(i64, Vec<PyBackedBytes>)>>,
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        let factors: Vec<Vec<Weighted<'_>>> = factors
            .iter()
            .map(|factor| {
                let columns = factor.iter();
                columns
                    .map(|(weight, blocks)| Weighted {
                        weight: *weight,
                        blocks: slices(blocks),
                    })
                    .collect()
            })
            .collect();
        stepwise::sum(chain_he::params::profile(profile)?, limbs, &factors)
    })
}

/// Adds the area's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HeColumns>()?;
    module.add_function(wrap_pyfunction!(he_stepwise_sum, module)?)
}
