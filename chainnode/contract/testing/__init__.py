"""Test a contract without a chain: `deploy(MyContract, ...)` and call its methods.

Calls run under CPython, with arguments and results passed through the ABI as on chain, ranges
checked at every annotated boundary, and a failed call undone. The same tests run on the compiled
contract by passing another backend. `load_contract` imports a contract from its folder.
"""

from chainnode.contract.modules import load_contract
from chainnode.contract.testing.harness import (
    START_TIME_MS,
    Backend,
    Deployed,
    Neighbours,
    Outcome,
    Reverted,
    default_backend,
    deploy,
    member,
)
from chainnode.contract.testing.native import NativeBackend

__all__ = [
    "START_TIME_MS",
    "Backend",
    "Deployed",
    "NativeBackend",
    "Neighbours",
    "Outcome",
    "Reverted",
    "default_backend",
    "deploy",
    "load_contract",
    "member",
]
