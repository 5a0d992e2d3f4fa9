"""Private constants, between the bank's text and the chain: only ciphertexts leave the bank."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from secrets import token_bytes

from chainnode.he.plan import Plan
from chainnode.he.planner.private_names import private_name, with_record
from chainnode.he.private_constants import (
    SECRET_SIZE_BYTES,
    SELECTORS_MALFORMED,
    SelectorRecord,
    chosen,
    encrypt_selectors,
    require_record,
    require_selector,
)
from chainnode.sdk.bank_ciphertexts import blob_or_none, checked_blobs
from chainnode.sdk.input_faults import SELECTORS_MISSING, InputFault
from chainnode.sdk.private_models import deep_key
from chainnode.sdk.scoring import QueryFacts, ScoringChain, TableFacts, make_plan
from chainnode.types.errors import ClientFault, PeerFault


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


async def fetch_selectors(chain: ScoringChain, plan: Plan, facts: QueryFacts) -> tuple[bytes, ...]:
    """The selectors that a plan names, checked; none for a plan without a private constant.

    Raises:
        InputFault: `SELECTORS_MALFORMED` or `SELECTORS_MISSING`, naming the bank that asked.
    """
    private = plan.private_constant()
    if private is None:
        return ()

    def fault(code: str, place: int | None, reason: str) -> InputFault:
        column = "" if place is None else private.column
        bank, binding = facts.bank, plan.hash()
        return InputFault(code, bank, plan.profile, binding, column, place or 0, reason)

    data = await blob_or_none(chain, private.record)
    if data is None:
        raise fault(SELECTORS_MISSING, None, "no node has the record of its private constant")
    try:
        record = SelectorRecord.decode(data)
        require_record(plan, record, facts.epoch)
    except (ClientFault, PeerFault) as error:
        raise fault(SELECTORS_MALFORMED, None, error.message) from error
    return await checked_blobs(
        chain,
        record.selectors,
        lambda _, blob: require_selector(plan, blob),
        partial(fault, SELECTORS_MALFORMED),
        partial(fault, SELECTORS_MISSING),
    )
