//! The ordered state in memory: keys, overlays with rollback, and the authenticated root.
//!
//! A [`State`] is what the last finished block left. A block collects its net writes in a
//! [`BlockOverlay`]; a transaction runs in a [`TxView`], which is folded into the overlay or
//! thrown away whole.

mod access;
pub mod keys;
mod number;
mod overlay;
mod stored;
#[doc(hidden)]
pub mod sync;
mod times;
mod tree;
pub mod versions;
mod view;
mod workers;

pub use access::AccessSet;
pub use number::{Bounds, Form, NumberError, Room};
pub use overlay::{BlockOverlay, SharedState, StateGuard};
pub use stored::State;
pub use times::ReadTimes;
pub use tree::{verify_proof, Proof, StateTree};
pub use view::{Parts, Savepoint, TxView, Write};
pub use workers::{share_out, stretches, Alone, Place, Places, Workers};

/// A SHA-256 digest.
pub type Hash = [u8; 32];
