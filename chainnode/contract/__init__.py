"""What contract authors import.

A contract is an ordinary Python module in a typed subset of Python: it runs, debugs and tests under
CPython, and compiles to WebAssembly for the chain (`chainnode.contract.package.build`).
"""

from chainnode.contract.frame import Context, ctx
from chainnode.contract.paillier import (
    paillier_add,
    paillier_add_plain,
    paillier_scalar_multiply,
)
from chainnode.contract.sdk import (
    Contract,
    Counter,
    Error,
    Event,
    Map,
    Var,
    call,
    emit,
    error,
    event,
    init,
    sha256,
    view,
)
from chainnode.contract.values import Address, Bytes32, i64, u8, u16, u32, u64, u128

__all__ = [
    "Address",
    "Bytes32",
    "Context",
    "Contract",
    "Counter",
    "Error",
    "Event",
    "Map",
    "Var",
    "call",
    "ctx",
    "emit",
    "error",
    "event",
    "i64",
    "init",
    "paillier_add",
    "paillier_add_plain",
    "paillier_scalar_multiply",
    "sha256",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "view",
]
