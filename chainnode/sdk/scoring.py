"""What the encrypted-query services and clients share: their view of the chain and its records.

`ScoringChain` is all they need of a node. The rest reads the contract's records into typed values
and makes the plan again from them, so that nobody takes a plan from anyone else.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec

from chainnode._proto import types_pb2
from chainnode.he.plan import Plan
from chainnode.he.planner.policy import OwnerRules, Policy
from chainnode.he.private_constants import (
    check_places,
    gate_places,
    released_places,
    result_count,
)
from chainnode.he.private_points import Model, decode_model
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.release import RESIDUE_SIZE_BYTES, SEALED_EXTRA_BYTES
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.he.sql import Catalog, plan_query
from chainnode.he.threshold import Sharing, container_size_bytes, scalar_size_bytes
from chainnode.sdk.query_inputs import QueryInputs, read_policies
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.limits import BLOB_SIZE_MAX_BYTES, CONTRACT_VALUE_SIZE_MAX_BYTES
from chainnode.types.receipt import Receipt

CONTRACT: Final = "credit_scoring"

COMPUTING, CHECKING, RELEASING, RELEASED, CLOSED, REFUSED, EXPIRED = range(7)
STATUS_NAMES: Final = (
    "computing",
    "checking groups",
    "releasing",
    "released",
    "closed",
    "refused",
    "expired",
)
EPOCH_OPEN, EPOCH_TESTING, EPOCH_ACTIVE, EPOCH_FAILED, EPOCH_RETIRED = range(5)
LONG_STEPS: Final = ("counts", "share")
"""Steps whose posts grow with the pieces of the key: a view's result may hold one, not all."""
KIND_AGGREGATE: Final = 0
KIND_SCORES: Final = 1
KIND_CHECK: Final = 2
POST_SIZE_MAX_BYTES: Final = CONTRACT_VALUE_SIZE_MAX_BYTES - 4
"""A stored value, or a view's result, of this many bytes and their length."""
INPUT_REFUSED: Final = "input refused"
"""How a query ends whose inputs cannot be computed on; the contract's view says which."""


class ContractRefused(ClientFault):
    """The contract reverted a call.

    Args:
        error: the declared error's name.
        fields: its fields.
    """

    def __init__(self, error: str, fields: Mapping[str, Any]) -> None:
        shown = ", ".join(f"{name} {value}" for name, value in fields.items())
        super().__init__(
            _CODES.get(error, "CONTRACT_REFUSED"),
            f"the contract refused: {error} ({shown})",
            subject=shown,
            fix=_FIXES.get(
                error, "read the contract's rules in contracts/credit_scoring/README.md"
            ),
        )
        self.error = error
        self.fields = dict(fields)


