//! The parallel scheduler: one state machine that two drivers turn.
//!
//! Threads ([`crate::threads`]) run it on contracts; a discrete-event loop ([`crate::simulate`])
//! runs the same code, memory included, on traces with any number of virtual workers.
//!
//! - Transactions are drawn in block order, within a window above the commit frontier that widens
//!   while guesses turn out right.
//! - Those with complete hints wait for the producers of what they read; the others speculate.
//! - A writer's publication invalidates exactly the readers it proves wrong. There is no
//!   validation pass: when everything before a transaction is final and nobody invalidated it,
//!   it is what the serial order gives.
//! - The commit lane makes transactions final in order. It settles deltas on the exact value and
//!   executes again whatever guessed wrong, with nothing left to guess.
//!
//! Correctness rests on the lane and on [`chain_state::versions`] alone: hints, window, queues and
//! timing decide only how much work is wasted. After Block-STM (arXiv 2203.06871), Bohm
//! (arXiv 1412.2324) and Aptos' push invalidation.

mod deferred;
mod hints;
mod lane;
mod pace;
mod ready;
mod records;
mod settings;
mod state;
mod worker;

pub use chain_state::versions::{Effect, Found, Lens, Memory, Version};
pub use hints::{Hint, HintClass, HintKey};
pub(crate) use lane::RUN_MAX;
pub use records::Records;
pub use settings::Settings;
pub use state::Scheduler;
pub use worker::{Claim, Counters, Lane, Task, Worker};
