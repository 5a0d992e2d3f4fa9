//! The contract machine: module rules, gas, the host ABI `sc1` and the wasmi engine.
//!
//! `docs/spec/contract-vm.md` is the specification.

mod bodies;
mod call;
mod host;
mod image;
mod instance;
mod levels;
mod machine;
mod measure;
mod meter;
mod nested;
mod paillier;
mod price;
mod rules;
mod storage;
mod wasm;

/// Reading a key with this end panics: only in builds for tests of what a panic leaves behind.
#[cfg(feature = "fault")]
pub const FAULT_KEY: &[u8] = b"\xffpanic";

pub use call::{Event, Field, Find, Frame, Missing, Outcome, Status};
pub use machine::Machine;
pub use measure::{time_calls, Measurement};
pub use meter::meter_module;
pub use nested::{
    address as contract_address, CALL_FAILED, CONTRACT_CALLS_MAX, CONTRACT_DEPTH_MAX,
    MEMORY_MAX_BYTES,
};
pub use price::{host_prices, Price};
pub use rules::{check_module, ModuleError, CODE_SIZE_MAX_BYTES};
