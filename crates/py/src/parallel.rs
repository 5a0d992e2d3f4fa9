//! The parallel scheduler for benchmarks: traces, virtual workers, synthetic blocks.

use std::collections::HashMap;

use chain_exec::scheduler::{Counters, HintClass};
use chain_exec::trace::{self, Scan, TraceTransaction};
use chain_exec::{simulate_with, Choice, Costs, Engine, Forecast, Manner, Ran, SyntheticBlock};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn hint_class(name: &str) -> PyResult<HintClass> {
    Ok(match name {
        "complete" => HintClass::Complete,
        "superset" => HintClass::Superset,
        "predicted" => HintClass::Predicted,
        "none" => HintClass::None,
        _ => {
            let reason = "hint: one of complete, superset, predicted, none";
            return Err(value_error(reason));
        }
    })
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Serial => "serial",
        Engine::HintDag => "dag",
        Engine::Stm => "stm",
        Engine::Blind => "blind",
    }
}

#[pyclass(module = "chainnode._native")]
pub(crate) struct Trace(pub(crate) trace::Trace);

#[pymethods]
impl Trace {
    #[new]
    fn new() -> Self {
        Self(trace::Trace::default())
    }

    #[staticmethod]
    fn decode(text: &str) -> PyResult<Self> {
        trace::Trace::decode(text).map(Self).map_err(value_error)
    }

    fn encode(&self) -> String {
        self.0.encode()
    }

    #[pyo3(signature = (
        cost_ns, *, gas_used=0, reads=vec![], writes=vec![], deltas=vec![], ranges=vec![],
        verify_ns=0, hint="complete", hint_keys=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        cost_ns: u64,
        gas_used: u64,
        reads: Vec<(u64, u64)>,
        writes: Vec<u64>,
        deltas: Vec<u64>,
        ranges: Vec<(u64, u64, u64)>,
        verify_ns: u64,
        hint: &str,
        hint_keys: Option<[Vec<u64>; 3]>,
    ) -> PyResult<()> {
        let scan = |(start, end, at_ns)| Scan { start, end, at_ns };
        let one = TraceTransaction {
            cost_ns,
            gas_used,
            verify_ns,
            reads,
            writes,
            deltas,
            ranges: ranges.into_iter().map(scan).collect(),
            hint_class: hint_class(hint)?,
            hint_keys,
        };
        one.check().map_err(value_error)?;
        self.0.transactions.push(one);
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.0.transactions.len()
    }

    #[getter]
    fn work_ns(&self) -> u64 {
        self.0.work_ns()
    }

    #[getter]
    fn critical_path_ns(&self) -> u64 {
        self.0.critical_path_ns()
    }

    #[getter]
    fn gas_used(&self) -> u64 {
        self.0.gas_used()
    }

    fn with_verify(&self, verify_ns: u64) -> Self {
        Self(self.0.with_verify(verify_ns))
    }

    fn without_deltas(&self) -> Self {
        Self(self.0.without_deltas())
    }

    fn without_hints(&self) -> Self {
        Self(self.0.without_hints())
    }
}

#[pyclass(frozen, get_all, module = "chainnode._native")]
struct Makespan {
    makespan_ns: u64,
    around_ns: u64,
    serial_part_ns: u64,
    serial_ns: u64,
    speedup: f64,
    busy_ns: u64,
    executions: u64,
    blocked: u64,
    invalidated: u64,
    exact: u64,
}

pub(crate) fn band(name: &str, overrides: &HashMap<String, f64>) -> PyResult<Costs> {
    let mut costs = match name {
        "nominal" => Costs::nominal(),
        "best" => Costs::best(),
        "worst" => Costs::worst(),
        _ => return Err(value_error("band: one of best, nominal, worst")),
    };
    for (name, value) in overrides {
        if name == "inflation" {
            costs.inflation = *value;
            continue;
        }
        let field = match name.as_str() {
            "task_ns" => &mut costs.task_ns,
            "read_ns" => &mut costs.read_ns,
            "write_ns" => &mut costs.write_ns,
            "commit_ns" => &mut costs.commit_ns,
            "add_ns" => &mut costs.add_ns,
            "delta_ns" => &mut costs.delta_ns,
            "survey_ns" => &mut costs.survey_ns,
            "prepare_ns" => &mut costs.prepare_ns,
            "climb_ns" => &mut costs.climb_ns,
            "begin_ns" => &mut costs.begin_ns,
            "collect_ns" => &mut costs.collect_ns,
            "output_ns" => &mut costs.output_ns,
            "join_ns" => &mut costs.join_ns,
            "wake_ns" => &mut costs.wake_ns,
            "line_ns" => &mut costs.line_ns,
            _ => return Err(value_error(format!("costs: nothing is called `{name}`"))),
        };
        *field = *value as u64;
    }
    Ok(costs)
}

