"""Audits of encrypted columns: which blocks chance chooses, and whether their openings are honest.

The chance is the hash of the block whose header first commits to the receipt of the publication:
nobody could know it when the columns were published, and a quorum of validators signed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from chainnode.he.opening import BlockOpening, check_opening, chosen_blocks, unknown_proof
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.schema import PRESENCE_COLUMN, TableSchema, rows_per_block
from chainnode.sdk.columns import read_columns
from chainnode.sdk.manifests import Manifest
from chainnode.sdk.scoring import (
    CONTRACT,
    ScoringChain,
    TableFacts,
    gather_blobs,
)
from chainnode.types.block import BlockHeader
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.receipt import Receipt

CHOSEN_BLOCKS: Final = 8
"""Blocks opened of each profile, unless an auditor asks for more."""

PUBLISHED: Final = "CatalogChanged"

Places = dict[ProfileName, list[tuple[str, int]]]
"""Profile to (stored column, block)."""

Opened = Mapping[ProfileName, Sequence[BlockOpening]]
"""Profile to openings."""


class OpeningsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an owner hands to an auditor; it holds plaintext rows.

    Args:
        profiles: openings by profile.
        version: of this format.
    """

    profiles: dict[ProfileName, list[BlockOpening]]
    version: int = 1

    def encode(self) -> bytes:
        """As JSON; bytes are base64."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(data: bytes) -> OpeningsFile:
        """From JSON.

        Raises:
            ClientFault: `OPENINGS_MALFORMED`.
        """
        try:
            read = msgspec.json.decode(data, type=OpeningsFile)
        except msgspec.DecodeError as error:
            raise _bad_file(str(error)) from error
        if read.version != 1:
            raise _bad_file(f"version {read.version} is not known")
        return read


@dataclass(frozen=True, slots=True)
class Audited:
    """The columns under audit: one owner's of one profile."""

    table: TableFacts
    owner: str
    profile: ProfileName
    epoch: int
    manifest: Manifest


async def read_published(
    chain: ScoringChain, table: TableFacts, owner: str, epoch: int
) -> dict[ProfileName, Manifest]:
    """An owner's manifests by profile, listing what the schema says and nothing else.

    Raises:
        PeerFault: `COLUMNS_STALE` or `MANIFEST_MALFORMED`.
        ClientFault: `OWNER_WITHOUT_COLUMNS`.
    """
    found: dict[ProfileName, Manifest] = {}
    for profile in PROFILES:
        stored = table.schema.stored_columns(profile, owner)
        if not stored:
            continue
        manifest = await read_columns(chain, table, profile, owner, epoch)
        count = table.schema.block_count(profile)
        if set(manifest.columns) != set(stored) or any(
            len(blocks) != count for blocks in manifest.columns.values()
        ):
            raise PeerFault(
                "MANIFEST_MALFORMED",
                f"{owner}'s {profile} columns or blocks are not those of the schema",
                subject=table.schema.table,
                fix=f"{owner} must publish its columns again",
            )
        found[profile] = manifest
    if not found:
        raise ClientFault(
            "OWNER_WITHOUT_COLUMNS",
            f"{owner} stores no columns of {table.schema.table}",
            subject=owner,
            fix="name an organisation that the schema gives columns",
        )
    return found


async def choice(
    chain: ScoringChain,
    table: TableFacts,
    owner: str,
    published: Mapping[ProfileName, Manifest],
    count: int,
    from_height: int,
) -> Places:
    """The blocks to open, by profile; see `chosen_blocks`.

    Raises:
        PeerFault: `PUBLICATION_NOT_FOUND` or `PROOF_INVALID`.
    """
    found = await _publications(chain, table.schema.table, owner, from_height)
    places: Places = {}
    for profile, manifest in published.items():
        if profile not in found:
            raise PeerFault(
                "PUBLICATION_NOT_FOUND",
                f"from block {from_height} on {owner} publishes no {profile} columns",
                subject=table.schema.table,
                fix="begin the search at an earlier block, or ask another node",
            )
        fields = (table.schema.table, owner, "columns", profile)
        randomness = await _randomness(chain, found[profile], fields)
        counts = {name: len(blocks) for name, blocks in manifest.columns.items()}
        places[profile] = chosen_blocks(randomness, counts, count)
    return places


