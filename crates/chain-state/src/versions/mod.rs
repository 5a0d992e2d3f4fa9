//! Multi-version memory: what each transaction of a block wrote, beside who read it.
//!
//! A key has one cell: its writers' slots sorted by position in the block, and the readers that
//! depend on them. A slot whose writer has not run yet, or runs again, is an estimate: readers
//! above it wait for that writer instead of reading junk. A changed slot yields its readers, which
//! the scheduler then invalidates (push invalidation after Block-STM; placeholders after Bohm,
//! arXiv 1412.2324).

mod collect;
mod escrow;
mod lens;
mod memory;
mod ranges;
mod shards;
mod slots;

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use crate::number::{Bounds, Form, Room};
use crate::view::Write;

pub use collect::NetWrites;
pub use lens::Lens;
pub use memory::{CellId, Memory, Written};
pub use shards::Shards;

/// A transaction's position in its block and which of its executions is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Position in the block.
    pub tx: u32,
    /// Counts executions, from 0.
    pub incarnation: u32,
}

/// What a transaction finds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing in the block: the state below counts, with this added to it.
    Below(Option<(i128, Form)>),
    /// The value an earlier transaction of the block left.
    Value(Vec<u8>),
    /// Deleted by an earlier transaction of the block.
    Absent,
    /// An earlier transaction, by position, has yet to write it.
    Blocked(u32),
}

/// One effect of an execution, ready to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Full key.
    pub key: Vec<u8>,
    /// What to do to it, if anything.
    pub write: Option<Write>,
    /// What the value below, which nobody has read, was taken to be: it is checked when that value
    /// is final, even where the write was later replaced or the transaction failed for another
    /// reason.
    pub assumed: Option<Guess>,
}

/// What an addition goes by that has not read the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// Where the number is taken to lie.
    pub(crate) room: Room,
    /// What it was before the block.
    pub(crate) under: i128,
}

impl Effect {
    /// A write that is not an addition.
    pub fn new(key: Vec<u8>, write: Write) -> Self {
        Self {
            key,
            write: Some(write),
            assumed: None,
        }
    }

    /// One addition on its own to a key the state does not have, taken to be within bounds.
    pub fn addition(key: Vec<u8>, delta: i128, bounds: &Bounds) -> Self {
        Self {
            key,
            write: Some(Write::Add(delta, bounds.form())),
            assumed: Some(Guess {
                room: bounds.room(delta),
                under: 0,
            }),
        }
    }
}

/// A key's hash under this process's random key, against keys chosen to collide.
pub fn key_hash(key: &[u8]) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new).hash_one(key)
}
