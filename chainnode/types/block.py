"""Blocks: what the proposer orders, bound into one header hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chainnode._proto import types_pb2
from chainnode.types.codec import (
    HASH_SIZE_BYTES,
    check_size,
    decode,
    encode,
    malformed,
    merkle_root,
    tagged_hash,
)
from chainnode.types.limits import BLOCK_TRANSACTIONS_MAX, EVIDENCE_PER_BLOCK_MAX
from chainnode.types.vote import CommitCertificate, Evidence

HEADER_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """How the blocks of this height are executed, and which inputs chose it."""

    id: str
    policy_version: int
    inputs_digest: bytes
    block_tx_cap: int
    block_interval_ms: int

    def to_proto(self) -> types_pb2.Architecture:
        """The wire form."""
        return types_pb2.Architecture(
            id=self.id,
            policy_version=self.policy_version,
            inputs_digest=self.inputs_digest,
            block_tx_cap=self.block_tx_cap,
            block_interval_ms=self.block_interval_ms,
        )

    @classmethod
    def from_proto(cls, message: types_pb2.Architecture) -> Architecture:
        """Read and check the shape.

        Raises:
            ClientFault: `MALFORMED`.
        """
        check_size("Architecture.inputs_digest", message.inputs_digest, 0, HASH_SIZE_BYTES)
        return cls(
            message.id,
            message.policy_version,
            message.inputs_digest,
            message.block_tx_cap,
            message.block_interval_ms,
        )


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """Everything validators sign, by its hash. Fields as in types.proto, times in ms."""

    version: int
    chain_id: str
    height: int
    previous_hash: bytes
    timestamp_ms: int
    tx_root: bytes
    tx_count: int
    engine: str
    engine_epoch: int
    validators_hash: bytes
    next_validators_hash: bytes
    architecture: Architecture
    proposer: bytes
    last_commit_hash: bytes
    evidence_hash: bytes
    exec_height: int
    state_root: bytes
    receipts_root: bytes
    results_accumulator: bytes

    def hash(self) -> bytes:
        """The block hash: SHA-256("chainnode/block/v1" || canonical header)."""
        return tagged_hash(b"chainnode/block/v1", encode(self.to_proto()))

    def to_proto(self) -> types_pb2.BlockHeader:
        """The wire form."""
        return types_pb2.BlockHeader(
            version=self.version,
            chain_id=self.chain_id,
            height=self.height,
            previous_hash=self.previous_hash,
            timestamp_ms=self.timestamp_ms,
            tx_root=self.tx_root,
            tx_count=self.tx_count,
            engine=self.engine,
            engine_epoch=self.engine_epoch,
            validators_hash=self.validators_hash,
            next_validators_hash=self.next_validators_hash,
            architecture=self.architecture.to_proto(),
            proposer=self.proposer,
            last_commit_hash=self.last_commit_hash,
            evidence_hash=self.evidence_hash,
            exec_height=self.exec_height,
            state_root=self.state_root,
            receipts_root=self.receipts_root,
            results_accumulator=self.results_accumulator,
        )

    @classmethod
    def from_proto(cls, message: types_pb2.BlockHeader) -> BlockHeader:
        """Read and check the shape of a header.

        Raises:
            ClientFault: `MALFORMED`.
        """
        header = cls(
            message.version,
            message.chain_id,
            message.height,
            message.previous_hash,
            message.timestamp_ms,
            message.tx_root,
            message.tx_count,
            message.engine,
            message.engine_epoch,
            message.validators_hash,
            message.next_validators_hash,
            Architecture.from_proto(message.architecture),
            message.proposer,
            message.last_commit_hash,
            message.evidence_hash,
            message.exec_height,
            message.state_root,
            message.receipts_root,
            message.results_accumulator,
        )
        header.validate()
        return header

    def validate(self) -> None:
        """Check version, lengths and ranges.

        Raises:
            ClientFault: `MALFORMED`.
        """
        if self.version != HEADER_VERSION:
            raise malformed("BlockHeader.version", f"is {self.version}, wants {HEADER_VERSION}")
        if self.height < 1 or self.exec_height >= self.height:
            raise malformed("BlockHeader.height", "is not above exec_height")
        if self.tx_count > BLOCK_TRANSACTIONS_MAX:
            raise malformed("BlockHeader.tx_count", f"is above {BLOCK_TRANSACTIONS_MAX}")
        for name in (
            "previous_hash",
            "tx_root",
            "validators_hash",
            "next_validators_hash",
            "proposer",
            "last_commit_hash",
            "evidence_hash",
            "state_root",
            "receipts_root",
            "results_accumulator",
        ):
            check_size(f"BlockHeader.{name}", getattr(self, name), HASH_SIZE_BYTES)


@dataclass(frozen=True, slots=True)
class Block:
    """A header and the parts its roots bind; transaction bodies travel by wid."""

    header: BlockHeader
    last_commit: CommitCertificate
    evidence: tuple[Evidence, ...]
    wids: tuple[bytes, ...]

    @property
    def height(self) -> int:
        """The header's height."""
        return self.header.height

    def hash(self) -> bytes:
        """The header's hash."""
        return self.header.hash()

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self.to_proto())

    @classmethod
    def decode(cls, data: bytes) -> Block:
        """Read canonical bytes and check their shape.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return cls.from_proto(decode(types_pb2.Block, data))

    def to_proto(self) -> types_pb2.Block:
        """The wire form."""
        return types_pb2.Block(
            header=self.header.to_proto(),
            last_commit=self.last_commit.to_proto(),
            evidence=[item.to_proto() for item in self.evidence],
            wids=self.wids,
        )

    @classmethod
    def from_proto(cls, message: types_pb2.Block) -> Block:
        """Read a block and check that its parts match its header.

        Raises:
            ClientFault: `MALFORMED`.
        """
        if len(message.evidence) > EVIDENCE_PER_BLOCK_MAX:
            raise malformed("Block.evidence", f"more than {EVIDENCE_PER_BLOCK_MAX}")
        if len(message.wids) > BLOCK_TRANSACTIONS_MAX:
            raise malformed("Block.wids", f"more than {BLOCK_TRANSACTIONS_MAX}")
        block = cls(
            BlockHeader.from_proto(message.header),
            CommitCertificate.from_proto(message.last_commit),
            tuple(Evidence.from_proto(item) for item in message.evidence),
            tuple(message.wids),
        )
        block.validate()
        return block

    def validate(self) -> None:
        """Check shape and recompute every root the parts are bound by.

        Raises:
            ClientFault: `MALFORMED`.
        """
        self.header.validate()
        self.last_commit.validate()
        for wid in self.wids:
            check_size("Block.wids", wid, HASH_SIZE_BYTES)
        if len(set(self.wids)) != len(self.wids):
            raise malformed("Block.wids", "repeat")
        if self.header.tx_count != len(self.wids):
            raise malformed("BlockHeader.tx_count", "does not match the wids")
        if self.header.tx_root != merkle_root(self.wids):
            raise malformed("BlockHeader.tx_root", "does not match the wids")
        if self.header.last_commit_hash != self.last_commit.hash():
            raise malformed("BlockHeader.last_commit_hash", "does not match the certificate")
        if self.header.evidence_hash != evidence_root(self.evidence):
            raise malformed("BlockHeader.evidence_hash", "does not match the evidence")


def evidence_root(evidence: tuple[Evidence, ...]) -> bytes:
    """The header's `evidence_hash`: Merkle root over canonical Evidence."""
    return merkle_root([encode(item.to_proto()) for item in evidence])
