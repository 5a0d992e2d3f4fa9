"""A simulated disk with sync semantics: what was not synced may be lost, in part or in whole."""

from __future__ import annotations

from random import Random

from chainnode.consensus.signer import Place
from chainnode.types.block import Block
from chainnode.types.vote import CommitCertificate


class SimDisk:
    """One node's consensus log, signer file, block store and body store."""

    def __init__(self) -> None:
        self.wal = b""
        self.signed: Place | None = None
        self.blocks: list[tuple[Block, CommitCertificate]] = []
        self.bodies: dict[bytes, bytes] = {}
        self._wal_pending = b""
        self._block_pending: tuple[Block, CommitCertificate] | None = None
        self._bodies_pending: dict[bytes, bytes] = {}

    def append_wal(self, data: bytes) -> None:
        """Write to the consensus log; durable after `sync_wal`."""
        self._wal_pending += data

    def sync_wal(self) -> None:
        """Make the consensus log durable."""
        self.wal += self._wal_pending
        self._wal_pending = b""

    def cut_wal(self, size_bytes: int) -> None:
        """Cut a torn tail."""
        self.wal = self.wal[:size_bytes]

    def replace_wal(self, data: bytes) -> None:
        """Put `data` in the log's place, in one step."""
        self.wal = data

    def sign(self, place: Place) -> None:
        """The signer's own file, apart from everything else: durable at once."""
        self.signed = place

    def lose_everything(self) -> None:
        """The data folder is gone; the signer's file lies elsewhere."""
        self.wal, self.blocks, self.bodies = b"", [], {}

    def put_bodies(self, bodies: dict[bytes, bytes]) -> None:
        """Write bodies by wid; durable after `sync_bodies`."""
        self._bodies_pending.update(bodies)

    def sync_bodies(self) -> None:
        """Make bodies durable."""
        self.bodies.update(self._bodies_pending)
        self._bodies_pending = {}

    def put_block(self, block: Block, certificate: CommitCertificate) -> None:
        """Write the next block; durable after `sync_blocks`."""
        self._block_pending = (block, certificate)

    def sync_blocks(self) -> None:
        """Make the block durable."""
        if self._block_pending is not None:
            self.blocks.append(self._block_pending)
            self._block_pending = None

    def lose_power(self, random: Random) -> None:
        """Lose what was not synced; a log write may survive as a torn prefix."""
        kept = random.randrange(len(self._wal_pending) + 1)
        self.wal += self._wal_pending[:kept]
        self._wal_pending = b""
        self._block_pending = None
        self._bodies_pending = {}
