"""A one-node chain made by hand: a real executor, real signed transactions, headers that match."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.identity import IssuedKeys, build_genesis, create_organisation, issue_member
from chainnode.ledger.ledger import Ledger, block_context, genesis_hash
from chainnode.types.codec import encode
from chainnode.types.genesis import ChainConfig
from chainnode.types.member import Role
from chainnode.types.transaction import Payload, PayloadKind

DEPTH = 2
SEED = bytes(32)
START = datetime(2023, 6, 1, tzinfo=UTC)


class HandMadeChain:
    """Appends and applies blocks the way a node does, without consensus."""

    def __init__(self, directory: Path, *, window: int = 1_000) -> None:
        authority = create_organisation("bank-a", "Bank A", testnet_seed=SEED, not_before=START)
        members = {
            name: issue_member(
                authority,
                name,
                role,
                keys=IssuedKeys.for_testnet(SEED, "bank-a", name),
                not_before=START,
            )
            for name, role in (("node", Role.CONSENSUS), ("client", Role.CLIENT))
        }
        self.client = members["client"]
        self.config = ChainConfig(chain_id="hand-made", execution_depth=DEPTH)
        path = directory / "genesis.bin"
        if not path.exists():
            genesis = build_genesis(
                self.config,
                1_700_000_000_000,
                [authority.record()],
                [member.record() for member in members.values()],
            )
            directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(genesis.encode())
        self.genesis = path.read_bytes()
        self.window = window
        self.directory = directory / "data"
        self.open()

    def open(self) -> None:
        """Open the ledger again, with a new executor."""
        self.executor = _native.Executor("hand-made")
        self.ledger = Ledger.open(self.directory, self.genesis, self.executor, self.window)

    def transaction(self, salt: int, expiry_height: int = 500) -> bytes:
        """A signed call of a contract that does not exist: it has a receipt all the same."""
        payload = Payload(
            chain_id="hand-made",
            kind=PayloadKind.INVOKE,
            contract="nothing",
            method="f",
            args=b"",
            sender=self.client.public_key,
            expiry_height=expiry_height,
            salt=salt.to_bytes(16, "big"),
        )
        return payload.sign(self.client).encode()

    def order(self, *transactions: bytes) -> types_pb2.BlockHeader:
        """Put the next block into the log, committed."""
        height = self.ledger.height + 1
        before = self.ledger.block(height - 1)
        exec_height = max(0, height - DEPTH)
        results = self.ledger.results(exec_height)
        assert results is not None, "execute the earlier blocks first"
        header = types_pb2.BlockHeader(
            version=1,
            chain_id="hand-made",
            height=height,
            previous_hash=before.block_hash if before else genesis_hash(self.genesis),
            timestamp_ms=1_700_000_000_000 + height,
            tx_count=len(transactions),
            exec_height=exec_height,
            state_root=results.state_root,
            receipts_root=results.receipts_root,
            results_accumulator=results.accumulator,
        )
        block = types_pb2.Block(header=header, wids=[_native.wid(item) for item in transactions])
        block_hash = hashlib.sha256(b"chainnode/block/v1" + encode(header)).digest()
        batch = encode(types_pb2.TransactionBatch(transactions=transactions))
        self.ledger.log.append_body(height, block_hash, encode(block), batch)
        certificate = types_pb2.CommitCertificate(height=height, block_hash=block_hash)
        self.ledger.log.append_commit(height, block_hash, encode(certificate))
        return header

    def execute(self) -> None:
        """Execute every committed block that the store has not seen."""
        for height in range(self.ledger.executed_height + 1, self.ledger.height + 1):
            logged = self.ledger.block(height)
            assert logged is not None
            block = types_pb2.Block.FromString(logged.block)
            outcome = self.executor.execute_block(
                block_context(block.header), logged.batch, bytes(len(block.wids))
            )
            self.ledger.apply(height, outcome)
