"""A chain of one process: the real contract under CPython, real receipts, headers and signatures.

Every call is a block of its own, sealed by every organisation's precommit, so that proofs verify as
they would against nodes.
"""

import asyncio
import copy
import dataclasses
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chainnode._proto import types_pb2
from chainnode.contract import abi
from chainnode.contract.frame import Caller
from chainnode.contract.testing import Deployed, Reverted, deploy, load_contract, member
from chainnode.contract.testing.harness import Neighbours
from chainnode.sdk.problems import blob_damaged
from chainnode.sdk.scoring import CONTRACT, ContractRefused, Step
from chainnode.types.block import Architecture, BlockHeader
from chainnode.types.codec import merkle_root
from chainnode.types.errors import ClientFault
from chainnode.types.proof import genesis_accumulator, next_accumulator
from chainnode.types.receipt import Event, Receipt, ReceiptStatus
from chainnode.types.validators import Validator, ValidatorSet
from chainnode.types.vote import CommitCertificate, CommitSignature

SOURCE = Path(__file__).resolve().parents[2] / "contracts" / "credit_scoring"
ORGANISATIONS = ("bank-a", "guarantor", "registry", "statistics")
CHAIN_ID = "test"
DEADLINE_MS = 5_000
"""Longer than a loaded machine needs: a test in which it passes may move the clock (`Clock`)."""


def plain(value: Any) -> Any:
    """Records as dictionaries, as the SDK gives them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


class LocalLedger:
    """The contract's storage, the blocks made so far and the blobs beside them."""

    def __init__(
        self,
        threshold: int = 3,
        query_deadline_ms: int = 600_000,
        profiles: Sequence[str] = ("S", "S36"),
        organisations: Sequence[str] = ORGANISATIONS,
        share_deadline_ms: int = DEADLINE_MS,
        chunk_deadline_ms: int = DEADLINE_MS,
    ) -> None:
        self.organisations = tuple(organisations)
        council = {
            "organisations": list(organisations),
            "threshold": threshold,
            "profiles": list(profiles),
            "keyholder_name": "keyholder",
            "worker_name": "worker",
            "chunk_deadline_ms": chunk_deadline_ms,
            "share_deadline_ms": share_deadline_ms,
            "query_deadline_ms": query_deadline_ms,
        }
        self.deployed: Deployed = deploy(load_contract(SOURCE).CreditScoring, council=council)
        self.deployed.chain_id = CHAIN_ID
        self.keys = [Ed25519PrivateKey.generate() for _ in organisations]
        self.validators = ValidatorSet(
            Validator(key.public_key().public_bytes_raw(), name, 1)
            for key, name in zip(self.keys, organisations, strict=True)
        )
        self.blobs: dict[bytes, bytes] = {}
        self.blocks: list[tuple[int, list[Step]]] = []
        self.places: dict[bytes, int] = {}
        self.receipts: list[Receipt] = []
        self.accumulators = [genesis_accumulator(bytes(32), bytes(32))]
        self.fresh = asyncio.Condition()

    def copy(self) -> "LocalLedger":
        """The same chain once more; what happens on one does not happen on the other."""
        made = copy.copy(self)
        storage, events = dict(self.deployed.storage), list(self.deployed.events)
        made.deployed = dataclasses.replace(
            self.deployed, storage=storage, events=events, neighbours=Neighbours()
        )
        # Writes go to the contract that the chain knows by this name: the copy.
        made.deployed.neighbours.contracts[made.deployed.name] = made.deployed
        made.blobs, made.blocks = dict(self.blobs), list(self.blocks)
        made.places, made.receipts = dict(self.places), list(self.receipts)
        made.accumulators = list(self.accumulators)
        made.fresh = asyncio.Condition()
        return made

    async def execute(self, caller: Caller, method: str, kwargs: dict[str, Any]) -> Receipt:
        first_event = len(self.deployed.events)
        refused: Reverted | None = None
        self.deployed.height = len(self.receipts)
        self.deployed.time_ms = int(time.time() * 1000)
        try:
            self.deployed.call(method, sender=caller, **kwargs)
        except Reverted as error:
            refused = error
        tx_id = hashlib.sha256(b"local" + len(self.receipts).to_bytes(8, "big")).digest()
        fresh = self.deployed.events[first_event:]
        description = self.deployed.abi
        events = tuple(
            Event(CONTRACT, name, abi.codec.encode(description.events[name], fields))
            for name, fields in fresh
        )
        status = ReceiptStatus.OK if refused is None else ReceiptStatus.REVERTED
        receipt = Receipt(tx_id, status, events=events, wid=bytes(32))
        self.places[tx_id] = len(self.receipts)
        self.receipts.append(receipt)
        root = merkle_root([receipt.encode()])
        self.accumulators.append(next_accumulator(self.accumulators[-1], bytes(32), root))
        height = len(self.receipts)
        steps = [Step(height, tx_id, name, fields) for name, fields in fresh]
        async with self.fresh:
            self.blocks.append((height, steps))
            self.fresh.notify_all()
        if refused is not None:
            raise ContractRefused(refused.error, refused.fields) from refused
        return receipt

    def proof(self, tx_id: bytes) -> types_pb2.ReceiptProof:
        index = self.places[tx_id]
        receipt = self.receipts[index].encode()
        root = merkle_root([receipt])
        header = self.header(index + 2, root, self.accumulators[index + 1])
        return types_pb2.ReceiptProof(
            height=index + 1,
            index=0,
            receipt=receipt,
            path=[],
            leaf_count=1,
            state_root=bytes(32),
            previous_accumulator=self.accumulators[index],
            header=header.to_proto(),
            certificate=self.certificate(header).to_proto(),
        )

    def header(self, height: int, receipts_root: bytes, accumulator: bytes) -> BlockHeader:
        return BlockHeader(
            version=1,
            chain_id=CHAIN_ID,
            height=height,
            previous_hash=bytes(32),
            timestamp_ms=1_750_000_000_000,
            tx_root=bytes(32),
            tx_count=0,
            engine="tbft",
            engine_epoch=0,
            validators_hash=self.validators.hash(),
            next_validators_hash=self.validators.hash(),
            architecture=Architecture("ox-serial", 1, bytes(32), 100, 10),
            proposer=bytes(32),
            last_commit_hash=bytes(32),
            evidence_hash=bytes(32),
            exec_height=height - 1,
            state_root=bytes(32),
            receipts_root=receipts_root,
            results_accumulator=accumulator,
        )

    def certificate(self, header: BlockHeader) -> CommitCertificate:
        by_key = {key.public_key().public_bytes_raw(): key for key in self.keys}
        unsigned = CommitCertificate(
            header.height,
            0,
            header.hash(),
            0,
            tuple(
                CommitSignature(item.address, header.timestamp_ms, bytes(64))
                for item in self.validators
            ),
        )
        signed = [
            CommitSignature(
                vote.validator,
                vote.timestamp_ms,
                by_key[item.public_key].sign(vote.sign_bytes(CHAIN_ID)),
            )
            for vote, item in zip(unsigned.votes(), self.validators, strict=True)
        ]
        return dataclasses.replace(unsigned, signatures=tuple(signed))


