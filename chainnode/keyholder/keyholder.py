"""A member's part in the council: the key ceremony, group checks, and shares of proven results."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chainnode.he import release, threshold
from chainnode.he.council import PieceSecret
from chainnode.he.differencing import OpenedGroup, opened_groups, too_close
from chainnode.he.engine import pack_container, validate_result
from chainnode.he.plan import Plan
from chainnode.he.private_constants import SELECTORS_MALFORMED, released_places
from chainnode.he.results import passes_gate
from chainnode.keyholder.epochs import EpochKeeper
from chainnode.keyholder.proofs import proven_result
from chainnode.keyholder.shares import (
    Case,
    checked_places,
    open_counts,
    scalar_parts,
    switched_parts,
)
from chainnode.keyholder.store import KeyStore
from chainnode.sdk import audits
from chainnode.sdk.audits import MismatchedCheck, UnauditedColumns
from chainnode.sdk.scoring import (
    CHECKING,
    COMPUTING,
    KIND_CHECK,
    KIND_SCORES,
    RELEASED,
    RELEASING,
    QueryFacts,
    ScoringChain,
    TableFacts,
    confirm_plan,
    make_plan,
    read_digests,
    read_posts,
    read_query,
    read_sharing,
    read_table,
)
from chainnode.sdk.scoring_service import ScoringService
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.validators import ValidatorSet


class Recompute(Protocol):
    """Asks the organisation's own worker to compute a result again."""

    async def __call__(self, query: bytes, index: int, plan: bytes) -> bytes:
        """The result hash."""
        ...


