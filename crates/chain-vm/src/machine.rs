//! The engine, its translated modules and one idle instance per module.

use std::collections::HashMap;

use chain_state::{Hash, StateGuard, TxView};
use wasmi::{
    CompilationMode, Config, Engine, Error, Global, Instance, Linker, Memory, Module, Store,
    TrapCode, Val,
};

use crate::call::{Frame, Outcome, Status};
use crate::host::{link, CallData, Stop};
use crate::meter::{inject, CALL_DEPTH_MAX};
use crate::rules::ModuleError;

const MODULES_MAX: usize = 256;
/// Frames the injected counter lets stand, with room to spare.
const ENGINE_DEPTH_MAX: usize = 20_000;
const ENGINE_STACK_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Runs contracts. One call at a time; a thread that wants its own makes its own.
pub struct Machine {
    engine: Engine,
    linker: Linker<CallData>,
    modules: HashMap<Hash, Module>,
    idle: HashMap<Hash, Live>,
    reuse: bool,
    metered: bool,
}

/// An instance with what is needed to make it as new.
struct Live {
    store: Store<CallData>,
    instance: Instance,
    memory: Memory,
    image: Image,
    gas: Global,
    depth: Global,
    globals: Vec<(Global, Val)>,
}

/// A memory as the module's segments leave it. Most pages of most modules are zero: those are only
/// looked at, which costs half of writing them and leaves clean ones alone.
struct Image {
    bytes: Vec<u8>,
    /// Per page: whether a segment put anything there.
    filled: Vec<bool>,
}

const PAGE_SIZE_BYTES: usize = 4096;

impl Image {
    fn of(bytes: &[u8]) -> Self {
        let filled = bytes.chunks(PAGE_SIZE_BYTES).map(|page| !is_zero(page));
        Self {
            filled: filled.collect(),
            bytes: bytes.to_vec(),
        }
    }

    fn restore(&self, memory: &mut [u8]) {
        let pages = memory.chunks_mut(PAGE_SIZE_BYTES);
        let images = self.bytes.chunks(PAGE_SIZE_BYTES).zip(&self.filled);
        for (page, (image, filled)) in pages.zip(images) {
            if *filled {
                page.copy_from_slice(image);
            } else if !is_zero(page) {
                page.fill(0);
            }
        }
    }
}

