"""The client: signs, submits, waits, reads. One asynchronous core.

A transaction's id is chosen here, so trying again after an unknown outcome is safe: the chain
executes an id at most once.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import grpc

from chainnode._proto import he_pb2, node_pb2, types_pb2
from chainnode.identity import Identity
from chainnode.sdk.contracts import ContractHandle
from chainnode.sdk.endpoints import Endpoints
from chainnode.sdk.problems import (
    TransactionFailed,
    admission_refused,
    blob_damaged,
    error_of,
    outcome_unknown,
)
from chainnode.types.codec import encode
from chainnode.types.errors import ChainnodeError, ClientFault, PeerFault
from chainnode.types.genesis import Genesis
from chainnode.types.limits import BLOB_FRAME_SIZE_MAX_BYTES
from chainnode.types.proof import verify_receipt_proof
from chainnode.types.receipt import Receipt
from chainnode.types.transaction import (
    GAS_LIMIT_DEFAULT,
    Endorsement,
    Payload,
    PayloadKind,
    Transaction,
)

RECEIPT_TIMEOUT_SECONDS = 30.0
BLOB_WAIT_SECONDS = 3.0
HEIGHT_FRESH_SECONDS = 2.0
_WAIT_STEP_MS = 5_000
_TAKEN = (node_pb2.ADMISSION_ACCEPTED, node_pb2.ADMISSION_KNOWN)


class AsyncClient:
    """One member's connection to a chain.

    Args:
        endpoints: host:port of one or more nodes; the first that answers is used.
        identity: whose keys sign and whose TLS certificate the nodes see.
        genesis: the chain's genesis file, or its bytes: what the client trusts.
        server_name: the name in the nodes' certificates, when it is not the host.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        identity: Identity,
        genesis: Path | bytes,
        *,
        server_name: str = "",
    ) -> None:
        data = genesis if isinstance(genesis, bytes) else genesis.read_bytes()
        self.genesis = Genesis.decode(data)
        self.chain_id = self.genesis.chain_id
        self.identity = identity
        self.endpoints = Endpoints(endpoints, identity, self.genesis.to_proto(), server_name)
        self._height = (0, -HEIGHT_FRESH_SECONDS)
        self.seen_height = 0

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.endpoints.close()

    def contract(self, name: str) -> ContractHandle:
        """A contract by name; its ABI is read from the chain at the first use."""
        return ContractHandle(self, name)

    # --- reading ----------------------------------------------------------------------------------

    async def status(self) -> node_pb2.StatusResponse:
        """Where the node that answers stands."""
        return await self.endpoints.call(
            "/chainnode.v1.Chain/Status", b"", node_pb2.StatusResponse.FromString
        )

    async def explain_architecture(self, height: int = 0) -> node_pb2.ArchitectureResponse:
        """The architecture decision on a height (0: the next)."""
        return await self.endpoints.call(
            "/chainnode.v1.Chain/ExplainArchitecture",
            encode(node_pb2.ArchitectureRequest(height=height)),
            node_pb2.ArchitectureResponse.FromString,
        )

    async def get_block(self, height: int = 0) -> node_pb2.BlockResponse:
        """An executed block (0: the last)."""
        return await self.endpoints.call(
            "/chainnode.v1.Query/GetBlock",
            encode(node_pb2.BlockRequest(height=height)),
            node_pb2.BlockResponse.FromString,
        )

    async def block_graph(
        self, height: int = 0, *, summary_only: bool = False
    ) -> types_pb2.BlockGraph:
        """Who depends on whom in one of the last executed blocks (0: the last).

        Args:
            summary_only: without the vertices, which a large block has megabytes of.

        Raises:
            ClientFault: GRAPH_NOT_KEPT when the block is too old, or the node has just started.
        """
        request = node_pb2.BlockGraphRequest(height=height, summary_only=summary_only)
        return await self.endpoints.call(
            "/chainnode.v1.Query/GetBlockGraph",
            encode(request),
            types_pb2.BlockGraph.FromString,
        )

    async def get_tx(self, tx_id: bytes, wait_ms: int = 0) -> node_pb2.TxResponse:
        """A transaction, its place and its receipt; `found` is False before it is executed."""
        response = await self.endpoints.call(
            "/chainnode.v1.Tx/Get",
            encode(node_pb2.TxRequest(tx_id=tx_id, wait_ms=wait_ms)),
            node_pb2.TxResponse.FromString,
            wait_ms / 1_000 + 10,
        )
        self.saw(response.height)
        return response

    def saw(self, height: int) -> None:
        """Ask from now on only for views of a state that has executed this height.

        The client does this for what it was itself told; another member's client may hand its
        `seen_height` over, so that a slower node does not answer from before that.
        """
        self.seen_height = max(self.seen_height, height)

    async def get_contract(self, name: str) -> node_pb2.ContractResponse:
        """A contract's record and ABI."""
        return await self.endpoints.call(
            "/chainnode.v1.Query/GetContract",
            encode(node_pb2.ContractRequest(name=name)),
            node_pb2.ContractResponse.FromString,
        )

    async def get_member(self, address: bytes) -> types_pb2.Member:
        """A member by address."""
        return await self.endpoints.call(
            "/chainnode.v1.Query/GetMember",
            encode(node_pb2.MemberRequest(address=address)),
            types_pb2.Member.FromString,
        )

    async def evaluate(self, contract: str, method: str, args: bytes) -> node_pb2.EvaluateResponse:
        """Run a view against one node's executed state; nothing is proven.

        The state is never older than what this client has seen, whichever node answers.

        Raises:
            ClientFault: NODE_BEHIND when that height does not come in time.
        """
        request = node_pb2.EvaluateRequest(
            contract=contract, method=method, args=args, min_height=self.seen_height
        )
        for others in reversed(range(len(self.endpoints.names))):
            try:
                response = await self.endpoints.call(
                    "/chainnode.v1.Query/Evaluate",
                    encode(request),
                    node_pb2.EvaluateResponse.FromString,
                )
            except ClientFault as fault:
                if fault.code != "NODE_BEHIND" or not others:
                    raise
                self.endpoints.prefer_next()
            else:
                break
        self.saw(response.height)
        return response

    async def receipt_proof(
        self, tx_id: bytes, timeout_seconds: float = RECEIPT_TIMEOUT_SECONDS
    ) -> types_pb2.ReceiptProof:
        """A receipt's proof, verified against the genesis validators, once a header covers it.

        Raises:
            PeerFault: the proof does not verify.
            ClientFault: TX_NOT_FOUND, or PROOF_NOT_READY after the timeout.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                proof = await self.endpoints.call(
                    "/chainnode.v1.Query/GetReceiptProof",
                    encode(node_pb2.ProofRequest(tx_id=tx_id)),
                    types_pb2.ReceiptProof.FromString,
                )
                break
            except ClientFault as fault:
                if fault.retry != "after" or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(min(fault.retry_after_ms, 200) / 1_000)
        verify_receipt_proof(proof, self.chain_id, self.genesis.validator_set())
        return proof

    async def events(
        self, from_height: int = 0, *, contract: str = "", name: str = ""
    ) -> AsyncIterator[node_pb2.BlockEvents]:
        """Every executed block's events in order, none left out, across nodes that fail.

        Args:
            from_height: the first block (1: from the start; 0: from the next).
            contract: only this contract's events; every block still comes.
            name: only events of this name.
        """
        height = from_height or (await self.status()).executed_height + 1
        silent = 0
        while True:
            request = node_pb2.SubscribeRequest(from_height=height, contract=contract, name=name)
            try:
                async for block in self.endpoints.stream(
                    "/chainnode.v1.Events/Subscribe",
                    encode(request),
                    node_pb2.BlockEvents.FromString,
                ):
                    silent = 0
                    height = block.height + 1
                    self.saw(block.height)
                    yield block
            except PeerFault:
                silent += 1
                if silent > 3 * len(self.endpoints.names):
                    raise
                await asyncio.sleep(0.2)

    # --- writing ----------------------------------------------------------------------------------

    async def payload(
        self,
        kind: PayloadKind,
        contract: str,
        method: str,
        args: bytes,
        *,
        gas_limit: int = GAS_LIMIT_DEFAULT,
    ) -> Payload:
        """A payload of this member, ready to be signed and endorsed, here or off-line."""
        return Payload(
            chain_id=self.chain_id,
            kind=kind,
            contract=contract,
            method=method,
            args=args,
            sender=self.identity.public_key,
            expiry_height=await self._expiry_height(),
            gas_limit=gas_limit,
        )

    def sign(self, payload: Payload, endorsements: Iterable[Endorsement] = ()) -> Transaction:
        """The payload as a transaction of this member."""
        return payload.sign(self.identity).with_endorsements(endorsements)

    async def submit(
        self, transaction: Transaction, timeout_seconds: float = RECEIPT_TIMEOUT_SECONDS
    ) -> Receipt:
        """Submit and wait for the receipt, through other nodes if one falls silent.

        Raises:
            TransactionFailed: the receipt is not OK.
            ClientFault: refused at admission.
            PeerFault: TX_OUTCOME_UNKNOWN, NODES_UNREACHABLE.
        """
        receipt = await self.submit_for_receipt(transaction, timeout_seconds)
        if not receipt.ok:
            raise TransactionFailed(receipt)
        return receipt

    async def submit_for_receipt(
        self, transaction: Transaction, timeout_seconds: float = RECEIPT_TIMEOUT_SECONDS
    ) -> Receipt:
        """Like `submit`, but a receipt that is not OK is returned too."""
        deadline = time.monotonic() + timeout_seconds
        tx_id = transaction.tx_id()
        sent = False
        while True:
            try:
                await self.submit_nowait(transaction)
                sent = True
                left_ms = int(1_000 * max(0.0, deadline - time.monotonic()))
                response = await self.get_tx(tx_id, min(left_ms, _WAIT_STEP_MS))
                if response.found:
                    return Receipt.from_proto(response.receipt)
            except PeerFault:
                if not sent:
                    raise
                await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise outcome_unknown(tx_id, timeout_seconds)
            self.endpoints.prefer_next()

    async def submit_nowait(self, transaction: Transaction) -> bytes:
        """Submit without waiting; returns the tx id once a node holds the transaction.

        Raises:
            ClientFault: refused at admission, e.g. TX_POOL_FULL.
        """
        batch = types_pb2.TransactionBatch(transactions=[transaction.encode()])
        response = await self.endpoints.call(
            "/chainnode.v1.Tx/Submit", encode(batch), node_pb2.SubmitResponse.FromString
        )
        if response.admissions[0] not in _TAKEN:
            raise admission_refused(transaction.tx_id(), response.admissions[0])
        return transaction.tx_id()

    async def submit_many(
        self, batches: AsyncIterator[Sequence[bytes]] | Iterable[Sequence[bytes]]
    ) -> AsyncIterator[node_pb2.SubmitResponse]:
        """Stream batches of encoded transactions to one node; one answer per batch, in order.

        Batches are written while answers are read, so several are under way at once.

        Raises:
            PeerFault: NODES_UNREACHABLE; what was not answered can be sent again.
        """
        call = self.endpoints.duplex("/chainnode.v1.Tx/SubmitStream")

        async def write() -> None:
            if isinstance(batches, AsyncIterator):
                async for batch in batches:
                    await call.write(encode(types_pb2.TransactionBatch(transactions=batch)))
            else:
                for batch in batches:
                    await call.write(encode(types_pb2.TransactionBatch(transactions=batch)))
            await call.done_writing()

        writing = asyncio.create_task(write())
        try:
            async for data in call:
                yield node_pb2.SubmitResponse.FromString(data)
            await writing
        except grpc.aio.AioRpcError as failure:
            error: ChainnodeError | None = error_of(failure)
            raise error or outcome_lost() from None
        finally:
            writing.cancel()
            call.cancel()

    async def deploy(
        self,
        package: types_pb2.ContractPackage,
        endorsers: Iterable[Identity] = (),
        *,
        action: str = "install",
        gas_limit: int = GAS_LIMIT_DEFAULT,
    ) -> Receipt:
        """Install or upgrade a contract, endorsed by other organisations' admins.

        Raises:
            TransactionFailed: e.g. POLICY_NOT_MET when too few organisations endorse.
        """
        payload = await self.payload(
            PayloadKind.CONTRACT_ADMIN, package.name, action, encode(package), gas_limit=gas_limit
        )
        return await self.submit(
            self.sign(payload, [endorse(payload, identity) for identity in endorsers])
        )

    # --- blobs ------------------------------------------------------------------------------------

    async def put_blob(self, data: bytes) -> bytes:
        """Store a blob on f + 1 nodes, so that one that fails takes nothing away.

        Returns:
            Its SHA-256.
        """
        digest = hashlib.sha256(data).digest()

        async def frames() -> AsyncIterator[bytes]:
            for offset in range(0, max(1, len(data)), BLOB_FRAME_SIZE_MAX_BYTES):
                part = data[offset : offset + BLOB_FRAME_SIZE_MAX_BYTES]
                frame = he_pb2.BlobFrame(data=part)
                if offset == 0:
                    frame.hash, frame.size_bytes = digest, len(data)
                yield encode(frame)

        await self.endpoints.upload(
            "/chainnode.v1.He/PutBlob",
            frames,
            he_pb2.BlobReceipt.FromString,
            copies=(len(self.genesis.validators) - 1) // 3 + 1,
        )
        return digest

    async def get_blob(self, digest: bytes) -> bytes:
        """A blob whose hash has been checked, from the first node that has it.

        A node that is silent may be the one that has it: it is asked again for a few seconds.

        Raises:
            ClientFault: BLOB_NOT_FOUND when every node answered and none has it.
            PeerFault: BLOB_HASH_WRONG; NODES_UNREACHABLE when who may have it stayed silent.
        """
        deadline = time.monotonic() + BLOB_WAIT_SECONDS
        while True:
            faults: list[ChainnodeError] = []
            for index in self.endpoints.order():
                try:
                    data = await self._read_blob(digest, index)
                except (ClientFault, PeerFault) as fault:
                    faults.append(fault)
                    continue
                if hashlib.sha256(data).digest() == digest:
                    return data
                faults.append(blob_damaged(self.endpoints.names[index], digest))
            silent = [fault for fault in faults if fault.code == "NODES_UNREACHABLE"]
            if not silent or time.monotonic() > deadline:
                damaged = [fault for fault in faults if fault.code == "BLOB_HASH_WRONG"]
                raise (damaged or silent or faults)[0]
            await asyncio.sleep(0.2)

    async def _read_blob(self, digest: bytes, index: int) -> bytes:
        stream = self.endpoints.stream(
            "/chainnode.v1.He/GetBlob",
            encode(he_pb2.BlobRequest(hash=digest)),
            he_pb2.BlobFrame.FromString,
            index,
        )
        return b"".join([frame.data async for frame in stream])

    async def _expiry_height(self) -> int:
        height, at = self._height
        if time.monotonic() - at >= HEIGHT_FRESH_SECONDS:
            height = (await self.status()).height
            self._height = (height, time.monotonic())
        # Nodes differ by a few heights: the full window could be too far for one of them.
        return height + self.genesis.config.expiry_window * 9 // 10


def endorse(payload: Payload, identity: Identity) -> Endorsement:
    """An identity's endorsement of a payload; needs no connection."""
    signed = payload.sign(identity).endorse(identity.public_key, identity)
    return signed.endorsements[0]


def outcome_lost() -> PeerFault:
    """The stream to a node broke."""
    return PeerFault(
        "NODES_UNREACHABLE",
        "The connection to the node broke; unanswered transactions may have been taken.",
        fix="send them again: the same tx id never runs twice",
        retry="same-id",
    )