_CODES: Final = {
    "BudgetExceeded": "BUDGET_EXCEEDED",
    "ModelMisnamed": "MODEL_MISNAMED",
    "NotAllowed": "NOT_ALLOWED",
    "PolicyDenied": "POLICY_DENIED",
    "StaleEpoch": "STALE_EPOCH",
}
_FIXES: Final = {
    "BudgetExceeded": "ask the table's owners to grant a larger budget",
    "ModelMisnamed": "approve the record under the name that it states (one without quotes and "
    "backslashes)",
    "PolicyDenied": "ask the owner named for another policy (chainnode he set-policy)",
    "StaleEpoch": "encrypt and publish the columns again under the active epoch's key",
    "NotAllowed": "ask the organisation named to grant access, or use its identity",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One event of the contract, with where it happened."""

    height: int
    tx_id: bytes
    name: str
    fields: Mapping[str, Any]


class ScoringChain(Protocol):
    """A chain with the credit scoring contract, as one member sees it.

    Structures come back as dictionaries. A node that does not answer is the implementation's to
    replace; what a node says is believed only where a proof or a hash shows it.
    """

    chain_id: str

    async def view(self, method: str, **kwargs: Any) -> Any:
        """Run a view. Raises `ContractRefused`."""
        ...

    async def call(self, method: str, **kwargs: Any) -> Receipt:
        """Run a method as a transaction and wait for its receipt. Raises `ContractRefused`."""
        ...

    def follow(self, from_height: int) -> AsyncIterator[tuple[int, list[Step]]]:
        """Every block from a height on (1: the first), with the contract's events."""
        ...

    async def latest_height(self) -> int:
        """A height that `follow` reaches without a further block being made."""
        ...

    async def put_blob(self, data: bytes) -> bytes:
        """Store a blob; returns its SHA-256."""
        ...

    async def get_blob(self, digest: bytes) -> bytes:
        """A blob whose hash has been checked. Raises `ClientFault` `BLOB_NOT_FOUND`."""
        ...

    async def receipt_proof(self, tx_id: bytes) -> types_pb2.ReceiptProof:
        """A proof, not yet verified."""
        ...


# --- records --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table's public record, enough to plan on it."""

    owners: tuple[str, ...]
    registry: bytes
    schema: TableSchema
    catalog: Catalog
    sharing: Sharing

    @property
    def members(self) -> tuple[str, ...]:
        """The council in order: whose workers compute and whose keyholders open."""
        return self.sharing.members

    def under(self, policies: Sequence[OwnerRules]) -> TableFacts:
        """The same table under what its owners allow."""
        minimum = self.catalog.policy.minimum_group_size
        policy = Policy(minimum_group_size=minimum, owners=tuple(policies))
        return replace(self, catalog=msgspec.structs.replace(self.catalog, policy=policy))


@dataclass(frozen=True, slots=True)
class QueryFacts:
    """A query's record."""

    query: bytes
    bank: str
    sender: bytes
    height: int
    time_ms: int
    phase_ms: int
    table: str
    epoch: int
    profile: str
    purpose: str
    kind: int
    plan_hash: bytes
    chunk_count: int
    output_count: int
    check_count: int
    reply_key: bytes
    target_key: bytes
    status: int
    sql: str
    ending: str
    inputs: QueryInputs

    def terms(self) -> bytes:
        """What the finalising event binds: who asked what of which inputs, and who receives it."""
        numbers = self.epoch.to_bytes(8, "big") + self.kind.to_bytes(8, "big")
        keys = self.plan_hash + self.reply_key + self.target_key + self.inputs.hash(self.purpose)
        return hashlib.sha256(keys + numbers + self.bank.encode()).digest()


async def read_query(chain: ScoringChain, query: bytes) -> QueryFacts:
    """A query's record as the node states it; `QueryFacts.terms` lets a proof confirm it."""
    record, ask = await chain.view("query_info", query=query)
    inputs = QueryInputs.stated(*await chain.view("query_inputs", query=query))
    status, sql, ending = await chain.view("query_state", query=query)
    ended = {"status": status, "sql": sql, "ending": ending}
    return QueryFacts(query=query, **record, **ask, **ended, inputs=inputs)


async def read_sharing(chain: ScoringChain, epoch: int = 0) -> Sharing:
    """Who holds an epoch's key; 0 asks for the council as it is."""
    members, threshold = await chain.view("epoch_members", epoch=epoch)
    return Sharing.of(members, threshold)


async def read_profiles(chain: ScoringChain, epoch: int = 0) -> tuple[ProfileName, ...]:
    """The profiles an epoch has keys of; 0 asks for the council as it is."""
    listed = await chain.view("epoch_profiles", epoch=epoch)
    return tuple(name for name in PROFILES if name in listed)


async def read_posts(
    chain: ScoringChain, sharing: Sharing, epoch: int, subject: bytes, step: str
) -> dict[str, bytes]:
    """What members posted in a step, by organisation; those that did not are left out."""
    if step in LONG_STEPS:
        return {
            name: await chain.view("post_of", subject=subject, step=step, organisation=name)
            for name in await read_posters(chain, epoch, subject, step)
        }
    posted = await chain.view("posts_of", epoch=epoch, subject=subject, step=step)
    return {name: data for name, data in zip(sharing.members, posted, strict=True) if data}


async def read_posters(
    chain: ScoringChain, epoch: int, subject: bytes, step: str
) -> tuple[str, ...]:
    """Who posted in a step, in council order."""
    return tuple(await chain.view("posters_of", epoch=epoch, subject=subject, step=step))


def epoch_subject(epoch: int) -> bytes:
    """An epoch as the subject of posts."""
    return epoch.to_bytes(8, "big")


async def read_digests(
    chain: ScoringChain, sharing: Sharing, query: bytes
) -> dict[str, dict[int, bytes]]:
    """Member to the hash of its share of each piece it holds; only shares that count."""
    listed = await chain.view("digests_of", query=query)
    return {
        name: {index: digest for index, digest in enumerate(digests) if digest}
        for name, digests in zip(sharing.members, listed, strict=True)
        if digests
    }


async def read_table(chain: ScoringChain, table: str, epoch: int = 0, bank: str = "") -> TableFacts:
    """A table's record with its schema and every readable scorecard its owners approved.

    Args:
        chain: where it is read.
        table: name.
        epoch: whose council computes and opens; 0 for the council as it is.
        bank: who would ask; the owners' policies for it are read. A query that was submitted is
            under those of its submission instead (`confirm_plan`).

    Raises:
        ClientFault: `MALFORMED` or `SCHEMA_INVALID` when the published schema is no schema.
    """
    record, schema_bytes = await chain.view("table_info", table=table)
    models = await chain.view("models_of", table=table)
    sharing = await read_sharing(chain, epoch)
    schema = TableSchema.decode(schema_bytes)
    cards = [card for data in models if (card := _readable(data)) is not None]
    catalog = Catalog(
        schema=schema,
        # Points encrypted under another epoch's key would be no ciphertexts under this one's.
        models={
            card.name: card for card in cards if isinstance(card, Scorecard) or card.epoch == epoch
        },
        policy=Policy(minimum_group_size=record["minimum_group"]),
        parties=len(sharing.pieces),
    )
    owners = tuple(record["owners"])
    facts = TableFacts(owners, record["registry"], schema, catalog, sharing)
    if not bank:
        return facts
    stated = await chain.view("policies_of", table=table, bank=bank)
    return facts.under(read_policies(owners, stated))


def _readable(data: bytes) -> Model | None:
    """A registered model; None for bytes of no kind, which must not stop what does not name it."""
    try:
        return decode_model(data)
    except ClientFault:
        return None


def make_plan(table: TableFacts, sql: str) -> Plan:
    """The one plan every member makes of this text.

    Raises:
        ClientFault: the query is not supported; it names the nearest rewrite. `PLAN_TOO_LARGE`
            when its sums, or its score vectors, are longer than a blob, or a member's shares of
            the sums longer than what a contract keeps in one place.
    """
    plan = plan_query(sql, table.catalog, chunk_count=len(table.members))
    size_bytes = result_size_bytes(plan)
    if size_bytes > BLOB_SIZE_MAX_BYTES:
        raise ClientFault(
            "PLAN_TOO_LARGE",
            f"its result would have {size_bytes >> 20} MiB in profile {plan.profile}, a blob "
            f"at most {BLOB_SIZE_MAX_BYTES >> 20}",
            subject=sql,
            fix="ask for fewer groups or values at once"
            if plan.aggregate is not None
            else "ask for fewer models at once; keep so many rows in two tables and ask for the "
            "scores of each",
        )
    size_bytes = post_size_bytes(plan, table.sharing)
    if size_bytes > POST_SIZE_MAX_BYTES:
        raise ClientFault(
            "PLAN_TOO_LARGE",
            f"each member's shares of its sums would have {size_bytes >> 10} KiB with "
            f"{len(table.sharing.pieces)} pieces of the key, a contract keeps at most "
            f"{CONTRACT_VALUE_SIZE_MAX_BYTES >> 10} in one place",
            subject=sql,
            fix="ask for fewer groups or values at once",
        )
    return plan


def result_size_bytes(plan: Plan) -> int:
    """Size of the largest blob that a plan makes, without its framing.

    Sums are counted before they are relinearised, those of a product being longer; score vectors
    are two polynomials a block, of all blocks together.
    """
    if plan.aggregate is None:
        polynomials = 2 * sum(blocks for _, blocks in plan.chunks) * len(plan.score_parts())
    else:
        # A private constant makes another result of these sums, of two polynomials each.
        polynomials = max(plan.aggregate.polynomials(), 2 * result_count(plan))
    return polynomials * plan.limbs * PROFILES[plan.profile].slots * RESIDUE_SIZE_BYTES


def post_size_bytes(plan: Plan, sharing: Sharing) -> int:
    """Size of the longest post of a query's release: counts sealed to every member, or a share.

    Vectors of scores go beside the chain.
    """
    if plan.aggregate is None:
        return 0
    pieces, members = len(sharing.held_by(sharing.members[0])), len(sharing.members)

    def box(count: int) -> int:
        part = scalar_size_bytes(plan, count)
        return SEALED_EXTRA_BYTES + container_size_bytes([part] * pieces)

    checked = len(gate_places(plan)) + len(check_places(plan))
    counts = container_size_bytes([box(checked)] * members)
    return max(counts, box(len(released_places(plan))))


def results_needed(members: int) -> int:
    """How many workers must state the same result: one more than may lie, never one alone."""
    return max(2, (members - 1) // 3 + 1)


def workers_max(members: int) -> int:
    """Workers of a chunk with its reserve: so many that those who may lie are outvoted."""
    return min(members, 2 * results_needed(members) - 1)


def chunk_workers(members: Sequence[str], query: bytes, index: int) -> tuple[str, ...]:
    """All members in turn as the workers of a chunk, or of the whole (index `chunk_count`).

    The first `results_needed` are assigned, those up to `workers_max` its reserve. Queries begin
    at another member each, so that questions of one chunk do not all go to the same ones.
    """
    first = (query[-1] + index) % len(members)
    return (*members[first:], *members[:first])


def plan_shape(plan: Plan) -> dict[str, int | str]:
    """Profile, kind and counts as the contract wants them beside the plan's hash."""
    if plan.aggregate is None:
        outputs = sum(count for _, count in plan.chunks) * len(plan.score_parts())
        return {
            "profile": plan.profile,
            "kind": KIND_SCORES,
            "chunk_count": len(plan.chunks),
            "output_count": outputs,
            "check_count": 0,
        }
    return {
        "profile": plan.profile,
        "kind": KIND_CHECK if plan.kind == "check" else KIND_AGGREGATE,
        "chunk_count": len(plan.chunks),
        "output_count": len(plan.aggregate.outputs),
        "check_count": len(plan.aggregate.gates()),
    }


def confirm_plan(table: TableFacts, facts: QueryFacts) -> Plan:
    """The plan of a submitted query, made again here and equal to what the bank submitted.

    Raises:
        PeerFault: `PLAN_MISMATCH`, or `TABLE_MISMATCH` when the table's record is not the one that
            the query's terms bind.
        ClientFault: the text cannot be planned at all.
    """
    schema_hash = hashlib.sha256(table.schema.encode()).digest()
    if (table.owners, table.registry, schema_hash) != facts.inputs.table():
        raise PeerFault(
            "TABLE_MISMATCH",
            "the node states another record of the table than the query was asked of",
            subject=facts.table,
            fix="connect to another node and look at this one",
        )
    plan = make_plan(table.under(facts.inputs.policies()), facts.sql)
    shape = plan_shape(plan)
    stated = {name: getattr(facts, name) for name in shape}
    private = plan.private_constant()
    if plan.hash() != facts.plan_hash or shape != stated or (private and not private.record):
        raise PeerFault(
            "PLAN_MISMATCH",
            "the submitted hash or counts are not those of the plan of this text",
            subject=facts.query.hex(),
            fix="submit the query again with a client of this version",
        )
    return plan


# --- blobs ----------------------------------------------------------------------------------------


async def read_ids(chain: ScoringChain, table: TableFacts) -> list[str]:
    """The registry's enterprise ids in row order.

    Raises:
        PeerFault: `REGISTRY_MALFORMED`.
    """
    try:
        ids = (await chain.get_blob(table.registry)).decode().split("\n")
    except UnicodeDecodeError:
        # No text at all: a fault of the table like any other, and no reason to stop a service.
        ids = []
    if len(ids) != table.schema.rows or len(set(ids)) != len(ids):
        raise PeerFault(
            "REGISTRY_MALFORMED",
            f"{len(ids)} ids for {table.schema.rows} rows",
            subject=table.schema.table,
            fix="publish the table again with its registry",
        )
    return ids


async def gather_blobs(
    chain: ScoringChain, digests: Sequence[bytes], parallel: int = 8
) -> list[bytes]:
    """Several blobs, a few at a time, in order."""
    gate = asyncio.Semaphore(parallel)

    async def one(digest: bytes) -> bytes:
        async with gate:
            return await chain.get_blob(digest)

    return list(await asyncio.gather(*(one(digest) for digest in digests)))
