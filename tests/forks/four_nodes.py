"""Four real nodes of one chain in one process: composed as in production, blocks by hand.

Nothing is started but execution, so a test decides who proposes, who votes and who dies when.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from chainnode._proto import types_pb2
from chainnode.consensus.interface import BuildProposal, ValidateBlock
from chainnode.identity import Identity, load_identity
from chainnode.ledger.results import Results
from chainnode.node.composition import Node
from chainnode.node.config import load_config
from chainnode.node.testnet import prepare
from chainnode.types.block import Block
from chainnode.types.codec import encode, merkle_root
from chainnode.types.transaction import Payload, PayloadKind, Transaction
from chainnode.types.vote import CommitCertificate, CommitSignature, Vote, VoteType

ADMINS = ("bank-a/admin", "guarantor/admin", "statistics/admin")
EVERYONE = (0, 1, 2, 3)


class FourNodes:
    """The nodes, and what consensus would do with them. Make it inside the event loop."""

    def __init__(self, directory: Path) -> None:
        self.layout = prepare(directory)
        self.nodes: list[Node] = []
        self._execution: dict[int, asyncio.Task[None]] = {}
        for place in self.layout.nodes:
            self.nodes.append(Node(load_config(place.config)))
        for index in EVERYONE:
            self._execute(index)

    async def stop(self, index: int) -> None:
        """End a node after the block in hand."""
        task = self._execution.pop(index)
        task.cancel()
        await asyncio.wait({task})
        await self.nodes[index].close()

    def start(self, index: int) -> None:
        """A new node over the same data folder: it recovers as after any death."""
        self.nodes[index] = Node(load_config(self.layout.nodes[index].config))
        self._execute(index)

    async def close(self) -> None:
        for index in list(self._execution):
            await self.stop(index)

    def identity(self, name: str) -> Identity:
        return load_identity(self.layout.identities[name])

    def call(self, salt: int, sender: str = "bank-a/client") -> Transaction:
        """A signed call of a contract that does not exist: it has a receipt all the same."""
        return self._payload(sender, PayloadKind.INVOKE, "f", b"", salt).sign(self.identity(sender))

    def change(self, action: str, address: bytes, salt: int) -> Transaction:
        """A membership change that a majority of organisations endorses."""
        args = encode(types_pb2.MemberChange(address=address))
        return self._endorsed(PayloadKind.CONFIG, action, args, salt)

    def install(self, name: str, wasm: bytes, salt: int) -> Transaction:
        """An endorsed installation of a contract."""
        args = encode(types_pb2.ContractPackage(name=name, version="1", wasm=wasm))
        return self._endorsed(PayloadKind.CONTRACT_ADMIN, "install", args, salt)

    def _endorsed(self, kind: PayloadKind, action: str, args: bytes, salt: int) -> Transaction:
        payload = self._payload(ADMINS[0], kind, action, args, salt)
        signed = payload.sign(self.identity(ADMINS[0]))
        for name in ADMINS[1:]:
            admin = self.identity(name)
            signed = signed.endorse(admin.public_key, admin)
        return signed

    def _payload(
        self, sender: str, kind: PayloadKind, method: str, args: bytes, salt: int
    ) -> Payload:
        return Payload(
            chain_id=self.layout.chain_id,
            kind=kind,
            contract="nothing" if kind is PayloadKind.INVOKE else "",
            method=method,
            args=args,
            sender=self.identity(sender).public_key,
            expiry_height=500,
            salt=salt.to_bytes(16, "big"),
        )

    def submit(self, *transactions: Transaction, to: Sequence[int] = EVERYONE) -> list[list[int]]:
        """Each node's verdicts."""
        body = batch(*transactions)
        return [
            list(self.nodes[index].pool.add(body, self.nodes[index].tip.height).codes)
            for index in to
        ]

    def carry(self, *transactions: Transaction, to: Sequence[int] = EVERYONE) -> None:
        """Give nodes bodies as a proposal brings them: signatures wrong or right."""
        for index in to:
            self.nodes[index].pool.add_bodies(batch(*transactions))

    async def build(self, proposer: int = 0, last_commit: CommitCertificate | None = None) -> Block:
        """What a proposer builds on its tip."""
        node = self.nodes[proposer]
        state = node.tip.state()
        request = BuildProposal(
            height=state.height,
            round=0,
            previous_hash=state.previous_hash,
            timestamp_ms=state.previous_time_ms + 1,
            proposer=node.identity.address,
            engine="tbft",
            engine_epoch=0,
            validators_hash=state.validators.hash(),
            next_validators_hash=state.next_validators.hash(),
            last_commit=last_commit or state.last_commit,
            evidence=(),
        )
        return await node.application.build(request)

    async def verdicts(self, block: Block, voters: Sequence[int] = EVERYONE) -> list[str]:
        """Each node's reason to refuse; empty to vote for it."""
        request = ValidateBlock(block, block.header.proposer)
        judged = [self.nodes[index].application.validate(request) for index in voters]
        return [verdict.reason for verdict in await asyncio.gather(*judged)]

    def certificate(
        self, block: Block, voters: Sequence[int] = (0, 1, 2), round_number: int = 0
    ) -> CommitCertificate:
        """The precommits of these nodes, properly signed."""
        signatures = []
        for index in voters:
            signer = self.nodes[index].identity
            time_ms = block.header.timestamp_ms + index
            place = (VoteType.PRECOMMIT, block.height, round_number)
            vote = Vote(*place, block.hash(), time_ms, signer.address, 0)
            signature = signer.sign(vote.sign_bytes(self.layout.chain_id))
            signatures.append(CommitSignature(signer.address, time_ms, signature))
        signatures.sort(key=lambda item: item.validator)
        return CommitCertificate(block.height, round_number, block.hash(), 0, tuple(signatures))

    async def commit(
        self, block: Block, certificate: CommitCertificate, at: Sequence[int] = EVERYONE
    ) -> list[Results]:
        """Make it final at some nodes and wait for its results there."""
        found = []
        for index in at:
            node = self.nodes[index]
            assert await node.chain.commit(block, block.hash(), certificate)
            found.append(await node.pipeline.results(block.height))
        return found

    async def step(
        self, *wids: bytes, proposer: int = 0, round_number: int = 0
    ) -> list[types_pb2.Receipt]:
        """One whole height at every node; the receipts, equal everywhere.

        Args:
            wids: the block's transactions; the proposer's choice when none are given.
            proposer: whose block it is.
            round_number: the round that decides it.
        """
        block = await self.build(proposer)
        if wids:
            block = with_transactions(block, wids)
        assert await self.verdicts(block) == [""] * len(EVERYONE)
        certificate = self.certificate(block, round_number=round_number)
        results = await self.commit(block, certificate)
        assert len(set(results)) == 1
        return self.receipts(block.height)

    def receipts(self, height: int, of: int = 0) -> list[types_pb2.Receipt]:
        found = self.nodes[of].ledger.receipts(height)
        assert found is not None
        return [types_pb2.Receipt.FromString(item) for item in found]

    def _execute(self, index: int) -> None:
        self._execution[index] = asyncio.create_task(self.nodes[index].pipeline.run())


def with_transactions(block: Block, wids: Sequence[bytes]) -> Block:
    """The block a proposer makes that chooses these transactions itself."""
    header = replace(block.header, tx_root=merkle_root(wids), tx_count=len(wids))
    return replace(block, header=header, wids=tuple(wids))


def batch(*transactions: Transaction) -> bytes:
    return encode(types_pb2.TransactionBatch(transactions=[item.encode() for item in transactions]))


def forged(transaction: Transaction) -> Transaction:
    """The same payload and id under a signature that is not the sender's."""
    signature = hashlib.sha512(transaction.signature).digest()
    return replace(transaction, signature=signature[:63] + b"\x00")
