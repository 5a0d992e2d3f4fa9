//! The homomorphic engine for Python: bytes in, bytes out, interpreter lock released.

use chain_he::council;
use chain_he::encoder::bytes_of;
use chain_he::error::HeResult;
use chain_he::keys::SecretKey;
use chain_he::params::{profile, POLYNOMIALS_MAX};
use chain_he::scheme::{self, PublicKey};
use chain_he::{relin, HeError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};

use crate::he_council::{read_claim, Seeds};

pyo3::create_exception!(
    chainnode._native,
    HeCorruptColumn,
    PyValueError,
    "A stored column is not what was written: fetch it again."
);

pub(crate) fn value_error(error: HeError) -> PyErr {
    let reason = error.to_string();
    match error {
        HeError::Refused(_) => PyValueError::new_err(reason),
        HeError::Corrupt(_) => HeCorruptColumn::new_err(reason),
    }
}

pub(crate) fn slices(items: &[PyBackedBytes]) -> Vec<&[u8]> {
    items.iter().map(|item| &**item).collect()
}

// Runs a computation without the lock and hands its words over as bytes.
pub(crate) fn words<'py>(
    py: Python<'py>,
    compute: impl FnOnce() -> HeResult<Vec<u64>> + Send,
) -> PyResult<Bound<'py, PyBytes>> {
    let out = py.detach(compute).map_err(value_error)?;
    Ok(PyBytes::new(py, &bytes_of(&out)))
}

// As `words`, for a result of several ciphertexts.
fn several<'py>(
    py: Python<'py>,
    compute: impl FnOnce() -> HeResult<Vec<Vec<u64>>> + Send,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let out = py.detach(compute).map_err(value_error)?;
    let block = |block: &Vec<u64>| PyBytes::new(py, &bytes_of(block));
    Ok(out.iter().map(block).collect())
}

// Frames ciphertexts as `chainnode.he.engine.pack_container` does, each written once.
pub(crate) fn container<'py>(
    py: Python<'py>,
    ciphertexts: &[Vec<u64>],
) -> PyResult<Bound<'py, PyBytes>> {
    let frames: Vec<_> = ciphertexts.iter().map(|words| bytes_of(words)).collect();
    let size_bytes = frames.iter().fold(4, |sum, frame| sum + 4 + frame.len());
    let number = |length: usize| PyResult::Ok(u32::try_from(length)?.to_le_bytes());
    PyBytes::new_with(py, size_bytes, |out| {
        let (count, mut rest) = out.split_at_mut(4);
        count.copy_from_slice(&number(frames.len())?);
        for frame in &frames {
            let (length, after) = rest.split_at_mut(4);
            let (content, after) = after.split_at_mut(frame.len());
            length.copy_from_slice(&number(frame.len())?);
            content.copy_from_slice(frame);
            rest = after;
        }
        Ok(())
    })
}

/// A named parameter set.
#[pyclass(frozen, module = "chainnode._native", get_all)]
struct HeProfile {
    name: String,
    ring_degree: usize,
    slots: usize,
    plain_modulus: u64,
    moduli: Vec<u64>,
    special_modulus: u64,
    factors_max: usize,
    noise_bits: Vec<u32>,
}

#[pyfunction]
fn he_transform_roots<'py>(
    py: Python<'py>,
    profile: &str,
) -> PyResult<Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
    let ring = chain_he::params::profile(profile)
        .map_err(value_error)?
        .ring;
    let tables = ring.tables.iter().map(|table| table.root_words());
    Ok(tables
        .map(|rows| rows.map(|words| PyBytes::new(py, &bytes_of(&words))).into())
        .collect())
}

#[pyfunction]
fn he_profile(name: &str) -> PyResult<HeProfile> {
    let profile = profile(name).map_err(value_error)?;
    Ok(HeProfile {
        name: profile.name.to_owned(),
        ring_degree: profile.ring.degree,
        slots: profile.ring.degree,
        plain_modulus: profile.t(),
        moduli: (0..profile.ring.limbs)
            .map(|limb| profile.ring.modulus(limb).value)
            .collect(),
        special_modulus: profile.ring.special,
        factors_max: profile.factors_max(),
        noise_bits: profile.noise_bits.to_vec(),
    })
}

/// A member's secret of relinearisation round 1.
#[pyclass(frozen, module = "chainnode._native")]
struct HeRelinEphemeral(council::RelinEphemeral);

/// A key share, round 1 of relinearisation if there is one, and the proof of both.
type FirstShares<'py> = (
    Bound<'py, PyBytes>,
    Option<(Bound<'py, PyBytes>, HeRelinEphemeral)>,
    Bound<'py, PyBytes>,
);

