"""A chain written once more in plain Python: one call after another over a dict.

Nothing of the Rust core takes part but the metering of the modules and the formats on the wire:
calls run on PyPI's wasmtime, the rules of admission and the sparse Merkle root are spelt out here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from execution_chain import CHAIN_ID, GENESIS_TIME_MS, Person
from second_engine import Call, Machine

from chainnode._proto import types_pb2
from chainnode.contract import contract_address

EXPIRY_WINDOW = 100
ROLE_NAMES = {types_pb2.ROLE_ADMIN: b"admin", types_pb2.ROLE_CLIENT: b"client"}
ENDS = {
    "ok": types_pb2.RECEIPT_STATUS_OK,
    "gas": types_pb2.RECEIPT_STATUS_OUT_OF_GAS,
    "trap": types_pb2.RECEIPT_STATUS_TRAPPED,
    "revert": types_pb2.RECEIPT_STATUS_REVERTED,
    "unknown": types_pb2.RECEIPT_STATUS_UNKNOWN_METHOD,
}
NO_ACCESS = hashlib.sha256(b"chainnode/access/v1" + bytes(12)).digest()


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def state_root(state: dict[bytes, bytes]) -> bytes:
    """The sparse Merkle root over SHA-256 of the keys; a subtree of one key is its leaf."""
    leaves = sorted((sha256(key), sha256(value)) for key, value in state.items())

    def root(first: int, end: int, depth: int) -> bytes:
        if end - first == 0:
            return bytes(32)
        if end - first == 1:
            return sha256(b"\0", *leaves[first])
        middle = first
        while middle < end and not leaves[middle][0][depth // 8] >> (7 - depth % 8) & 1:
            middle += 1
        return sha256(b"\1", root(first, middle, depth + 1), root(middle, end, depth + 1))

    return root(0, len(leaves), 0)


@dataclass(frozen=True)
class Outcome:
    """What a receipt says of one transaction."""

    status: int
    gas_used: int = 0
    result: bytes = b""
    events: tuple[tuple[str, str, bytes], ...] = ()
    error_code: int = 0
    text: bytes = b""
    access_hash: bytes = NO_ACCESS


@dataclass
class PlainChain:
    """Members who may call, contracts of one module each, and what they stored.

    Args:
        state: everything stored so far, which the chain goes on from.
    """

    members: Sequence[Person]
    machine: Machine
    state: dict[bytes, bytes]
    height: int
    used_up: set[bytes] = field(default_factory=set)

    def block(self, transactions: Sequence[tuple[bytes, types_pb2.Payload]]) -> list[Outcome]:
        """Execute (id, payload) in order."""
        self.height += 1
        return [self._execute(tx_id, payload) for tx_id, payload in transactions]

    def _execute(self, tx_id: bytes, payload: types_pb2.Payload) -> Outcome:
        if tx_id in self.used_up:
            return Outcome(types_pb2.RECEIPT_STATUS_DUPLICATE)
        if not self.height <= payload.expiry_height <= self.height + EXPIRY_WINDOW:
            return Outcome(types_pb2.RECEIPT_STATUS_EXPIRED)
        found = [one for one in self.members if one.public_key == payload.sender]
        if not found:
            return Outcome(types_pb2.RECEIPT_STATUS_UNKNOWN_MEMBER)
        # From here on only what the sender signed and the state decide.
        self.used_up.add(tx_id)
        if payload.contract not in self.machine.contracts:
            return Outcome(types_pb2.RECEIPT_STATUS_UNKNOWN_CONTRACT)
        return self._call(tx_id, payload, found[0])

    def _call(self, tx_id: bytes, payload: types_pb2.Payload, sender: Person) -> Outcome:
        name = payload.contract.encode()
        call = Call(
            state=self.state,
            prefix=b"\x04" + bytes([len(name)]) + name,
            fields=[
                sender.address,
                sender.organisation.encode(),
                ROLE_NAMES[sender.role],
                name,
                tx_id,
                CHAIN_ID.encode(),
                sender.name.encode(),
                b"",
                sender.address,
                bytes(contract_address(payload.contract)),
            ],
            numbers=[self.height, GENESIS_TIME_MS + self.height],
            args=payload.args,
        )
        end, gas_used = self.machine.run(f"c:{payload.method}", call, payload.gas_limit)
        ok = end == "ok"
        code, text = self.machine.reverted if end == "revert" else (0, b"")
        outcome = Outcome(
            ENDS[end],
            gas_used,
            call.result if ok else b"",
            tuple(call.placed_events()) if ok else (),
            code,
            text,
            call.access_hash(ok),
        )
        if ok:
            self._store({key: call.value(key) for key in call.writes})
        return outcome

    def _store(self, writes: dict[bytes, bytes | None]) -> None:
        for key, value in writes.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value


def told(receipt: types_pb2.Receipt) -> Outcome:
    """What the chain under test says, in the same words."""
    reverted = receipt.status == types_pb2.RECEIPT_STATUS_REVERTED
    return Outcome(
        receipt.status,
        receipt.gas_used,
        receipt.result,
        tuple((event.contract, event.name, event.data) for event in receipt.events),
        receipt.error_code,
        receipt.message.encode() if reverted else b"",
        receipt.access_hash,
    )
