"""Checks of an owner's columns: sums that must open to zero, opened to the council alone."""

from __future__ import annotations

from chainnode.contract import (
    Bytes32,
    Map,
    call,
    emit,
    view,
)

from .queries import Queries
from .records import (
    KIND_CHECK,
    QUERY_CLOSED,
    QUERY_REFUSED,
    QUERY_RELEASED,
    AlreadyDone,
    Ask,
    ColumnsAudited,
    Invalid,
)


class ColumnChecks(Queries):
    """A check lives like a query, up to the council's verdict, which ends it."""

    checked_owners: Map[Bytes32, str]
    latest_checks: Map[tuple[str, str, str, Bytes32], Bytes32]

    @call
    def submit_check(self, query: Bytes32, ask: Ask, owner: str, statement: str) -> None:
        """Have the council see whether columns are what they claim; one verdict a publication.

        Costs no budget: nothing is released. The statement names owner, profile and root."""
        self._require_owner_role()
        if owner not in self._table(ask.table).owners:
            raise Invalid("owner")
        if ask.kind != KIND_CHECK or ask.check_count != ask.output_count:
            raise Invalid("kind")
        self._begin(query, ask, statement)
        root = self._root(query, owner, ask.profile)
        key = (ask.table, owner, ask.profile, Bytes32(root))
        if key in self.check_verdicts:
            raise AlreadyDone("check")
        latest = self.latest_checks.get(key, query)
        if latest != query and self.query_status[latest] < QUERY_RELEASED:
            raise AlreadyDone("check")
        self.latest_checks[key] = query
        self.checked_owners[query] = owner

    @view
    def check_owner(self, query: Bytes32) -> str:
        """Whose columns a check is about."""
        if query not in self.checked_owners:
            raise Invalid("query")
        return self.checked_owners[query]

    @view
    def check_verdict(self, table: str, owner: str, profile: str, root: Bytes32) -> str:
        """What the council's check of a publication found: passed, failed, or empty for none."""
        key = (table, owner, profile, root)
        if key not in self.check_verdicts:
            return ""
        return "passed" if self.check_verdicts[key] else "failed"

    def _end_check(self, query: Bytes32, passed: bool) -> None:
        ask, owner = self.asks[query], self.checked_owners[query]
        root = Bytes32(self._root(query, owner, ask.profile))
        self.check_verdicts[(ask.table, owner, ask.profile, root)] = passed
        outcome = "passed" if passed else "failed"
        detail = "sums that must be zero, opened by the council"
        emit(ColumnsAudited(ask.table, owner, ask.profile, root, "council", outcome, detail))
        if passed:
            self._end(query, QUERY_CLOSED, "columns passed their check")
        else:
            self._fault(query, owner, "columns failed their check", "the council")
            self._end(query, QUERY_REFUSED, "columns failed their check")