/// A secret key by handle.
#[pyclass(frozen, module = "chainnode._native")]
struct HeSecretKey(SecretKey);

#[pymethods]
impl HeSecretKey {
    #[staticmethod]
    fn generate(py: Python<'_>, profile: &str) -> PyResult<Self> {
        py.detach(|| SecretKey::generate(chain_he::params::profile(profile)?).map(Self))
            .map_err(value_error)
    }

    #[staticmethod]
    fn unseal(py: Python<'_>, profile: &str, sealed: &[u8], key: &[u8]) -> PyResult<Self> {
        py.detach(|| SecretKey::unseal(chain_he::params::profile(profile)?, sealed, key).map(Self))
            .map_err(value_error)
    }

    fn seal<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let out = py.detach(|| self.0.seal(key)).map_err(value_error)?;
        Ok(PyBytes::new(py, &out))
    }

    fn public_key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        words(py, || self.0.public_key())
    }

    fn decrypt<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
        limbs: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        words(py, || {
            Ok(scheme::decrypt(&self.0, ciphertext, limbs)?.to_vec())
        })
    }

    fn open<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
        limbs: usize,
    ) -> PyResult<(Bound<'py, PyBytes>, u32)> {
        let (slots, room) = py
            .detach(|| scheme::open(&self.0, ciphertext, limbs))
            .map_err(value_error)?;
        Ok((PyBytes::new(py, &bytes_of(&slots)), room))
    }

    fn noise_budget_bits(&self, py: Python<'_>, ciphertext: &[u8], limbs: usize) -> PyResult<u32> {
        py.detach(|| scheme::noise_budget_bits(&self.0, ciphertext, limbs))
            .map_err(value_error)
    }

    fn first_shares<'py>(&self, py: Python<'py>, claim: Seeds) -> PyResult<FirstShares<'py>> {
        let claim = read_claim(self.0.profile, &claim);
        let made = py
            .detach(|| self.0.first_shares(&claim))
            .map_err(value_error)?;
        let bytes = |words: &[u64]| PyBytes::new(py, &bytes_of(words));
        let relin = made
            .relin
            .map(|(share, ephemeral)| (bytes(&share), HeRelinEphemeral(ephemeral)));
        Ok((bytes(&made.key), relin, PyBytes::new(py, &made.proof)))
    }

    fn relin_round2<'py>(
        &self,
        py: Python<'py>,
        ephemeral: PyRef<'_, HeRelinEphemeral>,
        round1: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let ephemeral = &ephemeral.0;
        words(py, || self.0.relin_round2(ephemeral, round1))
    }

    fn scalar_share<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
        limbs: usize,
        flood_seed: &[u8],
        parties: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        words(py, || {
            self.0.scalar_share(ciphertext, limbs, flood_seed, parties)
        })
    }

    fn key_switch_share<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
        limbs: usize,
        target_public_key: &[u8],
        flood_seed: &[u8],
        parties: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        words(py, || {
            let target = PublicKey::parse(self.0.profile, target_public_key)?;
            self.0
                .key_switch_share(ciphertext, limbs, &target, flood_seed, parties)
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn key_switch_shares<'py>(
        &self,
        py: Python<'py>,
        ciphertexts: Vec<PyBackedBytes>,
        limbs: usize,
        target_public_key: &[u8],
        flood_seeds: Vec<PyBackedBytes>,
        parties: usize,
        threads: usize,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        several(py, || {
            let target = PublicKey::parse(self.0.profile, target_public_key)?;
            let (ciphertexts, seeds) = (slices(&ciphertexts), slices(&flood_seeds));
            self.0
                .key_switch_shares(&ciphertexts, limbs, &target, &seeds, parties, threads)
        })
    }
}

#[pyfunction]
fn he_encrypt<'py>(
    py: Python<'py>,
    profile: &str,
    public_key: &[u8],
    slots: &[u8],
    seed: &[u8],
    limbs: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        let profile = chain_he::params::profile(profile)?;
        let key = PublicKey::parse(profile, public_key)?;
        scheme::encrypt(profile, &key, slots, seed, limbs)
    })
}

