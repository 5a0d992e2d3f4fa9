//! The execution engines: one ordered block in, receipts, roots and net writes out.
//!
//! Whatever is wrong with a transaction becomes its receipt; a block is never refused for it. The
//! serial engine is the meaning; the parallel one ([`scheduler`]) gives the same bytes sooner.

mod abi_types;
mod admin;
mod bed;
mod block;
mod executor;
mod gate;
mod genesis;
mod graph;
mod graph_message;
mod hints;
mod members;
mod observed;
pub mod oracle;
mod parallel;
mod pinning;
mod pool;
mod receipt;
mod record;
pub mod scheduler;
mod simulate;
mod sync;
mod synthetic;
mod threads;
pub mod trace;
mod window;

#[cfg(feature = "shuttle")]
pub use bed::Bed;
pub use executor::{ExecutionError, Executor};
pub use gate::{Engine, Forecast};
pub use graph::{
    dependencies, summary, Access, Cause, Dependency, HotKey, Summary, DEPENDENCIES_MAX,
};
pub use graph_message::block_graph;
pub use hints::{CallContext, Prediction, Templates};
pub use parallel::Strategy;
pub use receipt::BlockResult;
pub use simulate::{simulate, simulate_with, Costs, Makespan};
pub use synthetic::{Choice, Ran, SyntheticBlock};
