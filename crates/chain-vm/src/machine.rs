//! The engine, its translated modules and one idle instance per module.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use chain_state::{Hash, StateGuard, TxView};
use wasmi::{CompilationMode, Config, Engine, Module};

use crate::call::{Frame, Outcome, Status};
use crate::image::Image;
use crate::instance::Live;
use crate::meter::track;
use crate::nested::Transit;
use crate::rules::ModuleError;

const MODULES_MAX: usize = 256;
/// Frames the injected counter lets stand, with room to spare.
const ENGINE_DEPTH_MAX: usize = 20_000;
const ENGINE_STACK_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Runs contracts. One call at a time; a thread that wants its own makes its own.
pub struct Machine {
    /// Lent to the call that is running, so that a contract can call another.
    shop: Option<Box<Shop>>,
    reuse: bool,
    metered: bool,
}

/// What calls are made with; one call inside another uses the same.
pub(crate) struct Shop {
    engine: Engine,
    slots: HashMap<Hash, Slot, BuildHasherDefault<Prefix>>,
    reuse: bool,
    metered: bool,
}

/// A translated module with what its instances share.
struct Slot {
    module: Module,
    store_span_bytes: usize,
    /// What every instance starts as; made with the first.
    image: Option<Image>,
    idle: Option<Box<Live>>,
}

/// Code hashes are digests: their first bytes are as good as any hash of them.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    // The length, the same for all.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Machine")
            .field("reuse", &self.reuse)
            .finish()
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(true)
    }
}

impl Machine {
    /// A machine; with `reuse` off, every call gets a fresh instance.
    pub fn new(reuse: bool) -> Self {
        Self::made(reuse, true)
    }

    /// A machine that charges for host functions alone, to measure metering against.
    pub(crate) fn unmetered(reuse: bool) -> Self {
        Self::made(reuse, false)
    }

    fn made(reuse: bool, metered: bool) -> Self {
        Self {
            shop: Some(Box::new(Shop::new(reuse, metered))),
            reuse,
            metered,
        }
    }

    /// What is left after a panic in the middle of a call is made again.
    fn shop(&mut self) -> &mut Box<Shop> {
        let (reuse, metered) = (self.reuse, self.metered);
        self.shop
            .get_or_insert_with(|| Box::new(Shop::new(reuse, metered)))
    }

    /// Call an export of the module stored under a hash; `code` gives its bytes when not known yet.
    ///
    /// The view comes back with the call's writes in it, whatever the outcome: keep or drop them.
    ///
    /// # Panics
    /// Never: the machine comes back with the call.
    pub fn call(
        &mut self,
        code_hash: &Hash,
        code: impl FnOnce(&TxView<StateGuard>) -> Option<Vec<u8>>,
        entry: &str,
        gas_limit: u64,
        frame: &Frame<'_>,
        view: TxView<StateGuard>,
    ) -> (Outcome, TxView<StateGuard>) {
        self.shop();
        let shop = self.shop.take().expect("made above where it was gone");
        let transit = Transit::default();
        let (outcome, view, transit) =
            shop.call(code_hash, code, entry, gas_limit, frame, view, transit);
        self.shop = transit.shop;
        (outcome, view)
    }

    /// The first export whose name starts with a prefix, in the module's order.
    ///
    /// # Errors
    /// A rule that the module breaks.
    pub fn find_export(
        &mut self,
        code_hash: &Hash,
        code: &[u8],
        prefix: &str,
    ) -> Result<Option<String>, ModuleError> {
        self.shop().find_export(code_hash, code, prefix)
    }

    /// Instantiate a module once, so that segments out of bounds are found at installation.
    ///
    /// # Errors
    /// A rule that the module breaks.
    pub fn try_instantiate(&mut self, code_hash: &Hash, code: &[u8]) -> Result<(), ModuleError> {
        self.shop().try_instantiate(code_hash, code)
    }
}

