"""Encrypted queries for credit scoring: catalog, consent, key council, query lifecycle.

The chain never sees a value: it holds hashes of blobs and decides who may ask what, which key is
the joint key and which result is the result, and so what the keyholders may open. One storage item
per thing, so that a transaction writes only what it changes. The rules in words: README.md.
"""

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

from .checks import ColumnChecks
from .records import (
    KIND_CHECK,
    KIND_SCORES,
    QUERY_CHECKING,
    QUERY_CLOSED,
    QUERY_EXPIRED,
    QUERY_REFUSED,
    QUERY_RELEASED,
    QUERY_RELEASING,
    Invalid,
    NotAllowed,
    QueryStep,
    ShareCommitted,
    ShareStated,
    WrongState,
    bit_of,
)


class CreditScoring(ColumnChecks, version="1.0", name="credit_scoring"):
    """Counts, shares, who is at fault, and the release to the bank."""

    digests: Map[tuple[Bytes32, str], list[bytes]]
    digest_results: Map[tuple[str, bytes], Bytes32]

    @call
    def post_counts(self, query: Bytes32, boxes: bytes) -> None:
        """This member's count shares: a container of one sealed box per member."""
        self._require_holder(query, QUERY_CHECKING)
        self._query_step(query, "counts", boxes, "")

    @call
    def group_check(self, query: Bytes32, passed: bool) -> None:
        """Whether every group this member saw the count of is large enough, or a check's sums zero.

        A member that saw no such thing gives no share, so the threshold decides either way."""
        self._require_holder(query, QUERY_CHECKING)
        epoch = self.epochs[self.asks[query].epoch]
        if self._count(query, "counts") < epoch.threshold:
            raise WrongState("count shares", self._count(query, "counts"))
        vote = "yes" if passed else "no"
        votes = self._query_step(query, "group check", vote.encode(), vote)
        yes = self._count(query, "passed")
        if passed:
            yes += 1
            self.post_counts_of[(query, "passed")] = yes
        if yes < epoch.threshold and votes - yes <= len(epoch.organisations) - epoch.threshold:
            return
        if self.asks[query].kind == KIND_CHECK:
            self._end_check(query, yes >= epoch.threshold)
        elif yes >= epoch.threshold:
            self._approve(query)
        else:
            self._end(query, QUERY_REFUSED, "group too small")

    @call
    def share_commit(self, query: Bytes32, commitment: Bytes32) -> None:
        """Bind the hashes of a vector's shares before anyone shows any; see `_opens`.

        Scalars need none: their shares are sealed to the bank, which hashes what it opens, so that
        a hash is worth nothing without the share."""
        self._require_holder(query, QUERY_RELEASING)
        if self.asks[query].kind != KIND_SCORES:
            raise Invalid("kind")
        if self._count(query, "share") > 0:
            raise WrongState("shares", self._count(query, "share"))
        self._query_step(query, "share commit", commitment, "")
        emit(ShareCommitted(query, ctx.sender_org, commitment))

    @call
    def share_post(
        self, query: Bytes32, epoch: u64, result: Bytes32, digests: list[bytes], share: bytes
    ) -> None:
        """A share of a result under an epoch's key, with the hash of its part of each piece held.

        Holders of a piece compute the same bytes, so hashes that differ show a wrong share. One
        that is not for this query or epoch is recorded as a fault, not refused: it is evidence. A
        vector's are shown when all have committed or refused, or, after half the share deadline,
        enough have; who has not committed by then still counts, and is named."""
        self._require_holder(query, QUERY_RELEASING)
        fault = ""
        scores = self.asks[query].kind == KIND_SCORES
        if scores:
            self._require_commitments(query)
        emit(ShareStated(query, ctx.sender_org, epoch, result, digests))
        if scores:
            if (query, "share commit", ctx.sender_org) not in self.posts:
                self._fault(query, ctx.sender_org, "share not committed in time", "contract")
            elif not self._opens(query, result, digests):
                fault = "share is not the one committed"
        if fault == "":
            fault = self._share_fault(query, epoch, result, digests)
        self._query_step(query, "share", share, "")
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
    def digests_of(self, query: Bytes32) -> list[list[bytes]]:
        """Hashes of posted shares by member, one per piece of the key; empty where missing."""
        self._require_known(query)
        found: list[list[bytes]] = []
        empty: list[bytes] = []
        for organisation in self._members(self.asks[query].epoch):
            found.append(self.digests.get((query, organisation), empty))
        return found

    def _require_holder(self, query: Bytes32, status: u64) -> None:
        self._require_query(query, status)
        self._require_keyholder(self.asks[query].epoch)

    def _require_commitments(self, query: Bytes32) -> None:
        """Nobody waits for a silent member, and nobody shows a hash others can still repeat."""
        epoch = self.asks[query].epoch
        waiting = 0
        for organisation in self._members(epoch):
            committed = (query, "share commit", organisation) in self.posts
            if not committed and (query, "refusal", organisation) not in self.posts:
                waiting += 1
        if waiting == 0:
            return
        commits = self._count(query, "share commit")
        if commits < self.epochs[epoch].threshold:
            raise WrongState("share commitments", commits)
        half = self.council.get().share_deadline_ms // 2
        self._require_time(self.queries[query].phase_ms + half)

    def _opens(self, query: Bytes32, result: Bytes32, digests: list[bytes]) -> bool:
        """Whether the sender committed to these hashes.

        Shares are flooded from a key that only holders of their piece have: no salt is needed."""
        bound = b"chainnode/share-commit/v1" + query + result
        for digest in digests:
            bound += digest
        opened = sha256(bound + ctx.sender_org.encode())
        return opened == self.posts[(query, "share commit", ctx.sender_org)]

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
        for digest in digests:
            # The same question asked again has the same result, and shares of the same bytes.
            stated = self.digest_results.get((ctx.sender_org, digest), result)
            if len(digest) > 0 and stated != result:
                return "share for another query"
        # Only of a share that counts, so that whoever reads the receipts can draw the same line.
        for digest in digests:
            if len(digest) > 0:
                self.digest_results[(ctx.sender_org, digest)] = result
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