fn is_zero(page: &[u8]) -> bool {
    // Comparing slices is the C library's widest loop; an own one is compiled for the oldest CPU.
    static ZEROS: [u8; PAGE_SIZE_BYTES] = [0; PAGE_SIZE_BYTES];
    page == &ZEROS[..page.len()]
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Machine")
            .field("modules", &self.modules.len())
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
    ///
    /// # Panics
    /// Never: the host functions have distinct names.
    pub fn new(reuse: bool) -> Self {
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
        let mut linker = Linker::new(&engine);
        link(&mut linker).expect("host function names are distinct");
        Self {
            engine,
            linker,
            modules: HashMap::new(),
            idle: HashMap::new(),
            reuse,
            metered: true,
        }
    }

    /// A machine that charges for host functions alone, to measure metering against.
    pub(crate) fn unmetered(reuse: bool) -> Self {
        Self {
            metered: false,
            ..Self::new(reuse)
        }
    }

    /// Call an export of the module stored under a hash; `code` gives its bytes when not known yet.
    ///
    /// The view comes back with the call's writes in it, whatever the outcome: keep or drop them.
    pub fn call(
        &mut self,
        code_hash: &Hash,
        code: impl FnOnce(&TxView<StateGuard>) -> Option<Vec<u8>>,
        entry: &str,
        gas_limit: u64,
        frame: Frame,
        view: TxView<StateGuard>,
    ) -> (Outcome, TxView<StateGuard>) {
        if let Err(error) = self.prepare(code_hash, || code(&view)) {
            return (Outcome::without_run(Status::BadModule(error.rule)), view);
        }
        let live = match self.idle.remove(code_hash) {
            Some(live) => Ok(live),
            None => self.instantiate(&self.modules[code_hash]),
        };
        let mut live = match live {
            Ok(live) => live,
            // Segments that do not fit are the one thing validation cannot see.
            Err(_) => return (Outcome::without_run(Status::BadModule("segment")), view),
        };
        let (outcome, view, clean) = live.run(entry, gas_limit, frame, view);
        if clean && self.reuse && live.restore() {
            self.idle.insert(*code_hash, live);
        }
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
        self.prepare(code_hash, || Some(code.to_vec()))?;
        let mut names = self.modules[code_hash]
            .exports()
            .map(|export| export.name().to_owned());
        Ok(names.find(|name| name.starts_with(prefix)))
    }

    /// Instantiate a module once, so that segments out of bounds are found at installation.
    ///
    /// # Errors
    /// A rule that the module breaks.
    pub fn try_instantiate(&mut self, code_hash: &Hash, code: &[u8]) -> Result<(), ModuleError> {
        self.prepare(code_hash, || Some(code.to_vec()))?;
        match self.instantiate(&self.modules[code_hash]) {
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
        if self.modules.contains_key(code_hash) {
            return Ok(());
        }
        let missing = || ModuleError {
            rule: "missing",
            detail: "no code under this hash".into(),
        };
        let metered = inject(&code().ok_or_else(missing)?, self.metered)?;
        let module = Module::new(&self.engine, &metered[..]);
        let module = module.map_err(|error| ModuleError {
            rule: "engine",
            detail: error.to_string(),
        })?;
        if self.modules.len() >= MODULES_MAX {
            self.modules.clear();
            self.idle.clear();
        }
        self.modules.insert(*code_hash, module);
        Ok(())
    }

    fn instantiate(&self, module: &Module) -> Result<Live, Error> {
        let mut store = Store::new(&self.engine, CallData::default());
        let instance = self.linker.instantiate_and_start(&mut store, module)?;
        let found = || Error::new("an injected export is missing");
        let memory = instance.get_memory(&store, "memory").ok_or_else(found)?;
        let gas = instance.get_global(&store, "sc1:gas").ok_or_else(found)?;
        let depth = instance.get_global(&store, "sc1:depth").ok_or_else(found)?;
        let globals = instance
            .exports(&store)
            .filter(|export| export.name().starts_with("sc1:global:"))
            .filter_map(|export| export.into_global())
            .map(|global| (global, global.get(&store)))
            .collect();
        let image = Image::of(memory.data(&store));
        store.data_mut().memory = Some(memory);
        store.data_mut().gas = Some(gas);
        Ok(Live {
            store,
            instance,
            memory,
            image,
            gas,
            depth,
            globals,
        })
    }
}

impl Live {
    fn run(
        &mut self,
        entry: &str,
        gas_limit: u64,
        frame: Frame,
        view: TxView<StateGuard>,
    ) -> (Outcome, TxView<StateGuard>, bool) {
        let function = self.instance.get_func(&self.store, entry);
        let function = function.and_then(|function| function.typed::<(), ()>(&self.store).ok());
        let Some(function) = function else {
            return (Outcome::without_run(Status::UnknownMethod), view, true);
        };
        let limit = i64::try_from(gas_limit).unwrap_or(i64::MAX);
        self.gas
            .set(&mut self.store, Val::I64(limit))
            .expect("the injector declares an i64");
        let data = self.store.data_mut();
        data.frame = frame;
        data.view = Some(view);
        let end = function.call(&mut self.store, ());
        let gas = match self.gas.get(&self.store) {
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
            .expect("lent above and never taken by the host");
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
        (outcome, view, ok)
    }

    fn failure(&mut self, error: &Error, gas: i64) -> Status {
        match self.store.data_mut().stop.take() {
            Some(Stop::OutOfGas) => return Status::OutOfGas,
            Some(Stop::Trap(text)) => return Status::Trapped(text),
            Some(Stop::Revert { code, message }) => return Status::Reverted { code, message },
            None if gas < 0 => return Status::OutOfGas,
            None => {}
        }
        let Val::I32(depth) = self.depth.get(&self.store) else {
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
    fn restore(&mut self) -> bool {
        let memory = self.memory.data_mut(&mut self.store);
        if memory.len() != self.image.bytes.len() {
            return false;
        }
        self.image.restore(memory);
        let mut restored = self.depth.set(&mut self.store, Val::I32(0)).is_ok();
        for (global, value) in &self.globals {
            restored &= global.set(&mut self.store, value.clone()).is_ok();
        }
        restored
    }
}
