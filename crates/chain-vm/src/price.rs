//! The gas schedule, version 1. A change is a protocol upgrade.

use wasmparser::Operator;

/// Price of one host function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Charged on every call.
    pub base: u64,
    /// Charged per byte that crosses, in either direction.
    pub per_byte: u64,
}

const fn price(base: u64, per_byte: u64) -> Price {
    Price { base, per_byte }
}

pub(crate) const INPUT: Price = price(20, 1);
pub(crate) const FETCH: Price = price(20, 1);
pub(crate) const RET: Price = price(20, 1);
pub(crate) const REVERT: Price = price(20, 1);
pub(crate) const LOG: Price = price(20, 1);
pub(crate) const CTX_GET: Price = price(20, 1);
pub(crate) const CTX_I64: Price = price(20, 0);
pub(crate) const DB_GET: Price = price(200, 1);
pub(crate) const DB_HAS: Price = price(150, 1);
pub(crate) const DB_PUT: Price = price(500, 5);
pub(crate) const DB_DEL: Price = price(300, 5);
pub(crate) const DB_ADD: Price = price(500, 5);
// Looks the value up and writes it, as `db_get` and `db_put` do.
pub(crate) const DB_ADD_WITHIN: Price = price(700, 5);
pub(crate) const DB_READ_SUM: Price = price(200, 1);
pub(crate) const DB_SCAN: Price = price(300, 1);
pub(crate) const DB_NEXT: Price = price(200, 1);
pub(crate) const DB_CLOSE: Price = price(20, 0);
pub(crate) const EMIT: Price = price(100, 2);
pub(crate) const HASH: Price = price(100, 2);
// Both widths of key cost at most this, the largest factor and its inversion included.
pub(crate) const PAILLIER_ADD: Price = price(10_000, 180);
pub(crate) const PAILLIER_ADD_PLAIN: Price = price(10_000, 180);
pub(crate) const PAILLIER_SCALAR_MULTIPLY: Price = price(100_000, 3_600);
pub(crate) const CALL: Price = price(2_000, 1);

/// Every host function with its price, in the order of the specification.
pub fn host_prices() -> [(&'static str, Price); 23] {
    [
        ("input", INPUT),
        ("fetch", FETCH),
        ("ret", RET),
        ("revert", REVERT),
        ("log", LOG),
        ("ctx_get", CTX_GET),
        ("ctx_i64", CTX_I64),
        ("db_get", DB_GET),
        ("db_has", DB_HAS),
        ("db_put", DB_PUT),
        ("db_del", DB_DEL),
        ("db_add", DB_ADD),
        ("db_add_within", DB_ADD_WITHIN),
        ("db_read_sum", DB_READ_SUM),
        ("db_scan", DB_SCAN),
        ("db_next", DB_NEXT),
        ("db_close", DB_CLOSE),
        ("emit", EMIT),
        ("hash", HASH),
        ("paillier_add", PAILLIER_ADD),
        ("paillier_add_plain", PAILLIER_ADD_PLAIN),
        ("paillier_scalar_multiply", PAILLIER_SCALAR_MULTIPLY),
        ("call", CALL),
    ]
}

/// Gas per page that `memory.grow` asks for.
pub(crate) const GROW_PER_PAGE: u64 = 2_000;
/// Gas per started 64 bytes that `memory.copy` or `memory.fill` touches.
pub(crate) const BULK_PER_64_BYTES: u64 = 4;

/// Weight of one instruction inside its region.
pub(crate) fn weight(operator: &Operator<'_>) -> u64 {
    use Operator as O;
    match operator {
        O::Call { .. } => 5,
        O::CallIndirect { .. } => 10,
        O::I32DivS | O::I32DivU | O::I32RemS | O::I32RemU => 3,
        O::I64DivS | O::I64DivU | O::I64RemS | O::I64RemU => 3,
        O::BrTable { .. } => 3,
        O::MemoryGrow { .. } | O::MemoryCopy { .. } | O::MemoryFill { .. } => 10,
        O::I32Load { .. }
        | O::I64Load { .. }
        | O::I32Load8S { .. }
        | O::I32Load8U { .. }
        | O::I32Load16S { .. }
        | O::I32Load16U { .. }
        | O::I64Load8S { .. }
        | O::I64Load8U { .. }
        | O::I64Load16S { .. }
        | O::I64Load16U { .. }
        | O::I64Load32S { .. }
        | O::I64Load32U { .. }
        | O::I32Store { .. }
        | O::I64Store { .. }
        | O::I32Store8 { .. }
        | O::I32Store16 { .. }
        | O::I64Store8 { .. }
        | O::I64Store16 { .. }
        | O::I64Store32 { .. } => 2,
        _ => 1,
    }
}
