"""A contract deployed in a test, whatever executes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from chainnode.contract import abi as abi_module
from chainnode.contract import codec
from chainnode.contract.abi import Abi
from chainnode.contract.describe import describe, entry_points, records
from chainnode.contract.frame import Caller, Frame
from chainnode.contract.schema import Struct
from chainnode.contract.sdk import Contract, method_types
from chainnode.contract.values import Address, Bytes32

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
class Deployed:
    """A contract with its storage. Every call is its own block: height and time advance.

    Args:
        sender: who calls when a call names nobody.
        events: everything emitted so far, as (name, fields).
    """

    contract: type[Contract]
    backend: Backend
    abi: Abi
    sender: Caller
    chain_id: str = "test"
    height: int = 0
    time_ms: int = START_TIME_MS
    storage: dict[bytes, bytes] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

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
            contract=self.abi.name,
            chain_id=self.chain_id,
            tx_id=Bytes32(tx_id),
            height=self.height,
            time_ms=self.time_ms,
            committed=self.storage,
            read_only=kind == "view",
        )
        outcome = self.backend.run(frame, kind, method, args)
        if outcome.ok and kind != "view":
            self._commit(frame)
        return outcome

    def _commit(self, frame: Frame) -> None:
        for key, value in frame.writes.items():
            if value is None:
                self.storage.pop(key, None)
            else:
                self.storage[key] = value
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
    **init_args: Any,
) -> Deployed:
    """Install a contract, run its `@init` method if it has one, and return it.

    Args:
        sender: who installs it and calls it by default.
        backend: makes what executes the contract; see `default_backend`.
        init_args: the arguments of the `@init` method.

    Raises:
        Reverted: the `@init` method refused.
    """
    abi = Abi.parse(abi_module.dump(describe(contract)))
    made = (backend or _default_backend.get())(contract)
    deployed = Deployed(contract, made, abi, sender or member("deployer", role="admin"))
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
