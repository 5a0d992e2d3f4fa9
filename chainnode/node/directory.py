"""Members by TLS key, kept in step with the executed state."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from chainnode._proto import types_pb2
from chainnode.types.codec import address_of
from chainnode.types.validators import ValidatorSet

MEMBER_PREFIX = b"\x02"
_AFTER_MEMBERS = b"\x03"


class MemberDirectory:
    """Answers who a TLS key belongs to, and tells the pool whose transactions to take.

    Args:
        validators: whose members may speak as peers.
        set_sender: told of every signing key that comes (True) or goes, as members change.
    """

    def __init__(
        self,
        validators: ValidatorSet,
        set_sender: Callable[[bytes, bool], None] = lambda public_key, member: None,
    ) -> None:
        self._validators = validators
        self._set_sender = set_sender
        self._by_address: dict[bytes, types_pb2.Member] = {}
        self._by_tls: dict[bytes, types_pb2.Member] = {}

    def load(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Take stored (state key, canonical Member) pairs."""
        for key, value in entries:
            self._take(key, value)

    def update(self, writes: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Follow a block's net writes, which are sorted by key."""
        start = bisect_left(writes, MEMBER_PREFIX, key=lambda write: write[0])
        for key, value in writes[start:]:
            if key >= _AFTER_MEMBERS:
                return
            self._take(key, value)

    def member_by_tls(self, tls_key_hash: bytes) -> types_pb2.Member | None:
        """The member whose record names this TLS key."""
        return self._by_tls.get(tls_key_hash)

    def validator_of(self, tls_key_hash: bytes) -> bytes | None:
        """The validator address that a TLS key belongs to."""
        member = self._by_tls.get(tls_key_hash)
        if member is None or member.status != types_pb2.MEMBER_STATUS_ACTIVE:
            return None
        address = address_of(member.public_key)
        return address if address in self._validators else None

    def _take(self, key: bytes, value: bytes | None) -> None:
        address = key[len(MEMBER_PREFIX) :]
        before = self._by_address.pop(address, None)
        if before is not None:
            self._by_tls.pop(before.tls_key_hash, None)
        if value is None:
            if before is not None:
                self._set_sender(before.public_key, False)
            return
        # An address is the hash of its key: the key of a record that is written again stays.
        member = types_pb2.Member.FromString(value)
        self._by_address[address] = member
        self._set_sender(member.public_key, True)
        if member.tls_key_hash:
            self._by_tls[member.tls_key_hash] = member
