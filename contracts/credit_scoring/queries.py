"""A query from the bank's question to the one result that two workers agree on."""

from __future__ import annotations

from chainnode.contract import (
    Bytes32,
    Map,
    call,
    ctx,
    emit,
    sha256,
    u64,
    view,
)

from .catalog import Catalog
from .records import (
    CHUNKS_MAX,
    EPOCH_ACTIVE,
    KIND_AGGREGATE,
    KIND_SCORES,
    OUTPUTS_MAX,
    QUERY_CHECKING,
    QUERY_COMPUTING,
    QUERY_REFUSED,
    QUERY_RELEASED,
    QUERY_RELEASING,
    AlreadyDone,
    Ask,
    Chunk,
    ChunkStep,
    InputFault,
    Invalid,
    MemberFault,
    NotAllowed,
    Query,
    QueryFinalised,
    QueryStep,
    StaleEpoch,
    WrongState,
)


class Queries(Catalog):
    """Questions, the chunks workers compute, and how a query ends."""

    queries: Map[Bytes32, Query]
    asks: Map[Bytes32, Ask]
    query_status: Map[Bytes32, u64]
    statements: Map[Bytes32, str]
    chunks: Map[tuple[Bytes32, u64], Chunk]
    chunk_commits: Map[tuple[Bytes32, u64, str], Bytes32]
    chunk_reveals: Map[tuple[Bytes32, u64, str], Bytes32]
    results: Map[tuple[Bytes32, u64], bytes]
    endings: Map[Bytes32, str]
    input_faults: Map[tuple[Bytes32, str], InputFault]
    refused_inputs: Map[Bytes32, InputFault]
    opened: Map[tuple[str, u64], Bytes32]
    opened_counts: Map[str, u64]

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
    def refuse_input(self, query: Bytes32, fault: InputFault) -> None:
        """An organisation's worker or keyholder finds published columns unfit to compute on.

        As many as there may be liars and one more must name the same fault of the publication that
        is on chain; one organisation's word ends nothing."""
        self._require_running(query)
        epoch = self.asks[query].epoch
        if ctx.sender_name == self.council.get().keyholder_name:
            self._require_keyholder(epoch)
        else:
            self._require_service(epoch, self.council.get().worker_name)
        if fault.owner not in self._table(self.asks[query].table).owners or fault.code == "":
            raise Invalid("fault")
        if fault.root != self._root(query, fault.owner, fault.profile):
            raise Invalid("root")
        key = (query, ctx.sender_org)
        if key in self.input_faults and self._same_fault(self.input_faults[key], fault):
            raise AlreadyDone("input fault")
        if key not in self.input_faults:
            self.post_counts_of[(query, "input fault")] = self._count(query, "input fault") + 1
        self.input_faults[key] = fault
        found = fault.code + " " + fault.owner + "/" + fault.column
        emit(QueryStep(query, "columns refused by a member", ctx.sender_org, found))
        if self._witnesses(query, fault) >= self._witnesses_needed(epoch):
            self.refused_inputs[query] = fault
            self._fault(query, fault.owner, fault.code, "the members that refused")
            self._end(query, QUERY_REFUSED, "columns refused")

    @view
    def input_refusals(self, query: Bytes32) -> u64:
        """How many organisations find columns of a query unfit, whatever they name."""
        return self._count(query, "input fault")

    @view
    def refused_input(self, query: Bytes32) -> InputFault:
        """The fault that ended a query."""
        if query not in self.refused_inputs:
            raise Invalid("query")
        return self.refused_inputs[query]

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
    def opened_queries(self, table: str, first: u64) -> list[Bytes32]:
        """Aggregate queries whose groups were approved, in order, from a position on."""
        found: list[Bytes32] = []
        for place in range(first, self.opened_counts.get(table, 0)):
            found.append(self.opened[(table, place)])
        return found

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

    def _root(self, query: Bytes32, owner: str, profile: str) -> bytes:
        key = (self.asks[query].table, owner, profile, self.asks[query].epoch)
        if key in self.column_sets:
            return self.column_sets[key].root
        return b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

    def _same_fault(self, one: InputFault, other: InputFault) -> bool:
        if one.code != other.code or one.owner != other.owner or one.profile != other.profile:
            return False
        return one.root == other.root and one.column == other.column and one.block == other.block

    def _witnesses(self, query: Bytes32, fault: InputFault) -> int:
        count = 0
        for organisation in self._members(self.asks[query].epoch):
            key = (query, organisation)
            if key in self.input_faults and self._same_fault(self.input_faults[key], fault):
                count += 1
        return count

    def _witnesses_needed(self, epoch: u64) -> int:
        """One more than may lie, and never one alone: as many as make a result final."""
        tolerated = (self._size(epoch) - 1) // 3
        return tolerated + 1 if tolerated > 0 else 2

    def _name_refusers(self, query: Bytes32) -> None:
        """A result of the very columns that a member found unfit shows that it was wrong."""
        if self._count(query, "input fault") == 0:
            return
        for organisation in self._members(self.asks[query].epoch):
            key = (query, organisation)
            if key in self.input_faults:
                fault = self.input_faults[key]
                if fault.root == self._root(query, fault.owner, fault.profile):
                    self._fault(query, organisation, "refused columns without cause", "contract")

    def _finish_chunk(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        self.results[(query, index)] = result
        emit(ChunkStep(query, index, "final", ctx.sender_org))
        ask = self.asks[query]
        if index < ask.chunk_count:
            self.post_counts_of[(query, "chunk")] = self._count(query, "chunk") + 1
            return
        self._name_refusers(query)
        asked = self.queries[query]
        numbers = ask.epoch.to_bytes(8, "big") + ask.kind.to_bytes(8, "big")
        keys = ask.plan_hash + ask.reply_key + ask.target_key
        emit(QueryFinalised(query, result, sha256(keys + numbers + asked.bank.encode())))
        if ask.check_count > 0:
            self.query_status[query] = QUERY_CHECKING
        else:
            self._approve(query)
