"""A query from the bank's question to the one result that enough workers agree on."""

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
    COLUMNS_REPLACED,
    CONSENT_MALFORMED,
    CONSENT_MISSING,
    EPOCH_ACTIVE,
    KIND_AGGREGATE,
    KIND_CHECK,
    KIND_SCORES,
    NAME_SIZE_MAX_BYTES,
    NOTHING,
    OUTPUTS_MAX,
    POINTS_MALFORMED,
    POINTS_MISSING,
    QUERY_CHECKING,
    QUERY_COMPUTING,
    QUERY_REFUSED,
    QUERY_RELEASED,
    QUERY_RELEASING,
    SELECTORS_MALFORMED,
    SELECTORS_MISSING,
    AlreadyDone,
    Ask,
    Chunk,
    ChunkStep,
    InputFault,
    Invalid,
    MemberFault,
    NotAllowed,
    OwnerInput,
    PolicyDenied,
    Query,
    QueryFinalised,
    QueryStep,
    StaleEpoch,
    Table,
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
    inputs: Map[Bytes32, list[OwnerInput]]

    @call
    def submit(self, query: Bytes32, ask: Ask, sql: str) -> None:
        """Ask. Costs one query of the bank's budget on the table, whatever the outcome.

        Columns and consent are those of now: what owners change later, later queries read."""
        if ctx.sender_role != "client":
            raise NotAllowed(ctx.sender_org, "client")
        # Only a score vector may go out without a count of the group behind it.
        if ask.kind > KIND_SCORES or (ask.kind == KIND_AGGREGATE) != (ask.check_count > 0):
            raise Invalid("kind")
        self._begin(query, ask, sql)
        self._spend(ask.table, ctx.sender_org)

    def _begin(self, query: Bytes32, ask: Ask, sql: str) -> None:
        if query in self.queries:
            raise AlreadyDone("query")
        if ask.chunk_count == 0 or ask.chunk_count > CHUNKS_MAX:
            raise Invalid("chunk_count")
        if ask.output_count == 0 or ask.output_count > OUTPUTS_MAX:
            raise Invalid("output_count")
        if self._status(ask.epoch) != EPOCH_ACTIVE:
            raise StaleEpoch(ask.epoch, self.active_epoch.get())
        if ask.profile not in self.epochs[ask.epoch].profiles:
            raise Invalid("profile")
        if len(ask.purpose.encode()) > NAME_SIZE_MAX_BYTES:
            raise Invalid("purpose")
        inputs = self._inputs_now(ask, ctx.sender_org)
        self._require_allowed(ask, inputs)
        self.queries[query] = Query(ctx.sender_org, ctx.sender, ctx.height, ctx.time_ms, 0)
        self.asks[query] = ask
        self.inputs[query] = inputs
        self.query_status[query] = QUERY_COMPUTING
        self.statements[query] = sql
        # What costs budget can be counted from the steps: a check does not.
        asked = ask.table + ": check" if ask.kind == KIND_CHECK else ask.table
        emit(QueryStep(query, "submitted", ctx.sender_org, asked))

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
        commits, open_ms = chunk.commits + 1, chunk.open_ms
        if commits == self._agreement(self.asks[query].epoch):
            open_ms = ctx.time_ms
        self.chunks[(query, index)] = Chunk(commits, chunk.reveals, chunk.reserve, open_ms)
        emit(ChunkStep(query, index, "committed", ctx.sender_org, commitment))

    @call
    def chunk_reveal(self, query: Bytes32, index: u64, result: Bytes32, salt: Bytes32) -> None:
        """Open a commitment; equal results of enough organisations are final."""
        self._require_query(query, QUERY_COMPUTING)
        self._require_assigned(query, index)
        chunk = self._chunk(query, index)
        if chunk.commits < self._agreement(self.asks[query].epoch):
            raise WrongState("chunk commitments", chunk.commits)
        key = (query, index, ctx.sender_org)
        if key in self.chunk_reveals:
            raise AlreadyDone("chunk reveal")
        if key not in self.chunk_commits:
            raise Invalid("chunk commit")
        if sha256(result + salt + ctx.sender_org.encode()) != self.chunk_commits[key]:
            raise Invalid("commitment")
        self.chunk_reveals[key] = result
        self.chunks[(query, index)] = Chunk(
            chunk.commits, chunk.reveals + 1, chunk.reserve, chunk.open_ms
        )
        emit(ChunkStep(query, index, "revealed", ctx.sender_org, result))
        self._judge_chunk(query, index, result)

    @call
    def reassign(self, query: Bytes32, index: u64) -> None:
        """Let the reserve workers take part in a chunk that is not final by the deadline."""
        self._require_query(query, QUERY_COMPUTING)
        self._require_service(self.asks[query].epoch, self.council.get().worker_name)
        self._require_unfinished(query, index)
        self._require_time(self._chunk_deadline(query, index))
        self._open_reserve(query, index, "deadline")

    @call
    def refuse_input(self, query: Bytes32, fault: InputFault) -> None:
        """An organisation's worker or keyholder finds what a query reads unfit to compute on.

        As many as there may be liars and one more must name the same fault of the columns or the
        selectors that the query is bound to, or of a model of its table; one organisation's word
        ends nothing."""
        self._require_running(query)
        epoch = self.asks[query].epoch
        if ctx.sender_name == self.council.get().keyholder_name:
            self._require_keyholder(epoch)
        else:
            self._require_service(epoch, self.council.get().worker_name)
        self._require_evidence(query, fault)
        key = (query, ctx.sender_org)
        if key in self.input_faults and self._same_fault(self.input_faults[key], fault):
            raise AlreadyDone("input fault")
        if key not in self.input_faults:
            self.post_counts_of[(query, "input fault")] = self._count(query, "input fault") + 1
        self.input_faults[key] = fault
        found = fault.code + " " + fault.owner + "/" + fault.column
        emit(QueryStep(query, "input refused by a member", ctx.sender_org, found))
        if self._witnesses(query, fault) >= self._agreement(epoch):
            self.refused_inputs[query] = fault
            self._fault(query, fault.owner, fault.code, "the members that refused")
            self._end(query, QUERY_REFUSED, "input refused")

    @view
    def input_refusals(self, query: Bytes32) -> u64:
        """How many organisations find what a query reads unfit, whatever they name."""
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
    def query_inputs(self, query: Bytes32) -> tuple[Table, list[OwnerInput]]:
        """(the table's record, what the query reads of each of its owners, in their order)."""
        self._require_known(query)
        return (self.tables[self.asks[query].table], self.inputs[query])

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
        """A chunk belongs to the first of its workers; index `chunk_count` is the reduction."""
        epoch = self.asks[query].epoch
        self._require_service(epoch, self.council.get().worker_name)
        self._require_unfinished(query, index)
        reserve = self._chunk(query, index).reserve
        workers = self._workers_max(epoch) if reserve else self._agreement(epoch)
        for offset in range(workers):
            if self._worker(query, index, offset) == ctx.sender_org:
                return
        raise NotAllowed(ctx.sender_org, "assigned worker")

    def _worker(self, query: Bytes32, index: u64, offset: int) -> str:
        """Of all members in turn, as the workers of a chunk; queries begin at another each."""
        members = self._members(self.asks[query].epoch)
        return members[(query[31] + index + offset) % len(members)]

    def _require_unfinished(self, query: Bytes32, index: u64) -> None:
        chunk_count = self.asks[query].chunk_count
        if index > chunk_count:
            raise Invalid("index")
        if (query, index) in self.results:
            raise AlreadyDone("chunk")
        finished = self._count(query, "chunk")
        if index == chunk_count and finished < chunk_count:
            raise WrongState("chunks finished", finished)

    def _query_step(self, query: Bytes32, step: str, content: bytes, detail: str) -> int:
        count = self._post(query, step, content)
        emit(QueryStep(query, step, ctx.sender_org, detail))
        return count

    def _approve(self, query: Bytes32) -> None:
        ask = self.asks[query]
        self.query_status[query] = QUERY_RELEASING
        self._begin_phase(query)
        if ask.kind == KIND_AGGREGATE:
            place = self.opened_counts.get(ask.table, 0)
            self.opened[(ask.table, place)] = query
            self.opened_counts[ask.table] = place + 1
        emit(QueryStep(query, "approved", ctx.sender_org, ""))

    def _begin_phase(self, query: Bytes32) -> None:
        asked = self.queries[query]
        self.queries[query] = Query(
            asked.bank, asked.sender, asked.height, asked.time_ms, ctx.time_ms
        )

    def _fault(self, query: Bytes32, organisation: str, fault: str, shown_by: str) -> None:
        emit(MemberFault(query, organisation, fault, shown_by))

    def _end(self, query: Bytes32, status: u64, reason: str) -> None:
        self.query_status[query] = status
        self.endings[query] = reason
        emit(QueryStep(query, "ended", ctx.sender_org, reason))

    def _chunk(self, query: Bytes32, index: u64) -> Chunk:
        return self.chunks.get((query, index), Chunk(0, 0, False, 0))

    def _open_reserve(self, query: Bytes32, index: u64, reason: str) -> None:
        chunk = self._chunk(query, index)
        if not chunk.reserve:
            self.chunks[(query, index)] = Chunk(chunk.commits, chunk.reveals, True, chunk.open_ms)
            emit(ChunkStep(query, index, "reserve: " + reason, ctx.sender_org, b""))

    def _judge_chunk(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        equal = 0
        for organisation in self._members(self.asks[query].epoch):
            key = (query, index, organisation)
            if key in self.chunk_reveals and self.chunk_reveals[key] == result:
                equal += 1
        epoch = self.asks[query].epoch
        reveals = self._chunk(query, index).reveals
        if equal >= self._agreement(epoch):
            self._name_workers(query, index, result)
            self._finish_chunk(query, index, result)
        elif reveals >= self._workers_max(epoch):
            self._end(query, QUERY_REFUSED, "too few workers agree on a chunk")
        elif reveals > equal:
            # As many as are assigned must agree, so two that differ already call the reserve.
            self._open_reserve(query, index, "results differ")

    def _name_workers(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        """Evidence against workers that stated another result, or were assigned and late.

        Who committed is late only if it could have shown its result before the deadline."""
        epoch = self.asks[query].epoch
        deadline = self._chunk_deadline(query, index)
        late = ctx.time_ms >= deadline
        could_show = self._chunk(query, index).open_ms < deadline
        assigned = self._agreement(epoch)
        for offset in range(self._workers_max(epoch)):
            organisation = self._worker(query, index, offset)
            key = (query, index, organisation)
            if key in self.chunk_reveals:
                if self.chunk_reveals[key] != result:
                    self._fault(query, organisation, "worker gave a wrong result", "contract")
            elif late and offset < assigned and (could_show or key not in self.chunk_commits):
                self._fault(query, organisation, "worker gave no result in time", "contract")

    def _chunk_deadline(self, query: Bytes32, index: u64) -> int:
        """The reduction's time runs from the last chunk's result."""
        asked = self.queries[query]
        reduces = index == self.asks[query].chunk_count
        start = asked.phase_ms if reduces else asked.time_ms
        return start + self.council.get().chunk_deadline_ms

    def _require_allowed(self, ask: Ask, inputs: list[OwnerInput]) -> None:
        """What numbers show; the columns of a plan are for those who make it again."""
        owners = self._table(ask.table).owners
        for place in range(len(inputs)):
            policy = inputs[place].policy
            if ask.kind == KIND_SCORES and not policy.scores_allowed:
                raise PolicyDenied(owners[place], "scores")
            if ask.kind == KIND_AGGREGATE and ask.output_count > policy.outputs_max:
                raise PolicyDenied(owners[place], "outputs")

    def _inputs_now(self, ask: Ask, bank: str) -> list[OwnerInput]:
        """What a query of this moment reads; consent only where single rows may go out."""
        found: list[OwnerInput] = []
        nothing = Bytes32(NOTHING)
        for owner in self._table(ask.table).owners:
            policy = self._policy(ask.table, bank, owner)
            consent = nothing
            stated = (ask.table, bank, owner, ask.purpose)
            if ask.kind == KIND_SCORES and stated in self.consents:
                word = self.consents[stated]
                if word.until_height == 0 or ctx.height <= word.until_height:
                    consent = word.bitmap
            required = self.audit_demands.get((ask.table, owner), False)
            key = (ask.table, owner, ask.profile, ask.epoch)
            if key in self.column_sets:
                columns = self.column_sets[key]
                root, manifest, blocks = columns.root, columns.manifest, columns.block_count
                audited = self._is_audited(ask.table, owner, ask.profile, root, ask.epoch)
                found.append(OwnerInput(root, manifest, blocks, consent, policy, required, audited))
            else:
                found.append(OwnerInput(nothing, nothing, 0, consent, policy, required, False))
        return found

    def _inputs_hash(self, query: Bytes32) -> bytes:
        """Binds all that the answer depends on beside the plan and the epoch's keys."""
        table, purpose = self.tables[self.asks[query].table], self.asks[query].purpose.encode()
        inputs = self.inputs[query]
        bound = b"chainnode/query-inputs/v2" + table.schema_hash + table.registry
        bound += table.minimum_group.to_bytes(8, "big") + len(purpose).to_bytes(8, "big") + purpose
        for place in range(len(inputs)):
            name, read = table.owners[place].encode(), inputs[place]
            bound += len(name).to_bytes(8, "big") + name + read.root + read.manifest
            bound += read.block_count.to_bytes(8, "big") + read.consent
            bound += self._policy_bytes(read.policy)
            bound += b"\x01" if read.audit_required else b"\x00"
            bound += b"\x01" if read.audited else b"\x00"
        return sha256(bound)

    def _root(self, query: Bytes32, owner: str, profile: str) -> bytes:
        """Root of the publication that a query reads; zeros where it reads none."""
        owners, inputs = self._table(self.asks[query].table).owners, self.inputs[query]
        for place in range(len(owners)):
            if owners[place] == owner and self.asks[query].profile == profile:
                return inputs[place].root
        return NOTHING

    def _consent(self, query: Bytes32, owner: str) -> bytes:
        """The consent of an owner that a query reads; zeros where it reads none."""
        owners, inputs = self._table(self.asks[query].table).owners, self.inputs[query]
        for place in range(len(owners)):
            if owners[place] == owner:
                return inputs[place].consent
        return NOTHING

    def _require_evidence(self, query: Bytes32, fault: InputFault) -> None:
        """A fault is the bank's, of the selectors its plan binds, or an owner's, of its columns,
        its consent or the model that it registered."""
        if fault.code == SELECTORS_MALFORMED or fault.code == SELECTORS_MISSING:
            if fault.owner != self.queries[query].bank:
                raise Invalid("fault")
            if fault.root != self.asks[query].plan_hash:
                raise Invalid("root")
            return
        if fault.code == POINTS_MALFORMED or fault.code == POINTS_MISSING:
            model = (self.asks[query].table, fault.root)
            if model not in self.registrars:
                raise Invalid("root")
            if fault.owner != self.registrars[model]:
                raise Invalid("fault")
            return
        if fault.owner not in self._table(self.asks[query].table).owners or fault.code == "":
            raise Invalid("fault")
        if fault.code == CONSENT_MALFORMED or fault.code == CONSENT_MISSING:
            if fault.root == NOTHING or fault.root != self._consent(query, fault.owner):
                raise Invalid("root")
        elif fault.root != self._root(query, fault.owner, fault.profile):
            raise Invalid("root")

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

    def _agreement(self, epoch: u64) -> int:
        """How many must say the same: one more than may lie, and never one alone."""
        tolerated = (self._size(epoch) - 1) // 3
        return tolerated + 1 if tolerated > 0 else 2

    def _workers_max(self, epoch: u64) -> int:
        """Workers of a chunk with its reserve: so many that those who may lie are outvoted."""
        workers = 2 * self._agreement(epoch) - 1
        return workers if workers < self._size(epoch) else self._size(epoch)

    def _name_refusers(self, query: Bytes32) -> None:
        """A result of the very inputs that a member found unfit shows that it was wrong."""
        if self._count(query, "input fault") == 0:
            return
        for organisation in self._members(self.asks[query].epoch):
            key = (query, organisation)
            if key not in self.input_faults:
                continue
            code = self.input_faults[key].code
            # That a blob cannot be had is true at one node and not at another.
            if (
                code != COLUMNS_REPLACED
                and code != SELECTORS_MISSING
                and code != POINTS_MISSING
                and code != CONSENT_MISSING
            ):
                self._fault(query, organisation, "refused input without cause", "contract")

    def _finish_chunk(self, query: Bytes32, index: u64, result: Bytes32) -> None:
        self.results[(query, index)] = result
        emit(ChunkStep(query, index, "final", ctx.sender_org, result))
        ask = self.asks[query]
        if index < ask.chunk_count:
            finished = self._count(query, "chunk") + 1
            self.post_counts_of[(query, "chunk")] = finished
            if finished == ask.chunk_count:
                self._begin_phase(query)
            return
        self._name_refusers(query)
        asked = self.queries[query]
        numbers = ask.epoch.to_bytes(8, "big") + ask.kind.to_bytes(8, "big")
        keys = ask.plan_hash + ask.reply_key + ask.target_key + self._inputs_hash(query)
        emit(QueryFinalised(query, result, sha256(keys + numbers + asked.bank.encode())))
        if ask.check_count > 0:
            self.query_status[query] = QUERY_CHECKING
        else:
            self._approve(query)
