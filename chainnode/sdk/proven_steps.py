"""Steps of the scoring contract that a quorum of validators vouches for, not just a node.

A node states the events of every block. Each transaction's are compared with its receipt, whose
proof leads to a certificate: an event that was added, altered or left out is found and named.
Events of other kinds than those listed here play no part in a query and are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chainnode.sdk.scoring import CONTRACT, ScoringChain, Step
from chainnode.types.errors import ChainnodeError
from chainnode.types.proof import verify_receipt_proof
from chainnode.types.validators import ValidatorSet

_LAYOUTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "CatalogChanged": (
        ("table", "text"),
        ("organisation", "text"),
        ("step", "text"),
        ("subject", "text"),
        ("value", "bytes"),
    ),
    "ChunkStep": (
        ("query", "hash"),
        ("index", "u64"),
        ("step", "text"),
        ("organisation", "text"),
        ("value", "bytes"),
    ),
    "ColumnsAudited": (
        ("table", "text"),
        ("owner", "text"),
        ("profile", "text"),
        ("root", "hash"),
        ("auditor", "text"),
        ("outcome", "text"),
        ("detail", "text"),
    ),
    "CouncilStep": (("epoch", "u64"), ("step", "text"), ("organisation", "text")),
    "EpochKeys": (
        ("epoch", "u64"),
        ("public_key_s", "hash"),
        ("public_key_s36", "hash"),
        ("public_key_m", "bytes"),
        ("relin_key_s36", "hash"),
        ("relin_key_m", "bytes"),
    ),
    "EpochOpened": (
        ("epoch", "u64"),
        ("organisations", "texts"),
        ("threshold", "u64"),
        ("profiles", "texts"),
    ),
    "MemberFault": (
        ("query", "hash"),
        ("organisation", "text"),
        ("fault", "text"),
        ("shown_by", "text"),
    ),
    "QueryFinalised": (("query", "hash"), ("result", "hash"), ("terms", "hash")),
    "QueryStep": (
        ("query", "hash"),
        ("step", "text"),
        ("organisation", "text"),
        ("detail", "text"),
    ),
    "ShareCommitted": (("query", "hash"), ("organisation", "text"), ("commitment", "hash")),
    "ShareStated": (
        ("query", "hash"),
        ("organisation", "text"),
        ("epoch", "u64"),
        ("result", "hash"),
        ("digests", "list"),
    ),
}


@dataclass(frozen=True, slots=True)
class Unproven:
    """A transaction whose steps, as the node states them, are not those of its receipt."""

    tx_id: bytes
    reason: str


async def history(chain: ScoringChain) -> list[Step]:
    """Every step of the contract from the first block to the latest, as the node states it."""
    latest = await chain.latest_height()
    found: list[Step] = []
    if latest:
        async for height, steps in chain.follow(1):
            found += steps
            if height >= latest:
                break
    return found


async def prove(
    chain: ScoringChain, validators: ValidatorSet, steps: Sequence[Step], wanted: set[bytes]
) -> tuple[list[Step], list[Unproven]]:
    """The steps of some transactions that their receipts confirm, and what is not so.

    Args:
        chain: where steps and proofs come from.
        validators: of the genesis block, as the caller knows it.
        steps: of the contract, in order; all of each wanted transaction.
        wanted: ids of the transactions to prove.
    """
    by_transaction: dict[bytes, list[Step]] = {}
    for step in steps:
        if step.tx_id in wanted:
            by_transaction.setdefault(step.tx_id, []).append(step)
    proven: list[Step] = []
    failed: list[Unproven] = []
    for tx_id, stated in by_transaction.items():
        reason = await _difference(chain, validators, tx_id, stated)
        if reason:
            failed.append(Unproven(tx_id, reason))
        else:
            proven += stated
    return proven, failed


async def _difference(
    chain: ScoringChain, validators: ValidatorSet, tx_id: bytes, stated: Sequence[Step]
) -> str:
    """Why a transaction's steps are not to be believed; empty if they are."""
    try:
        proof = await chain.receipt_proof(tx_id)
        receipt = verify_receipt_proof(proof, chain.chain_id, validators)
    except ChainnodeError as error:
        return f"{_shown(stated[0])}: {error.message}"
    if receipt.tx_id != tx_id or not receipt.ok:
        return f"{_shown(stated[0])}: the receipt is of another transaction, or of a failed one"
    events = [
        (item.name, item.data)
        for item in receipt.events
        if item.contract == CONTRACT and item.name in _LAYOUTS
    ]
    said = [(step.name, encoded(step)) for step in stated if step.name in _LAYOUTS]
    for step in stated:
        if step.name in _LAYOUTS and (step.name, encoded(step)) not in events:
            return f"{_shown(step)} is not what the proven receipt says"
        if step.height != proof.height:
            return f"{_shown(step)} was in block {proof.height}, not {step.height}"
    for event in events:
        if event not in said:
            return f"{event[0]} is in the proven receipt and was left out"
    return "" if said == events else f"{_shown(stated[0])}: the receipt has another order"


def encoded(step: Step) -> bytes:
    """An event's bytes in a receipt."""
    out = b""
    for name, kind in _LAYOUTS[step.name]:
        value: Any = step.fields[name]
        if kind == "u64":
            out += int(value).to_bytes(8, "big")
        elif kind == "hash":
            out += bytes(value)
        elif kind == "list":
            out += len(value).to_bytes(4, "big") + b"".join(_sized(bytes(item)) for item in value)
        elif kind == "texts":
            out += len(value).to_bytes(4, "big") + b"".join(_sized(item.encode()) for item in value)
        else:
            out += _sized(value.encode() if kind == "text" else bytes(value))
    return out


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _shown(step: Step) -> str:
    what = step.fields.get("step") or step.fields.get("fault") or ""
    who = step.fields.get("organisation", "")
    return " ".join(part for part in (step.name, str(what), who and f"by {who}") if part)
