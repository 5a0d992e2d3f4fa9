"""Contract tests that also hold every call's access template against what the call touched."""

from collections import Counter
from dataclasses import dataclass, field, fields

from compiled_contract import compiled

from chainnode import _native
from chainnode.contract import Contract
from chainnode.contract.frame import Frame
from chainnode.contract.testing import NativeBackend, Outcome

EXACT: Counter[str] = Counter()
"""Successful calls by method whose reads and writes were exactly the predicted keys."""


@dataclass(slots=True)
class RecordingFrame(Frame):
    """A frame that remembers every key asked for."""

    asked: set[bytes] = field(default_factory=set)

    def get(self, key: bytes) -> bytes | None:
        self.asked.add(key)
        return Frame.get(self, key)

    def scan(
        self, low: bytes, high: bytes | None, limit: int, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        rows = Frame.scan(self, low, high, limit, reverse=reverse)
        # The bound stands for the keys that are missing.
        self.asked.update([low, *(key for key, _ in rows)])
        return rows


class HintedBackend(NativeBackend):
    """Runs methods under CPython; fails when a key was touched that no template foretold."""

    def __init__(self, contract: type[Contract]) -> None:
        super().__init__(contract)
        made = compiled(contract)
        self.name = made.name
        self.templates = _native.AccessTemplates(made.abi)

    def run(self, frame: Frame, kind: str, method: str, args: bytes) -> Outcome:
        # Templates are for what a member calls.
        if kind != "call" or frame.outer is not None:
            return super().run(frame, kind, method, args)
        whole = {item.name: getattr(frame, item.name) for item in fields(frame)}
        recording = RecordingFrame(**whole)
        outcome = super().run(recording, kind, method, args)
        self.check(recording, method, args, ok=outcome.ok)
        return outcome

    def check(self, frame: RecordingFrame, method: str, args: bytes, *, ok: bool) -> None:
        caller = frame.caller
        predicted = self.templates.predict(
            frame.contract,
            method,
            args,
            sender=bytes(caller.address),
            sender_org=caller.organisation,
            sender_role=caller.role,
            sender_name=caller.name,
            tx_id=bytes(frame.tx_id),
            chain_id=frame.chain_id,
            height=frame.height,
            time_ms=frame.time_ms,
        )
        name = frame.contract.encode()
        prefix = b"\x04" + bytes([len(name)]) + name
        asked = {prefix + key for key in frame.asked}
        written = {prefix + key for key in frame.writes}
        if predicted is None:
            assert not ok, f"{method} has no prediction for a call that succeeded"
            return
        reads, writes, adds, read_prefixes, write_prefixes = predicted
        # Under CPython a counter is read to be added to; the machine does not.
        unforeseen = {
            key
            for key in asked - {*reads, *adds}
            if not key.startswith(tuple(read_prefixes)) or not read_prefixes
        }
        assert not unforeseen, f"{method} read {unforeseen}"
        unforeseen = {
            key
            for key in written - {*writes, *adds}
            if not key.startswith(tuple(write_prefixes)) or not write_prefixes
        }
        assert not unforeseen, f"{method} wrote {unforeseen}"
        if ok and asked - {*adds} == {*reads} and written == {*writes, *adds}:
            EXACT[method] += 1
