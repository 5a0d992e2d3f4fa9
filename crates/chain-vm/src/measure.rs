//! Timing of one call over and over, for benchmarks.

use std::sync::{Arc, Barrier};
use std::time::Instant;

use chain_state::{keys, BlockOverlay, SharedState, State, TxView};
use parking_lot::RwLock;

use crate::{Field, Frame, Machine, Status};

/// What to time and how.
#[derive(Clone, Debug, Default)]
pub struct Measurement {
    /// The module as compiled.
    pub wasm: Vec<u8>,
    /// The export to call.
    pub entry: String,
    /// ABI-encoded arguments.
    pub args: Vec<u8>,
    /// The sender's address.
    pub sender: Vec<u8>,
    /// The contract's name.
    pub contract: String,
    /// State below the calls.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Calls per thread.
    pub calls: u32,
    /// Whether an instance is used again.
    pub reuse: bool,
    /// Whether instructions are charged for.
    pub metered: bool,
    /// Threads, each with a machine of its own.
    pub threads: usize,
}

/// Nanoseconds from the common start to the last thread's end; every call's writes are dropped.
///
/// # Errors
/// How a call ended when it did not return.
pub fn time_calls(measurement: &Measurement) -> Result<u64, String> {
    let state = Arc::new(RwLock::new(State::default()));
    for (key, value) in &measurement.entries {
        state.write().apply(key.clone(), Some(value.clone()));
    }
    let barrier = Barrier::new(measurement.threads);
    let ends = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..measurement.threads)
            .map(|_| scope.spawn(|| run(measurement, &state, &barrier)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
            .collect::<Result<Vec<_>, String>>()
    })?;
    let start = ends.iter().map(|(start, _)| *start).min();
    let end = ends.iter().map(|(_, end)| *end).max();
    let spent = start
        .zip(end)
        .map_or(0, |(start, end)| (end - start).as_nanos());
    u64::try_from(spent).map_err(|error| error.to_string())
}

fn run(
    measurement: &Measurement,
    state: &SharedState,
    barrier: &Barrier,
) -> Result<(Instant, Instant), String> {
    let mut machine = if measurement.metered {
        Machine::new(measurement.reuse)
    } else {
        Machine::unmetered(measurement.reuse)
    };
    let prefix = keys::storage_prefix(&measurement.contract);
    let mut frame = Frame {
        args: &measurement.args,
        storage_prefix: &prefix,
        ..Frame::default()
    };
    frame.fields[Field::Sender as usize] = &measurement.sender;
    frame.fields[Field::Contract as usize] = measurement.contract.as_bytes();
    let mut base = state.read_arc();
    let mut block = BlockOverlay::default();
    let mut start = Instant::now();
    for call in 0..measurement.calls + WARM_CALLS {
        if call == WARM_CALLS {
            barrier.wait();
            start = Instant::now();
        }
        let view = TxView::new(base, block);
        let code = |_: &_| Some(measurement.wasm.clone());
        let (outcome, view) =
            machine.call(&[0; 32], code, &measurement.entry, GAS_LIMIT, &frame, view);
        (base, block) = view.rollback();
        if outcome.status != Status::Ok {
            barrier_on_failure(call, barrier);
            return Err(format!("{:?}", outcome.status));
        }
    }
    Ok((start, Instant::now()))
}

const WARM_CALLS: u32 = 100;
const GAS_LIMIT: u64 = 1 << 40;

/// The others wait for everyone before they start.
fn barrier_on_failure(call: u32, barrier: &Barrier) {
    if call < WARM_CALLS {
        barrier.wait();
    }
}
