//! Execution: the state, the serial engine and the contract machine's checks.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use chain_exec as exec;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn list<'py>(py: Python<'py>, items: &[impl AsRef<[u8]>]) -> Vec<Bound<'py, PyBytes>> {
    items
        .iter()
        .map(|item| PyBytes::new(py, item.as_ref()))
        .collect()
}

/// Far above any machine's cores: a guard against a slip of the pen.
const THREADS_MAX: usize = 1024;

type Write<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);

#[pyclass(frozen, module = "chainnode._native")]
struct BlockResult {
    result: exec::BlockResult,
    accesses: Arc<Touched>,
}

struct Touched {
    accesses: Vec<exec::Access>,
    gas: Vec<u64>,
}

impl BlockResult {
    fn new(mut result: exec::BlockResult) -> Self {
        let accesses = Arc::new(Touched {
            accesses: std::mem::take(&mut result.accesses),
            gas: std::mem::take(&mut result.gas),
        });
        Self { result, accesses }
    }
}

#[pymethods]
impl BlockResult {
    #[getter]
    fn receipts<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        list(py, &self.result.receipts)
    }

    #[getter]
    fn tx_ids<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        list(py, &self.result.tx_ids)
    }

    #[getter]
    fn expiry_heights(&self) -> Vec<u64> {
        self.result.expiry_heights.clone()
    }

    #[getter]
    fn receipts_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.result.receipts_root)
    }

    #[getter]
    fn state_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.result.state_root)
    }

    #[getter]
    fn writes<'py>(&self, py: Python<'py>) -> Vec<Write<'py>> {
        let bytes = |bytes: &Vec<u8>| PyBytes::new(py, bytes);
        let pair =
            |(key, value): &(Vec<u8>, Option<Vec<u8>>)| (bytes(key), value.as_ref().map(bytes));
        self.result.writes.iter().map(pair).collect()
    }

    #[getter]
    fn gas_used(&self) -> u64 {
        self.result.gas_used
    }

    #[getter]
    fn accesses(&self) -> BlockAccesses {
        BlockAccesses(Arc::clone(&self.accesses))
    }
}

/// What a block's transactions touched, apart from the rest of its result.
#[pyclass(frozen, module = "chainnode._native")]
struct BlockAccesses(Arc<Touched>);

#[pymethods]
impl BlockAccesses {
    fn __len__(&self) -> usize {
        self.0.accesses.len()
    }

    #[getter]
    fn size_bytes(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.accesses.iter().map(exec::Access::size_bytes).sum())
    }

    #[pyo3(signature = (height, *, summary_only=false))]
    fn graph<'py>(&self, py: Python<'py>, height: u64, summary_only: bool) -> Bound<'py, PyBytes> {
        let Touched { accesses, gas } = &*self.0;
        let graph = py.detach(|| {
            let graph = exec::block_graph(height, accesses, gas, summary_only);
            chain_types::encode_canonical(&graph)
        });
        PyBytes::new(py, &graph)
    }
}

/// A block timed phase by phase as it divides among workers.
#[pyclass(module = "chainnode._native")]
struct BlockTiming {
    phases: Vec<exec::Phase>,
    workers: usize,
}

#[pymethods]
impl BlockTiming {
    fn least(&mut self, other: &Bound<'_, Self>) -> PyResult<()> {
        let other = other.try_borrow()?;
        let names = |phases: &[exec::Phase]| {
            let shape = |phase: &exec::Phase| (phase.name, phase.shared.len());
            phases.iter().map(shape).collect::<Vec<_>>()
        };
        if names(&self.phases) != names(&other.phases) || self.workers != other.workers {
            return Err(value_error(
                "another block, or on another number of workers",
            ));
        }
        for (own, other) in self.phases.iter_mut().zip(&other.phases) {
            own.least(other);
        }
        Ok(())
    }

    #[pyo3(signature = (band_name="nominal"))]
    fn phases(&self, band_name: &str) -> PyResult<Vec<(&'static str, u64, u64, u64)>> {
        let costs = crate::parallel::band(band_name, &HashMap::new())?;
        let row = |phase: &exec::Phase| {
            let time_ns = phase.time_ns(self.workers, &costs);
            (phase.name, phase.whole_ns(), phase.serial_ns(), time_ns)
        };
        Ok(self.phases.iter().map(row).collect())
    }
}

#[pyclass(frozen, module = "chainnode._native")]
struct Executor(exec::Executor);

#[pymethods]
impl Executor {
    #[new]
    fn new(chain_id: &str) -> Self {
        Self(exec::Executor::new(chain_id))
    }

