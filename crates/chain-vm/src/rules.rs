//! What a module must look like to be installed. Anything not allowed here is refused.

use wasmparser::{
    DataKind, ElementItems, ElementKind, ExternalKind, FuncType, FuncValidatorAllocations,
    Operator, Parser, Payload, TypeRef, ValType, ValidPayload, Validator, WasmFeatures,
};

/// Largest module in bytes.
pub const CODE_SIZE_MAX_BYTES: usize = 512 * 1024;
const FUNCTIONS_MAX: u32 = 4_096;
const BODY_SIZE_MAX_BYTES: u64 = 64 * 1024;
const LOCALS_MAX: u32 = 256;
const PARAMETERS_MAX: usize = 32;
const RESULTS_MAX: usize = 16;
const OPERANDS_MAX: u32 = 1_024;
const NESTING_MAX: u32 = 512;
const EXPORTS_MAX: u32 = 256;
const GLOBALS_MAX: u32 = 1_024;
const TABLE_MAX: u64 = 4_096;
/// Largest initial memory; what one restore copies.
pub(crate) const MEMORY_INITIAL_MAX_PAGES: u64 = 4;
/// Largest memory a contract can grow to.
pub(crate) const MEMORY_MAX_PAGES: u64 = 256;

/// A rule that a module breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("module rule `{rule}`: {detail}")]
pub struct ModuleError {
    /// The rule's name in the specification; stable, part of receipts.
    pub rule: &'static str,
    /// Words for people; not part of any agreed result.
    pub detail: String,
}

fn refuse<T>(rule: &'static str, detail: impl Into<String>) -> Result<T, ModuleError> {
    Err(ModuleError {
        rule,
        detail: detail.into(),
    })
}

fn at_most<T: PartialOrd + std::fmt::Display>(
    rule: &'static str,
    what: &str,
    value: T,
    limit: T,
) -> Result<(), ModuleError> {
    if value > limit {
        return refuse(rule, format!("{what} {value} is above {limit}"));
    }
    Ok(())
}

pub(crate) fn invalid(error: wasmparser::BinaryReaderError) -> ModuleError {
    ModuleError {
        rule: "valid",
        detail: error.to_string(),
    }
}

fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::GC_TYPES
}

/// Parameters and results of the host functions.
pub(crate) fn host_signature(name: &str) -> Option<(&'static [ValType], &'static [ValType])> {
    use ValType::{I32, I64};
    const I: &[ValType] = &[I32];
    const II: &[ValType] = &[I32, I32];
    const III: &[ValType] = &[I32, I32, I32];
    const IIII: &[ValType] = &[I32, I32, I32, I32];
    Some(match name {
        "input" | "fetch" => (II, I),
        "ret" => (II, &[]),
        "revert" | "log" => (III, &[]),
        "ctx_get" => (III, I),
        "ctx_i64" => (I, &[I64]),
        "db_get" => (IIII, I),
        "db_has" => (II, I),
        "db_put" | "emit" => (IIII, &[]),
        "db_del" => (II, &[]),
        "db_add" => (&[I32, I32, I64, I64], &[]),
        "db_add_within" => (&[I32, I32, I32, I64, I64, I64, I64, I64, I64], I),
        "db_read_sum" => (III, &[]),
        "db_scan" => (&[I32, I32, I32, I32, I32], I),
        "db_next" => (III, I),
        "db_close" => (I, &[]),
        "hash" => (IIII, &[]),
        "paillier_add" => (&[I32, I32, I32, I32, I32, I32, I32], I),
        "paillier_add_plain" | "paillier_scalar_multiply" => {
            (&[I32, I32, I32, I32, I64, I64, I32], I)
        }
        "call" => (&[I32, I32, I32, I32, I32, I32, I64, I32], I),
        _ => return None,
    })
}

/// Check a module against the rules.
///
/// # Errors
/// The first rule broken, in the order of the file.
pub fn check_module(wasm: &[u8]) -> Result<(), ModuleError> {
    at_most("size", "code size", wasm.len(), CODE_SIZE_MAX_BYTES)?;
    let mut checker = Checker::default();
    let mut validator = Validator::new_with_features(features());
    let mut allocations = FuncValidatorAllocations::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        let valid = validator.payload(&payload).map_err(invalid)?;
        checker.section(&payload)?;
        if let ValidPayload::Func(function, body) = valid {
            let mut function = function.into_validator(allocations);
            check_body(&mut function, &body)?;
            allocations = function.into_allocations();
        }
    }
    checker.finish()
}

fn check_body(
    validator: &mut wasmparser::FuncValidator<wasmparser::ValidatorResources>,
    body: &wasmparser::FunctionBody<'_>,
) -> Result<(), ModuleError> {
    let size = body.range().end - body.range().start;
    at_most("body", "function body size", size, BODY_SIZE_MAX_BYTES)?;
    let mut locals = body.get_locals_reader().map_err(invalid)?;
    for _ in 0..locals.get_count() {
        let offset = locals.original_position();
        let (count, kind) = locals.read().map_err(invalid)?;
        validator
            .define_locals(offset, count, kind)
            .map_err(invalid)?;
        at_most(
            "locals",
            "number of locals",
            validator.len_locals(),
            LOCALS_MAX,
        )?;
    }
    let mut operators = body.get_operators_reader().map_err(invalid)?;
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset().map_err(invalid)?;
        validator.op(offset, &operator).map_err(invalid)?;
        check_operator(&operator)?;
        let height = validator.operand_stack_height();
        at_most("stack", "operand stack height", height, OPERANDS_MAX)?;
        let nesting = validator.control_stack_height();
        at_most("stack", "block nesting", nesting, NESTING_MAX)?;
    }
    operators.finish().map_err(invalid)
}