/// What the scheduler's operations cost in a band.
#[pyfunction]
#[pyo3(signature = (band_name="nominal"))]
fn scheduler_costs(band_name: &str) -> PyResult<HashMap<&'static str, f64>> {
    Ok(named(&band(band_name, &HashMap::new())?))
}

/// What they cost on this machine, over the real structures on one thread.
#[pyfunction]
fn measured_costs(
    py: Python<'_>,
    transactions: usize,
    workers: usize,
) -> PyResult<HashMap<&'static str, f64>> {
    if workers == 0 || transactions == 0 {
        return Err(value_error("transactions, workers: at least one of each"));
    }
    let costs = py.detach(|| chain_exec::measured_costs(transactions, workers));
    Ok(named(&costs))
}

fn named(costs: &Costs) -> HashMap<&'static str, f64> {
    let times = [
        ("task_ns", costs.task_ns),
        ("read_ns", costs.read_ns),
        ("write_ns", costs.write_ns),
        ("commit_ns", costs.commit_ns),
        ("add_ns", costs.add_ns),
        ("delta_ns", costs.delta_ns),
        ("survey_ns", costs.survey_ns),
        ("prepare_ns", costs.prepare_ns),
        ("climb_ns", costs.climb_ns),
        ("begin_ns", costs.begin_ns),
        ("collect_ns", costs.collect_ns),
        ("output_ns", costs.output_ns),
        ("join_ns", costs.join_ns),
        ("wake_ns", costs.wake_ns),
        ("line_ns", costs.line_ns),
    ];
    let times = times.into_iter().map(|(name, time)| (name, time as f64));
    times.chain([("inflation", costs.inflation)]).collect()
}

/// Run a trace on virtual workers in virtual time.
#[pyfunction]
#[pyo3(signature = (
    trace, workers, *, band_name="nominal", costs=HashMap::new(), engine="auto", window=None,
    batch=None, push=true
))]
#[allow(clippy::too_many_arguments)]
fn simulate(
    py: Python<'_>,
    trace: &Trace,
    workers: usize,
    band_name: &str,
    costs: HashMap<String, f64>,
    engine: &str,
    window: Option<u32>,
    batch: Option<u32>,
    push: bool,
) -> PyResult<Makespan> {
    if workers == 0 {
        return Err(value_error("workers: at least one"));
    }
    let costs = band(band_name, &costs)?;
    let trace = &trace.0;
    let mut manner = match engine {
        "auto" => Manner::chosen(trace, workers),
        "dag" => Manner::of(Engine::HintDag, trace, workers),
        "stm" => Manner::of(Engine::Stm, trace, workers),
        "blind" => Manner::of(Engine::Blind, trace, workers),
        _ => return Err(value_error("engine: one of auto, dag, stm, blind")),
    };
    let settings = &mut manner.settings;
    if let Some(window) = window {
        *settings = settings.with_window(window.max(1));
    }
    settings.batch = batch.unwrap_or(settings.batch).max(1);
    settings.push = push;
    let found = py.detach(|| simulate_with(trace, workers, &costs, manner));
    let Counters {
        executions,
        blocked,
        invalidated,
        exact,
    } = found.counters;
    Ok(Makespan {
        makespan_ns: found.makespan_ns,
        around_ns: found.around_ns,
        serial_part_ns: found.serial_part_ns,
        serial_ns: found.serial_ns,
        speedup: found.speedup,
        busy_ns: found.busy_ns,
        executions,
        blocked,
        invalidated,
        exact,
    })
}

