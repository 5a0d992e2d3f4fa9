//! One store of the engine with a memory, and the instance in it that is in use.

use chain_state::{StateGuard, TxView};
use wasmi::{
    Engine, Error, Extern, ExternType, Global, Instance, Memory, Module, Store, TrapCode,
    TypedFunc, Val,
};

use crate::call::{Frame, Outcome, Status};
use crate::host::{function, CallData, Stop};
use crate::image::Image;
use crate::meter::CALL_DEPTH_MAX;
use crate::nested::{Transit, MEMORY_MAX_BYTES, MEMORY_SPENT};

/// Instances that one store holds, at most; those before the last are dead.
const INSTANCES_MAX: u32 = 32;

/// A store with a memory, and the instance in it that is in use. Boxed: a store is a few kilobytes.
pub(crate) struct Live {
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
    /// A store with a memory and a first instance; an error where a segment does not fit.
    pub(crate) fn new(engine: &Engine, module: &Module) -> Result<Box<Self>, Error> {
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

    /// What every instance of the module starts as: of one that has not run.
    pub(crate) fn image(&self) -> Image {
        Image::of(self.memory.data(&self.store))
    }

    /// Put a new instance on the restored memory; false when the store has held enough of them.
    pub(crate) fn renew(&mut self, module: &Module) -> bool {
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

    /// Call an export; the last value tells whether the instance ended as a call should.
    pub(crate) fn run(
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
    pub(crate) fn restore(&mut self, image: &Image, store_span_bytes: usize) -> bool {
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