fn check_operator(operator: &Operator<'_>) -> Result<(), ModuleError> {
    match operator {
        Operator::MemoryInit { .. } => refuse("operator", "memory.init is not allowed"),
        Operator::DataDrop { .. } => refuse("operator", "data.drop is not allowed"),
        Operator::TableInit { .. } => refuse("operator", "table.init is not allowed"),
        Operator::TableCopy { .. } => refuse("operator", "table.copy is not allowed"),
        Operator::ElemDrop { .. } => refuse("operator", "elem.drop is not allowed"),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Checker {
    types: Vec<FuncType>,
    functions: Vec<u32>,
    has_memory: bool,
    exports_memory: bool,
    initialisers: u32,
    upgrades: u32,
}

impl Checker {
    fn section(&mut self, payload: &Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::TypeSection(reader) => {
                for kind in reader.clone().into_iter_err_on_gc_types() {
                    let kind = kind.map_err(invalid)?;
                    at_most(
                        "types",
                        "parameter count",
                        kind.params().len(),
                        PARAMETERS_MAX,
                    )?;
                    at_most("types", "result count", kind.results().len(), RESULTS_MAX)?;
                    self.types.push(kind);
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.clone().into_imports() {
                    self.import(&import.map_err(invalid)?)?;
                }
            }
            Payload::FunctionSection(reader) => {
                at_most("functions", "function count", reader.count(), FUNCTIONS_MAX)?;
                for index in reader.clone() {
                    self.functions.push(index.map_err(invalid)?);
                }
            }
            Payload::GlobalSection(reader) => {
                at_most("globals", "global count", reader.count(), GLOBALS_MAX)?;
            }
            Payload::TableSection(reader) => {
                for table in reader.clone() {
                    let table = table.map_err(invalid)?;
                    at_most("table", "table size", table.ty.initial, TABLE_MAX)?;
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader.clone() {
                    self.memory(&memory.map_err(invalid)?)?;
                }
            }
            Payload::ExportSection(reader) => {
                at_most("exports", "export count", reader.count(), EXPORTS_MAX)?;
                for export in reader.clone() {
                    self.export(&export.map_err(invalid)?)?;
                }
            }
            Payload::StartSection { .. } => {
                return refuse("start", "a start function is not allowed")
            }
            Payload::ElementSection(reader) => {
                for element in reader.clone() {
                    check_element(&element.map_err(invalid)?)?;
                }
            }
            Payload::DataSection(reader) => {
                for data in reader.clone() {
                    if !matches!(data.map_err(invalid)?.kind, DataKind::Active { .. }) {
                        return refuse("segment", "a passive data segment is not allowed");
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), ModuleError> {
        let name = format!("{}.{}", import.module, import.name);
        let TypeRef::Func(index) = import.ty else {
            return refuse(
                "imports",
                format!("`{name}`: only functions may be imported"),
            );
        };
        let known = (import.module == "sc1")
            .then(|| host_signature(import.name))
            .flatten();
        let Some((parameters, results)) = known else {
            return refuse("imports", format!("`{name}` is not a host function"));
        };
        let kind = &self.types[index as usize];
        if kind.params() != parameters || kind.results() != results {
            return refuse("imports", format!("`{name}` is imported with a wrong type"));
        }
        self.functions.push(index);
        Ok(())
    }

    fn memory(&mut self, memory: &wasmparser::MemoryType) -> Result<(), ModuleError> {
        self.has_memory = true;
        at_most(
            "memory",
            "initial pages",
            memory.initial,
            MEMORY_INITIAL_MAX_PAGES,
        )?;
        at_most(
            "memory",
            "maximum pages",
            memory.maximum.unwrap_or(0),
            MEMORY_MAX_PAGES,
        )
    }

    fn export(&mut self, export: &wasmparser::Export<'_>) -> Result<(), ModuleError> {
        let name = export.name;
        if name.starts_with("sc1:") {
            return refuse(
                "exports",
                format!("`{name}`: names with `sc1:` belong to the node"),
            );
        }
        if name == "memory" {
            self.exports_memory = export.kind == ExternalKind::Memory;
        }
        let Some(tag @ ("i" | "u" | "c" | "v")) = name.split_once(':').map(|(tag, _)| tag) else {
            return Ok(());
        };
        if export.kind != ExternalKind::Func {
            return refuse("exports", format!("method `{name}` is not a function"));
        }
        let kind = &self.types[self.functions[export.index as usize] as usize];
        if !kind.params().is_empty() || !kind.results().is_empty() {
            return refuse(
                "exports",
                format!("method `{name}` has parameters or results"),
            );
        }
        self.initialisers += u32::from(tag == "i");
        self.upgrades += u32::from(tag == "u");
        Ok(())
    }

    fn finish(&self) -> Result<(), ModuleError> {
        if !self.has_memory || !self.exports_memory {
            return refuse(
                "memory",
                "the module must define a memory and export it as `memory`",
            );
        }
        at_most("exports", "number of `i:` methods", self.initialisers, 1)?;
        at_most("exports", "number of `u:` methods", self.upgrades, 1)
    }
}

fn check_element(element: &wasmparser::Element<'_>) -> Result<(), ModuleError> {
    if !matches!(element.kind, ElementKind::Active { .. }) {
        return refuse(
            "segment",
            "a passive or declared element segment is not allowed",
        );
    }
    if !matches!(element.items, ElementItems::Functions(_)) {
        return refuse("segment", "element expressions are not allowed");
    }
    Ok(())
}
