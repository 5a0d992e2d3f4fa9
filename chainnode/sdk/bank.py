"""`BankClient`: keys, encrypted tables, consent, SQL on ciphertexts, scores and the audit trail."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chainnode.he import encode, release, threshold
from chainnode.he.answer import band_rows
from chainnode.he.engine import unpack_container, validate_result
from chainnode.he.plan import Plan
from chainnode.he.private_constants import released_places, released_plan
from chainnode.he.profiles import PROFILES
from chainnode.he.results import Row, assemble, open_models
from chainnode.he.score_column import ScoreColumn
from chainnode.he.threshold import Copies, Sharing
from chainnode.identity import Identity
from chainnode.sdk.access import SCORING
from chainnode.sdk.audits import published_roots, require_audited
from chainnode.sdk.bank_keys import BankKeys
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.consents import score_mask
from chainnode.sdk.input_faults import InputFault
from chainnode.sdk.owner import DataOwner, Progress, StaleColumns
from chainnode.sdk.owner_secret import OwnerSecret
from chainnode.sdk.private_constants import hide_constant
from chainnode.sdk.query_progress import POLL_S, QueryProgress, Watch, read_progress, wait_released
from chainnode.sdk.scoring import (
    CLOSED,
    EPOCH_ACTIVE,
    ContractRefused,
    QueryFacts,
    ScoringChain,
    TableFacts,
    confirm_plan,
    make_plan,
    plan_shape,
    read_digests,
    read_ids,
    read_posts,
    read_query,
    read_table,
)
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.types.errors import ClientFault, ConfigError, PeerFault

__all__ = [
    "Answer",
    "AuditStep",
    "BankClient",
    "BankKeys",
    "InputFault",
    "OwnerSecret",
    "Progress",
    "QueryProgress",
    "StaleColumns",
    "open_bank",
]

_QUIET_S: Final = 1.0
_SHARE_RECORDS: Final = ("ShareCommitted", "ShareStated")
"""Events that record the hashes behind a step; the step has its own line."""
_ANSWERED: Final = "answered"
"""How a query ends whose answer the bank has opened."""
_UPLOADS_S: Final = 10.0
"""How long a share that was stated may be on its way before its giver is blamed."""

Scores = dict[str, ScoreColumn]
"""Scores by enterprise, by model."""

Answer = list[Row] | Scores
"""Rows of aggregates or bands, or scores."""


@dataclass(frozen=True, slots=True)
class AuditStep:
    """One step of a query as the chain recorded it."""

    height: int
    tx_id: bytes
    step: str
    organisation: str
    detail: str


class BankClient(DataOwner):
    """A bank's, or a data owner's, view of encrypted scoring.

    Args:
        chain: signed access to the contract under the client's identity.
        organisation: the client's organisation.
        keys: where answers are received; None for an owner that only publishes.
        timeout_s: how long a query may take before the client stops waiting for it.
        owner_secret: see `DataOwner`; without it, what is published cannot be audited later.
        watch: is told how far a query is while the client waits for it.
        purpose: what scores are asked for; only consents to this purpose count.
    """

    def __init__(
        self,
        chain: ScoringChain,
        organisation: str,
        keys: BankKeys | None = None,
        timeout_s: float = 120.0,
        owner_secret: OwnerSecret | None = None,
        watch: Watch | None = None,
        purpose: str = SCORING,
    ) -> None:
        super().__init__(chain, organisation, owner_secret)
        self._purpose = purpose
        self._keys = keys
        self._timeout_s = timeout_s
        self._watch = watch
        self.last_query = b""

    # --- questions --------------------------------------------------------------------------------

    async def plan(self, table: str, sql: str) -> Plan:
        """The plan of a query, for `EXPLAIN`; costs nothing.

        Raises:
            ClientFault: `SQL_UNSUPPORTED` and the planner's other refusals, with a rewrite.
        """
        return (await self._planned(table, sql))[2]

    async def query(
        self, table: str, sql: str, private: Mapping[str, str] | None = None
    ) -> list[Row]:
        """Ask for aggregates over encrypted columns; the numbers are exact.

        Args:
            table: name.
            sql: one SELECT.
            private: the constant of `PRIVATE(name)`, by name: a category, number or date that
                leaves this client encrypted only.

        Raises:
            ClientFault: `SQL_UNSUPPORTED`, `BUDGET_EXCEEDED`, `GROUP_TOO_SMALL`, `NOT_ALLOWED`,
                `PRIVATE_VALUE_MISSING`, `PROFILE_WITHOUT_KEY`, `COLUMNS_UNAUDITED`.
            InputFault: an owner's columns cannot be computed on; it names owner, column, block.
            PeerFault: `WRONG_SHARE`, `QUERY_REFUSED`, `QUERY_EXPIRED`, `QUERY_TIMEOUT`: of a query
                that goes on, see `resume`.
        """
        scores = (await self.plan(table, sql)).scores
        if scores is not None and not scores.bands:
            raise ClientFault(
                "SQL_UNSUPPORTED", "CREDIT_SCORE is asked with score(), not query()", subject=sql
            )
        known, plan = await self._ask(table, sql, private)
        return _rows(await self._collect(await self._released(self.last_query), known, plan))

    async def score(self, table: str, model: str, ids: Sequence[str] | None = None) -> ScoreColumn:
        """Scores of enterprises that consent to this bank; the others are left out.

        Raises:
            ClientFault: `ID_UNKNOWN` and as `query`.
            PeerFault: as `query`.
        """
        return (await self.score_models(table, [model], ids))[model]

    async def score_models(
        self, table: str, models: Sequence[str], ids: Sequence[str] | None = None
    ) -> Scores:
        """Scores by several models in one query, which reads every column once.

        Args:
            table: name.
            models: at most 8, with public points; one with private points is asked alone.
            ids: see `score`.

        Raises:
            ClientFault: `PLAN_TOO_LARGE` where so many vectors fit no blob, and as `score`.
            PeerFault: as `query`.
        """
        facts = await read_table(self.chain, table)
        await self._published_epoch(table)
        calls = ", ".join(f"CREDIT_SCORE('{model}')" for model in models)
        sql = f"SELECT {calls} FROM {table}"
        if ids is not None:
            listed = ", ".join("'" + name.replace("'", "''") + "'" for name in ids)
            sql += f" WHERE {facts.schema.id_column} IN ({listed})"
        known, plan = await self._ask(table, sql)
        return _scores(await self._collect(await self._released(self.last_query), known, plan))

    async def resume(self, query: bytes) -> Answer:
        """The answer of a query asked before, by this client or by one that is gone.

        The budget was spent when it was asked. An answer that was collected already is opened
        again. Needed are the keys the query was asked with.

        Args:
            query: 32-byte id.

        Raises:
            ClientFault: `ANSWER_SEALED` under other keys, and as `query`.
            PeerFault: `PLAN_MISMATCH` when the table's models or rules are no longer those that
                were asked, and as `query`.
        """
        facts = await read_query(self.chain, query)
        keys = self._receiving()
        if facts.reply_key != release.public_bytes(keys.reply_key):
            raise ClientFault(
                "ANSWER_SEALED",
                f"the answer is sealed under other keys of {facts.bank}",
                subject=query.hex(),
                fix="use the keys that the query was asked with",
            )
        self.last_query = query
        if facts.status != CLOSED or facts.ending != _ANSWERED:
            facts = await self._released(query)
        known = await read_table(self.chain, facts.table, facts.epoch)
        return await self._collect(facts, known, confirm_plan(known, facts))

    async def progress(self, query: bytes) -> QueryProgress:
        """How far a query is; anyone may look."""
        return await read_progress(self.chain, await read_query(self.chain, query))

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
                if step.fields.get("query") == query and step.name not in _SHARE_RECORDS
            ]
        return steps

    # --- inside -----------------------------------------------------------------------------------

    async def _published_epoch(self, table: str) -> int:
        """The newest active epoch under which every owner has published columns; 0 for none."""
        return int(await self.chain.view("active_epoch_of", table=table, profiles=list(PROFILES)))

    async def _planned(self, table: str, sql: str) -> tuple[int, TableFacts, Plan]:
        """The plan, and the newest active epoch whose columns of the plan's profile are all there.

        Between a rotation and the last owner's upload that is the epoch before; 0 for none.
        """
        newest = await self._published_epoch(table)
        for epoch in range(newest, 0, -1):
            if (await self.chain.view("epoch_info", epoch=epoch))[1] != EPOCH_ACTIVE:
                break
            facts = await read_table(self.chain, table, epoch, self.organisation)
            plan = make_plan(facts, sql)
            if not await self._unpublished(facts, plan, epoch):
                return epoch, facts, plan
        facts = await read_table(self.chain, table, newest, self.organisation)
        return 0, facts, make_plan(facts, sql)

    async def _unpublished(self, facts: TableFacts, plan: Plan, epoch: int) -> list[str]:
        """Owners without columns of the plan's profile that the plan reads."""
        read = set(plan.columns())
        return [
            owner
            for owner in facts.owners
            if read.intersection(facts.schema.stored_columns(plan.profile, owner))
            and not await self._has_columns(facts.schema.table, owner, plan.profile, epoch)
        ]

    async def _ask(
        self, table: str, sql: str, private: Mapping[str, str] | None = None
    ) -> tuple[TableFacts, Plan]:
        """Submit a query, which spends budget; its id is `last_query`."""
        keys = self._receiving()
        epoch, facts, plan = await self._planned(table, sql)
        if epoch == 0:
            active = await self._active_epoch()
            missing = ", ".join(await self._unpublished(facts, plan, active)) or "every owner"
            raise ClientFault(
                "COLUMNS_NOT_PUBLISHED",
                f"no active epoch has the {plan.profile} columns of {missing}",
                subject=table,
                fix="the owners must encrypt and publish their columns for the active epoch",
            )
        roots = await published_roots(self.chain, facts, plan.profile, epoch)
        await require_audited(self.chain, facts, plan, roots)
        if plan.scores is not None:
            # A typing error in an id must not cost budget.
            encode.selected_rows(plan, await read_ids(self.chain, facts))
        sql, plan = await hide_constant(self.chain, facts, plan, epoch, private or {})
        receiving = keys.score_key("S" if plan.scores is None else plan.profile)
        target = await self.chain.put_blob(receiving.public_key())
        query = secrets.token_bytes(32)
        ask = {
            "table": table,
            "epoch": epoch,
            **plan_shape(plan),
            "purpose": self._purpose,
            "plan_hash": plan.hash(),
            "reply_key": release.public_bytes(keys.reply_key),
            "target_key": target,
        }
        self.last_query = query
        if self._watch is not None:
            self._watch(QueryProgress.asking(query, facts, len(plan.chunks)))
        await self.chain.call("submit", query=query, ask=ask, sql=sql)
        return facts, plan

    async def _released(self, query: bytes) -> QueryFacts:
        return await wait_released(self.chain, query, self._timeout_s, self._watch)

    async def _collect(self, facts: QueryFacts, known: TableFacts, plan: Plan) -> Answer:
        """Open what was released, and say on chain that it was."""
        async with self._closing(facts):
            if plan.scores is None:
                return await self._open_sums(facts, known, plan)
            opened = await self._open_scores(facts, known, plan)
            if plan.scores.bands:
                return band_rows(plan.scores.bands, list(opened[plan.scores.model].values()))
            return opened

    @asynccontextmanager
    async def _closing(self, facts: QueryFacts) -> AsyncIterator[None]:
        """Record the outcome on chain, and the member whose share was wrong."""
        try:
            yield
        except PeerFault as error:
            if isinstance(error, release.WrongShare):
                only = len(error.members) == 1
                for name in error.members if len(error.members) < 3 else ():
                    await self.chain.call(
                        "accuse",
                        query=facts.query,
                        organisation=name,
                        fault="wrong share" if only else "disputed share",
                    )
            await self._close(facts, error.code)
            raise
        await self._close(facts, _ANSWERED)

    async def _open_sums(self, facts: QueryFacts, table: TableFacts, plan: Plan) -> list[Row]:
        result_hash, ciphertexts, stated = await self._opening(facts, table, plan)
        sharing, subject = table.sharing, facts.query.hex()
        boxes = await read_posts(self.chain, sharing, facts.epoch, facts.query, "share")
        places, plan = released_places(plan), released_plan(plan)
        ciphertexts = [ciphertexts[place] for place in places]
        size = threshold.scalar_size_bytes(plan, len(ciphertexts))
        copies: dict[str, dict[int, bytes]] = {}
        for name in stated:
            context = release.share_context(facts.query, result_hash, name, "sums")
            opened = release.open_sealed(self._receiving().reply_key, boxes[name], context)
            copies[name] = threshold.read_parts(sharing, name, opened, size)
            hashes = {place: hashlib.sha256(part).digest() for place, part in copies[name].items()}
            if hashes != stated[name]:
                raise release.wrong_share([name], subject, "its share is not the one it hashed")

        def read(parts: Mapping[int, bytes]) -> list[Row]:
            opened = threshold.open_parts(plan, sharing, ciphertexts, parts, subject)
            return assemble(plan, opened)

        return threshold.open_agreed(sharing, copies, read, subject)

    async def _open_scores(self, facts: QueryFacts, table: TableFacts, plan: Plan) -> Scores:
        _, ciphertexts, stated = await self._opening(facts, table, plan)
        sharing, subject = table.sharing, facts.query.hex()
        ids = await read_ids(self.chain, table)
        mask = await score_mask(self.chain, facts, plan, ids)
        decided = threshold.is_decided(sharing, stated)
        blobs = {} if decided else await self._share_blobs(facts, sharing, stated)
        key = self._receiving().score_key(plan.profile)

        def read(parts: Mapping[int, bytes]) -> Scores:
            shares = {sharing.label(place): blobs[digest] for place, digest in parts.items()}
            switched = release.switch_vectors(
                plan.profile, plan.limbs, ciphertexts, shares, subject
            )
            slots = release.open_vectors(key, plan.limbs, switched, sharing.members, subject)
            return open_models(plan, slots, mask, ids, facts.query)

        return await asyncio.to_thread(threshold.open_agreed, sharing, stated, read, subject)

    async def _share_blobs(
        self, facts: QueryFacts, sharing: Sharing, stated: Copies
    ) -> dict[bytes, list[bytes]]:
        """The key-switch shares by hash; a hash nobody put a share behind names its giver."""
        found: dict[bytes, list[bytes]] = {}
        for place in range(len(sharing.pieces)):
            for name in sharing.pieces[place]:
                digest = stated.get(name, {}).get(place, b"")
                if not digest or digest in found:
                    continue
                try:
                    found[digest] = unpack_container(await self._share_blob(digest))
                except (ClientFault, PeerFault) as error:
                    giver = threshold.giver(sharing, place, facts.query)
                    guilty = giver if stated.get(giver, {}).get(place) == digest else name
                    raise release.wrong_share(
                        [guilty], facts.query.hex(), "its share cannot be read"
                    ) from error
        return found

    async def _share_blob(self, digest: bytes) -> bytes:
        """A share's bytes: who sees another hash than its own may upload after the release."""
        end = asyncio.get_running_loop().time() + _UPLOADS_S
        while True:
            try:
                return await self.chain.get_blob(digest)
            except ClientFault as error:
                if error.code != "BLOB_NOT_FOUND" or asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(POLL_S)

    async def _opening(
        self, facts: QueryFacts, table: TableFacts, plan: Plan
    ) -> tuple[bytes, list[bytes], Copies]:
        _, digest = await self.chain.view("chunk_info", query=facts.query, index=facts.chunk_count)
        ciphertexts = validate_result(plan, await self.chain.get_blob(digest))
        return digest, ciphertexts, await read_digests(self.chain, table.sharing, facts.query)

    async def _close(self, facts: QueryFacts, outcome: str) -> None:
        if facts.status == CLOSED:
            return
        try:
            await self.chain.call("close", query=facts.query, outcome=outcome)
        except ContractRefused as error:
            # Another client of this bank collected the same answer meanwhile.
            if error.error != "WrongState":
                raise

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
    owner_secret: OwnerSecret | None = None,
    timeout_s: float = 120.0,
) -> AsyncIterator[BankClient]:
    """A bank's or owner's client over the nodes given, closed at the end.

    Args:
        endpoints: host:port of nodes, tried in this order.
        identity: the client member's.
        genesis: the chain's genesis file, or its bytes.
        keys: where answers are received; None for an owner that only publishes.
        server_name: the name in the nodes' certificates, when it is not the host.
        owner_secret: see `DataOwner`.
        timeout_s: see `BankClient`.
    """
    async with AsyncClient(endpoints, identity, genesis, server_name=server_name) as client:
        chain = SdkScoringChain(client)
        yield BankClient(chain, identity.organisation, keys, timeout_s, owner_secret)


def _audit(name: str, fields: Mapping[str, object], height: int, tx_id: bytes) -> AuditStep:
    if name == "QueryFinalised":
        result = bytes(fields["result"])  # type: ignore[call-overload]
        return AuditStep(height, tx_id, "finalised", "", result.hex())
    organisation = str(fields["organisation"])
    if name == "MemberFault":
        detail = f"{fields['fault']}, shown by {fields['shown_by']}"
        return AuditStep(height, tx_id, "fault", organisation, detail)
    if name == "ChunkStep":
        return AuditStep(
            height, tx_id, str(fields["step"]), organisation, f"chunk {fields['index']}"
        )
    return AuditStep(height, tx_id, str(fields["step"]), organisation, str(fields["detail"]))


def _rows(answer: Answer) -> list[Row]:
    assert isinstance(answer, list)
    return answer


def _scores(answer: Answer) -> Scores:
    assert isinstance(answer, dict)
    return answer
