//! The serial engine: one ordered block in, receipts, roots and net writes out.
//!
//! Whatever is wrong with a transaction becomes its receipt; a block is never refused for it.

mod abi_types;
mod admin;
mod block;
mod executor;
mod genesis;
mod hints;
mod members;
mod receipt;
mod window;

pub use executor::{ExecutionError, Executor};
pub use hints::{CallContext, Prediction, Templates};
pub use receipt::BlockResult;