#[pyfunction]
fn he_encrypt_many<'py>(
    py: Python<'py>,
    profile: &str,
    public_key: &[u8],
    blocks: Vec<PyBackedBytes>,
    seeds: Vec<PyBackedBytes>,
    limbs: usize,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    several(py, || {
        if blocks.len() != seeds.len() {
            let (blocks, seeds) = (blocks.len(), seeds.len());
            return Err(HeError::Refused(format!(
                "{seeds} seeds given for {blocks} blocks"
            )));
        }
        let profile = chain_he::params::profile(profile)?;
        let key = PublicKey::parse(profile, public_key)?;
        let pairs = blocks.iter().zip(&seeds);
        pairs
            .map(|(block, seed)| scheme::encrypt(profile, &key, block, seed, limbs))
            .collect::<HeResult<Vec<_>>>()
    })
}

#[pyfunction]
fn he_validate_ciphertext(
    py: Python<'_>,
    profile: &str,
    ciphertext: &[u8],
    polynomials: usize,
    limbs: usize,
) -> PyResult<()> {
    py.detach(|| {
        let profile = chain_he::params::profile(profile)?;
        profile.check_limbs(limbs)?;
        if !(2..=POLYNOMIALS_MAX).contains(&polynomials) {
            return Err(HeError::Refused(format!(
                "a ciphertext has 2 to {POLYNOMIALS_MAX} polynomials, not {polynomials}"
            )));
        }
        let words = profile
            .ring
            .parse("ciphertext", ciphertext, polynomials, limbs)?;
        drop(words);
        Ok(())
    })
    .map_err(value_error)
}

#[pyfunction]
fn he_add<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    ciphertexts: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        scheme::add(
            chain_he::params::profile(profile)?,
            limbs,
            &slices(&ciphertexts),
        )
    })
}

#[pyfunction]
fn he_add_plain<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    ciphertext: &[u8],
    slots: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        scheme::add_plain(
            chain_he::params::profile(profile)?,
            limbs,
            ciphertext,
            slots,
        )
    })
}

#[pyfunction]
fn he_multiply_plain<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    ciphertext: &[u8],
    slots: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        scheme::multiply_plain(
            chain_he::params::profile(profile)?,
            limbs,
            ciphertext,
            slots,
        )
    })
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn he_mask_add<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    ciphertexts: Vec<PyBackedBytes>,
    masks: Vec<PyBackedBytes>,
    addends: Vec<PyBackedBytes>,
    threads: usize,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    several(py, || {
        let [ciphertexts, masks, addends] = [&ciphertexts, &masks, &addends].map(|x| slices(x));
        let profile = chain_he::params::profile(profile)?;
        scheme::mask_add(profile, limbs, &ciphertexts, &masks, &addends, threads)
    })
}

#[pyfunction]
fn he_multiply<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    left: &[u8],
    right: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        scheme::tensor(chain_he::params::profile(profile)?, limbs, left, right)
    })
}

#[pyfunction]
fn he_relinearise<'py>(
    py: Python<'py>,
    profile: &str,
    limbs: usize,
    ciphertext: &[u8],
    relin_key: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    words(py, || {
        relin::relinearise(
            chain_he::params::profile(profile)?,
            limbs,
            ciphertext,
            relin_key,
        )
    })
}

#[pyfunction]
fn keep_freed_memory(size_bytes: usize) {
    chain_he::memory::keep_freed(size_bytes);
}

/// Adds the area's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HeProfile>()?;
    module.add_class::<HeRelinEphemeral>()?;
    module.add_class::<HeSecretKey>()?;
    module.add("HeCorruptColumn", module.py().get_type::<HeCorruptColumn>())?;
    module.add("CPU_PATH", chain_he::kernels::cpu_path())?;
    let paths = PyTuple::new(module.py(), chain_he::kernels::available_paths())?;
    module.add("CPU_PATHS", paths)?;
    module.add_function(wrap_pyfunction!(keep_freed_memory, module)?)?;
    module.add_function(wrap_pyfunction!(he_profile, module)?)?;
    module.add_function(wrap_pyfunction!(he_transform_roots, module)?)?;
    module.add_function(wrap_pyfunction!(he_encrypt, module)?)?;
    module.add_function(wrap_pyfunction!(he_encrypt_many, module)?)?;
    module.add_function(wrap_pyfunction!(he_validate_ciphertext, module)?)?;
    module.add_function(wrap_pyfunction!(he_add, module)?)?;
    module.add_function(wrap_pyfunction!(he_add_plain, module)?)?;
    module.add_function(wrap_pyfunction!(he_multiply_plain, module)?)?;
    module.add_function(wrap_pyfunction!(he_mask_add, module)?)?;
    module.add_function(wrap_pyfunction!(he_multiply, module)?)?;
    module.add_function(wrap_pyfunction!(he_relinearise, module)?)
}
