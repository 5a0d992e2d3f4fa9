//! Function bodies as the meter rewrites them: charges, counted calls, notes of stores.

use std::ops::Range;

use wasmparser::Operator;

use crate::levels::Levels;
use crate::meter::{append, Shape, CALL_DEPTH_MAX};
use crate::price::{weight, BULK_PER_64_BYTES, GROW_PER_PAGE};
use crate::rules::{invalid, ModuleError, MEMORY_MAX_PAGES};
use crate::wasm::*;

const I64_SUB: u8 = 0x7d;
const I64_ADD: u8 = 0x7c;
const I64_MUL: u8 = 0x7e;
const I64_SHR_U: u8 = 0x88;
const I64_LT_S: u8 = 0x53;
const I64_EXTEND_I32_U: u8 = 0xad;
const I32_ADD: u8 = 0x6a;
const I32_SUB: u8 = 0x6b;
const I32_GT_U: u8 = 0x4b;
const I32_OR: u8 = 0x72;
const RETURN: u8 = 0x0f;

impl Shape {
    /// The bodies to run, the helpers behind them.
    pub(crate) fn rewrite(&self, wasm: &[u8]) -> Result<Vec<Vec<u8>>, ModuleError> {
        let mut calls = Vec::with_capacity(self.bodies.len());
        for body in &self.bodies {
            calls.push(self.direct_calls(&wasm[body.clone()])?);
        }
        let levels = Levels::of(&calls);
        let mut out = Vec::with_capacity(self.bodies.len() + 3);
        for (index, body) in self.bodies.iter().enumerate() {
            out.push(self.body(index, &wasm[body.clone()], &levels)?);
        }
        out.extend(self.helpers());
        Ok(out)
    }

    fn direct_calls(&self, body: &[u8]) -> Result<Vec<usize>, ModuleError> {
        let mut calls = Vec::new();
        for operator in operators(body)? {
            if let Operator::Call { function_index } = operator.map_err(invalid)?.0 {
                if let Some(callee) = function_index.checked_sub(self.imports) {
                    calls.push(callee as usize);
                }
            }
        }
        Ok(calls)
    }

    /// Take a constant from the gas counter and trap below zero.
    fn charge(&self, cost: u64) -> Code {
        if !self.charges {
            return Code::default();
        }
        let cost = i64::try_from(cost).expect("a body has at most 64 KiB of instructions");
        let less = Code::default()
            .global_get(self.gas())
            .i64_const(cost)
            .op(I64_SUB);
        self.settle(less)
    }

    fn settle(&self, less: Code) -> Code {
        let gas = self.gas();
        less.global_set(gas)
            .global_get(gas)
            .i64_const(0)
            .op(I64_LT_S)
            .trap_if()
    }

    fn counted_call(&self, call: &[u8]) -> Code {
        let depth = self.depth();
        let enter = Code::default()
            .global_get(depth)
            .i32_const(1)
            .op(I32_ADD)
            .global_set(depth);
        let check = enter
            .global_get(depth)
            .i32_const(CALL_DEPTH_MAX)
            .op(I32_GT_U)
            .trap_if();
        check
            .raw(call)
            .global_get(depth)
            .i32_const(1)
            .op(I32_SUB)
            .global_set(depth)
    }

    fn body(&self, index: usize, body: &[u8], levels: &Levels) -> Result<Vec<u8>, ModuleError> {
        let charges = charges(body)?;
        let mut next_charge = charges.iter();
        let mut pending = next_charge.next();
        let mut out = Vec::with_capacity(body.len() * 2);
        let spare = self.declare(index, body, charges[0].0, &mut out)?;
        for operator in operators(body)? {
            let (operator, range) = operator.map_err(invalid)?;
            if let Some((_, cost)) = pending.filter(|(offset, _)| *offset == range.start) {
                out.extend_from_slice(&self.charge(*cost).0);
                pending = next_charge.next();
            }
            let bytes = &body[range];
            let code = match operator {
                Operator::MemoryGrow { .. } => Code::default().call(self.helper(0)),
                Operator::MemoryCopy { .. } => Code::default().call(self.helper(1)),
                Operator::MemoryFill { .. } => Code::default().call(self.helper(2)),
                Operator::CallIndirect { .. } => self.counted_call(bytes),
                Operator::Call { function_index } => match function_index.checked_sub(self.imports)
                {
                    Some(callee) if levels.counted(index, callee as usize) => {
                        self.counted_call(bytes)
                    }
                    _ => Code::default().raw(bytes),
                },
                operator => match (spare, stored(&operator)) {
                    (Some(spare), Some((_, wide))) => self.noted_store(spare, wide, bytes),
                    _ => Code::default().raw(bytes),
                },
            };
            out.extend_from_slice(&code.0);
        }
        Ok(out)
    }