    #[pyo3(signature = (threads, engine="gate", *, pinned=false))]
    fn set_engine(
        &self,
        py: Python<'_>,
        threads: usize,
        engine: &str,
        pinned: bool,
    ) -> PyResult<()> {
        let strategy = match engine {
            "gate" => exec::Strategy::Gate,
            "serial" => exec::Strategy::Always(exec::Engine::Serial),
            "dag" => exec::Strategy::Always(exec::Engine::HintDag),
            "stm" => exec::Strategy::Always(exec::Engine::Stm),
            "blind" => exec::Strategy::Always(exec::Engine::Blind),
            _ => return Err(value_error("engine: one of gate, serial, dag, stm, blind")),
        };
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(value_error(format!("threads: 1 to {THREADS_MAX}")));
        }
        py.detach(|| self.0.set_engine(threads, strategy, pinned));
        Ok(())
    }

    fn load(&self, py: Python<'_>, entries: Vec<(Vec<u8>, Vec<u8>)>) {
        py.detach(|| self.0.load(entries));
    }

    fn load_window(
        &self,
        py: Python<'_>,
        tx_ids: Vec<Vec<u8>>,
        expiry_heights: Vec<u64>,
    ) -> PyResult<()> {
        if tx_ids.len() != expiry_heights.len() {
            return Err(value_error("one expiry height per transaction id"));
        }
        let ids = tx_ids.iter().map(|id| id.as_slice().try_into());
        let ids: Result<Vec<[u8; 32]>, _> = ids.collect();
        let ids = ids.map_err(|_| value_error("a transaction id has 32 bytes"))?;
        py.detach(|| self.0.load_window(ids.into_iter().zip(expiry_heights)));
        Ok(())
    }

    fn load_head(&self, height: u64, timestamp_ms: u64) {
        self.0.load_head(height, timestamp_ms);
    }

    fn genesis(&self, py: Python<'_>, genesis: &[u8]) -> PyResult<BlockResult> {
        py.detach(|| self.0.genesis(genesis))
            .map(BlockResult::new)
            .map_err(value_error)
    }

    fn state_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let root = py.detach(|| self.0.state_root());
        PyBytes::new(py, &root)
    }

    fn execute_block(
        &self,
        py: Python<'_>,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
    ) -> PyResult<BlockResult> {
        let result = py.detach(|| self.0.execute_block(context, batch, verified));
        result.map(BlockResult::new).map_err(value_error)
    }

    #[pyo3(signature = (context, batch, verified, *, runs=1))]
    fn record_block(
        &self,
        py: Python<'_>,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
        runs: usize,
    ) -> PyResult<crate::parallel::Trace> {
        let runs = NonZeroUsize::new(runs).ok_or_else(|| value_error("runs: at least one"))?;
        let trace = py.detach(|| self.0.record_block(context, batch, verified, runs));
        trace.map(crate::parallel::Trace).map_err(value_error)
    }

    fn time_block(
        &self,
        py: Python<'_>,
        context: &[u8],
        batch: &[u8],
        verified: &[u8],
        workers: usize,
    ) -> PyResult<(BlockResult, BlockTiming)> {
        if !(1..=THREADS_MAX).contains(&workers) {
            return Err(value_error(format!("workers: 1 to {THREADS_MAX}")));
        }
        let timed = py.detach(|| self.0.time_block(context, batch, verified, workers));
        let (result, phases) = timed.map_err(value_error)?;
        Ok((BlockResult::new(result), BlockTiming { phases, workers }))
    }

    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        sender: &[u8],
        contract: &str,
        method: &str,
        args: &[u8],
        gas_limit: u64,
    ) -> Bound<'py, PyBytes> {
        let receipt = py.detach(|| {
            let receipt = self.0.evaluate(sender, contract, method, args, gas_limit);
            chain_types::encode_canonical(&receipt)
        });
        PyBytes::new(py, &receipt)
    }

    fn get<'py>(&self, py: Python<'py>, key: &[u8]) -> Option<Bound<'py, PyBytes>> {
        py.detach(|| self.0.get(key))
            .map(|value| PyBytes::new(py, &value))
    }

    fn member<'py>(&self, py: Python<'py>, address: &[u8]) -> Option<Bound<'py, PyBytes>> {
        py.detach(|| self.0.member(address))
            .map(|value| PyBytes::new(py, &value))
    }

    fn contract<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let (record, abi) = py.detach(|| self.0.contract(name))?;
        Some((PyBytes::new(py, &record), PyBytes::new(py, &abi)))
    }
}

#[pyfunction]
fn check_module(py: Python<'_>, wasm: &[u8]) -> PyResult<()> {
    py.detach(|| chain_vm::check_module(wasm))
        .map_err(value_error)
}

#[pyfunction]
fn meter_module<'py>(py: Python<'py>, wasm: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let metered = py
        .detach(|| chain_vm::meter_module(wasm))
        .map_err(value_error)?;
    Ok(PyBytes::new(py, &metered))
}

/// Nanoseconds for `calls` calls in each of `threads` threads.
#[pyfunction]
#[pyo3(signature = (
    wasm, entry, args, sender, contract, entries, *, calls, reuse, metered, threads
))]
#[allow(clippy::too_many_arguments)]
fn time_contract_calls(
    py: Python<'_>,
    wasm: Vec<u8>,
    entry: String,
    args: Vec<u8>,
    sender: Vec<u8>,
    contract: &str,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    calls: u32,
    reuse: bool,
    metered: bool,
    threads: usize,
) -> PyResult<u64> {
    let measurement = chain_vm::Measurement {
        wasm,
        entry,
        args,
        sender,
        contract: contract.to_owned(),
        entries,
        calls,
        reuse,
        metered,
        threads,
    };
    py.detach(|| chain_vm::time_calls(&measurement))
        .map_err(value_error)
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BlockResult>()?;
    module.add_class::<BlockAccesses>()?;
    module.add_class::<BlockTiming>()?;
    module.add_class::<Executor>()?;
    module.add_function(wrap_pyfunction!(check_module, module)?)?;
    module.add_function(wrap_pyfunction!(meter_module, module)?)?;
    module.add_function(wrap_pyfunction!(time_contract_calls, module)?)
}
