"""Evidence: who recorded which document hash, and when."""

from dataclasses import dataclass

from chainnode.contract import (
    Address,
    Bytes32,
    Contract,
    Counter,
    Error,
    Map,
    call,
    ctx,
    emit,
    error,
    event,
    u16,
    u64,
    view,
)

METADATA_MAX_CHARACTERS = 4096


@dataclass(frozen=True)
class Record:
    owner: Address
    organisation: str
    height: u64
    time_ms: u64
    metadata: str


@event
class Recorded:
    digest: Bytes32
    owner: Address


@error
class AlreadyRecorded(Error):
    digest: Bytes32
    owner: Address


@error
class NotRecorded(Error):
    digest: Bytes32


class Evidence(Contract, version="1.0"):
    """A hash can be recorded once, by anyone, and is never changed."""

    records: Map[Bytes32, Record]
    count: Counter

    @call
    def put(self, digest: Bytes32, metadata: str) -> None:
        """Record a document's hash with a short text."""
        assert len(metadata) <= METADATA_MAX_CHARACTERS, "metadata too long"
        known = self.records.get(digest)
        if known is not None:
            raise AlreadyRecorded(digest, known.owner)
        self.records[digest] = Record(ctx.sender, ctx.sender_org, ctx.height, ctx.time_ms, metadata)
        self.count.add(1)
        emit(Recorded(digest, ctx.sender))

    @view
    def get(self, digest: Bytes32) -> Record:
        """Return what was recorded."""
        known = self.records.get(digest)
        if known is None:
            raise NotRecorded(digest)
        return known

    @view
    def exists(self, digest: Bytes32) -> bool:
        """Whether the hash was recorded."""
        return digest in self.records

    @view
    def owner(self, digest: Bytes32) -> Address:
        """Return who recorded the hash."""
        known = self.records.get(digest)
        if known is None:
            raise NotRecorded(digest)
        return known.owner

    @view
    def page(self, start: Bytes32, limit: u16) -> list[tuple[Bytes32, Record]]:
        """Return up to 1,000 hashes with their records, in the order of hashes from `start` on."""
        return self.records.range(start, limit=limit)

    @view
    def total(self) -> u64:
        """Return how many hashes were recorded."""
        return self.count.read()
