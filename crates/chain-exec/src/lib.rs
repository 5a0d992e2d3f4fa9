//! The execution engines: one ordered block in, receipts, roots and net writes out.
//!
//! Whatever is wrong with a transaction becomes its receipt; a block is never refused for it. The
//! serial engine is the meaning; the parallel one ([`scheduler`]) gives the same bytes sooner.

mod abi_types;
mod admin;
mod around;
mod bed;
mod block;
mod costs;
mod duplicates;
mod executor;
mod foretold;
mod gate;
mod genesis;
mod graph;
mod graph_message;
mod hints;
mod measure;
mod members;
mod meter;
mod observed;
pub mod oracle;
mod parallel;
mod parts;
mod pinning;
mod pool;
mod receipt;
mod record;
pub mod scheduler;
mod serial;
mod simulate;
mod survey;
mod sync;
mod synthetic;
mod threads;
pub mod trace;
mod window;

#[cfg(feature = "shuttle")]
pub use bed::Bed;
pub use costs::Costs;
pub use executor::{ExecutionError, Executor};
pub use gate::{Engine, Forecast};
pub use graph::{
    dependencies, summary, Access, Cause, Dependency, HotKey, Summary, DEPENDENCIES_MAX,
};
pub use graph_message::block_graph;
pub use hints::{CallContext, Prediction, Templates};
pub use measure::measured_costs;
pub use meter::{Phase, Shared};
pub use parallel::Strategy;
#[cfg(feature = "shuttle")]
pub use pool::Pool;
pub use receipt::BlockResult;
pub use simulate::{simulate, simulate_with, Makespan, Manner};
pub use synthetic::{Choice, Ran, SyntheticBlock};