    /// Write a body's locals; with stores to note, three more, whose first index is returned.
    fn declare(
        &self,
        index: usize,
        body: &[u8],
        code_start: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<u32>, ModuleError> {
        let mut stores = false;
        for operator in operators(body)? {
            stores |= stored(&operator.map_err(invalid)?.0).is_some();
        }
        if !self.tracked || !stores {
            out.extend_from_slice(&body[..code_start]);
            return Ok(None);
        }
        let reader = wasmparser::FunctionBody::new(wasmparser::BinaryReader::new(body, 0));
        let mut first = self.params[self.kinds[index] as usize];
        for group in reader.get_locals_reader().map_err(invalid)? {
            first += group.map_err(invalid)?.0;
        }
        out.extend_from_slice(&append(&body[..code_start], 2, &[2, I32, 1, I64]));
        Ok(Some(first))
    }

    /// A store whose address joins the bitwise or of all addresses of the call.
    fn noted_store(&self, spare: u32, wide: bool, store: &[u8]) -> Code {
        let (address, value) = (spare, spare + 1 + u32::from(wide));
        let noted = Code::default().local_set(value).local_tee(address);
        let noted = noted
            .global_get(self.reach())
            .op(I32_OR)
            .global_set(self.reach());
        noted.local_get(address).local_get(value).raw(store)
    }

    fn helpers(&self) -> [Vec<u8>; 3] {
        let no_locals = || Code::default().op(0);
        let pages = i64::try_from(GROW_PER_PAGE).expect("a small constant");
        // Asking for more than any memory may have fails before it is paid for.
        let grow = no_locals()
            .local_get(0)
            .i32_const(MEMORY_MAX_PAGES as i32)
            .op(I32_GT_U);
        let grow = grow.op(0x04).op(0x40).i32_const(-1).op(RETURN).op(END);
        let grow = grow
            .global_get(self.gas())
            .local_get(0)
            .op(I64_EXTEND_I32_U);
        let grow = self.settle(grow.i64_const(pages).op(I64_MUL).op(I64_SUB));
        let grow = grow.local_get(0).op(0x40).op(0).op(END).0;
        let bulk = |instruction: &[u8]| {
            let unit = i64::try_from(BULK_PER_64_BYTES).expect("a small constant");
            let length = no_locals()
                .global_get(self.gas())
                .local_get(2)
                .op(I64_EXTEND_I32_U);
            let units = length.i64_const(63).op(I64_ADD).i64_const(6).op(I64_SHR_U);
            let paid = self.settle(units.i64_const(unit).op(I64_MUL).op(I64_SUB));
            let noted = if self.tracked {
                // An end that wraps is out of bounds, so nothing is written.
                let end = paid.local_get(0).local_get(2).op(I32_ADD);
                let joined = end.global_get(self.reach()).op(I32_OR);
                joined.global_set(self.reach())
            } else {
                paid
            };
            noted
                .local_get(0)
                .local_get(1)
                .local_get(2)
                .raw(instruction)
                .op(END)
                .0
        };
        [grow, bulk(&[0xfc, 10, 0, 0]), bulk(&[0xfc, 11, 0])]
    }
}

/// A store's address argument and whether its value is 64 bits wide: every instruction beside
/// `memory.copy` and `memory.fill` that writes memory.
pub(crate) fn stored(operator: &Operator<'_>) -> Option<(wasmparser::MemArg, bool)> {
    match operator {
        Operator::I32Store { memarg }
        | Operator::I32Store8 { memarg }
        | Operator::I32Store16 { memarg } => Some((*memarg, false)),
        Operator::I64Store { memarg }
        | Operator::I64Store8 { memarg }
        | Operator::I64Store16 { memarg }
        | Operator::I64Store32 { memarg } => Some((*memarg, true)),
        _ => None,
    }
}

pub(crate) type Located<'a> = Result<(Operator<'a>, Range<usize>), wasmparser::BinaryReaderError>;

/// The instructions of a body with their byte ranges within it.
pub(crate) fn operators(body: &[u8]) -> Result<impl Iterator<Item = Located<'_>>, ModuleError> {
    let body = wasmparser::FunctionBody::new(wasmparser::BinaryReader::new(body, 0));
    let mut reader = body.get_operators_reader().map_err(invalid)?;
    Ok(std::iter::from_fn(move || {
        if reader.eof() {
            return None;
        }
        let start = reader.original_position() as usize;
        let operator = reader.read();
        let end = reader.original_position() as usize;
        Some(operator.map(|operator| (operator, start..end)))
    }))
}

/// Where to charge how much: the function's entry first, then loop heads in order.
fn charges(body: &[u8]) -> Result<Vec<(usize, u64)>, ModuleError> {
    struct Open {
        cost: u64,
        other_arm: u64,
        charge: Option<usize>,
    }
    let mut charges = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for operator in operators(body)? {
        let (operator, range) = operator.map_err(invalid)?;
        if charges.is_empty() {
            charges.push((range.start, 0));
            open.push(Open {
                cost: 0,
                other_arm: 0,
                charge: Some(0),
            });
        }
        if let Some(region) = open.last_mut() {
            region.cost += weight(&operator);
        }
        match operator {
            Operator::Block { .. } | Operator::If { .. } => {
                open.push(Open {
                    cost: 0,
                    other_arm: 0,
                    charge: None,
                });
            }
            Operator::Loop { .. } => {
                charges.push((range.end, 0));
                let charge = Some(charges.len() - 1);
                open.push(Open {
                    cost: 0,
                    other_arm: 0,
                    charge,
                });
            }
            Operator::Else => {
                if let Some(region) = open.last_mut() {
                    region.other_arm = std::mem::take(&mut region.cost);
                }
            }
            Operator::End => {
                let Some(region) = open.pop() else { continue };
                let cost = region.cost.max(region.other_arm);
                match (region.charge, open.last_mut()) {
                    (Some(charge), _) => charges[charge].1 = cost,
                    (None, Some(outer)) => outer.cost += cost,
                    (None, None) => {}
                }
            }
            _ => {}
        }
    }
    Ok(charges)
}
