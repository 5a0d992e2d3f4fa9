//! The Python extension `chainnode._native`: each module registers its own classes.
//!
//! Pure Rust lives in the other crates; this one only converts and releases the interpreter lock.

mod exec;
mod formats;
mod he;
mod he_columns;
mod he_council;
mod hints;
mod paillier;
mod parallel;
mod pool;
mod signatures;

use pyo3::prelude::*;

/// Assembles the extension module.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    exec::register(module)?;
    formats::register(module)?;
    he::register(module)?;
    hints::register(module)?;
    he_columns::register(module)?;
    he_council::register(module)?;
    paillier::register(module)?;
    parallel::register(module)?;
    pool::register(module)?;
    signatures::register(module)
}
