"""What a buyer fears, done on purpose: each ends in one typed outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainnode.he.engine import pack_container
from chainnode.he.profiles import PROFILES
from chainnode.he.threshold import share_commitment
from chainnode.identity import load_identity
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.scoring import (
    RELEASING,
    ContractRefused,
    read_posts,
    read_query,
    read_sharing,
)
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.types.errors import ChainnodeError, PeerFault
from examples.bank_scoring import scoring
from examples.bank_scoring.network import BANK, Network, Party, now
from examples.bank_scoring.stages import Stages

VICTIM_NODE = "statistics/node"
CHEAT = "guarantor"
WAIT_SECONDS = 60.0


async def all_of(
    network: Network, stages: Stages, parties: Mapping[str, Party], table: scoring.Table
) -> dict[str, str]:
    """The four fears in turn; returns the outcome of each."""
    bank = parties[BANK]
    shown = {}
    with stages.stage("node_killed", "one node killed in mid-query"):
        shown["node_killed"] = await node_killed(network, bank, table)
    stages.note(shown["node_killed"])
    with stages.stage("bit_flipped", "one bit of a stored ciphertext flipped"):
        shown["bit_flipped"] = await bit_flipped(network, parties, table)
    stages.note(shown["bit_flipped"])
    with stages.stage("wrong_share", "one keyholder sends a wrong decryption share"):
        shown["wrong_share"] = await wrong_share(network, bank, table)
    stages.note(shown["wrong_share"])
    with stages.stage("small_group", "a question about a group below the minimum size"):
        shown["small_group"] = await small_group(bank, table)
    stages.note(shown["small_group"])
    return shown


async def outcome(work: Awaitable[Any]) -> str:
    """How some work ended: the typed error, or that it was answered."""
    try:
        await work
    except ChainnodeError as error:
        return str(error)
    return "answered"


async def submitted(bank: Party, before: bytes, asking: asyncio.Task[Any]) -> None:
    """Wait until a question stands on the chain, or ended before it got there."""
    while not asking.done():
        # The client knows the id before the chain does.
        if bank.bank.last_query != before:
            with contextlib.suppress(ContractRefused):
                await read_query(bank.bank.chain, bank.bank.last_query)
                return
        await asyncio.sleep(0.01)


async def node_killed(network: Network, bank: Party, table: scoring.Table) -> str:
    """Kill a node while a query is computed; the others answer it; the node comes back."""
    before = bank.bank.last_query
    asking = asyncio.create_task(bank.bank.score(table.schema.table, table.model.name))
    await submitted(bank, before, asking)
    await asyncio.to_thread(network.kill, VICTIM_NODE)
    scores = await asking
    wrong = scoring.mismatches(table, scores)
    await asyncio.to_thread(network.restart, VICTIM_NODE)
    return (
        f"NODE_DOWN tolerated: {VICTIM_NODE} killed, {len(scores):,} scores released, "
        f"{wrong} differ; the node is back"
    )


async def bit_flipped(network: Network, parties: Mapping[str, Party], table: scoring.Table) -> str:
    """Damage a ciphertext where one node keeps it, then read it from that node and from all."""
    chain = parties[BANK].bank.chain
    epoch = await chain.view("latest_active_epoch")
    record = await chain.view(
        "columns_of", table=table.schema.table, owner=BANK, profile="S", epoch=epoch
    )
    damaged: Path | None = None
    endpoint = ""
    digest = bytes(record["manifest"])
    for place in network.layout.nodes:
        found = sorted(place.data_dir.rglob(digest.hex()))
        if found:
            damaged, endpoint = found[0], place.endpoint
            break
    if damaged is None:
        raise PeerFault("BLOB_NOT_FOUND", "No node keeps the blob.", subject=digest.hex())
    good = damaged.read_bytes()
    damaged.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    identity = load_identity(network.layout.identities[f"{BANK}/client"])
    async with AsyncClient([endpoint], identity, network.layout.genesis) as one:
        told = await outcome(one.get_blob(digest))
    whole = await parties[BANK].client.get_blob(digest)
    damaged.write_bytes(good)
    return f"{told}; another node's copy is {'whole' if whole == good else 'damaged too'}"


async def wrong_share(network: Network, bank: Party, table: scoring.Table) -> str:
    """Stop one keyholder and, under its identity, post a share of random residues."""
    await asyncio.to_thread(network.kill, f"{CHEAT}/keyholder")
    before = bank.bank.last_query
    asking = asyncio.create_task(outcome(bank.bank.score(table.schema.table, table.model.name)))
    await submitted(bank, before, asking)
    identity = load_identity(network.layout.identities[f"{CHEAT}/keyholder"])
    endpoints = [place.endpoint for place in network.layout.nodes]
    async with AsyncClient(endpoints, identity, network.layout.genesis) as client:
        cheat = SdkScoringChain(client)
        deadline = now() + WAIT_SECONDS
        while (await read_query(cheat, bank.bank.last_query)).status < RELEASING:
            if now() > deadline:
                raise PeerFault("QUERY_TIMEOUT", "The query was not computed in time.")
            await asyncio.sleep(0.1)
        await post_random(cheat, bank.bank.last_query, table)
    told = await asking
    steps = await bank.bank.audit_trail(bank.bank.last_query)
    faults = [f"{step.organisation}: {step.detail}" for step in steps if step.step == "fault"]
    told += f"; on chain: {', '.join(faults) or 'nobody named'}"
    await asyncio.to_thread(network.restart, f"{CHEAT}/keyholder")
    return told


async def post_random(cheat: SdkScoringChain, query: bytes, table: scoring.Table) -> None:
    """Give random residues for every piece of the key that the cheat holds."""
    facts = await read_query(cheat, query)
    sharing = await read_sharing(cheat, facts.epoch)
    _, result = await cheat.view("chunk_info", query=query, index=facts.chunk_count)
    share = await cheat.put_blob(random_share(table))
    held = sharing.held_by(CHEAT)
    digests = [share if place in held else b"" for place in range(len(sharing.pieces))]
    commitment = share_commitment(query, result, digests, CHEAT)
    await cheat.call("share_commit", query=query, commitment=commitment)
    deadline, committed = now() + WAIT_SECONDS, 0
    while committed < len(sharing.members):
        if now() > deadline:
            raise PeerFault("QUERY_TIMEOUT", "Not all members committed to shares in time.")
        await asyncio.sleep(0.1)
        committed = len(await read_posts(cheat, sharing, facts.epoch, query, "share commit"))
    await cheat.call(
        "share_post", query=query, epoch=facts.epoch, result=result, digests=digests, share=b""
    )


async def small_group(bank: Party, table: scoring.Table) -> str:
    """Count the enterprises of the smallest group that two of the table's columns can name."""
    conditions = scoring.smallest_group(table)
    if conditions is None:
        return f"no two columns name a group of 1 to {scoring.MINIMUM_GROUP - 1} rows of this file"
    sql = f"SELECT COUNT(*) FROM {table.schema.table} WHERE {conditions}"
    return f"{sql}: {await outcome(bank.bank.query(table.schema.table, sql))}"


def random_share(table: scoring.Table) -> bytes:
    """A key-switch share of the right shape whose residues are random."""
    from chainnode._native import he_profile

    limbs = PROFILES["S"].limbs
    profile = he_profile("S")
    random = np.random.default_rng(7)
    blocks = []
    for _ in range(table.schema.block_count()):
        residues = [
            random.integers(0, modulus, profile.ring_degree, dtype=np.uint64)
            for _ in range(2)
            for modulus in profile.moduli[:limbs]
        ]
        blocks.append(np.concatenate(residues).astype("<u8").tobytes())
    return pack_container(blocks)