class Keyholder(ScoringService):
    """One organisation's keyholder.

    Args:
        chain: this process's view of the chain; believed only with a proof.
        organisation: whose keyholder it is.
        folder: data folder beside the key store.
        store: the encrypted key store.
        validators: of the genesis block, as this organisation knows it.
        recompute: the own worker.
    """

    def __init__(
        self,
        chain: ScoringChain,
        organisation: str,
        folder: Path,
        store: KeyStore,
        validators: ValidatorSet,
        recompute: Recompute,
        tick_ms: int = 2_000,
    ) -> None:
        super().__init__(chain, organisation, folder, tick_ms)
        self._store = store
        self._validators = validators
        self._recompute = recompute
        self._epochs = EpochKeeper(self, store)
        self._confirmed: dict[bytes, Case] = {}
        self._accused: dict[tuple[bytes, str], None] = {}
        self._planned: dict[bytes, None] = {}
        self._parts_of: dict[bytes, dict[int, bytes]] = {}
        self._groups: dict[bytes, tuple[str, list[OpenedGroup]]] = {}
        self._uploaded: dict[tuple[bytes, int], None] = {}

    async def advance_epoch(self) -> None:
        """See `ScoringService.advance_epoch`."""
        await self._epochs.advance()

    # --- queries ----------------------------------------------------------------------------------

    async def advance_query(self, query: bytes) -> bool:
        """See `ScoringService.advance_query`."""
        facts = await read_query(self.chain, query)
        if facts.status not in (COMPUTING, CHECKING, RELEASING):
            await self._upload_after_release(facts)
            self._confirmed.pop(query, None)
            self._parts_of.pop(query, None)
            self._planned.pop(query, None)
            return True
        sharing = await read_sharing(self.chain, facts.epoch)
        if self.organisation not in sharing.members:
            return True
        await self.end_if_late(facts, sharing.members.index(self.organisation))
        tx_id = self.finalised.get(query)
        if facts.status == COMPUTING or tx_id is None:
            await self._refuse_unplannable(facts)
            return False
        if self.organisation in await read_posts(
            self.chain, sharing, facts.epoch, query, "refusal"
        ):
            return False
        if query not in self._confirmed:
            confirmed = await self._confirm(facts, tx_id)
            if confirmed is None:
                return False
            self._confirmed[query] = confirmed
        case = self._confirmed[query]
        if facts.status == CHECKING:
            await self._check_groups(case)
        elif await self._may_share(case):
            await self._share(case, facts.phase_ms)
        return False

    async def _confirm(self, facts: QueryFacts, tx_id: bytes) -> Case | None:
        """Everything this member checks before it touches its key; None when it refuses."""
        proof = await self.chain.receipt_proof(tx_id)
        result_hash = proven_result(
            proof, self.chain.chain_id, self._validators, facts.query, facts.terms()
        )
        table = await read_table(self.chain, facts.table, facts.epoch)
        try:
            plan = confirm_plan(table, facts)
        except PeerFault as error:
            await self._refuse(facts, error.message)
            return None
        try:
            await self._require_audits(facts, table, plan)
        except (MismatchedCheck, UnauditedColumns) as error:
            await self._refuse(facts, f"{error.code}: {error.message}; {error.fix}")
            return None
        own = await self._recompute(facts.query, facts.chunk_count, plan.encode())
        if own != result_hash:
            await self._refuse(facts, f"{self.organisation}'s worker computed another result")
            return None
        result = await self.chain.get_blob(result_hash)
        ciphertexts = tuple(validate_result(plan, result))
        return Case(facts, plan, ciphertexts, result_hash, table.sharing)

    async def _refuse_unplannable(self, facts: QueryFacts) -> None:
        """Say at once that a query is none that may be answered: no worker will compute it."""
        if facts.query in self._planned:
            return
        table = await read_table(self.chain, facts.table, facts.epoch)
        try:
            await asyncio.to_thread(confirm_plan, table, facts)
        except (ClientFault, PeerFault) as error:
            # A node that shows another table, and not the bank, is at fault then.
            if error.code == "TABLE_MISMATCH":
                raise
            await self._refuse(facts, f"{error.code}: {error.message}")
        self._planned[facts.query] = None

    async def _require_audits(self, facts: QueryFacts, table: TableFacts, plan: Plan) -> None:
        if facts.kind == KIND_CHECK:
            await audits.require_checkable(self.chain, facts)
        audits.require_pinned_audits(facts, table, plan)

    async def _refuse(self, facts: QueryFacts, reason: str) -> None:
        await self.attempt("refuse", query=facts.query, reason=reason)

    # --- group checks -----------------------------------------------------------------------------

    async def _check_groups(self, case: Case) -> None:
        """Exchange count shares sealed to each member, then pass or fail on chain."""
        query = case.facts.query
        if self.organisation in await self._posts(case, "group check"):
            return
        if self.organisation not in await self._posts(case, "counts"):
            await self._post_counts(case)
        passed = await self._judge(case)
        if passed is not None:
            await self.attempt("group_check", query=query, passed=passed)

    async def _post_counts(self, case: Case) -> None:
        places = checked_places(case.plan)
        self._count(case, "counts", len(places))
        own = pack_container(list(scalar_parts(case, self._held(case), places).values()))
        context = case.context(self.organisation, "counts")
        keys = await self.chain.view("sealing_key_list", epoch=case.facts.epoch)
        boxes = pack_container([release.seal(key, own, context) for key in keys])
        await self.attempt("post_counts", query=case.facts.query, boxes=boxes)

    async def _posts(self, case: Case, step: str) -> dict[str, bytes]:
        facts = case.facts
        return await read_posts(self.chain, case.sharing, facts.epoch, facts.query, step)

    async def _judge(self, case: Case) -> bool | None:
        """Whether all groups are large enough; None while too few right shares are there."""
        copies: dict[str, dict[int, bytes]] = {}
        for name, boxes in (await self._posts(case, "counts")).items():
            try:
                copies[name] = self._open_box(case, name, boxes)
            except PeerFault as error:
                await self._accuse(case, name, f"count share: {error.message}")
        subject, counts = case.facts.query.hex(), None
        for _ in case.sharing.members:
            if threshold.cover(case.sharing, copies) is None:
                return None
            try:
                counts = threshold.open_agreed(
                    case.sharing, copies, lambda parts: open_counts(case, parts), subject
                )
                break
            except release.WrongShare as error:
                if len(error.members) != 1 or error.members[0] not in copies:
                    await self._refuse(case.facts, error.message)
                    return None
                await self._accuse(case, error.members[0], "wrong count share")
                copies.pop(error.members[0])
            except PeerFault as error:
                if error.code != SELECTORS_MALFORMED:
                    raise
                await self._refuse(case.facts, f"{error.code}: {error.message}")
                return None
        if counts is None:
            return None
        passed = all(passes_gate(case.plan, count) for count in counts)
        if passed and case.facts.kind != KIND_CHECK:
            reason = await self._too_close(case, counts)
            if reason:
                await self._refuse(case.facts, reason)
                return None
            self._store.record_passed(case.facts.query, counts)
        return passed

    async def _too_close(self, case: Case, counts: Sequence[int]) -> str:
        """Why the groups are too close to what any bank was answered; empty if they are not."""
        name = case.facts.table
        table = await read_table(self.chain, name, case.facts.epoch)
        known: list[OpenedGroup] = []
        opened = await self.chain.view("opened_queries", table=name, first=0)
        # What this member let pass counts too: two questions may be on their way at once.
        for query in dict.fromkeys([*map(bytes, opened), *self._store.passed()]):
            table_name, groups = self._groups.get(query) or await self._groups_of(query)
            if all(group.count is not None for group in groups):
                self._groups[query] = (table_name, groups)
            if query != case.facts.query and table_name == name:
                known += groups
        fresh = opened_groups(case.facts.query.hex(), case.plan, counts)
        minimum = table.catalog.policy.minimum_group_size
        return await asyncio.to_thread(too_close, table.schema, fresh, known, minimum)

    async def _groups_of(self, query: bytes) -> tuple[str, list[OpenedGroup]]:
        facts = await read_query(self.chain, query)
        table = await read_table(self.chain, facts.table, facts.epoch)
        plan = make_plan(table.under(facts.inputs.policies()), facts.sql)
        counts = self._store.counts_of(query) or await self._late_counts(facts, table, plan)
        return facts.table, opened_groups(
            query.hex(), plan, counts or [None] * len(plan.sums().gates())
        )

    async def _late_counts(
        self, facts: QueryFacts, table: TableFacts, plan: Plan
    ) -> list[int] | None:
        """The counts of a query answered while this member was away, from the boxes left for it.

        Only compared with, never released, so the result needs no proof; None if they do not open.
        """
        if self.organisation not in table.sharing.members:
            return None
        try:
            _, digest = await self.chain.view(
                "chunk_info", query=facts.query, index=facts.chunk_count
            )
            ciphertexts = tuple(validate_result(plan, await self.chain.get_blob(digest)))
            case = Case(facts, plan, ciphertexts, digest, table.sharing)
            copies = {
                name: self._open_box(case, name, boxes)
                for name, boxes in (await self._posts(case, "counts")).items()
            }
            return threshold.open_agreed(
                table.sharing, copies, lambda parts: open_counts(case, parts), facts.query.hex()
            )
        except (ClientFault, PeerFault) as error:
            self.complain(f"counts of {facts.query.hex()}", error)
            return None

    def _open_box(self, case: Case, member: str, boxes: bytes) -> dict[int, bytes]:
        mine = case.sharing.members.index(self.organisation)
        opened = threshold.boxes_of(case.sharing, member, boxes)[mine]
        context = case.context(member, "counts")
        data = release.open_sealed(self._store.sealing_key, opened, context)
        size = threshold.scalar_size_bytes(case.plan, len(checked_places(case.plan)))
        return threshold.read_parts(case.sharing, member, data, size)

    async def _accuse(self, case: Case, member: str, fault: str) -> None:
        key = (case.facts.query, member)
        if key not in self._accused:
            self._accused[key] = None
            await self.attempt("accuse", query=case.facts.query, organisation=member, fault=fault)

    # --- shares -----------------------------------------------------------------------------------

    async def _may_share(self, case: Case) -> bool:
        query = case.facts.query
        if case.plan.aggregate is None or self._store.has_passed(query):
            return True
        # Enough others passed the groups first; this member believes only what it opened.
        passed = await self._judge(case)
        if passed is False:
            await self._refuse(case.facts, f"{self.organisation} saw a group too small")
        return bool(passed)

    async def _share(self, case: Case, phase_ms: int) -> None:
        query = case.facts.query
        shared = await self._posts(case, "share")
        scalars = case.plan.aggregate is not None
        if self.organisation in shared and scalars:
            return
        parts = await self._parts(case)
        digests = _digests(case, parts)
        if not scalars:
            if not await self._committed(case, digests, phase_ms, bool(shared)):
                return
            await self._upload(case, parts, digests, phase_ms)
        if self.organisation not in shared:
            share = b""
            if scalars:
                context = case.context(self.organisation, "sums")
                whole = pack_container(list(parts.values()))
                share = release.seal(case.facts.reply_key, whole, context)
            await self.attempt(
                "share_post",
                query=query,
                epoch=case.facts.epoch,
                result=case.result_hash,
                digests=digests,
                share=share,
            )

    async def _committed(
        self, case: Case, digests: list[bytes], phase_ms: int, shown: bool
    ) -> bool:
        """Commit to a vector's shares; True once they may be shown, and not before."""
        commits = await self._posts(case, "share commit")
        if self.organisation not in commits and not shown:
            commitment = threshold.share_commitment(
                case.facts.query, case.result_hash, digests, self.organisation
            )
            await self.attempt("share_commit", query=case.facts.query, commitment=commitment)
            commits = await self._posts(case, "share commit")
        settled = commits.keys() | (await self._posts(case, "refusal")).keys()
        if shown or len(settled) == len(case.sharing.members):
            return True
        return len(commits) >= case.sharing.threshold and await self._is_late(phase_ms)

    async def _is_late(self, phase_ms: int) -> bool:
        """Whether half the share deadline has passed: nobody waits for the silent any more."""
        half_way_ms = phase_ms + (await self.deadlines())["share_deadline_ms"] // 2
        return time.time() * 1000 > half_way_ms

    async def _parts(self, case: Case) -> dict[int, bytes]:
        query, count, held = case.facts.query, len(case.ciphertexts), self._held(case)
        if query in self._parts_of:
            return self._parts_of[query]
        if case.plan.aggregate is not None:
            places = released_places(case.plan)
            self._count(case, "sums", len(places))
            return scalar_parts(case, held, places)
        target = await self.chain.get_blob(case.facts.target_key)
        self._count(case, case.facts.target_key.hex(), count)
        self._parts_of[query] = await asyncio.to_thread(switched_parts, case, held, target)
        return self._parts_of[query]

    async def _upload_after_release(self, facts: QueryFacts) -> None:
        """The last hash shown may differ from this member's, and release the query."""
        if facts.status != RELEASED or facts.kind != KIND_SCORES:
            return
        case = self._confirmed.get(facts.query) if facts.query in self._parts_of else None
        case = case or await self._confirm_again(facts)
        if case is not None:
            # Equal bytes whenever they are made: a share depends on keys and the result alone.
            parts = await self._parts(case)
            await self._upload(case, parts, _digests(case, parts), facts.phase_ms)

    async def _confirm_again(self, facts: QueryFacts) -> Case | None:
        """The case of a released query that this process, started since, has not seen.

        None unless others still need bytes of this member: where the holder that was to upload
        a piece states another hash, or none, and nobody has this one's share."""
        tx_id = self.finalised.get(facts.query)
        if tx_id is None:
            return None
        sharing = await read_sharing(self.chain, facts.epoch)
        posted = await read_digests(self.chain, sharing, facts.query)
        for place, digest in posted.get(self.organisation, {}).items():
            first = threshold.giver(sharing, place, facts.query)
            if posted.get(first, {}).get(place) == digest:
                continue
            try:
                await self.chain.get_blob(digest)
            except ClientFault as error:
                if error.code != "BLOB_NOT_FOUND":
                    raise
                return await self._confirm(facts, tx_id)
        return None

    async def _upload(
        self, case: Case, parts: dict[int, bytes], digests: list[bytes], phase_ms: int
    ) -> None:
        """Put the shares others need from this member: one holder's bytes are enough for all."""
        posted = await read_digests(self.chain, case.sharing, case.facts.query)
        refused = await self._posts(case, "refusal")
        late = await self._is_late(phase_ms)
        for place, part in parts.items():
            key = (case.facts.query, place)
            first = threshold.giver(case.sharing, place, case.facts.query)
            theirs = posted.get(first, {}).get(place)
            needed = first == self.organisation or late or first in refused
            needed = needed or theirs not in (None, digests[place])
            if needed and theirs != digests[place] and key not in self._uploaded:
                await self.chain.put_blob(part)
                self._uploaded[key] = None

    def _count(self, case: Case, what: str, count: int) -> None:
        spare_bits = case.plan.capacity_bits - case.plan.noise_bits
        self._store.count_release(
            case.facts.epoch, f"{case.result_hash.hex()}/{what}", count, spare_bits
        )

    def _held(self, case: Case) -> dict[int, PieceSecret]:
        epoch = case.facts.epoch
        held = case.sharing.held_by(self.organisation)
        found = self._store.pieces(epoch, held, (case.plan.profile,))
        if found is None:
            raise PeerFault(
                "KEY_SHARE_MISSING",
                f"this store has no key share of epoch {epoch}",
                subject=self.organisation,
                fix="restore the key store, or open a new council epoch",
            )
        return found


def _digests(case: Case, parts: Mapping[int, bytes]) -> list[bytes]:
    """Hashes of this member's share of every piece, empty where it holds none."""
    return [
        hashlib.sha256(parts[place]).digest() if place in parts else b""
        for place in range(len(case.sharing.pieces))
    ]
