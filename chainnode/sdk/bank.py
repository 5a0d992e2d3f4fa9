"""`BankClient`: keys, encrypted tables, consent, SQL on ciphertexts, scores and the audit trail."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chainnode import _native
from chainnode.he import encode, release
from chainnode.he.answer import band_rows
from chainnode.he.encode import Cell
from chainnode.he.engine import Row, assemble, open_scores, unpack_container, validate_result
from chainnode.he.plan import Plan
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.identity import Identity
from chainnode.sdk.bank_keys import BankKeys
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.scoring import (
    EPOCH_ACTIVE,
    EXPIRED,
    RELEASED,
    STATUS_NAMES,
    QueryFacts,
    ScoringChain,
    TableFacts,
    make_plan,
    manifest_root,
    pack_consent,
    pack_manifest,
    plan_shape,
    read_ids,
    read_members,
    read_query,
    read_table,
    score_mask,
)
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.types.errors import ClientFault, ConfigError, PeerFault

__all__ = ["AuditStep", "BankClient", "BankKeys", "Progress", "open_bank"]

Progress = Callable[[int, int], None]
"""Called with (blocks done, blocks in all)."""

_POLL_S: Final = 0.2
_QUIET_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class AuditStep:
    """One step of a query as the chain recorded it."""

    height: int
    tx_id: bytes
    step: str
    organisation: str
    detail: str


class BankClient:
    """A bank's, or a data owner's, view of encrypted scoring.

    Args:
        chain: signed access to the contract under the client's identity.
        organisation: the client's organisation.
        keys: where answers are received; None for an owner that only publishes.
        timeout_s: how long a query may take before the client stops waiting for it.
    """

    def __init__(
        self,
        chain: ScoringChain,
        organisation: str,
        keys: BankKeys | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self.chain = chain
        self.organisation = organisation
        self._keys = keys
        self._timeout_s = timeout_s
        self.last_query = b""

    # --- data owners ------------------------------------------------------------------------------

    async def create_table(
        self,
        schema: TableSchema,
        ids: Sequence[str],
        minimum_group: int,
        owners: Sequence[str],
    ) -> None:
        """Publish a table's schema and registry.

        Args:
            schema: public; its rows are `len(ids)`.
            ids: enterprise ids in row order.
            minimum_group: smallest group whose aggregates are opened.
            owners: organisations that hold columns; each must grant access.
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

    async def publish_columns(
        self,
        table: str,
        cells: Mapping[str, Sequence[Cell]],
        progress: Progress | None = None,
    ) -> None:
        """Encrypt this organisation's columns under the joint key, upload and announce them.

        Args:
            table: name.
            cells: SQL column to one value per registry row; read here, sent only encrypted.
            progress: called after every uploaded block.

        Raises:
            ClientFault: `VALUE_OUT_OF_DOMAIN`, `ROWS_MISALIGNED`, `EPOCH_NOT_ACTIVE`.
        """
        facts = await read_table(self.chain, table)
        epoch = await self._active_epoch()
        hashes = await self.chain.view("keys_of", epoch=epoch)
        total = sum(
            len(facts.schema.stored_columns(name, self.organisation))
            * facts.schema.block_count(name)
            for name in PROFILES
        )
        done = 0
        for profile in PROFILES:
            if not facts.schema.stored_columns(profile, self.organisation):
                continue
            public_key = await self.chain.get_blob(hashes[f"public_key_{profile.lower()}"])
            published: dict[str, list[bytes]] = {}
            for name, blocks in encode.owner_blocks(
                facts.schema, self.organisation, cells, profile
            ):
                published[name] = []
                for block in await asyncio.to_thread(_encrypt, profile, public_key, blocks):
                    published[name].append(await self.chain.put_blob(block))
                    done += 1
                    if progress is not None:
                        progress(done, total)
            await self._announce(facts, profile, epoch, published)

    async def _announce(
        self, facts: TableFacts, profile: ProfileName, epoch: int, published: dict[str, list[bytes]]
    ) -> None:
        columns = {
            "epoch": epoch,
            "block_count": facts.schema.block_count(profile),
            "root": manifest_root(published),
            "manifest": await self.chain.put_blob(pack_manifest(published)),
        }
        await self.chain.call(
            "publish_columns", table=facts.schema.table, profile=profile, columns=columns
        )

    async def grant(self, table: str, bank: str, budget: int) -> None:
        """Allow a bank that many queries, as one of the table's owners."""
        await self.chain.call("grant", table=table, bank=bank, budget=budget)

    async def set_consent(self, table: str, bank: str, ids: Iterable[str]) -> None:
        """State which enterprises let this bank see their score, as one of the table's owners.

        Raises:
            ClientFault: `ID_UNKNOWN`.
        """
        facts = await read_table(self.chain, table)
        registry = await read_ids(self.chain, facts)
        chosen = set(ids)
        unknown = sorted(chosen.difference(registry))
        if unknown:
            raise ClientFault(
                "ID_UNKNOWN", "not in the registry", subject=unknown[0], fix="correct the id"
            )
        bitmap = await self.chain.put_blob(pack_consent([name in chosen for name in registry]))
        await self.chain.call("set_consent", table=table, bank=bank, bitmap=bitmap)

    async def approve_model(self, table: str, model: Scorecard) -> None:
        """Register or confirm a scorecard, as one of the table's owners."""
        await self.chain.call("approve_model", table=table, name=model.name, model=model.encode())

    # --- questions --------------------------------------------------------------------------------

    async def plan(self, table: str, sql: str) -> Plan:
        """The plan of a query, for `EXPLAIN`; costs nothing.

        Raises:
            ClientFault: `SQL_UNSUPPORTED` and the planner's other refusals, with a rewrite.
        """
        return make_plan(await read_table(self.chain, table), sql)

    async def query(self, table: str, sql: str) -> list[Row]:
        """Ask for aggregates over encrypted columns; the numbers are exact.

        Raises:
            ClientFault: `SQL_UNSUPPORTED`, `BUDGET_EXCEEDED`, `GROUP_TOO_SMALL`, `NOT_ALLOWED`.
            PeerFault: `WRONG_SHARE`, `QUERY_REFUSED`, `QUERY_EXPIRED`.
        """
        scores = (await self.plan(table, sql)).scores
        if scores is not None and not scores.bands:
            raise ClientFault(
                "SQL_UNSUPPORTED", "CREDIT_SCORE is asked with score(), not query()", subject=sql
            )
        facts, plan = await self._ask(table, sql)
        try:
            rows = await self._rows(table, facts, plan)
        except PeerFault as error:
            await self._close(facts, error.code)
            raise
        await self._close(facts, "answered")
        return rows

    async def _rows(self, table: str, facts: QueryFacts, plan: Plan) -> list[Row]:
        if plan.scores is None:
            return assemble(plan, await self._open_sums(facts, plan))
        opened = await self._open_scores(facts, await read_table(self.chain, table), plan)
        return band_rows(plan.scores.bands, list(opened.values()))

    async def score(
        self, table: str, model: str, ids: Sequence[str] | None = None
    ) -> dict[str, int]:
        """Scores of enterprises that consent to this bank; the others are left out.

        Raises:
            ClientFault: `ID_UNKNOWN` and as `query`.
            PeerFault: as `query`.
        """
        facts = await read_table(self.chain, table)
        sql = f"SELECT CREDIT_SCORE('{model}') FROM {table}"
        if ids is not None:
            listed = ", ".join("'" + name.replace("'", "''") + "'" for name in ids)
            sql += f" WHERE {facts.schema.id_column} IN ({listed})"
        asked, plan = await self._ask(table, sql)
        try:
            scores = await self._open_scores(asked, facts, plan)
        except PeerFault as error:
            await self._close(asked, error.code)
            raise
        await self._close(asked, "answered")
        return scores

    async def audit_trail(self, query: bytes, from_height: int = 0) -> list[AuditStep]:
        """Every recorded step of a query, in order, up to the latest block.

        Args:
            query: 32-byte id.
            from_height: where to begin; 0 begins where the query was submitted.
        """
        facts = await read_query(self.chain, query)
        steps: list[AuditStep] = []
        blocks = aiter(self.chain.follow(from_height or facts.height))
        while not steps or steps[-1].step != "ended":
            try:
                async with asyncio.timeout(_QUIET_S):
                    height, found = await anext(blocks)
            except (TimeoutError, StopAsyncIteration):
                break
            steps += [
                _audit(step.name, step.fields, height, step.tx_id)
                for step in found
                if step.fields.get("query") == query
            ]
        return steps

    # --- inside -----------------------------------------------------------------------------------

    async def _active_epoch(self) -> int:
        epoch, status, _, _ = await self.chain.view("epoch_info", epoch=0)
        if status != EPOCH_ACTIVE:
            raise ClientFault(
                "EPOCH_NOT_ACTIVE",
                "the key council has no active epoch",
                subject=f"epoch {epoch}",
                fix="wait for the ceremony, or look at the keyholders",
                retry="after",
                retry_after_ms=2_000,
            )
        return int(epoch)

    async def _ask(self, table: str, sql: str) -> tuple[QueryFacts, Plan]:
        keys = self._receiving()
        facts = await read_table(self.chain, table)
        plan = make_plan(facts, sql)
        if plan.scores is not None:
            # A typing error in an id must not cost budget.
            encode.selected_rows(plan, await read_ids(self.chain, facts))
        target = await self.chain.put_blob(keys.score_key.public_key())
        query = secrets.token_bytes(32)
        ask = {
            "table": table,
            **plan_shape(plan),
            "plan_hash": plan.hash(),
            "reply_key": release.public_bytes(keys.reply_key),
            "target_key": target,
        }
        await self.chain.call("submit", query=query, ask=ask, sql=sql)
        self.last_query = query
        return await self._released(query), plan

    async def _released(self, query: bytes) -> QueryFacts:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout_s
        while True:
            facts = await read_query(self.chain, query)
            if facts.status == RELEASED:
                return facts
            if facts.status > RELEASED:
                raise _ended(facts)
            if loop.time() > end:
                raise PeerFault(
                    "QUERY_TIMEOUT",
                    f"still {STATUS_NAMES[facts.status]} after {self._timeout_s:g} s",
                    subject=query.hex(),
                    fix="look at the workers and keyholders; the query stays on chain until it "
                    "expires",
                )
            await asyncio.sleep(_POLL_S)

    async def _open_sums(self, facts: QueryFacts, plan: Plan) -> list[int | None]:
        result_hash, ciphertexts, members, posted = await self._opening(facts, plan)
        shares = {
            name: release.open_sealed(
                self._receiving().reply_key,
                share,
                release.share_context(facts.query, result_hash, name, "sums"),
            )
            for name, share in zip(members, posted, strict=True)
        }
        return list(
            release.open_scalars(plan.profile, plan.limbs, ciphertexts, shares, facts.query.hex())
        )

    async def _open_scores(
        self, facts: QueryFacts, table: TableFacts, plan: Plan
    ) -> dict[str, int]:
        _, ciphertexts, members, posted = await self._opening(facts, plan)
        subject = facts.query.hex()
        shares = {
            name: unpack_container(await self.chain.get_blob(share))
            for name, share in zip(members, posted, strict=True)
        }
        ids = await read_ids(self.chain, table)
        mask = await score_mask(self.chain, table, plan, self.organisation, ids)

        def read() -> dict[str, int]:
            key = self._receiving().score_key
            switched = release.switch_vectors(
                plan.profile, plan.limbs, ciphertexts, shares, subject
            )
            rooms = [key.noise_budget_bits(block, plan.limbs) for block in switched]
            release.check_margin(rooms, members, subject)
            slots = [key.decrypt(block, plan.limbs) for block in switched]
            return open_scores(plan, slots, mask, ids, facts.query)

        return await asyncio.to_thread(read)

    async def _opening(
        self, facts: QueryFacts, plan: Plan
    ) -> tuple[bytes, list[bytes], tuple[str, ...], list[bytes]]:
        _, digest = await self.chain.view("chunk_info", query=facts.query, index=facts.chunk_count)
        ciphertexts = validate_result(plan, await self.chain.get_blob(digest))
        members = await read_members(self.chain)
        return digest, ciphertexts, members, await self.chain.view("shares_of", query=facts.query)

    async def _close(self, facts: QueryFacts, outcome: str) -> None:
        await self.chain.call("close", query=facts.query, outcome=outcome)

    def _receiving(self) -> BankKeys:
        if self._keys is None:
            raise ConfigError(
                "BANK_KEYS_MISSING",
                "this client has no keys to receive answers with",
                fix="open the client with BankKeys(folder, passphrase)",
            )
        return self._keys


