"""An owner's published columns, as a query or their owner reads them, checked against the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chainnode.sdk.input_faults import InputFault
from chainnode.sdk.manifests import Manifest, bad_manifest, manifest_root, read_manifest
from chainnode.sdk.query_inputs import NOTHING, OwnerInput
from chainnode.sdk.scoring import ContractRefused, QueryFacts, ScoringChain, TableFacts
from chainnode.types.errors import ClientFault, PeerFault


async def read_columns(
    chain: ScoringChain, table: TableFacts, profile: str, owner: str, epoch: int
) -> Manifest:
    """An owner's latest published columns of a profile, checked against the chain.

    Raises:
        InputFault: `MANIFEST_MALFORMED`, `PROOF_UNKNOWN` or `COLUMNS_STALE`.
    """
    latest = await _latest_columns(chain, table.schema.table, profile, owner, epoch)
    return await _read_manifest(chain, latest, profile, epoch)


async def read_pinned_columns(chain: ScoringChain, facts: QueryFacts, owner: str) -> Manifest:
    """The columns of an owner that a query reads: those published when it was submitted.

    Raises:
        InputFault: `MANIFEST_MALFORMED`, `COLUMNS_STALE` or `COLUMNS_REPLACED`.
    """
    async with naming_replaced(chain, facts, owner):
        return await _read_manifest(chain, facts.inputs.of(owner), facts.profile, facts.epoch)


@asynccontextmanager
async def naming_replaced(
    chain: ScoringChain, facts: QueryFacts, owner: str
) -> AsyncIterator[None]:
    """Name the owner of pinned blobs that cannot be had any more, if it published others since.

    Raises:
        InputFault: `COLUMNS_REPLACED`.
    """
    try:
        yield
    except ClientFault as error:
        if error.code != "BLOB_NOT_FOUND":
            raise
        pinned = facts.inputs.of(owner)
        latest = await _latest_columns(chain, facts.table, facts.profile, owner, facts.epoch)
        if latest.root == pinned.root:
            raise
        raise InputFault("COLUMNS_REPLACED", owner, facts.profile, pinned.root) from error


async def _read_manifest(
    chain: ScoringChain, part: OwnerInput, profile: str, epoch: int
) -> Manifest:
    if part.manifest == NOTHING:
        reason = f"there are no columns of epoch {epoch}"
        raise InputFault("COLUMNS_STALE", part.owner, profile, NOTHING, reason=reason)
    data = await chain.get_blob(part.manifest)
    try:
        manifest = read_manifest(data)
        if manifest_root(manifest.columns) != part.root:
            raise bad_manifest("its root is not the one on chain")
        if any(len(blocks) != part.block_count for blocks in manifest.columns.values()):
            raise bad_manifest("a column has another number of blocks")
    except PeerFault as error:
        raise InputFault(
            error.code, part.owner, profile, bytes(part.root), reason=error.message
        ) from error
    return manifest


async def _latest_columns(
    chain: ScoringChain, table: str, profile: str, owner: str, epoch: int
) -> OwnerInput:
    wanted = {"table": table, "owner": owner, "profile": profile, "epoch": epoch}
    try:
        record = await chain.view("columns_of", **wanted)
    except ContractRefused as error:
        if error.error != "StaleEpoch":
            raise
        return OwnerInput(owner)
    return OwnerInput(owner, record["root"], record["manifest"], record["block_count"])
