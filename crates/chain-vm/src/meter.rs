//! Gas and call depth, injected into a module that passed the rules.
//!
//! Structured metering: a function pays for its body on entry, a loop for its body at each pass of
//! its head; of an `if` the dearer arm counts. A region is left only forwards or through a loop
//! head, so what is paid bounds what runs.

use std::ops::Range;

use wasmparser::{Parser, Payload, TypeRef};

use crate::bodies::{operators, stored};
use crate::rules::{check_module, invalid, ModuleError, MEMORY_MAX_PAGES};
use crate::wasm::*;

/// Counted calls open at once, at most.
pub(crate) const CALL_DEPTH_MAX: i32 = 256;

const STORE_SIZE_MAX_BYTES: usize = 8;

/// The module as the machine runs it.
///
/// # Errors
/// A rule that the module breaks.
pub fn meter_module(wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let shape = Shape {
        charges: true,
        ..Shape::read(wasm)?
    };
    shape.inject(wasm)
}

/// A module for the engine: metered, and with a note of where each call wrote.
pub(crate) struct Tracked {
    pub(crate) wasm: Vec<u8>,
    /// Bytes that a store may write past the address it notes, at most.
    pub(crate) store_span_bytes: usize,
}

/// With `charges` off, only host functions are paid for: what metering is measured against.
pub(crate) fn track(wasm: &[u8], charges: bool) -> Result<Tracked, ModuleError> {
    let shape = Shape {
        charges,
        tracked: true,
        ..Shape::read(wasm)?
    };
    Ok(Tracked {
        wasm: shape.inject(wasm)?,
        store_span_bytes: shape.store_span_bytes,
    })
}

fn section(out: &mut Vec<u8>, id: u8, data: &[u8]) {
    out.push(id);
    unsigned(out, data.len() as u64);
    out.extend_from_slice(data);
}

