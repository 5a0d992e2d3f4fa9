"""Protobuf answers as plain values for a table or JSON."""

from __future__ import annotations

from typing import Any

from chainnode._proto import node_pb2, types_pb2
from chainnode.types.errors import ClientFault


def status_name(status: int) -> str:
    """A receipt status as people write it: `ok`, `out_of_gas`."""
    name = types_pb2.ReceiptStatus.Name(types_pb2.ReceiptStatus.ValueType(status))
    return name.removeprefix("RECEIPT_STATUS_").lower()


def receipt_fields(receipt: types_pb2.Receipt) -> dict[str, Any]:
    """A receipt without its raw result."""
    return {
        "tx_id": receipt.tx_id.hex(),
        "status": status_name(receipt.status),
        "message": receipt.message,
        "error_code": receipt.error_code,
        "gas_used": receipt.gas_used,
        "result": receipt.result.hex(),
        "events": [
            {"contract": event.contract, "name": event.name, "data": event.data.hex()}
            for event in receipt.events
        ],
    }


def tx_fields(response: node_pb2.TxResponse) -> dict[str, Any]:
    """A transaction, where it stands and what came of it.

    Raises:
        ClientFault: TX_NOT_FOUND.
    """
    if not response.found:
        raise ClientFault(
            "TX_NOT_FOUND",
            "No block holds this tx id.",
            fix="wait for the next block, or submit it again: the same tx id is never run twice",
        )
    payload = response.transaction.payload
    return {
        "height": response.height,
        "index": response.index,
        "contract": payload.contract,
        "method": payload.method,
        "sender": payload.sender.hex(),
        "expiry_height": payload.expiry_height,
        "endorsements": len(response.transaction.endorsements),
        **receipt_fields(response.receipt),
    }


def block_fields(response: node_pb2.BlockResponse) -> dict[str, Any]:
    """A block with its certificate's signers and its transactions' outcomes."""
    header = response.block.header
    shape = header.architecture
    return {
        "height": header.height,
        "timestamp_ms": header.timestamp_ms,
        "previous_hash": header.previous_hash.hex(),
        "proposer": header.proposer.hex(),
        "tx_root": header.tx_root.hex(),
        "exec_height": header.exec_height,
        "state_root": header.state_root.hex(),
        "results_accumulator": header.results_accumulator.hex(),
        "architecture": f"{shape.id} cap {shape.block_tx_cap} every {shape.block_interval_ms} ms",
        "round": response.certificate.round,
        "signed_by": [signed.validator.hex()[:16] for signed in response.certificate.signatures],
        "transactions": [
            {"tx_id": tx_id.hex(), "status": status_name(receipt.status)}
            for tx_id, receipt in zip(response.tx_ids, response.receipts, strict=False)
        ]
        or [tx_id.hex() for tx_id in response.tx_ids],
    }


def plain(value: Any) -> Any:
    """A decoded ABI value with bytes as hexadecimal text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