@asynccontextmanager
async def open_bank(
    endpoints: Sequence[str],
    identity: Identity,
    genesis: Path | bytes,
    keys: BankKeys | None = None,
    server_name: str = "",
) -> AsyncIterator[BankClient]:
    """A bank's or owner's client over the nodes given, closed at the end.

    Args:
        endpoints: host:port of nodes, tried in this order.
        identity: the client member's.
        genesis: the chain's genesis file, or its bytes.
        keys: where answers are received; None for an owner that only publishes.
        server_name: the name in the nodes' certificates, when it is not the host.
    """
    async with AsyncClient(endpoints, identity, genesis, server_name=server_name) as client:
        yield BankClient(SdkScoringChain(client), identity.organisation, keys)


def _encrypt(profile: str, public_key: bytes, blocks: Sequence[bytes]) -> list[bytes]:
    seeds = [secrets.token_bytes(32) for _ in blocks]
    limbs = PROFILES[profile].limbs  # type: ignore[index]
    return _native.he_encrypt_many(profile, public_key, blocks, seeds, limbs)


def _audit(name: str, fields: Mapping[str, object], height: int, tx_id: bytes) -> AuditStep:
    if name == "QueryFinalised":
        result = bytes(fields["result"])  # type: ignore[call-overload]
        return AuditStep(height, tx_id, "finalised", "", result.hex())
    organisation = str(fields["organisation"])
    if name == "ChunkStep":
        return AuditStep(
            height, tx_id, str(fields["step"]), organisation, f"chunk {fields['index']}"
        )
    return AuditStep(height, tx_id, str(fields["step"]), organisation, str(fields["detail"]))


def _ended(facts: QueryFacts) -> ClientFault | PeerFault:
    if facts.ending == "group too small":
        return ClientFault(
            "GROUP_TOO_SMALL",
            "a group in the answer is smaller than the table's minimum; the query cost budget",
            subject=facts.query.hex(),
            fix="widen the condition or group by a coarser column",
        )
    if facts.status == EXPIRED:
        return PeerFault(
            "QUERY_EXPIRED",
            "the query was not answered by its deadline",
            subject=facts.query.hex(),
            fix="look at the workers and keyholders, then ask again",
        )
    return PeerFault(
        "QUERY_REFUSED",
        f"the query was {STATUS_NAMES[facts.status]}: {facts.ending}",
        subject=facts.query.hex(),
        fix="read the audit trail of the query, then ask again",
    )
