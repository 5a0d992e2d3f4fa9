//! Access templates of a contract's ABI.

use chain_exec::{CallContext, Templates};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Keys read, written, added to; beginnings of keys read, of keys written.
type Keys<'py> = Vec<Bound<'py, PyBytes>>;
type Predicted<'py> = (Keys<'py>, Keys<'py>, Keys<'py>, Keys<'py>, Keys<'py>);

/// The access templates of one contract.
#[pyclass(frozen, module = "chainnode._native")]
struct AccessTemplates(Templates);

#[pymethods]
impl AccessTemplates {
    #[new]
    fn new(abi: &[u8]) -> Self {
        Self(Templates::parse(abi))
    }

    #[pyo3(signature = (contract, method, args, *, sender, sender_org = "", sender_role = "",
        sender_name = "", tx_id = None, chain_id = "", height = 0, time_ms = 0))]
    #[allow(clippy::too_many_arguments)]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        contract: &str,
        method: &str,
        args: &[u8],
        sender: &[u8],
        sender_org: &str,
        sender_role: &str,
        sender_name: &str,
        tx_id: Option<&[u8]>,
        chain_id: &str,
        height: u64,
        time_ms: u64,
    ) -> Option<Predicted<'py>> {
        let context = CallContext {
            sender,
            sender_org,
            sender_role,
            sender_name,
            tx_id: tx_id.unwrap_or_default(),
            chain_id,
            height,
            time_ms,
        };
        let found = self.0.predict(contract, method, args, &context)?;
        let keys = |keys: Vec<Vec<u8>>| keys.iter().map(|key| PyBytes::new(py, key)).collect();
        Some((
            keys(found.reads),
            keys(found.writes),
            keys(found.adds),
            keys(found.read_prefixes),
            keys(found.write_prefixes),
        ))
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AccessTemplates>()
}
