//! The primitives of the scheduler's steps: those of the memory below it.

pub(crate) use chain_state::sync::*;
