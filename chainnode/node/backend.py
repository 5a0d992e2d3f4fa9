"""A running node as its clients see it: admission, reads, waiting, the event stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError, version

from chainnode import _native
from chainnode._proto import node_pb2, types_pb2
from chainnode.ledger.proofs import receipt_proof
from chainnode.node.admission import Admission
from chainnode.node.architecture import ArchitectureSelector
from chainnode.node.chain import Chain
from chainnode.node.graphs import BlockGraphs
from chainnode.node.peers import Peers
from chainnode.node.pipeline import Executed
from chainnode.types.block import BlockHeader
from chainnode.types.errors import ClientFault
from chainnode.types.limits import SUBSCRIBER_QUEUE_BLOCKS_MAX, VIEW_WAIT_MAX_MS


class NodeBackend:
    """Implements `chainnode.rpc.backend.Backend`.

    Args:
        name: the node, for people.
        genesis: the chain's genesis.
        chain: ledger, tip, pool, pipeline.
        executor: views run on it.
        admission: takes submissions.
        peers: who is connected.
        architecture: explains decisions.
        graphs: draws those of the last blocks.
    """

    def __init__(
        self,
        name: str,
        genesis: types_pb2.Genesis,
        chain: Chain,
        executor: _native.Executor,
        admission: Admission,
        peers: Peers,
        architecture: ArchitectureSelector,
        graphs: BlockGraphs,
    ) -> None:
        self._name = name
        self._genesis = genesis
        self._chain = chain
        self._executor = executor
        self._admission = admission
        self._peers = peers
        self._architecture = architecture
        self._graphs = graphs
        self._waiting: dict[bytes, list[asyncio.Event]] = {}
        self._executed = asyncio.Condition()
        self._events: dict[int, asyncio.Future[node_pb2.BlockEvents]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        chain.pipeline.listen(self._on_executed)

    async def submit(self, batch: bytes) -> bytes:
        """Admit an encoded TransactionBatch; an encoded SubmitResponse."""
        return await self._admission.submit(batch)

    async def wait_executed(self, tx_id: bytes, timeout_ms: int) -> None:
        """Return once the transaction has a receipt and waits here no more, or at the timeout."""
        located = self._chain.ledger.locate(tx_id) is not None
        if located and not self._chain.pool.pending([tx_id]):
            return
        executed = asyncio.Event()
        self._waiting.setdefault(tx_id, []).append(executed)
        try:
            await asyncio.wait_for(executed.wait(), timeout_ms / 1_000)
        except TimeoutError:
            return
        finally:
            others = self._waiting.get(tx_id)
            if others is not None and executed in others:
                others.remove(executed)
                if not others:
                    del self._waiting[tx_id]

    def transaction(self, tx_id: bytes) -> node_pb2.TxResponse:
        """The transaction, its place and its receipt, if executed."""
        ledger = self._chain.ledger
        place = ledger.locate(tx_id)
        if place is None:
            return node_pb2.TxResponse(found=False, current_height=ledger.height)
        height, index = place
        logged, receipts = ledger.block(height), ledger.receipts(height)
        assert logged is not None and receipts is not None
        bodies = types_pb2.TransactionBatch.FromString(logged.batch).transactions
        return node_pb2.TxResponse(
            found=True,
            height=height,
            index=index,
            transaction=types_pb2.Transaction.FromString(bodies[index]),
            receipt=types_pb2.Receipt.FromString(receipts[index]),
            current_height=ledger.height,
        )

    async def evaluate(
        self, sender: bytes, request: node_pb2.EvaluateRequest
    ) -> node_pb2.EvaluateResponse:
        """Run a view against the executed state, once it has reached the height asked for.

        Raises:
            ClientFault: `MALFORMED`; `NODE_BEHIND` when the height does not come in time.
        """
        await self._wait_height(request.min_height)
        height = self._chain.ledger.executed_height
        try:
            receipt = await asyncio.to_thread(
                self._executor.evaluate,
                sender,
                request.contract,
                request.method,
                request.args,
                self._genesis.config.gas_limit_max,
            )
        except ValueError as error:
            raise ClientFault("MALFORMED", str(error), subject=request.method) from None
        return node_pb2.EvaluateResponse(
            height=height, receipt=types_pb2.Receipt.FromString(receipt)
        )

    async def _wait_height(self, height: int) -> None:
        ledger = self._chain.ledger
        try:
            async with asyncio.timeout(VIEW_WAIT_MAX_MS / 1_000):
                while ledger.executed_height < height:
                    async with self._executed:
                        await self._executed.wait()
        except TimeoutError:
            raise ClientFault(
                "NODE_BEHIND",
                f"This node has executed {ledger.executed_height}, asked for {height}.",
                subject=str(height),
                fix="ask another node, or again later",
                retry="after",
                retry_after_ms=500,
            ) from None

    def block(self, height: int) -> node_pb2.BlockResponse:
        """A committed block (0: the last executed one)."""
        ledger = self._chain.ledger
        wanted = height or ledger.executed_height
        logged, receipts = ledger.block(wanted), ledger.receipts(wanted)
        if logged is None or receipts is None:
            raise ClientFault(
                "BLOCK_NOT_FOUND",
                f"Block {wanted} is not executed here; the chain is at {ledger.executed_height}.",
                subject=str(wanted),
                fix="ask for a lower height",
            )
        return node_pb2.BlockResponse(
            block=types_pb2.Block.FromString(logged.block),
            certificate=types_pb2.CommitCertificate.FromString(logged.certificate),
            receipts=[types_pb2.Receipt.FromString(receipt) for receipt in receipts],
            tx_ids=ledger.tx_ids(wanted),
        )

    async def block_graph(self, height: int, summary_only: bool) -> bytes:
        """An encoded BlockGraph of one of the last executed blocks (0: the last).

        Raises:
            ClientFault: GRAPH_NOT_KEPT.
        """
        return await self._graphs.read(height, summary_only=summary_only)

    def receipt_proof(self, tx_id: bytes) -> types_pb2.ReceiptProof:
        """A proof from the receipt to a signed header."""
        return receipt_proof(self._chain.ledger, tx_id)

    def contract(self, name: str) -> node_pb2.ContractResponse:
        """A contract's record and ABI."""
        found = self._executor.contract(name)
        if found is None:
            raise ClientFault(
                "CONTRACT_NOT_FOUND",
                f"There is no contract called {name}.",
                subject=name,
                fix="deploy it: chainnode contract deploy",
            )
        record = types_pb2.ContractRecord.FromString(found[0])
        return node_pb2.ContractResponse(record=record, abi=found[1])

    def member(self, address: bytes) -> types_pb2.Member:
        """A member by address."""
        found = self._executor.member(address)
        if found is None:
            raise ClientFault(
                "MEMBER_NOT_FOUND", "No member has this address.", subject=address.hex()[:64]
            )
        return types_pb2.Member.FromString(found)

    async def block_events(
        self, request: node_pb2.SubscribeRequest
    ) -> AsyncIterator[node_pb2.BlockEvents]:
        """Events of every executed block from a height on, without end."""
        ledger = self._chain.ledger
        height = request.from_height or ledger.executed_height + 1
        while True:
            if ledger.executed_height < height:
                async with self._executed:
                    await self._executed.wait()
                continue
            yield _selected(await self._block_events(height), request)
            height += 1

    def status(self) -> node_pb2.StatusResponse:
        """Where the node stands."""
        chain = self._chain
        header = chain.tip.header
        return node_pb2.StatusResponse(
            chain_id=self._genesis.config.chain_id,
            node=self._name,
            height=chain.tip.height,
            executed_height=chain.ledger.executed_height,
            round=0,
            pool_transactions=len(chain.pool),
            pool_size_bytes=chain.pool.size_bytes,
            peers_connected=self._peers.connected(),
            version=_version(),
            genesis_hash=chain.ledger.genesis_hash,
            expiry_window=self._genesis.config.expiry_window,
            architecture=None if header is None else header.architecture.to_proto(),
        )

    def genesis(self) -> types_pb2.Genesis:
        """The chain's genesis."""
        return self._genesis

    def explain_architecture(self, height: int) -> node_pb2.ArchitectureResponse:
        """The architecture decision of a height (0: the next)."""
        return self._architecture.explain(height)

    def _on_executed(self, executed: Executed) -> None:
        done = list(self._waiting.keys() & set(executed.tx_ids))
        # Another's copy with fewer signatures was refused: the genuine one is still to come.
        pending = set(self._chain.pool.pending(done))
        for tx_id in done:
            if tx_id in pending:
                continue
            for executed_event in self._waiting.pop(tx_id):
                executed_event.set()
        task = asyncio.get_running_loop().create_task(self._wake_subscribers())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake_subscribers(self) -> None:
        async with self._executed:
            self._executed.notify_all()

    async def _block_events(self, height: int) -> node_pb2.BlockEvents:
        reading = self._events.get(height)
        if reading is None:
            # Thousands of receipts to decode, once for all subscribers: not on the event loop.
            reading = asyncio.ensure_future(asyncio.to_thread(self._read_events, height))
            self._events[height] = reading
            if len(self._events) > SUBSCRIBER_QUEUE_BLOCKS_MAX // 16:
                del self._events[next(iter(self._events))]
        try:
            return await asyncio.shield(reading)
        except Exception:
            self._events.pop(height, None)
            raise

    def _read_events(self, height: int) -> node_pb2.BlockEvents:
        ledger = self._chain.ledger
        block, receipts = ledger.log.read_block(height), ledger.receipts(height)
        assert block is not None and receipts is not None
        header = types_pb2.Block.FromString(block).header
        transactions = []
        for index, data in enumerate(receipts):
            receipt = types_pb2.Receipt.FromString(data)
            transactions.append(
                node_pb2.TxEvents(
                    tx_id=receipt.tx_id, index=index, status=receipt.status, events=receipt.events
                )
            )
        return node_pb2.BlockEvents(
            height=height,
            timestamp_ms=header.timestamp_ms,
            block_hash=BlockHeader.from_proto(header).hash(),
            tx_count=len(receipts),
            transactions=transactions,
        )


def _selected(
    events: node_pb2.BlockEvents, request: node_pb2.SubscribeRequest
) -> node_pb2.BlockEvents:
    """The block with only the events asked for; without a filter every transaction is told."""
    if not request.contract and not request.name:
        return events
    selected = node_pb2.BlockEvents()
    selected.CopyFrom(events)
    del selected.transactions[:]
    for transaction in events.transactions:
        kept = [
            event
            for event in transaction.events
            if request.contract in ("", event.contract) and request.name in ("", event.name)
        ]
        if kept:
            selected.transactions.add(
                tx_id=transaction.tx_id,
                index=transaction.index,
                status=transaction.status,
                events=kept,
            )
    return selected


def _version() -> str:
    try:
        return version("chainnode")
    except PackageNotFoundError:
        return "0.1.0"