async def _publications(
    chain: ScoringChain, table: str, owner: str, from_height: int
) -> dict[str, bytes]:
    """Profile to the transaction that published its columns last."""
    latest = await chain.latest_height()
    found: dict[str, bytes] = {}
    if from_height > latest:
        return found
    async for height, steps in chain.follow(from_height):
        for step in steps:
            fields = step.fields
            if step.name == PUBLISHED and (
                (fields["table"], fields["organisation"], fields["step"])
                == (table, owner, "columns")
            ):
                found[str(fields["subject"])] = step.tx_id
        if height >= latest:
            break
    return found


async def _randomness(chain: ScoringChain, tx_id: bytes, fields: Sequence[str]) -> bytes:
    """The hash of the first block that commits to the receipt of a publication."""
    proof = await chain.receipt_proof(tx_id)
    receipt = Receipt.decode(proof.receipt)
    stated = b"".join(len(data).to_bytes(4, "big") + data for data in map(str.encode, fields))
    said = any(
        (event.contract, event.name) == (CONTRACT, PUBLISHED) and event.data.startswith(stated)
        for event in receipt.events
    )
    # With steps in between, a node could offer whichever later block suits the owner.
    if not said or not receipt.ok or receipt.tx_id != tx_id or proof.steps:
        raise PeerFault(
            "PROOF_INVALID",
            "the proof is not of this publication, or not by the first block that covers it",
            subject=tx_id.hex(),
            fix="ask another node; if it repeats, report the node",
        )
    return BlockHeader.from_proto(proof.header).hash()


async def public_key(chain: ScoringChain, profile: ProfileName, epoch: int) -> bytes:
    """The council's joint key of a profile."""
    hashes = await chain.view("keys_of", epoch=epoch)
    return await chain.get_blob(bytes(hashes[f"public_key_{profile.lower()}"]))


async def check(
    chain: ScoringChain,
    audited: Audited,
    chosen: Sequence[tuple[str, int]],
    opened: Sequence[BlockOpening],
) -> None:
    """Refuse the first chosen block whose opening is missing or dishonest.

    Raises:
        PeerFault: `OPENING_MISSING`, `CIPHERTEXT_MALFORMED` or `PROOF_UNKNOWN`.
    """
    by_place = {(opening.column, opening.block): opening for opening in opened}
    for name, number in chosen:
        if (name, number) not in by_place:
            raise PeerFault(
                "OPENING_MISSING",
                f"{audited.owner} does not open block {number} of column {name} "
                f"({audited.profile})",
                subject=f"{audited.owner}/{name}/{number}",
                fix="ask for it again; give no share on this column meanwhile",
            )
    key = await public_key(chain, audited.profile, audited.epoch)
    digests = [audited.manifest.columns[name][number] for name, number in chosen]
    ciphertexts = await gather_blobs(chain, digests)
    for place, ciphertext in zip(chosen, ciphertexts, strict=True):
        await asyncio.to_thread(_check_one, audited, key, ciphertext, by_place[place])


def _check_one(audited: Audited, key: bytes, ciphertext: bytes, opening: BlockOpening) -> None:
    schema = audited.table.schema
    if opening.proof:
        raise unknown_proof(f"{audited.owner}/{opening.column}/{opening.block}")
    largest = _largest(schema, opening.column)
    try:
        check_opening(audited.profile, key, ciphertext, opening, largest)
    except PeerFault as error:
        raise _malformed(audited, opening, error.message) from error
    slots = np.frombuffer(opening.slots, "<u8")
    held = rows_per_block(audited.profile)
    filled = min(held, schema.rows - opening.block * held)
    if slots[filled:].any():
        raise _malformed(audited, opening, "slots beyond the table's rows are not empty")
    if opening.column == PRESENCE_COLUMN and not (slots[:filled] == 1).all():
        raise _malformed(audited, opening, "a registered row is not marked present")


def _largest(schema: TableSchema, stored: str) -> int:
    """The largest value the schema allows in a stored column; indicators hold 0 and 1."""
    for column in schema.columns:
        for name, _, largest in column.value_columns():
            if name == stored:
                return largest
    return 1


def _malformed(audited: Audited, opening: BlockOpening, reason: str) -> PeerFault:
    return PeerFault(
        "CIPHERTEXT_MALFORMED",
        f"{audited.owner}, {audited.profile}, block {opening.block} of column "
        f"{opening.column}: {reason}",
        subject=f"{audited.owner}/{opening.column}/{opening.block}",
        fix="give no share on this column; have its owner's other blocks opened",
    )


def _bad_file(reason: str) -> ClientFault:
    return ClientFault(
        "OPENINGS_MALFORMED",
        f"the openings cannot be read: {reason}",
        fix="have the owner write the file again with `chainnode he open`",
    )
