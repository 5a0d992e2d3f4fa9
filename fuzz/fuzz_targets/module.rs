//! Contract modules: what the rules admit can be metered, metered again never, and instantiated.
#![no_main]

use chain_vm::{check_module, meter_module, Machine};
use libfuzzer_sys::fuzz_target;

// What the rules cannot see: a segment beyond the memory.
const SEGMENT: &str = "segment";

fuzz_target!(|wasm: &[u8]| {
    let checked = check_module(wasm);
    let metered = meter_module(wasm);
    assert_eq!(checked.is_ok(), metered.is_ok(), "{checked:?}");
    let Ok(metered) = metered else {
        return;
    };
    assert_eq!(meter_module(wasm).as_ref(), Ok(&metered));
    // The meter's own exports are reserved: nobody installs a module that sets its own gas.
    assert!(check_module(&metered).is_err());
    let code_hash = chain_types::sha256(&[wasm]);
    if let Err(error) = Machine::new(true).try_instantiate(&code_hash, wasm) {
        assert_eq!(error.rule, SEGMENT, "{error}");
    }
});
