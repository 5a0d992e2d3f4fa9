"""`DataOwner`: publishing encrypted columns, consent, approval, and opening blocks for an audit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chainnode import _native
from chainnode.he import encode
from chainnode.he.encode import Cell
from chainnode.he.opening import BlockOpening
from chainnode.he.private_points import Model, PrivateScorecard
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.sdk import audits, openings, private_models
from chainnode.sdk.access import AccessRules
from chainnode.sdk.audits import AuditStanding
from chainnode.sdk.columns import read_columns
from chainnode.sdk.ingest import Journal, align, fresh_salt, scope_of
from chainnode.sdk.manifests import Manifest, manifest_root, pack_manifest
from chainnode.sdk.owner_secret import OwnerSecret
from chainnode.sdk.scoring import (
    ContractRefused,
    ScoringChain,
    TableFacts,
    read_ids,
    read_table,
)
from chainnode.sdk.source_table import SourceTable
from chainnode.types.errors import ClientFault, PeerFault

Progress = Callable[[int, int], None]
"""Called with (blocks done, blocks in all)."""


@dataclass(frozen=True, slots=True)
class StaleColumns:
    """Columns that an owner must encrypt again: for which epoch, and how many blocks."""

    owner: str
    profile: str
    epoch: int
    blocks: int


class DataOwner(AccessRules):
    """What an organisation does with its own columns, and how it audits another's.

    Args:
        chain: signed access to the contract under the client's identity.
        organisation: the client's organisation.
        owner_secret: from which the randomness of encryption comes. None: one that lives as long
            as this object; what it publishes cannot be opened to an auditor later.
    """

    def __init__(
        self, chain: ScoringChain, organisation: str, owner_secret: OwnerSecret | None = None
    ) -> None:
        super().__init__(chain)
        self.organisation = organisation
        self._secret = owner_secret or OwnerSecret.passing()

    async def create_table(
        self,
        schema: TableSchema,
        ids: Sequence[str],
        minimum_group: int,
        owners: Sequence[str],
        audited_only: bool = False,
    ) -> None:
        """Publish a table's schema and registry.

        Args:
            schema: public; its rows are `len(ids)`.
            ids: enterprise ids in row order.
            minimum_group: smallest group whose aggregates are opened.
            owners: organisations that hold columns; each must grant access.
            audited_only: require audits at once; see `require_audits`.
        """
        schema.validate()
        if len(ids) != schema.rows or len(set(ids)) != len(ids):
            raise ClientFault(
                "REGISTRY_MALFORMED",
                f"{len(set(ids))} different ids for {schema.rows} rows",
                subject=schema.table,
                fix="give every row one id of its own",
            )
        registry = await self.chain.put_blob("\n".join(ids).encode())
        await self.chain.call(
            "create_table",
            table=schema.table,
            schema=schema.encode(),
            registry=registry,
            minimum_group=minimum_group,
            owners=list(owners),
        )
        if audited_only:
            await self.require_audits(schema.table)

    async def require_audits(self, table: str, required: bool = True) -> None:
        """As an owner, have the council open nothing of columns that nobody audited.

        Holds while any owner of the table asks for it.
        """
        await self.chain.call("require_audits", table=table, required=required)

    async def publish_columns(
        self,
        table: str,
        cells: Mapping[str, Sequence[Cell]],
        progress: Progress | None = None,
        journal: Path | None = None,
    ) -> None:
        """Encrypt this organisation's columns under the joint key, upload and announce them.

        Every publication draws a salt, so that no seed serves twice; see `OwnerSecret.seed`.

        Args:
            table: name.
            cells: SQL column to one value per registry row; read here, sent only encrypted.
            progress: called after every uploaded block.
            journal: a private file that lets a later call go on after an interruption: blocks it
                names are not encrypted and uploaded again.

        Raises:
            ClientFault: `PROFILE_WITHOUT_KEY`, `VALUE_OUT_OF_DOMAIN`, `ROWS_MISALIGNED` or
                `EPOCH_NOT_ACTIVE`.
        """
        facts = await read_table(self.chain, table)
        epoch = await self._active_epoch()
        keys = await self._key_hashes(facts.schema, epoch)
        kept = None
        if journal is not None:
            scope = scope_of(facts.schema, epoch, keys, self._secret.fingerprint)
            kept = await asyncio.to_thread(Journal, journal, scope)
        total = sum(
            len(facts.schema.stored_columns(name, self.organisation))
            * facts.schema.block_count(name)
            for name in keys
        )
        done = 0
        for profile in keys:
            public_key = await self.chain.get_blob(keys[profile])
            manifest = Manifest({}, kept.salt if kept is not None else fresh_salt())
            for stored, blocks in encode.owner_blocks(
                facts.schema, self.organisation, cells, profile
            ):
                manifest.columns[stored] = []
                seeds = self._seeds(facts, epoch, profile, stored, manifest.salt, blocks)
                sealing = _Sealing(profile, stored, public_key, seeds)
                async for blob in self._uploads(sealing, blocks, kept):
                    manifest.columns[stored].append(blob)
                    done += 1
                    if progress is not None:
                        progress(done, total)
            await self._announce(facts, profile, epoch, manifest)

    async def _key_hashes(self, schema: TableSchema, epoch: int) -> dict[ProfileName, bytes]:
        """The joint keys of the profiles in which this organisation stores columns."""
        hashes = await self.chain.view("keys_of", epoch=epoch)
        wanted = [name for name in PROFILES if schema.stored_columns(name, self.organisation)]
        keys = {name: bytes(hashes.get(f"public_key_{name.lower()}", b"")) for name in wanted}
        for name in wanted:
            if not keys[name]:
                raise ClientFault(
                    "PROFILE_WITHOUT_KEY",
                    f"the council's epoch has no key of profile {name}",
                    subject=schema.table,
                    fix=f"have the council rotate to a key with {name} (`chainnode he rotate "
                    f"--profile {name}`), or leave {name} out of the columns' profiles",
                )
        return keys

    def _seeds(
        self,
        facts: TableFacts,
        epoch: int,
        profile: ProfileName,
        stored: str,
        salt: bytes,
        blocks: Sequence[bytes],
    ) -> list[bytes]:
        column = (facts.schema.table, stored, salt)
        return [
            self._secret.seed(epoch, profile, column, number, slots)
            for number, slots in enumerate(blocks)
        ]

    async def _uploads(
        self, sealing: _Sealing, blocks: Sequence[bytes], journal: Journal | None
    ) -> AsyncIterator[bytes]:
        """The hash of every block's ciphertext, uploaded now or, by the journal, before."""
        if journal is None:
            for sealed in await asyncio.to_thread(sealing.all, blocks):
                yield await self.chain.put_blob(sealed)
            return
        for number, slots in enumerate(blocks):
            label = journal.label(sealing.profile, sealing.column, number, slots)
            blob = journal.uploaded(label)
            if blob is None:
                blob = await self.chain.put_blob(
                    await asyncio.to_thread(sealing.one, number, slots)
                )
                await asyncio.to_thread(journal.record, label, blob)
            yield blob

    async def ingest(
        self,
        table: str,
        source: SourceTable,
        progress: Progress | None = None,
        journal: Path | None = None,
    ) -> int:
        """Encrypt and publish this organisation's columns from its own table; returns its rows.

        Args:
            table: name of the published encrypted table.
            source: from `read_source`: CSV, Parquet, Arrow or pandas.
            progress: called after every block.
            journal: see `publish_columns`.

        Raises:
            ClientFault: `TABLE_COLUMN_MISSING`, or `TABLE_ROWS_INVALID` naming file, line, column.
        """
        facts = await read_table(self.chain, table)
        ids = await read_ids(self.chain, facts)
        cells = await asyncio.to_thread(align, source, facts.schema, self.organisation, ids)
        await self.publish_columns(table, cells, progress, journal)
        return source.row_count()

    async def _announce(
        self, facts: TableFacts, profile: ProfileName, epoch: int, manifest: Manifest
    ) -> None:
        columns = {
            "epoch": epoch,
            "block_count": facts.schema.block_count(profile),
            "root": manifest_root(manifest.columns),
            "manifest": await self.chain.put_blob(pack_manifest(manifest)),
            "proof": b"",
        }
        await self.chain.call(
            "publish_columns", table=facts.schema.table, profile=profile, columns=columns
        )

    async def approve_model(self, table: str, model: Model) -> None:
        """Register or confirm a scorecard, as one of the table's owners.

        A model with private points is one no owner can read: approve it only for a bank that may
        learn any column it names, row by row, or after `check_private_points`. Whether all its
        ciphertexts are there and of the right form is looked at here, since the contract cannot.

        Raises:
            ClientFault: `MODEL_INVALID` or `MODEL_STALE`.
            PeerFault: `PRIVATE_POINTS_MALFORMED` or `PRIVATE_POINTS_MISSING`, naming the
                ciphertext; nothing was approved.
        """
        if isinstance(model, PrivateScorecard):
            await private_models.require_approvable(self.chain, table, model)
        await self.chain.call("approve_model", table=table, name=model.name, model=model.encode())

    async def encrypt_model(
        self, table: str, model: Scorecard, points_secret: bytes
    ) -> PrivateScorecard:
        """Encrypt a scorecard's points and upload them: see `private_models.encrypt_model`."""
        return await private_models.encrypt_model(self.chain, table, model, points_secret)

    async def check_private_points(
        self, table: str, record: PrivateScorecard, model: Scorecard, points_secret: bytes
    ) -> None:
        """Check a record against points shown: see `private_models.check_private_points`."""
        await private_models.check_private_points(self.chain, table, record, model, points_secret)

    async def reencryption_plan(self, table: str) -> list[StaleColumns]:
        """Which owners must still encrypt which columns for the active epoch, after a rotation.

        Until all of them have published again, queries are answered under the epoch before.
        """
        facts = await read_table(self.chain, table)
        epoch = await self._active_epoch()
        stale = []
        for owner in facts.owners:
            for profile in PROFILES:
                names = facts.schema.stored_columns(profile, owner)
                if names and not await self._has_columns(table, owner, profile, epoch):
                    blocks = len(names) * facts.schema.block_count(profile)
                    stale.append(StaleColumns(owner, profile, epoch, blocks))
        return stale

    async def _has_columns(self, table: str, owner: str, profile: str, epoch: int) -> bool:
        try:
            await self.chain.view(
                "columns_of", table=table, owner=owner, profile=profile, epoch=epoch
            )
        except ContractRefused:
            return False
        return True

    # --- audits -----------------------------------------------------------------------------------

    async def audit_choice(
        self, table: str, owner: str, count: int = openings.CHOSEN_BLOCKS, from_height: int = 1
    ) -> openings.Places:
        """The blocks that chain randomness chooses of an owner's columns, by profile.

        Args:
            table: name.
            owner: organisation whose columns are audited.
            count: blocks of each profile; a larger count contains the smaller one's.
            from_height: where the search for the publication begins.

        Raises:
            PeerFault: `COLUMNS_STALE`, `PUBLICATION_NOT_FOUND`, `MANIFEST_MALFORMED` or
                `PROOF_INVALID`.
        """
        facts = await read_table(self.chain, table)
        epoch = await self._active_epoch()
        published = await openings.read_published(self.chain, facts, owner, epoch)
        return await openings.choice(self.chain, facts, owner, published, count, from_height)

    async def open_blocks(
        self,
        table: str,
        profile: ProfileName,
        places: Sequence[tuple[str, int]],
        cells: Mapping[str, Sequence[Cell]],
    ) -> list[BlockOpening]:
        """Show blocks of this organisation's columns: seed and plaintext, for an auditor's eyes.

        Args:
            table: name.
            profile: ring of the blocks.
            places: (stored column, block); give only those that `audit_choice` names.
            cells: as published.

        Raises:
            ClientFault: `OPENING_IMPOSSIBLE` naming the block: it was not encrypted from these
                cells under this secret.
        """
        facts = await read_table(self.chain, table)
        epoch = await self._active_epoch()
        manifest = await read_columns(self.chain, facts, profile, self.organisation, epoch)
        public_key = await openings.public_key(self.chain, profile, epoch)
        wanted = {stored for stored, _ in places}

        def encoded_columns() -> dict[str, list[bytes]]:
            every = encode.owner_blocks(facts.schema, self.organisation, cells, profile)
            return {stored: blocks for stored, blocks in every if stored in wanted}

        encoded = await asyncio.to_thread(encoded_columns)
        opened = []
        for stored, number in places:
            blocks, hashes = encoded.get(stored, []), manifest.columns.get(stored, [])
            if not 0 <= number < min(len(blocks), len(hashes)):
                raise _impossible(stored, number, "there is no such block")
            seeds = self._seeds(facts, epoch, profile, stored, manifest.salt, blocks)
            sealing = _Sealing(profile, stored, public_key, seeds)
            again = await asyncio.to_thread(sealing.one, number, blocks[number])
            if hashlib.sha256(again).digest() != hashes[number]:
                raise _impossible(stored, number, "other values or another secret made it")
            opened.append(BlockOpening(stored, number, seeds[number], blocks[number]))
        return opened

    async def open_chosen(
        self,
        table: str,
        source: SourceTable,
        count: int = openings.CHOSEN_BLOCKS,
        from_height: int = 1,
    ) -> dict[ProfileName, list[BlockOpening]]:
        """Openings of the chosen blocks of this organisation's columns, from its own table.

        Args:
            table: name.
            source: as it was ingested.
            count: see `audit_choice`.
            from_height: see `audit_choice`.

        Raises:
            ClientFault: as `ingest` and `open_blocks`.
            PeerFault: as `audit_choice`.
        """
        facts = await read_table(self.chain, table)
        ids = await read_ids(self.chain, facts)
        cells = await asyncio.to_thread(align, source, facts.schema, self.organisation, ids)
        places = await self.audit_choice(table, self.organisation, count, from_height)
        return {
            profile: await self.open_blocks(table, profile, chosen, cells)
            for profile, chosen in places.items()
        }

    async def audit_blocks(
        self,
        table: str,
        owner: str,
        opened: openings.Opened,
        count: int = openings.CHOSEN_BLOCKS,
        from_height: int = 1,
        record: bool = False,
    ) -> openings.Places:
        """Check an owner's openings of the chosen blocks; returns the blocks that passed.

        Args:
            table: name.
            owner: organisation whose columns are audited.
            opened: what the owner handed over, by profile.
            count: see `audit_choice`.
            from_height: see `audit_choice`.
            record: say on chain, profile by profile, whether the columns passed.

        Raises:
            PeerFault: `CIPHERTEXT_MALFORMED` naming owner, column and block, `OPENING_MISSING`
                naming the block, or as `audit_choice`.
        """
        facts = await read_table(self.chain, table)
        epoch = await self._active_epoch()
        published = await openings.read_published(self.chain, facts, owner, epoch)
        places = await openings.choice(self.chain, facts, owner, published, count, from_height)
        for profile, chosen in places.items():
            audited = openings.Audited(facts, owner, profile, epoch, published[profile])
            found = AuditStanding(owner, profile, manifest_root(published[profile].columns))
            try:
                await openings.check(self.chain, audited, chosen, opened.get(profile, ()))
            except PeerFault as error:
                if record:
                    await audits.record(self.chain, table, found, epoch, False, str(error))
                raise
            if record:
                told = f"{len(chosen)} blocks opened and encrypted again"
                await audits.record(self.chain, table, found, epoch, True, told)
        return places

    # --- inside -----------------------------------------------------------------------------------

    async def _active_epoch(self) -> int:
        epoch = await self.chain.view("latest_active_epoch")
        if epoch == 0:
            raise ClientFault(
                "EPOCH_NOT_ACTIVE",
                "the key council has no active epoch",
                subject=self.organisation,
                fix="wait for the ceremony, or look at the keyholders",
                retry="after",
                retry_after_ms=2_000,
            )
        return int(epoch)


@dataclass(frozen=True, slots=True)
class _Sealing:
    """How one stored column is encrypted: seeds by block number."""

    profile: ProfileName
    column: str
    public_key: bytes
    seeds: Sequence[bytes]

    def one(self, number: int, slots: bytes) -> bytes:
        limbs = PROFILES[self.profile].limbs
        return _native.he_encrypt(self.profile, self.public_key, slots, self.seeds[number], limbs)

    def all(self, blocks: Sequence[bytes]) -> list[bytes]:
        limbs = PROFILES[self.profile].limbs
        return _native.he_encrypt_many(
            self.profile, self.public_key, blocks, list(self.seeds), limbs
        )


def _impossible(column: str, block: int, reason: str) -> ClientFault:
    return ClientFault(
        "OPENING_IMPOSSIBLE",
        f"block {block} of column {column} cannot be opened: {reason}",
        subject=column,
        fix="give the cells and the secret it was published with, or publish again and open that",
    )
