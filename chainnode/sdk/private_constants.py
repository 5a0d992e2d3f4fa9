"""Private constants, between the bank's text and the chain: only ciphertexts leave the bank."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from secrets import token_bytes

from chainnode.he.plan import Plan
from chainnode.he.planner.private_names import private_name, with_record
from chainnode.he.private_constants import (
    SECRET_SIZE_BYTES,
    SelectorRecord,
    chosen,
    encrypt_selectors,
    read_selectors,
    require_record,
)
from chainnode.sdk.private_models import deep_key
from chainnode.sdk.scoring import ScoringChain, TableFacts, gather_blobs, make_plan
from chainnode.types.errors import ClientFault


async def hide_constant(
    chain: ScoringChain,
    facts: TableFacts,
    plan: Plan,
    epoch: int,
    values: Mapping[str, str],
) -> tuple[str, Plan]:
    """The text and plan to submit: a named private constant becomes encrypted selectors.

    Args:
        chain: receives the ciphertexts.
        facts: of the table.
        plan: of the text as the bank wrote it.
        epoch: under whose key the table is published.
        values: constants by the names that the text may use.

    Raises:
        ClientFault: `PRIVATE_VALUE_MISSING`, `PRIVATE_VALUE_UNUSED`, `PROFILE_WITHOUT_KEY`, or
            `SQL_UNSUPPORTED` for a constant that the column has not.
    """
    private, name = plan.private_constant(), private_name(plan.sql)
    for unused in set(values) - {name}:
        raise ClientFault(
            "PRIVATE_VALUE_UNUSED",
            "the text has no such private constant",
            subject=unused,
            fix=f"write column = PRIVATE({unused})",
        )
    if private is None or private.record:
        return plan.sql, plan
    if name not in values:
        raise ClientFault(
            "PRIVATE_VALUE_MISSING",
            f"PRIVATE({name}) has no value",
            subject=name,
            fix=f"give it: --private {name}=VALUE, or private={{...}} in Python",
        )
    picks = chosen(private, facts.schema, values[name])
    key = await deep_key(chain, epoch)
    # A fresh secret: selectors of two queries cannot be told to be equal.
    secret = token_bytes(SECRET_SIZE_BYTES)
    record, blobs = await asyncio.to_thread(encrypt_selectors, plan, picks, epoch, key, secret)
    for blob in (*blobs, record.encode()):
        await chain.put_blob(blob)
    sql = with_record(plan.sql, record.hash())
    return sql, make_plan(facts, sql)


async def fetch_selectors(chain: ScoringChain, plan: Plan, epoch: int) -> tuple[bytes, ...]:
    """The selectors that a plan names, checked; none for a plan without a private constant.

    Raises:
        PeerFault: `SELECTORS_MALFORMED`.
        ClientFault: `MALFORMED` or `BLOB_NOT_FOUND`.
    """
    private = plan.private_constant()
    if private is None:
        return ()
    record = SelectorRecord.decode(await chain.get_blob(bytes.fromhex(private.record)))
    require_record(plan, record, epoch)
    blobs = await gather_blobs(chain, [bytes.fromhex(digest) for digest in record.selectors])
    return read_selectors(plan, blobs)
