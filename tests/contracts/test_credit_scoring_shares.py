"""Hashes of a vector's shares are committed to before anyone can see one to repeat."""

import hashlib

import pytest
from scoring_chain import (
    ORGANISATIONS,
    QUERY,
    RELEASED,
    RELEASING,
    check_groups,
    compute,
    digest,
    digests,
    events,
    keyholder,
    named,
    ready,
    share_commit,
    share_post,
    status,
    submit,
    worker,
)
from scoring_chain import backend as backend

from chainnode.contract.testing import Deployed, Reverted
from chainnode.contract.testing.harness import BLOCK_INTERVAL_MS

LAZY = "guarantor"
HALF_MS = 4_000
OTHERS = [name for name in ORGANISATIONS if name != LAZY]


def scoring() -> Deployed:
    chain = ready()
    submit(chain, kind=1)
    compute(chain)
    return chain


def test_no_hash_is_shown_before_every_member_has_committed_or_refused() -> None:
    chain = scoring()
    begun_ms = chain.time_ms
    for name, missing in zip(
        OTHERS, ("share commitments", "share commitments", "time"), strict=True
    ):
        share_commit(chain, name)
        chain.time_ms = begun_ms
        with pytest.raises(Reverted, match=missing):
            share_post(chain, name)
    chain.call("refuse", sender=keyholder(LAZY), query=QUERY, reason="not reproduced")
    for name in OTHERS:
        share_post(chain, name)
    assert (status(chain), named(chain)) == (RELEASED, [])


def test_who_committed_and_then_refuses_is_not_waited_for() -> None:
    chain = scoring()
    share_commit(chain, LAZY)
    chain.call("refuse", sender=keyholder(LAZY), query=QUERY, reason="not reproduced")
    for name in OTHERS:
        share_commit(chain, name)
    share_post(chain, "registry")


def test_another_members_commitment_cannot_be_opened_as_ones_own() -> None:
    chain = scoring()
    for name in OTHERS:
        share_commit(chain, name)
    # The very bytes that guarantor's co-holder of piece 0 put on chain.
    share_commit(chain, LAZY, as_name="bank-a", stated=digests("bank-a"))
    share_post(chain, "bank-a")
    share_post(chain, LAZY)
    assert named(chain) == [(LAZY, "share is not the one committed")]
    for name in ("registry", "statistics"):
        share_post(chain, name)
    assert status(chain) == RELEASED
    assert chain.view("digests_of", query=QUERY)[1] == []


@pytest.mark.parametrize("changed", ["digests", "result"])
def test_what_is_shown_must_be_what_was_committed(changed: str) -> None:
    chain = scoring()
    for name in ORGANISATIONS:
        share_commit(chain, name)
    wrong = {"digests": digests(LAZY, "wrong ", (0,)), "result": bytes(32)}
    share_post(chain, LAZY, **{changed: wrong[changed]})
    assert named(chain) == [(LAZY, "share is not the one committed")]


def test_a_silent_member_blocks_nobody_and_may_come_late_but_is_named() -> None:
    chain = scoring()
    for name in OTHERS[:2]:
        share_commit(chain, name)
    chain.time_ms += HALF_MS
    # Two of the three that are needed: a third may still commit, at any time.
    with pytest.raises(Reverted, match="share commitments"):
        share_post(chain, OTHERS[0])
    share_commit(chain, OTHERS[2])
    share_post(chain, OTHERS[0])
    with pytest.raises(Reverted, match="WrongState"):
        share_commit(chain, LAZY)
    # Its hashes could be copied by now: they count as a share, not as an honest second copy.
    share_post(chain, LAZY)
    assert named(chain) == [(LAZY, "share not committed in time")]
    for name in OTHERS[1:]:
        share_post(chain, name)
    assert status(chain) == RELEASED


def test_before_half_the_deadline_enough_commitments_are_not_all() -> None:
    chain = scoring()
    half_way_ms = chain.time_ms + HALF_MS
    for name in OTHERS:
        share_commit(chain, name)
    # A call is a block of its own, so much later.
    chain.time_ms = half_way_ms - BLOCK_INTERVAL_MS - 1
    with pytest.raises(Reverted, match="time, allowed from"):
        share_post(chain, OTHERS[0])
    chain.time_ms = half_way_ms - BLOCK_INTERVAL_MS
    share_post(chain, OTHERS[0])
    for name in OTHERS[1:]:
        share_post(chain, name)
    assert status(chain) == RELEASING
    chain.time_ms += HALF_MS
    chain.call("settle", sender=keyholder("registry"), query=QUERY)
    assert (status(chain), named(chain)) == (RELEASED, [(LAZY, "no share")])


def test_only_keyholders_commit_once_and_to_vectors_alone() -> None:
    chain = scoring()
    share_commit(chain, LAZY)
    with pytest.raises(Reverted, match="AlreadyDone"):
        share_commit(chain, LAZY)
    with pytest.raises(Reverted, match="NotAllowed"):
        chain.call("share_commit", sender=worker("registry"), query=QUERY, commitment=bytes(32))
    sums = ready()
    submit(sums)
    compute(sums)
    check_groups(sums)
    with pytest.raises(Reverted, match="kind"):
        share_commit(sums, LAZY)


def test_receipts_hold_what_members_committed_to_and_what_they_stated() -> None:
    chain = scoring()
    for name in ORGANISATIONS:
        share_commit(chain, name)
    share_post(chain, LAZY, epoch=7, digests=[b"short", b""])
    committed = events(chain, "ShareCommitted")
    assert [item["organisation"] for item in committed] == ORGANISATIONS
    bound = b"chainnode/share-commit/v1" + QUERY + digest("result 1")
    bound += b"".join(digests("registry")) + b"registry"
    assert committed[2]["commitment"] == hashlib.sha256(bound).digest()
    # What does not count is on record too: it is evidence.
    (stated,) = events(chain, "ShareStated")
    assert stated == {
        "query": QUERY,
        "organisation": LAZY,
        "epoch": 7,
        "result": digest("result 1"),
        "digests": [b"short", b""],
    }


@pytest.mark.parametrize("counted", [True, False])
def test_only_a_share_that_counted_is_held_against_a_later_one(counted: bool) -> None:
    chain, again = ready(), b"\x08" * 32
    for query, result in ((QUERY, "result"), (again, "other")):
        submit(chain, query=query)
        compute(chain, query=query, result=result)
        check_groups(chain, query)
    spoilt = digests(LAZY) if counted else [*digests(LAZY)[:-1], b"not empty"]
    share_post(chain, LAZY, digests=spoilt)
    share_post(chain, LAZY, query=again, result=digest("other 1"))
    expected = "share for another query" if counted else "malformed share"
    assert named(chain) == [(LAZY, expected)]
