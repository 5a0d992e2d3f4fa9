"""Encrypted queries for credit scoring: catalog, consent, key council, query lifecycle.

The chain never sees a value: it holds hashes of blobs and decides who may ask what, which key is
the joint key and which result is the result, and so what the keyholders may open. One storage item
per thing, so that a transaction writes only what it changes. The rules in words: README.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainnode.contract import (
    Address,
    Bytes32,
    Contract,
    Error,
    Map,
    Var,
    call,
    ctx,
    emit,
    error,
    event,
    init,
    sha256,
    u64,
    view,
)

# Status of a council epoch
EPOCH_OPEN = 0
EPOCH_TESTING = 1
EPOCH_ACTIVE = 2
EPOCH_FAILED = 3
EPOCH_RETIRED = 4

# Status of a query
QUERY_COMPUTING = 0
QUERY_CHECKING = 1
QUERY_RELEASING = 2
QUERY_RELEASED = 3
QUERY_CLOSED = 4
QUERY_REFUSED = 5
QUERY_EXPIRED = 6

KIND_AGGREGATE = 0
KIND_SCORES = 1

ROUNDS = 2
MEMBERS_MAX = 8
CHUNKS_MAX = 4096
OUTPUTS_MAX = 4096


@dataclass(frozen=True)
class Council:
    """The organisations that hold the key, any `threshold` of which open a result together."""

    organisations: list[str]
    threshold: u64
    keyholder_name: str
    worker_name: str
    chunk_deadline_ms: u64
    share_deadline_ms: u64
    query_deadline_ms: u64


@dataclass(frozen=True)
class Epoch:
    """`pieces`: who holds each piece of the key, as a bit mask over `organisations`."""

    status: u64
    organisations: list[str]
    threshold: u64
    pieces: list[u64]
    seed: Bytes32
    test_seed: bytes


@dataclass(frozen=True)
class Table:
    """`registry` is the blob with the enterprise ids in row order, one a line."""

    organisation: str
    owners: list[str]
    schema_hash: Bytes32
    registry: Bytes32
    minimum_group: u64


@dataclass(frozen=True)
class ColumnSet:
    """One owner's encrypted columns of a profile; `manifest` is the blob naming every block."""

    epoch: u64
    block_count: u64
    root: Bytes32
    manifest: Bytes32


@dataclass(frozen=True)
class Keys:
    """Hashes of the blobs that hold the joint keys."""

    public_key_s: Bytes32
    public_key_s36: Bytes32
    relin_key_s36: Bytes32


@dataclass(frozen=True)
class Ask:
    """A query as the bank states it: its plan's hash and shape, and where the answer goes."""

    table: str
    epoch: u64
    kind: u64
    plan_hash: Bytes32
    chunk_count: u64
    output_count: u64
    check_count: u64
    reply_key: Bytes32
    target_key: Bytes32


@dataclass(frozen=True)
class Query:
    """`phase_ms`: block time at which shares were first allowed, 0 before."""

    bank: str
    sender: Address
    height: u64
    time_ms: u64
    phase_ms: u64


@dataclass(frozen=True)
class Chunk:
    """How far a chunk is; `reserve`: the third worker may take part."""

    commits: u64
    reveals: u64
    reserve: bool


@error
class NotAllowed(Error):
    organisation: str
    needs: str


@error
class AlreadyDone(Error):
    what: str


@error
class WrongState(Error):
    what: str
    status: u64


@error
class Invalid(Error):
    field: str


@error
class StaleEpoch(Error):
    epoch: u64
    active: u64


@error
class BudgetExceeded(Error):
    table: str
    budget: u64
    used: u64


@event
class CatalogChanged:
    table: str
    organisation: str
    step: str
    subject: str


@event
class CouncilStep:
    epoch: u64
    step: str
    organisation: str


@event
class ChunkStep:
    query: Bytes32
    index: u64
    step: str
    organisation: str


@event
class QueryFinalised:
    """What keyholders believe by proof; `terms` binds who asked what and who receives it."""

    query: Bytes32
    result: Bytes32
    terms: Bytes32


@event
class QueryStep:
    query: Bytes32
    step: str
    organisation: str
    detail: str


@event
class MemberFault:
    """Evidence: what an organisation did wrong in a query, and who or what shows it."""

    query: Bytes32
    organisation: str
    fault: str
    shown_by: str


def bit_of(place: int) -> int:
    """2 to the power of a place."""
    bit = 1
    for _ in range(place):
        bit = 2 * bit
    return bit


def holder_masks(members: int, holders: int) -> list[u64]:
    """Every set of `holders` members as a bit mask, in ascending order."""
    found: list[u64] = []
    for mask in range(bit_of(members)):
        bits = 0
        rest = mask
        while rest > 0:
            bits += rest % 2
            rest = rest // 2
        if bits == holders:
            found.append(mask)
    return found