class LocalChain:
    """One member's view of a `LocalLedger`."""

    chain_id = CHAIN_ID

    def __init__(self, ledger: LocalLedger, name: str, organisation: str, role: str) -> None:
        self.ledger = ledger
        self.caller = member(name, organisation, role)

    async def view(self, method: str, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        try:
            return plain(self.ledger.deployed.view(method, sender=self.caller, **kwargs))
        except Reverted as error:
            raise ContractRefused(error.error, error.fields) from error

    async def call(self, method: str, **kwargs: Any) -> Receipt:
        return await self.ledger.execute(self.caller, method, kwargs)

    async def follow(self, from_height: int) -> AsyncIterator[tuple[int, list[Step]]]:
        position = from_height - 1
        while True:
            async with self.ledger.fresh:
                while position >= len(self.ledger.blocks):
                    await self.ledger.fresh.wait()
            yield self.ledger.blocks[position]
            position += 1

    async def latest_height(self) -> int:
        return len(self.ledger.blocks)

    async def put_blob(self, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        self.ledger.blobs[digest] = data
        return digest

    async def get_blob(self, digest: bytes) -> bytes:
        if digest not in self.ledger.blobs:
            raise ClientFault("BLOB_NOT_FOUND", "no such blob", subject=digest.hex())
        data = self.ledger.blobs[digest]
        if hashlib.sha256(data).digest() != digest:
            raise blob_damaged("the node", digest)
        return data

    async def receipt_proof(self, tx_id: bytes) -> types_pb2.ReceiptProof:
        return self.ledger.proof(tx_id)
