"""The client for programs without an event loop: the same calls, each waiting for its answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from chainnode._proto import node_pb2, types_pb2
from chainnode.identity import Identity
from chainnode.sdk.client import AsyncClient
from chainnode.types.receipt import Receipt
from chainnode.types.transaction import Transaction

Value = TypeVar("Value")


class Client:
    """`AsyncClient` on an event loop of its own, in a thread.

    Args:
        endpoints: host:port of one or more nodes.
        identity: whose keys sign.
        genesis: the chain's genesis file, or its bytes.
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
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="chainnode-client", daemon=True
        )
        self._thread.start()

        async def connect() -> AsyncClient:
            return AsyncClient(endpoints, identity, genesis, server_name=server_name)

        self._client = self._wait(connect())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def status(self) -> node_pb2.StatusResponse:
        """See `AsyncClient.status`."""
        return self._wait(self._client.status())

    def get_block(self, height: int = 0) -> node_pb2.BlockResponse:
        """See `AsyncClient.get_block`."""
        return self._wait(self._client.get_block(height))

    def get_tx(self, tx_id: bytes, wait_ms: int = 0) -> node_pb2.TxResponse:
        """See `AsyncClient.get_tx`."""
        return self._wait(self._client.get_tx(tx_id, wait_ms))

    def receipt_proof(self, tx_id: bytes) -> types_pb2.ReceiptProof:
        """See `AsyncClient.receipt_proof`."""
        return self._wait(self._client.receipt_proof(tx_id))

    def submit(self, transaction: Transaction) -> Receipt:
        """See `AsyncClient.submit`."""
        return self._wait(self._client.submit(transaction))

    def call(self, contract: str, method: str, **arguments: Any) -> Receipt:
        """Run a contract's method; see `ContractHandle.submit`."""
        return self._wait(self._client.contract(contract).submit(method, **arguments))

    def view(self, contract: str, method: str, **arguments: Any) -> Any:
        """A contract's view; see `ContractHandle.evaluate`."""
        return self._wait(self._client.contract(contract).evaluate(method, **arguments))

    def deploy(
        self, package: types_pb2.ContractPackage, endorsers: Iterable[Identity] = ()
    ) -> Receipt:
        """See `AsyncClient.deploy`."""
        return self._wait(self._client.deploy(package, endorsers))

    def put_blob(self, data: bytes) -> bytes:
        """See `AsyncClient.put_blob`."""
        return self._wait(self._client.put_blob(data))

    def get_blob(self, digest: bytes) -> bytes:
        """See `AsyncClient.get_blob`."""
        return self._wait(self._client.get_blob(digest))

    def events(
        self, from_height: int = 0, *, contract: str = "", name: str = ""
    ) -> Iterator[node_pb2.BlockEvents]:
        """See `AsyncClient.events`."""
        stream = self._client.events(from_height, contract=contract, name=name)

        async def next_block() -> node_pb2.BlockEvents:
            return await anext(stream)

        while True:
            yield self._wait(next_block())

    def _wait(self, work: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
