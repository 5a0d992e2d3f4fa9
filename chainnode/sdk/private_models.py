"""Models with private points, between the bank's files and the chain."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

from chainnode.he.private_points import (
    POINTS_MALFORMED,
    PrivateScorecard,
    check_points,
    encrypt_points,
    require_limbs,
    require_point,
)
from chainnode.he.profiles import DEEP
from chainnode.he.scorecard import Scorecard
from chainnode.sdk.bank_ciphertexts import checked_blobs
from chainnode.sdk.input_faults import POINTS_MISSING, InputFault
from chainnode.sdk.scoring import EPOCH_ACTIVE, ContractRefused, ScoringChain, read_table
from chainnode.types.errors import ClientFault, PeerFault


async def encrypt_model(
    chain: ScoringChain, table: str, model: Scorecard, points_secret: bytes
) -> PrivateScorecard:
    """Encrypt a scorecard's points under the active epoch's key and upload them.

    The record is what owners approve and everyone sees; the points stay here. After a rotation of
    the council's key encrypt again, under another name.

    Args:
        chain: access under the bank's identity.
        table: name; the model's features must be stored in profile M.
        model: in the clear.
        points_secret: 32 bytes that all randomness is drawn from; an auditor shown it and the
            model can check the record.

    Raises:
        ClientFault: `MODEL_INVALID`, `PROFILE_WITHOUT_KEY`, `PLAN_TOO_DEEP` or `EPOCH_NOT_ACTIVE`.
    """
    epoch, status, *_ = await chain.view("epoch_info", epoch=0)
    if status != EPOCH_ACTIVE:
        raise ClientFault(
            "EPOCH_NOT_ACTIVE",
            "the council has no active key",
            subject=str(epoch),
            fix="wait until the key ceremony has ended, or have it begun again",
        )
    facts = await read_table(chain, table, epoch)
    key = await deep_key(chain, epoch)
    record, blobs = await asyncio.to_thread(
        encrypt_points, model, facts.schema, epoch, facts.catalog.parties, key, points_secret
    )
    for blob in blobs:
        await chain.put_blob(blob)
    return record


async def check_private_points(
    chain: ScoringChain,
    table: str,
    record: PrivateScorecard,
    model: Scorecard,
    points_secret: bytes,
) -> None:
    """Encrypt a model again, as the auditor whom a bank shows it and its secret.

    Raises:
        PeerFault: `PRIVATE_POINTS_DIFFER`.
    """
    facts = await read_table(chain, table, record.epoch)
    key = await deep_key(chain, record.epoch)
    await asyncio.to_thread(
        check_points, record, model, facts.schema, facts.catalog.parties, key, points_secret
    )


async def require_approvable(chain: ScoringChain, table: str, record: PrivateScorecard) -> None:
    """Look at all that an approval of private points is for, as an owner does before it gives one.

    The contract holds hashes and cannot see whether there is anything behind them.

    Args:
        chain: where the ciphertexts are.
        table: name under which the contract knows the table.
        record: to be approved.

    Raises:
        ClientFault: `MODEL_INVALID` or `MODEL_STALE`: the record is for another table, schema,
            epoch or number of limbs, or names another number of ciphertexts.
        PeerFault: `PRIVATE_POINTS_MALFORMED` or `PRIVATE_POINTS_MISSING`, naming the ciphertext and
            who answers for the record.
    """
    _, status, *_ = await chain.view("epoch_info", epoch=record.epoch)
    if record.epoch == 0 or status != EPOCH_ACTIVE:
        raise ClientFault(
            "MODEL_STALE",
            f"its points are encrypted for epoch {record.epoch}, whose key is not active",
            subject=record.name,
            fix="have the bank encrypt the points again, under another name",
        )
    facts = await read_table(chain, table, record.epoch)
    record.validate(facts.schema)
    require_limbs(record, facts.catalog.parties)
    whose = await _whose(chain, table, record)

    def fault(code: str, place: int, reason: str) -> PeerFault:
        return PeerFault(
            code,
            f"ciphertext {place} of model {record.name}, for which {whose} answers: {reason}",
            subject=f"{record.name}/{place}",
            fix="do not approve the model; the bank must upload what is missing by encrypting it "
            "again with the same secret (chainnode he approve-model --private-points), and what is "
            "malformed under another name",
        )

    await checked_blobs(
        chain,
        record.points,
        lambda place, blob: require_point(record, place, blob),
        partial(fault, POINTS_MALFORMED),
        partial(fault, POINTS_MISSING),
    )


async def _whose(chain: ScoringChain, table: str, record: PrivateScorecard) -> str:
    """Who registered a record, or the bank that hands it round before anybody has."""
    model = hashlib.sha256(record.encode()).digest()
    try:
        return str(await chain.view("registrar_of", table=table, model=model))
    except ContractRefused:
        return "the bank that encrypted it"


async def fetch_points(
    chain: ScoringChain, table: str, record: PrivateScorecard
) -> tuple[bytes, ...]:
    """The ciphertexts of a model with private points, checked: the offset, then the points.

    Args:
        chain: where they are.
        table: name under which the contract knows the table.
        record: as its owners approved it.

    Raises:
        InputFault: `PRIVATE_POINTS_MALFORMED` or `PRIVATE_POINTS_MISSING`, naming the organisation
            that registered the model.
    """
    model = hashlib.sha256(record.encode()).digest()
    registrar = await chain.view("registrar_of", table=table, model=model)

    def fault(code: str, place: int, reason: str) -> InputFault:
        return InputFault(code, registrar, DEEP.name, model, record.name, place, reason)

    return await checked_blobs(
        chain,
        record.points,
        lambda place, blob: require_point(record, place, blob),
        partial(fault, POINTS_MALFORMED),
        partial(fault, POINTS_MISSING),
    )


async def deep_key(chain: ScoringChain, epoch: int) -> bytes:
    """The joint public key of profile M.

    Raises:
        ClientFault: `PROFILE_WITHOUT_KEY`.
    """
    hashes = await chain.view("keys_of", epoch=epoch)
    if not hashes["public_key_m"]:
        raise ClientFault(
            "PROFILE_WITHOUT_KEY",
            "what a bank encrypts itself needs keys of profile M, which this epoch has not",
            subject=str(epoch),
            fix="the council's admins rotate to them: chainnode he rotate --profile M",
        )
    return await chain.get_blob(hashes["public_key_m"])
