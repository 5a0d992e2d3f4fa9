"""What contract authors import.

A contract is an ordinary Python module in a typed subset of Python: it runs, debugs and tests under
CPython, and compiles to WebAssembly for the chain (`chainnode.contract.package.build`).
"""

from chainnode.contract.frame import Context, ctx
from chainnode.contract.interface import CallFailed, Interface, at
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
from chainnode.contract.values import (
    Address,
    Bytes32,
    contract_address,
    i64,
    u8,
    u16,
    u32,
    u64,
    u128,
)

__all__ = [
    "Address",
    "Bytes32",
    "CallFailed",
    "Context",
    "Contract",
    "Counter",
    "Error",
    "Event",
    "Interface",
    "Map",
    "Var",
    "at",
    "call",
    "contract_address",
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