impl Shop {
    fn new(reuse: bool, metered: bool) -> Self {
        let mut config = Config::default();
        config
            .floats(false)
            .wasm_reference_types(false)
            .wasm_tail_call(false)
            .wasm_extended_const(false)
            .wasm_saturating_float_to_int(false)
            .wasm_multi_memory(false)
            .allow_start_fn(false)
            .ignore_custom_sections(true)
            .compilation_mode(CompilationMode::Eager)
            .set_max_recursion_depth(ENGINE_DEPTH_MAX)
            .set_max_stack_height(ENGINE_STACK_MAX_BYTES);
        let engine = Engine::new(&config);
        Self {
            engine,
            slots: HashMap::default(),
            reuse,
            metered,
        }
    }

    /// Call an export; view and transit come back, with the shop in the transit.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn call(
        mut self: Box<Self>,
        code_hash: &Hash,
        code: impl FnOnce(&TxView<StateGuard>) -> Option<Vec<u8>>,
        entry: &str,
        gas_limit: u64,
        frame: &Frame<'_>,
        view: TxView<StateGuard>,
        mut transit: Transit,
    ) -> (Outcome, TxView<StateGuard>, Transit) {
        let mut live = match self.live(code_hash, || code(&view)) {
            Ok(live) => live,
            Err(rule) => {
                transit.shop = Some(self);
                return (Outcome::without_run(Status::BadModule(rule)), view, transit);
            }
        };
        transit.shop = Some(self);
        let (outcome, view, mut transit, clean) = live.run(entry, gas_limit, frame, view, transit);
        let shop = transit.shop.as_mut().expect("lent above");
        let reuse = shop.reuse;
        // A contract called in between may have pushed this one's module out.
        if let Some(slot) = shop.slots.get_mut(code_hash) {
            let span = slot.store_span_bytes;
            let image = slot.image.as_ref();
            if image.is_some_and(|image| live.restore(image, span))
                && ((clean && reuse) || live.renew(&slot.module))
            {
                slot.idle = Some(live);
            }
        }
        (outcome, view, transit)
    }

    /// The idle instance of a module, else a new one; or the rule that the module breaks.
    fn live(
        &mut self,
        code_hash: &Hash,
        code: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<Box<Live>, &'static str> {
        if !self.slots.contains_key(code_hash) {
            self.prepare(code_hash, code).map_err(|error| error.rule)?;
        }
        let slot = self.slots.get_mut(code_hash).expect("prepared above");
        let live = match slot.idle.take() {
            Some(live) => live,
            // Segments that do not fit are the one thing validation cannot see.
            None => Live::new(&self.engine, &slot.module).map_err(|_| "segment")?,
        };
        slot.image.get_or_insert_with(|| live.image());
        Ok(live)
    }

    fn find_export(
        &mut self,
        code_hash: &Hash,
        code: &[u8],
        prefix: &str,
    ) -> Result<Option<String>, ModuleError> {
        self.prepare(code_hash, || Some(code.to_vec()))?;
        let mut names = self.slots[code_hash]
            .module
            .exports()
            .map(|export| export.name().to_owned());
        Ok(names.find(|name| name.starts_with(prefix)))
    }

    fn try_instantiate(&mut self, code_hash: &Hash, code: &[u8]) -> Result<(), ModuleError> {
        self.prepare(code_hash, || Some(code.to_vec()))?;
        match Live::new(&self.engine, &self.slots[code_hash].module) {
            Ok(_) => Ok(()),
            Err(error) => Err(ModuleError {
                rule: "segment",
                detail: error.to_string(),
            }),
        }
    }

    fn prepare(
        &mut self,
        code_hash: &Hash,
        code: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<(), ModuleError> {
        if self.slots.contains_key(code_hash) {
            return Ok(());
        }
        let missing = || ModuleError {
            rule: "missing",
            detail: "no code under this hash".into(),
        };
        let tracked = track(&code().ok_or_else(missing)?, self.metered)?;
        let module = Module::new(&self.engine, &tracked.wasm[..]);
        let module = module.map_err(|error| ModuleError {
            rule: "engine",
            detail: error.to_string(),
        })?;
        if self.slots.len() >= MODULES_MAX {
            self.slots.clear();
        }
        let slot = Slot {
            module,
            store_span_bytes: tracked.store_span_bytes,
            image: None,
            idle: None,
        };
        self.slots.insert(*code_hash, slot);
        Ok(())
    }
}
