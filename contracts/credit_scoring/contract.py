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
CHUNKS_MAX = 4096
OUTPUTS_MAX = 4096


@dataclass(frozen=True)
class Council:
    """The organisations that hold the key together, and how their services are named."""

    organisations: list[str]
    keyholder_name: str
    worker_name: str
    chunk_deadline_blocks: u64
    query_deadline_blocks: u64


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
    kind: u64
    plan_hash: Bytes32
    chunk_count: u64
    output_count: u64
    check_count: u64
    reply_key: Bytes32
    target_key: Bytes32


@dataclass(frozen=True)
class Query:
    bank: str
    sender: Address
    epoch: u64
    height: u64


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


class CreditScoring(Contract, version="1.0", name="credit_scoring"):
    council: Var[Council]
    sealing_keys: Map[str, bytes]

    tables: Map[str, Table]
    schemas: Map[str, bytes]
    column_sets: Map[tuple[str, str, str], ColumnSet]
    budgets: Map[tuple[str, str, str], u64]
    used: Map[tuple[str, str], u64]
    consents: Map[tuple[str, str, str], bytes]
    models: Map[tuple[str, str], bytes]
    model_names: Map[str, list[str]]
    model_approvals: Map[tuple[str, str, str], bool]

    current_epoch: Var[u64]
    epoch_status: Map[u64, u64]
    epoch_seeds: Map[u64, Bytes32]
    commits: Map[tuple[u64, u64, str], bytes]
    reveals: Map[tuple[u64, u64, str], bytes]
    keys: Map[u64, Keys]
    test_seeds: Map[u64, bytes]
    test_shares: Map[tuple[u64, str], bytes]
    epoch_done: Map[tuple[u64, str, str], bool]
    epoch_progress: Map[tuple[u64, str], u64]

    queries: Map[Bytes32, Query]
    asks: Map[Bytes32, Ask]
    query_status: Map[Bytes32, u64]
    statements: Map[Bytes32, str]
    chunks: Map[tuple[Bytes32, u64], Chunk]
    chunk_commits: Map[tuple[Bytes32, u64, str], Bytes32]
    chunk_reveals: Map[tuple[Bytes32, u64, str], Bytes32]
    results: Map[tuple[Bytes32, u64], bytes]
    count_boxes: Map[tuple[Bytes32, str], list[bytes]]
    query_done: Map[tuple[Bytes32, str, str], bool]
    shares: Map[tuple[Bytes32, str], bytes]
    query_progress: Map[tuple[Bytes32, str], u64]
    endings: Map[Bytes32, str]

    @init
    def setup(self, council: Council) -> None:
        if len(council.organisations) < 2:
            raise Invalid("organisations")
        self.council.set(council)
        self.current_epoch.set(0)

    @call
    def enrol_keyholder(self, sealing_key: Bytes32) -> None:
        """Publish the X25519 key other keyholders seal count shares to."""
        self._require_service(self.council.get().keyholder_name)
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
        """Point to the owner's encrypted columns; a later call replaces them."""
        self._require_table_owner(table)
        self._require_epoch(columns.epoch, EPOCH_ACTIVE)
        if columns.block_count == 0:
            raise Invalid("block_count")
        self.column_sets[(table, ctx.sender_org, profile)] = columns
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
        """Begin a key ceremony, giving up an unfinished one; its common seed comes from here."""
        self._require_service(self.council.get().keyholder_name)
        last = self.current_epoch.get()
        if last > 0 and self.epoch_status[last] < EPOCH_ACTIVE:
            self._close_epoch(last, EPOCH_FAILED, "failed: started over")
        epoch = last + 1
        self.epoch_status[epoch] = EPOCH_OPEN
        self.epoch_seeds[epoch] = sha256(
            b"chainnode/epoch-seed/v1" + epoch.to_bytes(8, "big") + ctx.tx_id
        )
        self.current_epoch.set(epoch)
        emit(CouncilStep(epoch, "opened", ctx.sender_org))
        return epoch

    @call
    def commit(self, epoch: u64, round: u64, commitment: Bytes32) -> None:
        self._require_council(epoch, EPOCH_OPEN)
        if round < 1 or round > ROUNDS:
            raise Invalid("round")
        if round > 1 and self._epoch_count(epoch, "reveal 1") < self._size():
            raise WrongState("reveals of round", round - 1)
        self.commits[(epoch, round, ctx.sender_org)] = commitment
        self._epoch_step(epoch, self._round_step("commit", round))

    @call
    def reveal(self, epoch: u64, round: u64, blob: Bytes32) -> None:
        """Name the committed message; refused until every member has committed."""
        self._require_council(epoch, EPOCH_OPEN)
        if round < 1 or round > ROUNDS:
            raise Invalid("round")
        if self._epoch_count(epoch, self._round_step("commit", round)) < self._size():
            raise WrongState("commitments of round", round)
        key = (epoch, round, ctx.sender_org)
        place = epoch.to_bytes(8, "big") + round.to_bytes(8, "big")
        opened = sha256(b"chainnode/council-commit/v1" + place + blob + ctx.sender_org.encode())
        if opened != self.commits[key]:
            raise Invalid("commitment")
        self.reveals[key] = blob
        self._epoch_step(epoch, self._round_step("reveal", round))

    @call
    def submit_keys(self, epoch: u64, keys: Keys) -> None:
        """State the aggregated keys this member computed; all equal fixes them."""
        self._require_council(epoch, EPOCH_OPEN)
        if self._epoch_count(epoch, "reveal 2") < self._size():
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
        if self._epoch_step(epoch, "keys"):
            seed = self.epoch_seeds[epoch]
            self.test_seeds[epoch] = sha256(b"chainnode/epoch-test/v1" + seed + ctx.tx_id)
            self._close_epoch(epoch, EPOCH_TESTING, "testing")

    @call
    def post_test(self, epoch: u64, shares: bytes) -> None:
        """Open the test vectors drawn from the test seed: this member's shares, in the clear."""
        self._require_council(epoch, EPOCH_TESTING)
        self.test_shares[(epoch, ctx.sender_org)] = shares
        self._epoch_step(epoch, "test shares")

    @call
    def vote_test(self, epoch: u64, correct: bool) -> None:
        """Whether all members' test shares opened the expected values; all yes activates."""
        self._require_council(epoch, EPOCH_TESTING)
        if self._epoch_count(epoch, "test shares") < self._size():
            raise WrongState("test shares", EPOCH_TESTING)
        if not correct:
            self._close_epoch(epoch, EPOCH_FAILED, "failed: test vectors did not decrypt")
            return
        if self._epoch_step(epoch, "verdict"):
            self._close_epoch(epoch, EPOCH_ACTIVE, "active")

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
        epoch = self.current_epoch.get()
        self._require_epoch(epoch, EPOCH_ACTIVE)
        self._spend(ask.table, ctx.sender_org)
        self.queries[query] = Query(ctx.sender_org, ctx.sender, epoch, ctx.height)
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
        self._require_service(self.council.get().worker_name)
        if (query, index) in self.results or index > self.asks[query].chunk_count:
            raise Invalid("index")
        self._require_height(self.queries[query].height + self.council.get().chunk_deadline_blocks)
        self._open_reserve(query, index, "deadline")

    @call
    def post_counts(self, query: Bytes32, boxes: list[bytes]) -> None:
        """This member's count shares, one sealed box per member in council order."""
        self._require_service(self.council.get().keyholder_name)
        self._require_query(query, QUERY_CHECKING)
        if len(boxes) != self._size():
            raise Invalid("boxes")
        self.count_boxes[(query, ctx.sender_org)] = boxes
        self._query_step(query, "counts")

    @call
    def group_check(self, query: Bytes32, passed: bool) -> None:
        """Whether every group this member saw the count of is large enough; one no refuses."""
        self._require_service(self.council.get().keyholder_name)
        self._require_query(query, QUERY_CHECKING)
        if self._query_count(query, "counts") < self._size():
            raise WrongState("count shares", self._query_count(query, "counts"))
        if not passed:
            self._end(query, QUERY_REFUSED, "group too small")
        elif self._query_step(query, "group check"):
            self._approve(query)

    @call
    def share_post(self, query: Bytes32, share: bytes) -> None:
        """A sealed scalar share, or the hash of the blob with the key-switch share."""
        self._require_service(self.council.get().keyholder_name)
        self._require_query(query, QUERY_RELEASING)
        if self.asks[query].kind == KIND_SCORES and len(share) != 32:
            raise Invalid("share")
        self.shares[(query, ctx.sender_org)] = share
        if self._query_step(query, "share"):
            self.query_status[query] = QUERY_RELEASED
            emit(QueryStep(query, "released", ctx.sender_org, ""))

    @call
    def refuse(self, query: Bytes32, reason: str) -> None:
        """A keyholder that will not give its share says why: with n-of-n that ends the query."""
        self._require_service(self.council.get().keyholder_name)
        self._require_running(query)
        self._end(query, QUERY_REFUSED, reason)

    @call
    def close(self, query: Bytes32, outcome: str) -> None:
        """The bank records what it got: "answered", or that a share was wrong."""
        self._require_query(query, QUERY_RELEASED)
        if ctx.sender != self.queries[query].sender:
            raise NotAllowed(ctx.sender_org, self.queries[query].bank)
        self._end(query, QUERY_CLOSED, outcome)

    @call
    def expire(self, query: Bytes32) -> None:
        """Anyone may end a query that is not released by its deadline."""
        self._require_running(query)
        deadline = self.queries[query].height + self.council.get().query_deadline_blocks
        self._require_height(deadline)
        self._end(query, QUERY_EXPIRED, "deadline")

    @view
    def council_info(self) -> Council:
        return self.council.get()

    @view
    def sealing_key_list(self) -> list[bytes]:
        """X25519 keys in council order, empty where a keyholder is not enrolled."""
        found: list[bytes] = []
        for organisation in self.council.get().organisations:
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
    def columns_of(self, table: str, owner: str, profile: str) -> ColumnSet:
        if (table, owner, profile) not in self.column_sets:
            raise Invalid("columns")
        return self.column_sets[(table, owner, profile)]

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
        if asked not in self.epoch_status:
            return (asked, EPOCH_FAILED, b"", b"")
        seed = self.epoch_seeds[asked]
        return (asked, self.epoch_status[asked], seed, self.test_seeds.get(asked, b""))

    @view
    def round_info(self, epoch: u64, round: u64) -> tuple[list[bytes], list[bytes]]:
        """Commitments and revealed blob hashes in council order; empty where missing."""
        committed: list[bytes] = []
        revealed: list[bytes] = []
        for organisation in self.council.get().organisations:
            key = (epoch, round, organisation)
            committed.append(self.commits.get(key, b""))
            revealed.append(self.reveals.get(key, b""))
        return (committed, revealed)

    @view
    def keys_of(self, epoch: u64) -> Keys:
        if epoch not in self.keys:
            raise Invalid("epoch keys")
        return self.keys[epoch]

    @view
    def test_share_list(self, epoch: u64) -> list[bytes]:
        """Posted test shares in council order; empty where missing."""
        found: list[bytes] = []
        for organisation in self.council.get().organisations:
            found.append(self.test_shares.get((epoch, organisation), b""))
        return found

    @view
    def epoch_step_done(self, epoch: u64, step: str, organisation: str) -> bool:
        return (epoch, step, organisation) in self.epoch_done

    @view
    def query_step_done(self, query: Bytes32, step: str, organisation: str) -> bool:
        return (query, step, organisation) in self.query_done

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

    @view
    def counts_of(self, query: Bytes32) -> list[list[bytes]]:
        """Sealed count boxes by posting member in council order; an empty list where missing."""
        found: list[list[bytes]] = []
        empty: list[bytes] = []
        for organisation in self.council.get().organisations:
            found.append(self.count_boxes.get((query, organisation), empty))
        return found

    @view
    def shares_of(self, query: Bytes32) -> list[bytes]:
        """Posted shares in council order; empty where missing."""
        found: list[bytes] = []
        for organisation in self.council.get().organisations:
            found.append(self.shares.get((query, organisation), b""))
        return found

    def _size(self) -> int:
        return len(self.council.get().organisations)

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

    def _require_service(self, name: str) -> None:
        self._require_member(ctx.sender_org)
        if ctx.sender_role != "common" or ctx.sender_name != name:
            raise NotAllowed(ctx.sender_org, name)

    def _require_assigned(self, query: Bytes32, index: u64) -> None:
        """Chunk i belongs to workers i and i + 1; index `chunk_count` is the reduction."""
        self._require_service(self.council.get().worker_name)
        chunk_count = self.asks[query].chunk_count
        if index > chunk_count:
            raise Invalid("index")
        if (query, index) in self.results:
            raise AlreadyDone("chunk")
        finished = self._query_count(query, "chunk")
        if index == chunk_count and finished < chunk_count:
            raise WrongState("chunks finished", finished)
        workers = 3 if self._chunk(query, index).reserve else 2
        organisations = self.council.get().organisations
        for offset in range(workers):
            if organisations[(index + offset) % len(organisations)] == ctx.sender_org:
                return
        raise NotAllowed(ctx.sender_org, "assigned worker")

    def _require_height(self, allowed: u64) -> None:
        if ctx.height < allowed:
            raise WrongState("height, allowed from", allowed)

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
        found = self.epoch_status.get(epoch, EPOCH_FAILED)
        if found != status:
            raise WrongState("epoch", found)

    def _require_council(self, epoch: u64, status: u64) -> None:
        self._require_service(self.council.get().keyholder_name)
        self._require_epoch(epoch, status)

    def _round_step(self, what: str, round: u64) -> str:
        return what + (" 1" if round == 1 else " 2")

    def _epoch_count(self, epoch: u64, step: str) -> int:
        return self.epoch_progress.get((epoch, step), 0)

    def _epoch_step(self, epoch: u64, step: str) -> bool:
        """Record that the sender did this step; True when it was the last of the members."""
        key = (epoch, step, ctx.sender_org)
        if key in self.epoch_done:
            raise AlreadyDone(step)
        self.epoch_done[key] = True
        count = self._epoch_count(epoch, step) + 1
        self.epoch_progress[(epoch, step)] = count
        emit(CouncilStep(epoch, step, ctx.sender_org))
        return count == self._size()

    def _close_epoch(self, epoch: u64, status: u64, step: str) -> None:
        self.epoch_status[epoch] = status
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

    def _query_count(self, query: Bytes32, step: str) -> int:
        return self.query_progress.get((query, step), 0)

    def _query_step(self, query: Bytes32, step: str) -> bool:
        """Record that the sender did this step; True when it was the last of the members."""
        key = (query, step, ctx.sender_org)
        if key in self.query_done:
            raise AlreadyDone(step)
        self.query_done[key] = True
        count = self._query_count(query, step) + 1
        self.query_progress[(query, step)] = count
        emit(QueryStep(query, step, ctx.sender_org, ""))
        return count == self._size()

    def _approve(self, query: Bytes32) -> None:
        self.query_status[query] = QUERY_RELEASING
        emit(QueryStep(query, "approved", ctx.sender_org, ""))

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
        for organisation in self.council.get().organisations:
            key = (query, index, organisation)
            if key in self.chunk_reveals and self.chunk_reveals[key] == result:
                equal += 1
        reveals = self._chunk(query, index).reveals
        if equal >= 2:
            self._finish_chunk(query, index, result)
        elif reveals >= 3:
            self._end(query, QUERY_REFUSED, "no two workers agree on a chunk")
        elif reveals == 2:
            self._open_reserve(query, index, "results differ")

    def _finish_chunk(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        self.results[(query, index)] = result
        emit(ChunkStep(query, index, "final", ctx.sender_org))
        ask = self.asks[query]
        if index < ask.chunk_count:
            self.query_progress[(query, "chunk")] = self._query_count(query, "chunk") + 1
            return
        asked = self.queries[query]
        numbers = asked.epoch.to_bytes(8, "big") + ask.kind.to_bytes(8, "big")
        keys = ask.plan_hash + ask.reply_key + ask.target_key
        emit(QueryFinalised(query, result, sha256(keys + numbers + asked.bank.encode())))
        if ask.check_count > 0:
            self.query_status[query] = QUERY_CHECKING
        else:
            self._approve(query)
