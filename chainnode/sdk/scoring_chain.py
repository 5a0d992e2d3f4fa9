"""`ScoringChain` over the SDK's client: one member's signed access to the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from chainnode._proto import types_pb2
from chainnode.contract import abi
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.problems import TransactionFailed
from chainnode.sdk.scoring import CONTRACT, ContractRefused, Step
from chainnode.types.receipt import Receipt


class SdkScoringChain:
    """The credit scoring contract through `AsyncClient`, which fails over between nodes.

    Args:
        client: signs as this member.
    """

    def __init__(self, client: AsyncClient) -> None:
        self.chain_id = client.chain_id
        self._client = client
        self._contract = client.contract(CONTRACT)

    async def view(self, method: str, **kwargs: Any) -> Any:
        """See `ScoringChain.view`."""
        try:
            return await self._contract.evaluate(method, **kwargs)
        except TransactionFailed as error:
            raise _refused(error) from error

    async def call(self, method: str, **kwargs: Any) -> Receipt:
        """See `ScoringChain.call`."""
        try:
            return await self._contract.submit(method, **kwargs)
        except TransactionFailed as error:
            raise _refused(error) from error

    async def follow(self, from_height: int) -> AsyncIterator[tuple[int, list[Step]]]:
        """See `ScoringChain.follow`."""
        async for block in self._client.events(max(1, from_height), contract=CONTRACT):
            steps = []
            for transaction in block.transactions:
                for event in transaction.events:
                    if event.contract == CONTRACT:
                        fields = abi.decode_event(
                            await self._contract.abi(), event.name, event.data
                        )
                        steps.append(Step(block.height, transaction.tx_id, event.name, fields))
            yield block.height, steps

    async def latest_height(self) -> int:
        """See `ScoringChain.latest_height`."""
        stated = (await self._client.status()).executed_height
        # A slow node may be behind what this client has seen; it gets there.
        return max(stated, self._client.seen_height)

    async def put_blob(self, data: bytes) -> bytes:
        """See `ScoringChain.put_blob`."""
        return await self._client.put_blob(data)

    async def get_blob(self, digest: bytes) -> bytes:
        """See `ScoringChain.get_blob`."""
        return await self._client.get_blob(digest)

    async def receipt_proof(self, tx_id: bytes) -> types_pb2.ReceiptProof:
        """See `ScoringChain.receipt_proof`."""
        return await self._client.receipt_proof(tx_id)


def _refused(error: TransactionFailed) -> Exception:
    # Only a declared error is the contract's own word; the rest stays what it is.
    return ContractRefused(error.error, error.fields) if error.error else error
