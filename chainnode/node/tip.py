"""The tip of the chain: what the next height builds on, and whether it has anything to do."""

from __future__ import annotations

from collections import deque

from chainnode._proto import types_pb2
from chainnode.consensus.interface import HeightState
from chainnode.consensus.turns import ERA_HEIGHTS, Turns
from chainnode.ledger.ledger import Ledger
from chainnode.types.block import Block, BlockHeader
from chainnode.types.validators import Validator, ValidatorSet
from chainnode.types.vote import CommitCertificate

RECENT_HEADERS = 16


class Tip:
    """Follows commits, one height after another.

    Args:
        genesis: the chain's genesis.
        ledger: opened; its last committed block is where the tip starts.
    """

    def __init__(self, genesis: types_pb2.Genesis, ledger: Ledger) -> None:
        self.validators = ValidatorSet(Validator.from_proto(item) for item in genesis.validators)
        self.header: BlockHeader | None = None
        self.recent: deque[BlockHeader] = deque(maxlen=RECENT_HEADERS)
        self._genesis = genesis
        self._hash = ledger.genesis_hash
        self._certificate = CommitCertificate.empty()
        self._last_height_with_work = 0
        first = _first_unproven(ledger)
        self._turns = self._turns_at(first, ledger)
        for height in range(first, ledger.height + 1):
            logged = ledger.block(height)
            assert logged is not None
            block = Block.decode(logged.block)
            certificate = types_pb2.CommitCertificate.FromString(logged.certificate)
            self.advance(block, logged.block_hash, CommitCertificate.from_proto(certificate))

    @property
    def height(self) -> int:
        """The last committed height."""
        return 0 if self.header is None else self.header.height

    @property
    def block_hash(self) -> bytes:
        """Its hash; before block 1 the genesis hash."""
        return self._hash

    @property
    def results_pending(self) -> bool:
        """Whether a transaction's results, or those of block 1, are in no header yet.

        A fresh chain proves block 1 by itself: its first blocks show that a quorum works.
        """
        proven = -1 if self.header is None else self.header.exec_height
        return proven < max(1, self._last_height_with_work)

    def advance(self, block: Block, block_hash: bytes, certificate: CommitCertificate) -> None:
        """Take the next committed block."""
        self._turns = self._turns.after(
            self.validators, block.height, block.header.proposer, block.last_commit.round
        )
        self.header = block.header
        self.recent.append(block.header)
        self._hash = block_hash
        self._certificate = certificate
        if block.wids:
            self._last_height_with_work = block.height

    def state(self) -> HeightState:
        """What the consensus engine has to know to decide the next height."""
        time_ms = self._genesis.genesis_time_ms if self.header is None else self.header.timestamp_ms
        return HeightState(
            height=self.height + 1,
            previous_hash=self._hash,
            previous_time_ms=time_ms,
            last_commit=self._certificate,
            validators=self.validators,
            last_validators=self.validators,
            next_validators=self.validators,
            engine_epoch=self._genesis.config.engine_epoch,
            turns=self._turns,
        )

    def _turns_at(self, height: int, ledger: Ledger) -> Turns:
        turns = Turns()
        for below in range(max(1, height - height % ERA_HEIGHTS), height):
            data = ledger.log.read_block(below)
            assert data is not None
            block = types_pb2.Block.FromString(data)
            turns = turns.after(
                self.validators, below, block.header.proposer, block.last_commit.round
            )
        return turns


def _first_unproven(ledger: Ledger) -> int:
    """Where to start so that the results not yet in a header and the recent headers are seen."""
    logged = ledger.block(ledger.height)
    if logged is None:
        return 1
    last = types_pb2.Block.FromString(logged.block).header
    return max(1, min(last.exec_height + 1, last.height + 1 - RECENT_HEADERS))
