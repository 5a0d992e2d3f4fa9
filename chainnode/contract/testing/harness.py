"""A contract deployed in a test, whatever executes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from chainnode.contract import abi as abi_module
from chainnode.contract import codec
from chainnode.contract.abi import Abi
from chainnode.contract.describe import describe, entry_points, records
from chainnode.contract.frame import Caller, Frame
from chainnode.contract.interface import CallFailed
from chainnode.contract.schema import Struct
from chainnode.contract.sdk import Contract, method_types
from chainnode.contract.values import Address, Bytes32, contract_address
from chainnode.types.limits import CONTRACT_CALL_DEPTH_MAX

START_TIME_MS: Final = 1_750_000_000_000
BLOCK_INTERVAL_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call did: a result, or the code and data it reverted with."""

    result: bytes = b""
    code: int = 0
    data: bytes = b""

    @property
    def ok(self) -> bool:
        return self.code == 0


class Backend(Protocol):
    """Runs one method on a frame, leaving writes and events in it."""

    def run(self, frame: Frame, kind: str, method: str, args: bytes) -> Outcome: ...


class Reverted(Exception):
    """The contract refused.

    Args:
        error: the declared error's name, or a built-in one such as `Overflow` or
            `AssertionFailed`.
        fields: the error's fields; `text` for built-in ones.
    """

    def __init__(self, error: str, code: int, fields: dict[str, Any]) -> None:
        super().__init__(f"{error}({', '.join(f'{k}={v!r}' for k, v in fields.items())})")
        self.error = error
        self.code = code
        self.fields = fields


def member(name: str, organisation: str = "bank-a", role: str = "client") -> Caller:
    """Return a made-up member with a stable address."""
    seed = f"chainnode/test-member/v1{organisation}/{name}".encode()
    public_key = hashlib.sha256(seed).digest()
    address = hashlib.sha256(b"chainnode/address/v1" + public_key).digest()
    return Caller(Address(address), organisation, role, name, public_key)


@dataclass(slots=True)
class Neighbours:
    """The contracts of one test chain, which can call each other."""

    contracts: dict[str, Deployed] = field(default_factory=dict)

    def call(self, frame: Frame, contract: str, kind: str, method: str, args: bytes) -> bytes:
        """Run a method for the contract of a frame, as the chain does it.

        Raises:
            CallFailed: it failed; nothing of it remains.
        """
        waiting = [item.contract for item in _up(frame)]
        found = self.contracts.get(contract)
        refusal = ("", "")
        if len(waiting) >= CONTRACT_CALL_DEPTH_MAX:
            text = f"contracts call one another {CONTRACT_CALL_DEPTH_MAX} deep"
            refusal = ("CALL_DEPTH", text)
        elif contract in waiting:
            refusal = ("REENTRANT", "the contract waits for this call itself")
        elif found is None:
            refusal = ("UNKNOWN_CONTRACT", "no such contract")
        elif found.frozen:
            refusal = ("CONTRACT_FROZEN", "the contract is frozen or revoked")
        elif method not in found.abi.methods or found.abi.methods[method].kind != kind:
            refusal = ("UNKNOWN_METHOD", "the contract has no such method")
        if refusal[0] or found is None:
            raise CallFailed(contract, method, refusal[0], 0, refusal[1])
        caller = Caller(contract_address(frame.contract), "", "contract", frame.contract)
        made = Frame(
            caller=caller,
            contract=contract,
            chain_id=frame.chain_id,
            tx_id=frame.tx_id,
            height=frame.height,
            time_ms=frame.time_ms,
            committed=self.storage(frame, contract),
            read_only=frame.read_only or kind == "view",
            outer=frame,
            calls=self,
        )
        outcome = found.backend.run(made, kind, method, args)
        if not outcome.ok:
            text = outcome.data.decode(errors="replace")
            raise CallFailed(contract, method, "REVERTED", outcome.code, text)
        frame.inner.append(made)
        return outcome.result

    def storage(self, frame: Frame, contract: str) -> dict[bytes, bytes]:
        """A contract's storage as a transaction under way sees it."""
        stored = dict(self.contracts[contract].storage)
        for item in reversed(_up(frame)):
            for done in finished(item.inner):
                if done.contract == contract:
                    apply_writes(stored, done.writes)
        return stored


def _up(frame: Frame) -> list[Frame]:
    found = [frame]
    while found[-1].outer is not None:
        found.append(found[-1].outer)
    return found