class CreditScoring(Contract, version="1.0", name="credit_scoring"):
    council: Var[Council]
    sealing_keys: Map[str, bytes]

    tables: Map[str, Table]
    schemas: Map[str, bytes]
    column_sets: Map[tuple[str, str, str, u64], ColumnSet]
    budgets: Map[tuple[str, str, str], u64]
    used: Map[tuple[str, str], u64]
    consents: Map[tuple[str, str, str], bytes]
    models: Map[tuple[str, str], bytes]
    model_names: Map[str, list[str]]
    model_approvals: Map[tuple[str, str, str], bool]

    current_epoch: Var[u64]
    active_epoch: Var[u64]
    epochs: Map[u64, Epoch]
    keys: Map[u64, Keys]

    posts: Map[tuple[bytes, str, str], bytes]
    post_counts_of: Map[tuple[bytes, str], u64]

    queries: Map[Bytes32, Query]
    asks: Map[Bytes32, Ask]
    query_status: Map[Bytes32, u64]
    statements: Map[Bytes32, str]
    chunks: Map[tuple[Bytes32, u64], Chunk]
    chunk_commits: Map[tuple[Bytes32, u64, str], Bytes32]
    chunk_reveals: Map[tuple[Bytes32, u64, str], Bytes32]
    results: Map[tuple[Bytes32, u64], bytes]
    digests: Map[tuple[Bytes32, str], list[bytes]]
    digest_queries: Map[tuple[str, bytes], Bytes32]
    endings: Map[Bytes32, str]
    opened: Map[tuple[str, u64], Bytes32]
    opened_counts: Map[str, u64]

    @init
    def setup(self, council: Council) -> None:
        self._check_council(council.organisations, council.threshold)
        self.council.set(council)
        self.current_epoch.set(0)
        self.active_epoch.set(0)

    @call
    def enrol_keyholder(self, sealing_key: Bytes32) -> None:
        """Publish the X25519 key other keyholders seal shares and key pieces to."""
        self._require_keyholder(self.current_epoch.get())
        self.sealing_keys[ctx.sender_org] = sealing_key
        emit(CouncilStep(self.current_epoch.get(), "enrolled", ctx.sender_org))

    @call
    def create_table(
        self, table: str, schema: bytes, registry: Bytes32, minimum_group: u64, owners: list[str]
    ) -> None:
        self._require_owner_role()
        if table in self.tables:
            raise AlreadyDone(table)
        if len(owners) == 0 or minimum_group == 0:
            raise Invalid(table)
        for owner in owners:
            self._require_member(owner)
        self.tables[table] = Table(ctx.sender_org, owners, sha256(schema), registry, minimum_group)
        self.schemas[table] = schema
        emit(CatalogChanged(table, ctx.sender_org, "table", table))

    @call
    def publish_columns(self, table: str, profile: str, columns: ColumnSet) -> None:
        """Point to the owner's encrypted columns of an epoch; a later call replaces them."""
        self._require_table_owner(table)
        if columns.epoch != self.active_epoch.get():
            raise StaleEpoch(columns.epoch, self.active_epoch.get())
        if columns.block_count == 0:
            raise Invalid("block_count")
        self.column_sets[(table, ctx.sender_org, profile, columns.epoch)] = columns
        emit(CatalogChanged(table, ctx.sender_org, "columns", profile))

    @call
    def grant(self, table: str, bank: str, budget: u64) -> None:
        """Allow `bank` that many queries on the table; every owner must, the least one counts."""
        self._require_table_owner(table)
        self.budgets[(table, bank, ctx.sender_org)] = budget
        emit(CatalogChanged(table, ctx.sender_org, "grant", bank))

    @call
    def set_consent(self, table: str, bank: str, bitmap: Bytes32) -> None:
        """Point to the blob with one bit per row: which enterprises consent to this bank."""
        self._require_table_owner(table)
        self.consents[(table, bank, ctx.sender_org)] = bitmap
        emit(CatalogChanged(table, ctx.sender_org, "consent", bank))

    @call
    def approve_model(self, table: str, name: str, model: bytes) -> None:
        """Register a scorecard; usable once every owner approved the same points, then for ever.

        A model with one feature reads that column, so owners decide."""
        self._require_table_owner(table)
        if self.models.get((table, name), model) != model:
            raise Invalid("model")
        if (table, name) not in self.models:
            empty: list[str] = []
            names = self.model_names.get(table, empty)
            names.append(name)
            self.model_names[table] = names
            self.models[(table, name)] = model
        self.model_approvals[(table, name, ctx.sender_org)] = True
        emit(CatalogChanged(table, ctx.sender_org, "model", name))

    @call
    def open_epoch(self) -> u64:
        """Begin the first key ceremony, or start an unfinished one over; see `rotate`."""
        last = self.current_epoch.get()
        self._require_keyholder(last)
        if last == 0:
            council = self.council.get()
            return self._open_epoch(council.organisations, council.threshold)
        epoch = self.epochs[last]
        if epoch.status == EPOCH_ACTIVE or epoch.status == EPOCH_RETIRED:
            raise NotAllowed(ctx.sender_org, "rotate, by a majority of admins")
        if epoch.status != EPOCH_FAILED:
            self._close_epoch(last, EPOCH_FAILED, "failed: started over")
        return self._open_epoch(epoch.organisations, epoch.threshold)

    @call
    def rotate(self, organisations: list[str], threshold: u64) -> None:
        """An admin's vote for a new epoch held by these; a majority of the council opens it.

        Until it is active, and for tables not encrypted again, the old one goes on answering."""
        last = self.current_epoch.get()
        if ctx.sender_role != "admin":
            raise NotAllowed(ctx.sender_org, "admin")
        self._require_member(ctx.sender_org)
        self._require_epoch(last, EPOCH_ACTIVE)
        self._check_council(organisations, threshold)
        proposal = last.to_bytes(8, "big") + threshold.to_bytes(8, "big")
        for organisation in organisations:
            proposal += organisation.encode() + b"/"
        votes = self._post(proposal, "rotate", b"yes")
        emit(CouncilStep(last + 1, "rotation approved", ctx.sender_org))
        if 2 * votes > len(self.council.get().organisations):
            self._open_epoch(organisations, threshold)

    @call
    def commit(self, epoch: u64, round: u64, commitment: Bytes32) -> None:
        self._require_ceremony(epoch, EPOCH_OPEN, round)
        if round > 1 and self._count(self._place(epoch), "reveal 1") < self._size(epoch):
            raise WrongState("reveals of round", round - 1)
        self._epoch_step(epoch, self._round_step("commit", round), commitment)

    @call
    def reveal(self, epoch: u64, round: u64, blob: Bytes32) -> None:
        """Name the committed message; refused until every member has committed."""
        self._require_ceremony(epoch, EPOCH_OPEN, round)
        place = self._place(epoch)
        step = self._round_step("commit", round)
        if self._count(place, step) < self._size(epoch):
            raise WrongState("commitments of round", round)
        bound = place + round.to_bytes(8, "big") + blob + ctx.sender_org.encode()
        opened = sha256(b"chainnode/council-commit/v1" + bound)
        if opened != self.posts[(place, step, ctx.sender_org)]:
            raise Invalid("commitment")
        self._epoch_step(epoch, self._round_step("reveal", round), blob)

    @call
    def submit_keys(self, epoch: u64, keys: Keys) -> None:
        """State the aggregated keys this member computed; all equal fixes them."""
        self._require_ceremony(epoch, EPOCH_OPEN, ROUNDS)
        if self._count(self._place(epoch), "reveal 2") < self._size(epoch):
            raise WrongState("reveals of round", 2)
        known = self.keys.get(epoch, keys)
        if (
            known.public_key_s != keys.public_key_s
            or known.public_key_s36 != keys.public_key_s36
            or known.relin_key_s36 != keys.relin_key_s36
        ):
            self._close_epoch(epoch, EPOCH_FAILED, "failed: aggregated keys differ")
            return
        self.keys[epoch] = known
        if self._epoch_step(epoch, "keys", b"") == self._size(epoch):
            self._close_epoch(epoch, EPOCH_TESTING, "testing")

    @call
    def post_test(self, epoch: u64, shares: bytes) -> None:
        """Open the test vectors drawn from the test seed: this member's shares, in the clear."""
        self._require_ceremony(epoch, EPOCH_TESTING, ROUNDS)
        self._epoch_step(epoch, "test shares", shares)

    @call
    def vote_test(self, epoch: u64, fault: str) -> None:
        """What was wrong with the test shares, or nothing; all "nothing" activates."""
        self._require_ceremony(epoch, EPOCH_TESTING, ROUNDS)
        if self._count(self._place(epoch), "test shares") < self._size(epoch):
            raise WrongState("test shares", EPOCH_TESTING)
        if fault != "":
            self._close_epoch(epoch, EPOCH_FAILED, "failed: " + fault)
        elif self._epoch_step(epoch, "verdict", b"") == self._size(epoch):
            self._activate(epoch)

    @call
    def submit(self, query: Bytes32, ask: Ask, sql: str) -> None:
        """Ask. Costs one query of the bank's budget on the table, whatever the outcome."""
        if ctx.sender_role != "client":
            raise NotAllowed(ctx.sender_org, "client")
        if query in self.queries:
            raise AlreadyDone("query")
        if ask.chunk_count == 0 or ask.chunk_count > CHUNKS_MAX:
            raise Invalid("chunk_count")
        if ask.output_count == 0 or ask.output_count > OUTPUTS_MAX:
            raise Invalid("output_count")
        # Only a score vector may go out without a count of the group behind it.
        if ask.kind > KIND_SCORES or (ask.kind == KIND_AGGREGATE) != (ask.check_count > 0):
            raise Invalid("kind")
        if self._status(ask.epoch) != EPOCH_ACTIVE:
            raise StaleEpoch(ask.epoch, self.active_epoch.get())
        self._spend(ask.table, ctx.sender_org)
        self.queries[query] = Query(ctx.sender_org, ctx.sender, ctx.height, ctx.time_ms, 0)
        self.asks[query] = ask
        self.query_status[query] = QUERY_COMPUTING
        self.statements[query] = sql
        emit(QueryStep(query, "submitted", ctx.sender_org, ask.table))

    @call
    def chunk_commit(self, query: Bytes32, index: u64, commitment: Bytes32) -> None:
        """Bind a result before anyone shows one: sha256(result + salt + organisation)."""
        self._require_query(query, QUERY_COMPUTING)
        self._require_assigned(query, index)
        key = (query, index, ctx.sender_org)
        if key in self.chunk_commits:
            raise AlreadyDone("chunk commit")
        self.chunk_commits[key] = commitment
        chunk = self._chunk(query, index)
        self.chunks[(query, index)] = Chunk(chunk.commits + 1, chunk.reveals, chunk.reserve)
        emit(ChunkStep(query, index, "committed", ctx.sender_org))

    @call
    def chunk_reveal(self, query: Bytes32, index: u64, result: Bytes32, salt: Bytes32) -> None:
        """Open a commitment; two equal results of different organisations are final."""
        self._require_query(query, QUERY_COMPUTING)
        self._require_assigned(query, index)
        chunk = self._chunk(query, index)
        if chunk.commits < 2:
            raise WrongState("chunk commitments", chunk.commits)
        key = (query, index, ctx.sender_org)
        if key in self.chunk_reveals:
            raise AlreadyDone("chunk reveal")
        if key not in self.chunk_commits:
            raise Invalid("chunk commit")
        if sha256(result + salt + ctx.sender_org.encode()) != self.chunk_commits[key]:
            raise Invalid("commitment")
        self.chunk_reveals[key] = result
        self.chunks[(query, index)] = Chunk(chunk.commits, chunk.reveals + 1, chunk.reserve)
        emit(ChunkStep(query, index, "revealed", ctx.sender_org))
        self._judge_chunk(query, index, result)

    @call
    def reassign(self, query: Bytes32, index: u64) -> None:
        """Let the reserve worker take part in a chunk that is not final by the deadline."""
        self._require_query(query, QUERY_COMPUTING)
        self._require_service(self.asks[query].epoch, self.council.get().worker_name)
        if (query, index) in self.results or index > self.asks[query].chunk_count:
            raise Invalid("index")
        self._require_time(self.queries[query].time_ms + self.council.get().chunk_deadline_ms)
        self._open_reserve(query, index, "deadline")

    @call
    def post_counts(self, query: Bytes32, boxes: bytes) -> None:
        """This member's count shares: a container of one sealed box per member."""
        self._require_holder(query, QUERY_CHECKING)
        self._query_step(query, "counts", boxes)

    @call
    def group_check(self, query: Bytes32, passed: bool) -> None:
        """Whether every group this member saw the count of is large enough.

        A member that saw no such thing gives no share, so the threshold decides either way."""
        self._require_holder(query, QUERY_CHECKING)
        epoch = self.epochs[self.asks[query].epoch]
        if self._count(query, "counts") < epoch.threshold:
            raise WrongState("count shares", self._count(query, "counts"))
        votes = self._query_step(query, "group check", b"yes" if passed else b"no")
        yes = self._count(query, "passed")
        if passed:
            yes += 1
            self.post_counts_of[(query, "passed")] = yes
        if yes >= epoch.threshold:
            self._approve(query)
        elif votes - yes > len(epoch.organisations) - epoch.threshold:
            self._end(query, QUERY_REFUSED, "group too small")

    @call
    def share_post(
        self, query: Bytes32, epoch: u64, result: Bytes32, digests: list[bytes], share: bytes
    ) -> None:
        """A share of a result under an epoch's key, with the hash of its part of each piece held.

        Holders of a piece compute the same bytes, so hashes that differ show a wrong share. One
        that is not for this query or epoch is recorded as a fault, not refused: it is evidence."""
        self._require_holder(query, QUERY_RELEASING)
        fault = self._share_fault(query, epoch, result, digests)
        self._query_step(query, "share", share)
        if fault != "":
            self._fault(query, ctx.sender_org, fault, "contract")
        else:
            self.digests[(query, ctx.sender_org)] = digests
            self.post_counts_of[(query, "good share")] = self._count(query, "good share") + 1
        self._release_if_complete(query)

    @call
    def settle(self, query: Bytes32) -> None:
        """Anyone may stop waiting for missing shares after the deadline; the silent are named."""
        self._require_query(query, QUERY_RELEASING)
        self._require_time(self.queries[query].phase_ms + self.council.get().share_deadline_ms)
        if self._count(query, "good share") < self.epochs[self.asks[query].epoch].threshold:
            raise WrongState("shares", self._count(query, "good share"))
        self._name_silent(query)
        self._release(query)

    @call
    def refuse(self, query: Bytes32, reason: str) -> None:
        """A keyholder that will not give its share says why; too many of them end the query."""
        self._require_running(query)
        self._require_keyholder(self.asks[query].epoch)
        refusals = self._post(query, "refusal", reason.encode())
        emit(QueryStep(query, "refused by a member", ctx.sender_org, reason))
        epoch = self.epochs[self.asks[query].epoch]
        if refusals > len(epoch.organisations) - epoch.threshold:
            self._end(query, QUERY_REFUSED, reason)
        elif self.query_status[query] == QUERY_RELEASING:
            self._release_if_complete(query)

    @call
    def accuse(self, query: Bytes32, organisation: str, fault: str) -> None:
        """A keyholder or the bank records whose share it found wrong."""
        self._require_known(query)
        if ctx.sender != self.queries[query].sender:
            self._require_keyholder(self.asks[query].epoch)
        if organisation not in self._members(self.asks[query].epoch):
            raise Invalid("organisation")
        self._fault(query, organisation, fault, ctx.sender_org)

    @call
    def close(self, query: Bytes32, outcome: str) -> None:
        """The bank records what it got: "answered", or that a share was wrong."""
        self._require_query(query, QUERY_RELEASED)
        if ctx.sender != self.queries[query].sender:
            raise NotAllowed(ctx.sender_org, self.queries[query].bank)
        self._end(query, QUERY_CLOSED, outcome)

    @call
    def expire(self, query: Bytes32) -> None:
        """Anyone may end a query that is not released by its deadline, a time, not a height."""
        self._require_running(query)
        self._require_time(self.queries[query].time_ms + self.council.get().query_deadline_ms)
        if self.query_status[query] == QUERY_RELEASING:
            self._name_silent(query)
        self._end(query, QUERY_EXPIRED, "deadline")

    @view
    def council_info(self) -> Council:
        return self.council.get()

    @view
    def sealing_key_list(self, epoch: u64) -> list[bytes]:
        """X25519 keys in council order, empty where a keyholder is not enrolled."""
        found: list[bytes] = []
        for organisation in self._members(epoch):
            found.append(self.sealing_keys.get(organisation, b""))
        return found

    @view
    def table_info(self, table: str) -> tuple[Table, bytes]:
        """(record, schema)."""
        return (self._table(table), self.schemas[table])

    @view
    def models_of(self, table: str) -> list[bytes]:
        """Scorecards every owner approved."""
        found: list[bytes] = []
        empty: list[str] = []
        for name in self.model_names.get(table, empty):
            approved = True
            for owner in self._table(table).owners:
                if (table, name, owner) not in self.model_approvals:
                    approved = False
            if approved:
                found.append(self.models[(table, name)])
        return found

    @view
    def columns_of(self, table: str, owner: str, profile: str, epoch: u64) -> ColumnSet:
        if (table, owner, profile, epoch) not in self.column_sets:
            raise StaleEpoch(epoch, self.active_epoch.get())
        return self.column_sets[(table, owner, profile, epoch)]

    @view
    def consent(self, table: str, bank: str, owner: str) -> bytes:
        """Hash of the consent bitmap, or empty."""
        return self.consents.get((table, bank, owner), b"")

    @view
    def budget(self, table: str, bank: str) -> tuple[u64, u64]:
        """(granted, used)."""
        return (self._budget(table, bank), self.used.get((table, bank), 0))

    @view
    def epoch_info(self, epoch: u64) -> tuple[u64, u64, bytes, bytes]:
        """(epoch, status, seed, test seed or empty); epoch 0 asks for the latest."""
        asked = self.current_epoch.get() if epoch == 0 else epoch
        if asked not in self.epochs:
            return (asked, EPOCH_FAILED, b"", b"")
        found = self.epochs[asked]
        return (asked, found.status, found.seed, found.test_seed)

    @view
    def latest_active_epoch(self) -> u64:
        return self.active_epoch.get()

    @view
    def active_epoch_of(self, table: str, profiles: list[str]) -> u64:
        """The newest active epoch every owner has columns of such a profile for; 0 for none."""
        epoch = self.active_epoch.get()
        while epoch > 0:
            if self._status(epoch) == EPOCH_ACTIVE and self._is_published(table, profiles, epoch):
                return epoch
            epoch -= 1
        return 0

    @view
    def epoch_members(self, epoch: u64) -> tuple[list[str], u64]:
        """(organisations, threshold); epoch 0 asks for the council as it is."""
        if epoch not in self.epochs:
            return (self.council.get().organisations, self.council.get().threshold)
        return (self.epochs[epoch].organisations, self.epochs[epoch].threshold)

    @view
    def posts_of(self, epoch: u64, subject: bytes, step: str) -> list[bytes]:
        """What members posted in a step, in council order; empty where missing.

        `subject` is a query, or an epoch in 8 bytes. Steps without content hold one zero byte."""
        found: list[bytes] = []
        for organisation in self._members(epoch):
            found.append(self.posts.get((subject, step, organisation), b""))
        return found

    @view
    def digests_of(self, query: Bytes32) -> list[list[bytes]]:
        """Hashes of posted shares by member, one per piece of the key; empty where missing."""
        self._require_known(query)
        found: list[list[bytes]] = []
        empty: list[bytes] = []
        for organisation in self._members(self.asks[query].epoch):
            found.append(self.digests.get((query, organisation), empty))
        return found

    @view
    def opened_queries(self, table: str, first: u64) -> list[Bytes32]:
        """Aggregate queries whose groups were approved, in order, from a position on."""
        found: list[Bytes32] = []
        for place in range(first, self.opened_counts.get(table, 0)):
            found.append(self.opened[(table, place)])
        return found

    @view
    def keys_of(self, epoch: u64) -> Keys:
        if epoch not in self.keys:
            raise Invalid("epoch keys")
        return self.keys[epoch]

    @view
    def query_info(self, query: Bytes32) -> tuple[Query, Ask]:
        self._require_known(query)
        return (self.queries[query], self.asks[query])

    @view
    def query_state(self, query: Bytes32) -> tuple[u64, str, str]:
        """(status, SQL, reason it ended or empty)."""
        self._require_known(query)
        return (self.query_status[query], self.statements[query], self.endings.get(query, ""))

    @view
    def chunk_info(self, query: Bytes32, index: u64) -> tuple[Chunk, bytes]:
        """(progress, final result hash or empty)."""
        return (self._chunk(query, index), self.results.get((query, index), b""))

    def _members(self, epoch: u64) -> list[str]:
        if epoch in self.epochs:
            return self.epochs[epoch].organisations
        return self.council.get().organisations

    def _seat(self, epoch: u64) -> int:
        """The sender's position in an epoch's council."""
        members = self._members(epoch)
        for seat in range(len(members)):
            if members[seat] == ctx.sender_org:
                return seat
        raise NotAllowed(ctx.sender_org, "council member")

    def _size(self, epoch: u64) -> int:
        return len(self._members(epoch))

    def _status(self, epoch: u64) -> int:
        return self.epochs[epoch].status if epoch in self.epochs else EPOCH_FAILED

    def _check_council(self, organisations: list[str], threshold: u64) -> None:
        size = len(organisations)
        if size < 2 or size > MEMBERS_MAX or threshold < 1 or threshold > size:
            raise Invalid("organisations or threshold")

    def _require_member(self, organisation: str) -> None:
        if organisation not in self.council.get().organisations:
            raise NotAllowed(organisation, "council member")

    def _require_owner_role(self) -> None:
        self._require_member(ctx.sender_org)
        if ctx.sender_role != "client" and ctx.sender_role != "admin":
            raise NotAllowed(ctx.sender_org, "client or admin")

    def _require_table_owner(self, table: str) -> None:
        self._require_owner_role()
        if ctx.sender_org not in self._table(table).owners:
            raise NotAllowed(ctx.sender_org, "owner of the table")

    def _require_service(self, epoch: u64, name: str) -> None:
        if ctx.sender_org not in self._members(epoch):
            raise NotAllowed(ctx.sender_org, "council member")
        if ctx.sender_role != "common" or ctx.sender_name != name:
            raise NotAllowed(ctx.sender_org, name)

    def _require_keyholder(self, epoch: u64) -> None:
        self._require_service(epoch, self.council.get().keyholder_name)

    def _require_holder(self, query: Bytes32, status: u64) -> None:
        self._require_query(query, status)
        self._require_keyholder(self.asks[query].epoch)

    def _require_assigned(self, query: Bytes32, index: u64) -> None:
        """Chunk i belongs to workers i and i + 1; index `chunk_count` is the reduction."""
        epoch = self.asks[query].epoch
        self._require_service(epoch, self.council.get().worker_name)
        chunk_count = self.asks[query].chunk_count
        if index > chunk_count:
            raise Invalid("index")
        if (query, index) in self.results:
            raise AlreadyDone("chunk")
        finished = self._count(query, "chunk")
        if index == chunk_count and finished < chunk_count:
            raise WrongState("chunks finished", finished)
        workers = 3 if self._chunk(query, index).reserve else 2
        organisations = self._members(epoch)
        for offset in range(workers):
            if organisations[(index + offset) % len(organisations)] == ctx.sender_org:
                return
        raise NotAllowed(ctx.sender_org, "assigned worker")

    def _require_time(self, allowed_ms: u64) -> None:
        if ctx.time_ms < allowed_ms:
            raise WrongState("time, allowed from", allowed_ms)

    def _table(self, table: str) -> Table:
        if table not in self.tables:
            raise Invalid(table)
        return self.tables[table]

    def _budget(self, table: str, bank: str) -> int:
        least = -1
        for owner in self._table(table).owners:
            if (table, bank, owner) not in self.budgets:
                raise NotAllowed(bank, "a grant by " + owner)
            budget = self.budgets[(table, bank, owner)]
            if least < 0 or budget < least:
                least = budget
        return least

    def _spend(self, table: str, bank: str) -> None:
        budget = self._budget(table, bank)
        used = self.used.get((table, bank), 0)
        if used >= budget:
            raise BudgetExceeded(table, budget, used)
        self.used[(table, bank)] = used + 1

    def _require_epoch(self, epoch: u64, status: u64) -> None:
        if self._status(epoch) != status:
            raise WrongState("epoch", self._status(epoch))

    def _require_ceremony(self, epoch: u64, status: u64, round: u64) -> None:
        self._require_epoch(epoch, status)
        self._require_keyholder(epoch)
        if round < 1 or round > ROUNDS:
            raise Invalid("round")

    def _open_epoch(self, organisations: list[str], threshold: u64) -> u64:
        epoch = self.current_epoch.get() + 1
        seed = sha256(b"chainnode/epoch-seed/v1" + self._place(epoch) + ctx.tx_id)
        pieces = holder_masks(len(organisations), len(organisations) - threshold + 1)
        self.epochs[epoch] = Epoch(EPOCH_OPEN, organisations, threshold, pieces, seed, b"")
        self.current_epoch.set(epoch)
        emit(CouncilStep(epoch, "opened", ctx.sender_org))
        return epoch

    def _activate(self, epoch: u64) -> None:
        """The epoch before goes on answering for tables not encrypted again; older ones end."""
        self._close_epoch(epoch, EPOCH_ACTIVE, "active")
        before = self.active_epoch.get()
        for old in range(1, before):
            if self._status(old) == EPOCH_ACTIVE:
                self._close_epoch(old, EPOCH_RETIRED, "retired")
        self.active_epoch.set(epoch)
        found = self.epochs[epoch]
        now = self.council.get()
        self.council.set(
            Council(
                found.organisations,
                found.threshold,
                now.keyholder_name,
                now.worker_name,
                now.chunk_deadline_ms,
                now.share_deadline_ms,
                now.query_deadline_ms,
            )
        )

    def _is_published(self, table: str, profiles: list[str], epoch: u64) -> bool:
        for owner in self._table(table).owners:
            found = False
            for profile in profiles:
                if (table, owner, profile, epoch) in self.column_sets:
                    found = True
            if not found:
                return False
        return True

    def _place(self, epoch: u64) -> bytes:
        return epoch.to_bytes(8, "big")

    def _round_step(self, what: str, round: u64) -> str:
        return what + (" 1" if round == 1 else " 2")

    def _count(self, subject: bytes, step: str) -> int:
        return self.post_counts_of.get((subject, step), 0)

    def _post(self, subject: bytes, step: str, content: bytes) -> int:
        """Record what the sender posts in this step, once; how many members have."""
        key = (subject, step, ctx.sender_org)
        if key in self.posts:
            raise AlreadyDone(step)
        self.posts[key] = content if len(content) > 0 else b"\x00"
        count = self._count(subject, step) + 1
        self.post_counts_of[(subject, step)] = count
        return count

    def _epoch_step(self, epoch: u64, step: str, content: bytes) -> int:
        count = self._post(self._place(epoch), step, content)
        emit(CouncilStep(epoch, step, ctx.sender_org))
        return count

    def _close_epoch(self, epoch: u64, status: u64, step: str) -> None:
        found = self.epochs[epoch]
        test_seed = found.test_seed
        if status == EPOCH_TESTING:
            test_seed = sha256(b"chainnode/epoch-test/v1" + found.seed + ctx.tx_id)
        self.epochs[epoch] = Epoch(
            status, found.organisations, found.threshold, found.pieces, found.seed, test_seed
        )
        emit(CouncilStep(epoch, step, ctx.sender_org))

    def _require_known(self, query: Bytes32) -> None:
        if query not in self.queries:
            raise Invalid("query")

    def _require_query(self, query: Bytes32, status: u64) -> None:
        self._require_known(query)
        if self.query_status[query] != status:
            raise WrongState("query", self.query_status[query])

    def _require_running(self, query: Bytes32) -> None:
        self._require_known(query)
        if self.query_status[query] >= QUERY_RELEASED:
            raise WrongState("query", self.query_status[query])

    def _query_step(self, query: Bytes32, step: str, content: bytes) -> int:
        count = self._post(query, step, content)
        emit(QueryStep(query, step, ctx.sender_org, ""))
        return count

    def _approve(self, query: Bytes32) -> None:
        asked, ask = self.queries[query], self.asks[query]
        self.query_status[query] = QUERY_RELEASING
        self.queries[query] = Query(
            asked.bank, asked.sender, asked.height, asked.time_ms, ctx.time_ms
        )
        if ask.kind == KIND_AGGREGATE:
            place = self.opened_counts.get(ask.table, 0)
            self.opened[(ask.table, place)] = query
            self.opened_counts[ask.table] = place + 1
        emit(QueryStep(query, "approved", ctx.sender_org, ""))

    def _fault(self, query: Bytes32, organisation: str, fault: str, shown_by: str) -> None:
        emit(MemberFault(query, organisation, fault, shown_by))

    def _share_fault(
        self, query: Bytes32, epoch: u64, result: Bytes32, digests: list[bytes]
    ) -> str:
        ask = self.asks[query]
        if epoch != ask.epoch:
            return "stale epoch"
        if result != self.results[(query, ask.chunk_count)]:
            return "share for another query"
        pieces = self.epochs[epoch].pieces
        place = bit_of(self._seat(epoch))
        if len(digests) != len(pieces):
            return "malformed share"
        for index in range(len(pieces)):
            held = (pieces[index] // place) % 2 == 1
            if len(digests[index]) != (32 if held else 0):
                return "malformed share"
            if held:
                key = (ctx.sender_org, digests[index])
                if self.digest_queries.get(key, query) != query:
                    return "share for another query"
                self.digest_queries[key] = query
        return ""

    def _name_silent(self, query: Bytes32) -> None:
        for organisation in self._members(self.asks[query].epoch):
            heard = (query, "share", organisation) in self.posts
            if not heard and (query, "refusal", organisation) not in self.posts:
                self._fault(query, organisation, "no share", "contract")

    def _release_if_complete(self, query: Bytes32) -> None:
        epoch = self.epochs[self.asks[query].epoch]
        heard = self._count(query, "share") + self._count(query, "refusal")
        if heard < len(epoch.organisations):
            return
        if self._count(query, "good share") >= epoch.threshold:
            self._release(query)
        else:
            self._end(query, QUERY_REFUSED, "too few right shares")

    def _release(self, query: Bytes32) -> None:
        self._judge_shares(query)
        self.query_status[query] = QUERY_RELEASED
        emit(QueryStep(query, "released", ctx.sender_org, ""))

    def _judge_shares(self, query: Bytes32) -> None:
        """Name the member that is a party to every disagreement, or the two that disagree."""
        members = self._members(self.asks[query].epoch)
        disagreements = 0
        shared: list[u64] = []
        for first in members:
            count = 0
            for second in members:
                if self._disagree(query, first, second):
                    count += 1
            shared.append(count)
            disagreements += count
        named: list[str] = []
        for place in range(len(members)):
            # Every disagreement was counted at both its parties.
            if shared[place] > 0 and 2 * shared[place] == disagreements:
                named.append(members[place])
        for organisation in named:
            if len(named) == 1:
                self._fault(query, organisation, "wrong share", "contract")
            else:
                self._fault(query, organisation, "disputed share", "contract")

    def _disagree(self, query: Bytes32, first: str, second: str) -> bool:
        if (query, first) not in self.digests or (query, second) not in self.digests:
            return False
        left, right = self.digests[(query, first)], self.digests[(query, second)]
        for index in range(len(left)):
            if len(left[index]) > 0 and len(right[index]) > 0 and left[index] != right[index]:
                return True
        return False

    def _end(self, query: Bytes32, status: u64, reason: str) -> None:
        self.query_status[query] = status
        self.endings[query] = reason
        emit(QueryStep(query, "ended", ctx.sender_org, reason))

    def _chunk(self, query: Bytes32, index: u64) -> Chunk:
        return self.chunks.get((query, index), Chunk(0, 0, False))

    def _open_reserve(self, query: Bytes32, index: u64, reason: str) -> None:
        chunk = self._chunk(query, index)
        if not chunk.reserve:
            self.chunks[(query, index)] = Chunk(chunk.commits, chunk.reveals, True)
            emit(ChunkStep(query, index, "reserve: " + reason, ctx.sender_org))

    def _judge_chunk(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        equal = 0
        for organisation in self._members(self.asks[query].epoch):
            key = (query, index, organisation)
            if key in self.chunk_reveals and self.chunk_reveals[key] == result:
                equal += 1
        reveals = self._chunk(query, index).reveals
        if equal >= 2:
            self._name_workers(query, index, result)
            self._finish_chunk(query, index, result)
        elif reveals >= 3:
            self._end(query, QUERY_REFUSED, "no two workers agree on a chunk")
        elif reveals == 2:
            self._open_reserve(query, index, "results differ")

    def _name_workers(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        """Evidence against assigned workers that stated another result, or none in time."""
        if not self._chunk(query, index).reserve:
            return
        members = self._members(self.asks[query].epoch)
        for offset in range(2):
            organisation = members[(index + offset) % len(members)]
            key = (query, index, organisation)
            if key not in self.chunk_reveals:
                self._fault(query, organisation, "worker gave no result in time", "contract")
            elif self.chunk_reveals[key] != result:
                self._fault(query, organisation, "worker gave a wrong result", "contract")

    def _finish_chunk(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        self.results[(query, index)] = result
        emit(ChunkStep(query, index, "final", ctx.sender_org))
        ask = self.asks[query]
        if index < ask.chunk_count:
            self.post_counts_of[(query, "chunk")] = self._count(query, "chunk") + 1
            return
        asked = self.queries[query]
        numbers = ask.epoch.to_bytes(8, "big") + ask.kind.to_bytes(8, "big")
        keys = ask.plan_hash + ask.reply_key + ask.target_key
        emit(QueryFinalised(query, result, sha256(keys + numbers + asked.bank.encode())))
        if ask.check_count > 0:
            self.query_status[query] = QUERY_CHECKING
        else:
            self._approve(query)