/// The engine the gate picks for a trace, its hints taken as given.
#[pyfunction]
fn predict_engine(trace: &Trace, threads: usize) -> &'static str {
    let one = &trace.0.transactions;
    let hints: Vec<_> = one.iter().map(TraceTransaction::hint).collect();
    let costs_ns: Vec<u64> = one.iter().map(|one| one.cost_ns).collect();
    engine_name(Forecast::of_block(hints.iter(), &costs_ns, threads).engine(threads))
}

#[pyclass(frozen, get_all, module = "chainnode._native")]
struct BlockTimes {
    engine: String,
    ran: Vec<&'static str>,
    times_ns: Vec<u64>,
    executions: u64,
    blocked: u64,
    invalidated: u64,
    exact: u64,
}

fn choice(name: &str) -> PyResult<Choice> {
    Ok(match name {
        "serial" => Choice::Serial,
        "dag" => Choice::HintDag,
        "stm" => Choice::Stm,
        "blind" => Choice::Blind,
        "gate" => Choice::Gate,
        _ => {
            return Err(value_error(
                "engines: each of serial, dag, stm, blind, gate",
            ))
        }
    })
}

/// Really execute a trace as spinning transactions on each engine in turn, several times.
#[pyfunction]
#[pyo3(signature = (trace, engines, *, threads, repeats=1))]
fn bench_blocks(
    py: Python<'_>,
    trace: &Trace,
    engines: Vec<String>,
    threads: usize,
    repeats: usize,
) -> PyResult<Vec<BlockTimes>> {
    let choices: Vec<Choice> = engines
        .iter()
        .map(|name| choice(name))
        .collect::<PyResult<_>>()?;
    let runs = py.detach(|| {
        let state = chain_state::State::default();
        let block = SyntheticBlock::new(trace.0.clone(), state, threads, false);
        let mut runs: Vec<Vec<Ran>> = vec![Vec::new(); choices.len()];
        for _ in 0..repeats {
            for (choice, runs) in choices.iter().zip(&mut runs) {
                let ran = block.run(*choice);
                // One result is kept per engine; the writes of the others were compared with it.
                runs.push(ran);
                let last = runs.len() - 1;
                if last > 0 {
                    if runs[0].writes != runs[last].writes {
                        return Err("two runs of a block differ");
                    }
                    runs[last].writes = Vec::new();
                    runs[last].digests = Vec::new();
                }
            }
        }
        let firsts: Vec<&Ran> = runs.iter().filter_map(|runs| runs.first()).collect();
        let same =
            |pair: &[&Ran]| pair[0].writes == pair[1].writes && pair[0].digests == pair[1].digests;
        if !firsts.windows(2).all(same) {
            return Err("two engines differ on a block");
        }
        Ok(runs)
    });
    let times = |(engine, runs): (String, Vec<Ran>)| {
        let mut sum = Counters::default();
        for ran in &runs {
            sum += ran.counters;
        }
        BlockTimes {
            engine,
            ran: runs.iter().map(|ran| engine_name(ran.engine)).collect(),
            times_ns: runs.iter().map(|ran| ran.time_ns).collect(),
            executions: sum.executions,
            blocked: sum.blocked,
            invalidated: sum.invalidated,
            exact: sum.exact,
        }
    };
    let runs = runs.map_err(pyo3::exceptions::PyRuntimeError::new_err)?;
    Ok(engines.into_iter().zip(runs).map(times).collect())
}

/// Compare random blocks with the serial engine; names those that differ.
#[pyfunction]
fn compare_random_blocks(
    py: Python<'_>,
    first_seed: u64,
    count: u64,
    threads: usize,
) -> Vec<String> {
    py.detach(|| {
        let seeds = first_seed..first_seed.saturating_add(count);
        let compare = |seed| chain_exec::oracle::compare(seed, threads).err();
        seeds.filter_map(compare).collect()
    })
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Trace>()?;
    module.add_class::<Makespan>()?;
    module.add_class::<BlockTimes>()?;
    module.add_function(wrap_pyfunction!(scheduler_costs, module)?)?;
    module.add_function(wrap_pyfunction!(measured_costs, module)?)?;
    module.add_function(wrap_pyfunction!(simulate, module)?)?;
    module.add_function(wrap_pyfunction!(predict_engine, module)?)?;
    module.add_function(wrap_pyfunction!(bench_blocks, module)?)?;
    module.add_function(wrap_pyfunction!(compare_random_blocks, module)?)
}