/// A vector section with items added at its end.
pub(crate) fn append(data: &[u8], items: u32, bytes: &[u8]) -> Vec<u8> {
    let mut count = 0u64;
    let mut length = 0;
    for byte in data {
        count |= u64::from(byte & 0x7f) << (7 * length);
        length += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut out = Vec::with_capacity(data.len() + bytes.len() + 1);
    unsigned(&mut out, count + u64::from(items));
    out.extend_from_slice(&data[length..]);
    out.extend_from_slice(bytes);
    out
}

fn helper_types() -> Vec<u8> {
    vec![
        FUNCTION_TYPE,
        1,
        I32,
        1,
        I32,
        FUNCTION_TYPE,
        3,
        I32,
        I32,
        I32,
        0,
    ]
}

fn code(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    unsigned(&mut out, bodies.len() as u64);
    for body in bodies {
        unsigned(&mut out, body.len() as u64);
        out.extend_from_slice(body);
    }
    out
}

/// What the injector knows of a module.
#[derive(Default)]
pub(crate) struct Shape {
    pub(crate) charges: bool,
    pub(crate) tracked: bool,
    pub(crate) sections: Vec<(u8, Range<usize>)>,
    pub(crate) types: u32,
    pub(crate) imports: u32,
    pub(crate) functions: u32,
    pub(crate) globals: u32,
    pub(crate) mutable_globals: Vec<u32>,
    pub(crate) memory_initial: u64,
    pub(crate) memory_maximum: u64,
    pub(crate) bodies: Vec<Range<usize>>,
    /// Per type: how many parameters.
    pub(crate) params: Vec<u32>,
    /// Per function: its type.
    pub(crate) kinds: Vec<u32>,
    pub(crate) store_span_bytes: usize,
}

fn span(range: Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Shape {
    fn inject(&self, wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let bodies = self.rewrite(wasm)?;
        let mut out = wasm[..8].to_vec();
        let (mut global_written, mut import_written) = (false, !self.tracked);
        for (id, range) in &self.sections {
            if *id >= SECTION_IMPORT && !import_written {
                let own = if *id == SECTION_IMPORT {
                    &wasm[range.start..range.end]
                } else {
                    &[0]
                };
                section(&mut out, SECTION_IMPORT, &self.imports(own));
                import_written = true;
            }
            if self.tracked && matches!(*id, SECTION_IMPORT | SECTION_MEMORY) {
                continue;
            }
            if *id > SECTION_GLOBAL && !global_written {
                section(&mut out, SECTION_GLOBAL, &self.globals(&[0]));
                global_written = true;
            }
            let data = &wasm[range.start..range.end];
            let data = match *id {
                SECTION_TYPE => append(data, 2, &helper_types()),
                SECTION_FUNCTION => append(data, 3, &self.helper_declarations()),
                SECTION_MEMORY => self.memory(),
                SECTION_GLOBAL => {
                    global_written = true;
                    self.globals(data)
                }
                SECTION_EXPORT => self.exports(data),
                SECTION_CODE => code(&bodies),
                _ => data.to_vec(),
            };
            section(&mut out, *id, &data);
        }
        Ok(out)
    }

    fn read(wasm: &[u8]) -> Result<Self, ModuleError> {
        check_module(wasm)?;
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(invalid)?;
            if let Payload::CustomSection(_) = payload {
                continue;
            }
            if let Some((id, range)) = payload.as_section() {
                shape.sections.push((id, span(range)));
            }
            shape.note(payload)?;
        }
        for body in &shape.bodies {
            for operator in operators(&wasm[body.clone()])? {
                if let Some((argument, _)) = stored(&operator.map_err(invalid)?.0) {
                    let offset = usize::try_from(argument.offset).unwrap_or(usize::MAX);
                    let end = offset.saturating_add(STORE_SIZE_MAX_BYTES);
                    shape.store_span_bytes = shape.store_span_bytes.max(end);
                }
            }
        }
        Ok(shape)
    }

    fn note(&mut self, payload: Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::TypeSection(reader) => {
                self.types = reader.count();
                for kind in reader.into_iter_err_on_gc_types() {
                    self.params
                        .push(kind.map_err(invalid)?.params().len() as u32);
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import.map_err(invalid)?;
                    self.imports += u32::from(matches!(import.ty, TypeRef::Func(_)));
                }
            }
            Payload::FunctionSection(reader) => {
                self.functions = reader.count();
                for kind in reader {
                    self.kinds.push(kind.map_err(invalid)?);
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader {
                    let memory = memory.map_err(invalid)?;
                    self.memory_initial = memory.initial;
                    self.memory_maximum = memory.maximum.unwrap_or(MEMORY_MAX_PAGES);
                }
            }
            Payload::GlobalSection(reader) => {
                for global in reader {
                    if global.map_err(invalid)?.ty.mutable {
                        self.mutable_globals.push(self.globals);
                    }
                    self.globals += 1;
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(span(body.range())),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn gas(&self) -> u32 {
        self.globals
    }

    pub(crate) fn depth(&self) -> u32 {
        self.globals + 1
    }

    pub(crate) fn reach(&self) -> u32 {
        self.globals + 2
    }

    /// Index of the helper for `memory.grow` (0), `memory.copy` (1) or `memory.fill` (2).
    pub(crate) fn helper(&self, which: u32) -> u32 {
        self.imports + self.functions + which
    }

    fn helper_declarations(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for kind in [self.types, self.types + 1, self.types + 1] {
            unsigned(&mut out, kind.into());
        }
        out
    }

    /// The engine's module takes its memory from the host, which outlives the instance.
    fn imports(&self, data: &[u8]) -> Vec<u8> {
        let mut memory = Vec::new();
        for name in ["sc1", "memory"] {
            unsigned(&mut memory, name.len() as u64);
            memory.extend_from_slice(name.as_bytes());
        }
        memory.push(EXTERNAL_MEMORY);
        memory.extend_from_slice(&self.memory()[1..]);
        append(data, 1, &memory)
    }

    fn memory(&self) -> Vec<u8> {
        let mut out = vec![1, 1];
        unsigned(&mut out, self.memory_initial);
        unsigned(&mut out, self.memory_maximum);
        out
    }

    fn globals(&self, data: &[u8]) -> Vec<u8> {
        let gas = Code::default().op(I64).op(1).i64_const(0).op(END);
        let depth = Code::default().op(I32).op(1).i32_const(0).op(END);
        let own = gas.raw(&depth.0);
        if !self.tracked {
            return append(data, 2, &own.0);
        }
        append(data, 3, &own.op(I32).op(1).i32_const(0).op(END).0)
    }

    fn exports(&self, data: &[u8]) -> Vec<u8> {
        let mut names = vec![
            ("sc1:gas".to_owned(), self.gas()),
            ("sc1:depth".to_owned(), self.depth()),
        ];
        if self.tracked {
            names.push(("sc1:reach".to_owned(), self.reach()));
        }
        names.extend(
            self.mutable_globals
                .iter()
                .map(|index| (global_export(*index), *index)),
        );
        let mut out = Vec::new();
        for (name, index) in &names {
            unsigned(&mut out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
            out.push(EXPORT_GLOBAL);
            unsigned(&mut out, (*index).into());
        }
        append(data, names.len() as u32, &out)
    }
}

/// Export name of a mutable global of the contract, which the machine restores.
pub(crate) fn global_export(index: u32) -> String {
    format!("sc1:global:{index}")
}
