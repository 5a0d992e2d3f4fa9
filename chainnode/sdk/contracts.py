"""A contract by name, with its arguments and answers as Python values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainnode.contract import abi
from chainnode.sdk.problems import TransactionFailed
from chainnode.types.receipt import Receipt, ReceiptStatus
from chainnode.types.transaction import GAS_LIMIT_DEFAULT, PayloadKind, Transaction

if TYPE_CHECKING:
    from chainnode.sdk.client import AsyncClient


class ContractHandle:
    """Calls and views of one contract.

    Args:
        client: signs and submits.
        name: the contract's name on the chain.
    """

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client = client
        self._name = name
        self._abi: abi.Abi | None = None

    async def abi(self) -> abi.Abi:
        """The ABI on the chain, read once."""
        if self._abi is None:
            self._abi = abi.Abi.parse((await self._client.get_contract(self._name)).abi)
        return self._abi

    async def submit(self, method: str, **arguments: Any) -> Receipt:
        """Run a method as a transaction and wait for its receipt.

        Raises:
            TransactionFailed: with the contract's own error when it reverted.
            ClientFault: INVALID_ARGUMENTS, UNKNOWN_METHOD, or refused at admission.
            PeerFault: TX_OUTCOME_UNKNOWN, NODES_UNREACHABLE.
        """
        transaction = await self.transaction(method, **arguments)
        receipt = await self._client.submit_for_receipt(transaction)
        return await self._accepted(receipt)

    async def submit_nowait(self, method: str, **arguments: Any) -> bytes:
        """Submit and return the tx id without waiting for a block."""
        return await self._client.submit_nowait(await self.transaction(method, **arguments))

    async def transaction(
        self, method: str, *, gas_limit: int = GAS_LIMIT_DEFAULT, **arguments: Any
    ) -> Transaction:
        """The signed transaction of a call."""
        args = abi.encode_args(await self.abi(), method, arguments)
        payload = await self._client.payload(
            PayloadKind.INVOKE, self._name, method, args, gas_limit=gas_limit
        )
        return self._client.sign(payload)

    async def evaluate(self, method: str, **arguments: Any) -> Any:
        """A view's result, as one node computes it.

        Raises:
            TransactionFailed: the view reverted or trapped.
        """
        description = await self.abi()
        args = abi.encode_args(description, method, arguments)
        response = await self._client.evaluate(self._name, method, args)
        receipt = await self._accepted(Receipt.from_proto(response.receipt))
        return abi.decode_result(description, method, receipt.result)

    async def _accepted(self, receipt: Receipt) -> Receipt:
        if receipt.ok:
            return receipt
        if receipt.status is ReceiptStatus.REVERTED:
            error, fields = abi.decode_error(await self.abi(), receipt.error_code, receipt.message)
            raise TransactionFailed(receipt, error, fields)
        raise TransactionFailed(receipt)