def finished(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Successful calls in the order they ended, those inside others first."""
    for item in frames:
        yield from finished(item.inner)
        yield item


def apply_writes(storage: dict[bytes, bytes], writes: dict[bytes, bytes | None]) -> None:
    """Put a call's writes into storage."""
    for key, value in writes.items():
        if value is None:
            storage.pop(key, None)
        else:
            storage[key] = value


@dataclass(slots=True)
class Deployed:
    """A contract with its storage. Every call is its own block: height and time advance.

    Args:
        sender: who calls when a call names nobody.
        name: its name on chain.
        events: everything emitted so far, as (name, fields).
        frozen: whether other contracts are refused.
    """

    contract: type[Contract]
    backend: Backend
    abi: Abi
    sender: Caller
    name: str
    neighbours: Neighbours
    chain_id: str = "test"
    height: int = 0
    time_ms: int = START_TIME_MS
    storage: dict[bytes, bytes] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    frozen: bool = False

    @property
    def address(self) -> Address:
        """The address under which it calls others."""
        return contract_address(self.name)

    def call(self, method: str, *, sender: Caller | None = None, **kwargs: Any) -> Any:
        """Run a `@call` method as a transaction and return its result.

        Raises:
            Reverted: the contract refused; storage and events are as before.
            ClientFault: the arguments do not fit the ABI.
        """
        return self.run("call", method, sender, kwargs)

    def view(self, method: str, *, sender: Caller | None = None, **kwargs: Any) -> Any:
        """Run a `@view` method and return its result; nothing changes."""
        return self.run("view", method, sender, kwargs)

    def run(self, kind: str, method: str, sender: Caller | None, kwargs: dict[str, Any]) -> Any:
        """Run any method; `call` and `view` are the short forms."""
        found = self.abi.method(method)
        if found.kind != kind:
            raise ValueError(f"{method} is a @{found.kind}, not a @{kind}")
        args = abi_module.encode_args(self.abi, method, kwargs)
        outcome = self.run_raw(kind, method, sender, args)
        if not outcome.ok:
            name, fields = abi_module.decode_error(self.abi, outcome.code, outcome.data)
            raise Reverted(name, outcome.code, fields)
        functions = {name: item for name, _, item in entry_points(self.contract)}
        return codec.decode(method_types(functions[method])[1], outcome.result)

    def run_raw(self, kind: str, method: str, sender: Caller | None, args: bytes) -> Outcome:
        """Run a method on encoded arguments; storage changes only if it succeeds."""
        if kind != "view":
            self.height += 1
            self.time_ms += BLOCK_INTERVAL_MS
        tx_id = hashlib.sha256(b"test-tx" + self.height.to_bytes(8, "big")).digest()
        frame = Frame(
            caller=sender or self.sender,
            contract=self.name,
            chain_id=self.chain_id,
            tx_id=Bytes32(tx_id),
            height=self.height,
            time_ms=self.time_ms,
            committed=self.storage,
            read_only=kind == "view",
            calls=self.neighbours,
        )
        outcome = self.backend.run(frame, kind, method, args)
        if outcome.ok and kind != "view":
            for item in finished([frame]):
                self.neighbours.contracts[item.contract]._commit(item)
        return outcome

    def _commit(self, frame: Frame) -> None:
        apply_writes(self.storage, frame.writes)
        kinds: dict[str, Struct] = {item.name: item for item in records(self.contract)[0]}
        for name, data in frame.events:
            record = codec.decode(kinds[name], data)
            self.events.append(
                (name, {f.name: getattr(record, f.name) for f in kinds[name].fields})
            )


def deploy(
    contract: type[Contract],
    *,
    sender: Caller | None = None,
    backend: Callable[[type[Contract]], Backend] | None = None,
    beside: Deployed | None = None,
    called: str = "",
    **init_args: Any,
) -> Deployed:
    """Install a contract, run its `@init` method if it has one, and return it.

    Args:
        sender: who installs it and calls it by default.
        backend: makes what executes the contract; see `default_backend`.
        beside: a contract on whose chain this one is installed, so that both can call each other.
        called: its name on chain; that of the class unless given.
        init_args: the arguments of the `@init` method.

    Raises:
        Reverted: the `@init` method refused.
    """
    abi = Abi.parse(abi_module.dump(describe(contract)))
    made = (backend or _default_backend.get())(contract)
    name = called or abi.name
    neighbours = beside.neighbours if beside else Neighbours()
    if name in neighbours.contracts:
        raise ValueError(f"a contract {name} is there already; give another name with called=")
    deployer = sender or member("deployer", role="admin")
    deployed = Deployed(contract, made, abi, deployer, name, neighbours)
    neighbours.contracts[name] = deployed
    inits = [name for name, kind, _ in entry_points(contract) if kind == "init"]
    if inits:
        deployed.run("init", inits[0], None, init_args)
    elif init_args:
        raise ValueError(f"{abi.name} has no @init method")
    return deployed


def _native(contract: type[Contract]) -> Backend:
    from chainnode.contract.testing.native import NativeBackend

    return NativeBackend(contract)


_default_backend: ContextVar[Callable[[type[Contract]], Backend]] = ContextVar(
    "default_backend", default=_native
)


@contextmanager
def default_backend(backend: Callable[[type[Contract]], Backend]) -> Iterator[None]:
    """Let every `deploy` inside use this backend, so that one test file serves several."""
    token = _default_backend.set(backend)
    try:
        yield
    finally:
        _default_backend.reset(token)
