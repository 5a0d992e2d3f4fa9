//! The engine, its translated modules and one idle instance per module.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use chain_state::{Hash, StateGuard, TxView};
use wasmi::{
    CompilationMode, Config, Engine, Error, Extern, ExternType, Global, Instance, Memory, Module,
    Store, TrapCode, TypedFunc, Val,
};

use crate::call::{Frame, Outcome, Status};
use crate::host::{function, CallData, Stop};
use crate::image::Image;
use crate::meter::{track, CALL_DEPTH_MAX};
use crate::nested::{Transit, MEMORY_MAX_BYTES, MEMORY_SPENT};
use crate::rules::ModuleError;

const MODULES_MAX: usize = 256;
/// Instances that one store holds, at most; those before the last are dead.
const INSTANCES_MAX: u32 = 32;
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

/// A store with a memory, and the instance in it that is in use. Boxed: a store is a few kilobytes.
struct Live {
    store: Store<CallData>,
    /// What the module imports, in its order: host functions and the memory.
    imports: Vec<Extern>,
    memory: Memory,
    current: Current,
    /// Instances made so far: a dropped one stays in the store until that goes.
    instances: u32,
}

/// An instance with what is needed to make it as new.
struct Current {
    instance: Instance,
    gas: Global,
    depth: Global,
    /// Bitwise or of every address the call stored at.
    reach: Global,
    globals: Vec<(Global, Val)>,
    /// Exports called before; a contract has a handful.
    entries: Vec<(String, TypedFunc<(), ()>)>,
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
        let memory = live.memory.data(&live.store);
        slot.image.get_or_insert_with(|| Image::of(memory));
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

impl Current {
    fn new(
        store: &mut Store<CallData>,
        module: &Module,
        imports: &[Extern],
    ) -> Result<Self, Error> {
        let instance = Instance::new(&mut *store, module, imports)?;
        let found = || Error::new("an injected export is missing");
        let global = |name| instance.get_global(&*store, name).ok_or_else(found);
        let (gas, depth) = (global("sc1:gas")?, global("sc1:depth")?);
        let reach = global("sc1:reach")?;
        let globals = instance
            .exports(&*store)
            .filter(|export| export.name().starts_with("sc1:global:"))
            .filter_map(|export| export.into_global())
            .map(|global| (global, global.get(&*store)))
            .collect();
        store.data_mut().gas = Some(gas);
        Ok(Self {
            instance,
            gas,
            depth,
            reach,
            globals,
            entries: Vec::new(),
        })
    }

    fn entry(&mut self, store: &Store<CallData>, name: &str) -> Option<TypedFunc<(), ()>> {
        if let Some((_, function)) = self.entries.iter().find(|(known, _)| known == name) {
            return Some(*function);
        }
        let function = self.instance.get_func(store, name)?;
        let function = function.typed::<(), ()>(store).ok()?;
        self.entries.push((name.to_owned(), function));
        Some(function)
    }
}

impl Live {
    fn new(engine: &Engine, module: &Module) -> Result<Box<Self>, Error> {
        let mut store = Store::new(engine, CallData::default());
        store.limiter(|data| data);
        let mut imports = Vec::new();
        let mut memory = None;
        for import in module.imports() {
            // The rules let no other module or name pass.
            imports.push(if let ExternType::Memory(kind) = import.ty() {
                Extern::from(*memory.insert(Memory::new(&mut store, *kind)?))
            } else {
                let found = function(&mut store, import.name());
                found
                    .ok_or_else(|| Error::new("no such host function"))?
                    .into()
            });
        }
        let memory = memory.ok_or_else(|| Error::new("the injected import is missing"))?;
        store.data_mut().memory = Some(memory);
        let current = Current::new(&mut store, module, &imports)?;
        Ok(Box::new(Self {
            store,
            imports,
            memory,
            current,
            instances: 1,
        }))
    }

    /// Put a new instance on the restored memory; false when the store has held enough of them.
    fn renew(&mut self, module: &Module) -> bool {
        if self.instances >= INSTANCES_MAX {
            return false;
        }
        self.instances += 1;
        match Current::new(&mut self.store, module, &self.imports) {
            Ok(current) => {
                self.current = current;
                true
            }
            Err(_) => false,
        }
    }

