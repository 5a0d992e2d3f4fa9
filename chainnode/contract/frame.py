"""What a contract sees of the chain while one of its methods runs under CPython."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from chainnode.contract.values import Address, Bytes32, contract_address


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the member who signed the transaction, or a contract."""

    address: Address
    organisation: str
    role: str
    name: str
    public_key: bytes = b""


class Calls(Protocol):
    """The other contracts of a chain."""

    def call(self, frame: Frame, contract: str, kind: str, method: str, args: bytes) -> bytes:
        """Call a method for the contract of a frame and return its encoded result."""
        ...


@dataclass(slots=True)
class Frame:
    """One method call: its context, a private overlay on storage, and its events.

    Args:
        height: of the block being executed.
        time_ms: block time, milliseconds since 1970.
        committed: storage before the call; never written.
        outer: the frame of the contract that calls this one.
        inner: the calls this one made that succeeded, in order.
        calls: how this one calls others; without it there are none.
    """

    caller: Caller
    contract: str
    chain_id: str
    tx_id: Bytes32
    height: int
    time_ms: int
    committed: dict[bytes, bytes]
    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    events: list[tuple[str, bytes]] = field(default_factory=list)
    read_only: bool = False
    outer: Frame | None = None
    inner: list[Frame] = field(default_factory=list)
    calls: Calls | None = None

    def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        return self.committed.get(key)

    def scan(
        self, low: bytes, high: bytes | None, limit: int, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        """Return the first rows with low <= key < high in the order of keys, or the last ones."""
        known = {*self.committed, *self.writes}
        inside = [key for key in known if low <= key and (high is None or key < high)]
        found: list[tuple[bytes, bytes]] = []
        for key in sorted(inside, reverse=reverse):
            value = self.writes[key] if key in self.writes else self.committed[key]
            if value is not None and len(found) < limit:
                found.append((key, value))
        return found

    def put(self, key: bytes, value: bytes | None) -> None:
        """Write, or delete with None.

        Raises:
            PermissionError: the method is a view.
        """
        if self.read_only:
            raise PermissionError("a @view cannot change storage; make the method a @call")
        self.writes[key] = value

    def emit(self, name: str, data: bytes) -> None:
        if self.read_only:
            raise PermissionError("a @view cannot emit events; make the method a @call")
        self.events.append((name, data))

    def call(self, contract: str, kind: str, method: str, args: bytes) -> bytes:
        """Call another contract and return its encoded result.

        Raises:
            CallFailed: the other contract failed; what it did is undone.
            PermissionError: the method is a view and the other's is not.
            RuntimeError: nothing else is deployed.
        """
        if self.read_only and kind != "view":
            raise PermissionError("a @view calls only views; make the method a @call")
        if self.calls is None:
            raise RuntimeError("no other contract is deployed; use deploy(..., beside=other)")
        return self.calls.call(self, contract, kind, method, args)

    def origin(self) -> Address:
        """The address of the member who signed."""
        return self.caller.address if self.outer is None else self.outer.origin()


_current: ContextVar[Frame] = ContextVar("contract_frame")


def current() -> Frame:
    """Return the running call's frame.

    Raises:
        RuntimeError: no contract method is running.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            "storage and ctx exist only inside a contract call; "
            "use chainnode.contract.testing.deploy(...)"
        ) from None


@contextmanager
def entered(frame: Frame) -> Iterator[Frame]:
    """Make a frame current for the duration of the block."""
    token = _current.set(frame)
    try:
        yield frame
    finally:
        _current.reset(token)


class Context:
    """The transaction and block a method runs in. Read-only; the instance is `ctx`.

    The sender is whoever calls the method: a member, or a contract under its own address.
    """

    @property
    def sender(self) -> Address:
        return current().caller.address

    @property
    def sender_org(self) -> str:
        """Empty where a contract calls."""
        return current().caller.organisation

    @property
    def sender_role(self) -> str:
        """One of `admin client consensus common light`, or `contract`."""
        return current().caller.role

    @property
    def sender_name(self) -> str:
        return current().caller.name

    @property
    def caller(self) -> str:
        """Name of the calling contract; empty where a member calls."""
        outer = current().outer
        return "" if outer is None else outer.contract

    @property
    def origin(self) -> Address:
        """Who signed the transaction. Not whom to trust: it may not know what it set off."""
        return current().origin()

    @property
    def address(self) -> Address:
        """The contract's own address, its `sender` in the contracts it calls."""
        return contract_address(current().contract)

    @property
    def contract(self) -> str:
        return current().contract

    @property
    def chain_id(self) -> str:
        return current().chain_id

    @property
    def tx_id(self) -> Bytes32:
        return current().tx_id

    @property
    def height(self) -> int:
        return current().height

    @property
    def time_ms(self) -> int:
        """Block time in milliseconds since 1970."""
        return current().time_ms


ctx = Context()
