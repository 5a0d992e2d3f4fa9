"""Collects one step's effects in the promised order: persist, then send, then the rest."""

from __future__ import annotations

from chainnode.consensus.interface import Broadcast, Effect, Persist, Send
from chainnode.consensus.signer import Signed
from chainnode.consensus.wal import WalRecord


class Outbox:
    """Effects of the event being handled."""

    def __init__(self) -> None:
        self._records: list[WalRecord] = []
        self._signed: Signed | None = None
        self._messages: list[Effect] = []
        self._others: list[Effect] = []

    def record(self, record: WalRecord, signed: Signed | None = None) -> None:
        """Add a record, and what it says this key signed; one step is one synced append."""
        if record not in self._records:
            self._records.append(record)
        if signed is not None and (self._signed is None or signed.place > self._signed.place):
            self._signed = signed

    def message(self, effect: Send | Broadcast) -> None:
        """Add a message."""
        self._messages.append(effect)

    def other(self, effect: Effect) -> None:
        """Add any other effect."""
        self._others.append(effect)

    def take(self) -> list[Effect]:
        """Give out the step's effects in order and start the next step empty."""
        persist: list[Effect] = []
        if self._records:
            persist.append(Persist(tuple(self._records), self._signed))
        effects = persist + self._messages + self._others
        self._records, self._messages, self._others = [], [], []
        self._signed = None
        return effects