    fn run(
        &mut self,
        entry: &str,
        gas_limit: u64,
        frame: &Frame<'_>,
        view: TxView<StateGuard>,
        transit: Transit,
    ) -> (Outcome, TxView<StateGuard>, Transit, bool) {
        let Some(function) = self.current.entry(&self.store, entry) else {
            let outcome = Outcome::without_run(Status::UnknownMethod);
            return (outcome, view, transit, true);
        };
        if transit.memory_bytes + self.memory.data_size(&self.store) > MEMORY_MAX_BYTES {
            let outcome = Outcome::without_run(Status::Trapped(MEMORY_SPENT));
            return (outcome, view, transit, true);
        }
        let limit = i64::try_from(gas_limit).unwrap_or(i64::MAX);
        self.current
            .gas
            .set(&mut self.store, Val::I64(limit))
            .expect("the injector declares an i64");
        let data = self.store.data_mut();
        data.frame.copy(frame);
        data.view = Some(view);
        data.transit = transit;
        let end = function.call(&mut self.store, ());
        let gas = match self.current.gas.get(&self.store) {
            Val::I64(gas) => gas,
            _ => unreachable!("the injector declares an i64"),
        };
        let status = match end {
            Ok(()) => Status::Ok,
            Err(error) => self.failure(&error, gas),
        };
        let data = self.store.data_mut();
        let view = data
            .view
            .take()
            .expect("lent above and never kept by the host");
        let transit = std::mem::take(&mut data.transit);
        let ok = status == Status::Ok;
        let used = if status == Status::OutOfGas {
            limit
        } else {
            limit - gas
        };
        let outcome = Outcome {
            status,
            result: if ok {
                std::mem::take(&mut data.result)
            } else {
                Vec::new()
            },
            events: if ok {
                std::mem::take(&mut data.events)
            } else {
                Vec::new()
            },
            gas_used: used.unsigned_abs(),
        };
        data.clear();
        (outcome, view, transit, ok)
    }

    fn failure(&mut self, error: &Error, gas: i64) -> Status {
        match self.store.data_mut().stop.take() {
            Some(Stop::OutOfGas) => return Status::OutOfGas,
            Some(Stop::Trap(text)) => return Status::Trapped(text),
            Some(Stop::Revert { code, message }) => return Status::Reverted { code, message },
            None if gas < 0 => return Status::OutOfGas,
            None => {}
        }
        let Val::I32(depth) = self.current.depth.get(&self.store) else {
            unreachable!("the injector declares an i32")
        };
        if depth > CALL_DEPTH_MAX {
            return Status::Trapped("call depth above 256");
        }
        Status::Trapped(match error.as_trap_code() {
            Some(TrapCode::UnreachableCodeReached) => "unreachable",
            Some(TrapCode::MemoryOutOfBounds) => "memory access out of bounds",
            Some(TrapCode::TableOutOfBounds) => "table index out of bounds",
            Some(TrapCode::IndirectCallToNull) => "indirect call to null",
            Some(TrapCode::IntegerDivisionByZero) => "integer division by zero",
            Some(TrapCode::IntegerOverflow) => "integer overflow",
            Some(TrapCode::BadSignature) => "indirect call with a wrong type",
            // Out of reach: stack limits are above what the counters allow, fuel is off.
            _ => "engine fault",
        })
    }

    /// Make the instance as new; false when it must be dropped instead.
    fn restore(&mut self, image: &Image, store_span_bytes: usize) -> bool {
        let Val::I32(addresses) = self.current.reach.get(&self.store) else {
            unreachable!("the injector declares an i32")
        };
        // No address has a bit that their bitwise or has not.
        let end = (addresses as u32 as usize + 1).next_power_of_two();
        let (memory, data) = self.memory.data_and_store_mut(&mut self.store);
        let reach = std::mem::take(&mut data.reach).max(end.saturating_add(store_span_bytes));
        if !image.restore(memory, reach) {
            return false;
        }
        let mut restored = self.current.depth.set(&mut self.store, Val::I32(0)).is_ok();
        restored &= self.current.reach.set(&mut self.store, Val::I32(0)).is_ok();
        for (global, value) in &self.current.globals {
            restored &= global.set(&mut self.store, value.clone()).is_ok();
        }
        restored
    }
}
