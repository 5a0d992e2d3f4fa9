//! What council members compute of each other's public messages, for Python.

use chain_he::council;
use chain_he::params::Profile;
use chain_he::proof::{self, Claim};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::he::{slices, value_error, words};

/// Seeds of the key and of relinearisation, if any, and the place: what Python calls a claim.
pub(crate) type Seeds = (PyBackedBytes, Option<PyBackedBytes>, PyBackedBytes);

pub(crate) fn read_claim<'a>(profile: &'static Profile, seeds: &'a Seeds) -> Claim<'a> {
    Claim {
        profile,
        key_seed: &seeds.0,
        relin_seed: seeds.1.as_deref(),
        context: &seeds.2,
    }
}

#[pyfunction]
fn he_verify_first_shares(
    py: Python<'_>,
    profile: &str,
    claim: Seeds,
    key_share: &[u8],
    relin_share: Option<&[u8]>,
    proof: &[u8],
) -> PyResult<()> {
    py.detach(|| {
        let claim = read_claim(chain_he::params::profile(profile)?, &claim);
        proof::verify(&claim, key_share, relin_share, proof)
    })
    .map_err(value_error)
}

#[pyfunction]
fn he_aggregate_public_key<'py>(
    py: Python<'py>,
    profile: &str,
    common_seed: &[u8],
    shares: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        let profile = chain_he::params::profile(profile)?;
        council::aggregate_public_key(profile, common_seed, &slices(&shares))
    })
}

#[pyfunction]
fn he_aggregate_relin_round1<'py>(
    py: Python<'py>,
    profile: &str,
    shares: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        let profile = chain_he::params::profile(profile)?;
        council::aggregate_relin_round1(profile, &slices(&shares))
    })
}

#[pyfunction]
fn he_relin_key<'py>(
    py: Python<'py>,
    profile: &str,
    round1: &[u8],
    round2_shares: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        let profile = chain_he::params::profile(profile)?;
        council::relin_key(profile, round1, &slices(&round2_shares))
    })
}

#[pyfunction]
fn he_combine_scalar(
    py: Python<'_>,
    profile: &str,
    limbs: usize,
    ciphertext: &[u8],
    shares: Vec<PyBackedBytes>,
) -> PyResult<(u64, u32)> {
    py.detach(|| {
        let profile = chain_he::params::profile(profile)?;
        council::combine_scalar(profile, limbs, ciphertext, &slices(&shares))
    })
    .map_err(value_error)
}

#[pyfunction]
fn he_combine_key_switch<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    ciphertext: &[u8],
    shares: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        let profile = chain_he::params::profile(profile)?;
        council::combine_key_switch(profile, limbs, ciphertext, &slices(&shares))
    })
}

#[pyfunction]
fn he_flood_bits(profile: &str, limbs: usize, parties: usize, scalar: bool) -> PyResult<u32> {
    chain_he::params::profile(profile)
        .and_then(|profile| council::flood_bits(profile, limbs, parties, scalar))
        .map_err(value_error)
}

/// Adds the area's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("HE_SCALAR_MARGIN_BITS", council::SCALAR_MARGIN_BITS)?;
    module.add_function(wrap_pyfunction!(he_verify_first_shares, module)?)?;
    module.add_function(wrap_pyfunction!(he_aggregate_public_key, module)?)?;
    module.add_function(wrap_pyfunction!(he_aggregate_relin_round1, module)?)?;
    module.add_function(wrap_pyfunction!(he_relin_key, module)?)?;
    module.add_function(wrap_pyfunction!(he_combine_scalar, module)?)?;
    module.add_function(wrap_pyfunction!(he_combine_key_switch, module)?)?;
    module.add_function(wrap_pyfunction!(he_flood_bits, module)?)
}
