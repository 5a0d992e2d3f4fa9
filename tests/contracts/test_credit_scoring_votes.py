"""Results that several workers must state before they count."""

import pytest
from scoring_chain import (
    ORGANISATIONS,
    QUERY,
    REFUSED,
    SEVEN,
    activate,
    chunk_commit,
    chunk_reveal,
    digest,
    named,
    ready,
    reason,
    rotate,
    status,
    submit,
    worker,
)
from scoring_chain import backend as backend

from chainnode.contract.testing import Deployed, Reverted
from chainnode.sdk.scoring import chunk_workers


def test_different_results_call_the_reserve_which_decides() -> None:
    chain = ready()
    submit(chain)
    chunk_commit(chain, 0, "bank-a", digest("right"))
    chunk_commit(chain, 0, "guarantor", digest("wrong"))
    chunk_reveal(chain, 0, "bank-a", digest("right"))
    chunk_reveal(chain, 0, "guarantor", digest("wrong"))
    chunk_commit(chain, 0, "registry", digest("right"))
    chunk_reveal(chain, 0, "registry", digest("right"))
    assert chain.view("chunk_info", query=QUERY, index=0)[1] == digest("right")
    assert named(chain) == [("guarantor", "worker gave a wrong result")]


def test_three_different_results_end_the_query() -> None:
    chain = ready()
    submit(chain)
    for name in ORGANISATIONS[:2]:
        chunk_commit(chain, 0, name, digest(name))
    for name in ORGANISATIONS[:2]:
        chunk_reveal(chain, 0, name, digest(name))
    chunk_commit(chain, 0, "registry", digest("third"))
    chunk_reveal(chain, 0, "registry", digest("third"))
    assert (status(chain), reason(chain)) == (REFUSED, "too few workers agree on a chunk")


def test_a_silent_worker_is_replaced_after_the_deadline_only() -> None:
    chain = ready()
    submit(chain)
    with pytest.raises(Reverted, match="time, allowed from"):
        chain.call("reassign", sender=worker("registry"), query=QUERY, index=0)
    chain.time_ms += 20_000
    chain.call("reassign", sender=worker("registry"), query=QUERY, index=0)
    for name in ("bank-a", "registry"):
        chunk_commit(chain, 0, name, digest("r"))
    for name in ("bank-a", "registry"):
        chunk_reveal(chain, 0, name, digest("r"))
    assert chain.view("chunk_info", query=QUERY, index=0)[1] == digest("r")
    assert named(chain) == [("guarantor", "worker gave no result in time")]


def test_the_reduction_has_its_own_time() -> None:
    chain = ready()
    submit(chain)
    chain.time_ms += 30_000
    with pytest.raises(Reverted, match="chunks finished"):
        chain.call("reassign", sender=worker("statistics"), query=QUERY, index=1)
    for name in ("bank-a", "guarantor"):
        chunk_commit(chain, 0, name, digest("r"))
    for name in ("bank-a", "guarantor"):
        chunk_reveal(chain, 0, name, digest("r"))
    chain.time_ms += 15_000
    with pytest.raises(Reverted, match="time, allowed from"):
        chain.call("reassign", sender=worker("statistics"), query=QUERY, index=1)
    chain.time_ms += 5_000
    chain.call("reassign", sender=worker("statistics"), query=QUERY, index=1)


def seven_asked() -> Deployed:
    """A query of a council of seven, of which two may lie: three results must agree."""
    chain = ready()
    rotate(chain, SEVEN, ORGANISATIONS[:3])
    activate(chain, SEVEN, opened=2)
    submit(chain, epoch=2)
    return chain


def state_result(chain: Deployed, names: list[str], text: str) -> None:
    for name in names:
        chunk_commit(chain, 0, name, digest(text))
    for name in names:
        chunk_reveal(chain, 0, name, digest(text))


def test_two_of_seven_workers_that_collude_are_outvoted_and_named() -> None:
    chain = seven_asked()
    for name in SEVEN[:3]:
        with pytest.raises(Reverted, match="chunk commitments"):
            chunk_reveal(chain, 0, name, digest("r"))
        chunk_commit(chain, 0, name, digest("right" if name == "bank-a" else "wrong"))
    with pytest.raises(Reverted, match="assigned worker"):
        chunk_commit(chain, 0, SEVEN[3], digest("right"))
    for name in SEVEN[1:3]:
        chunk_reveal(chain, 0, name, digest("wrong"))
    assert chain.view("chunk_info", query=QUERY, index=0)[1] == b""
    chunk_reveal(chain, 0, "bank-a", digest("right"))
    with pytest.raises(Reverted, match="assigned worker"):
        chunk_commit(chain, 0, SEVEN[5], digest("right"))
    state_result(chain, SEVEN[3:5], "right")
    assert chain.view("chunk_info", query=QUERY, index=0)[1] == digest("right")
    assert named(chain) == [(name, "worker gave a wrong result") for name in SEVEN[1:3]]


def test_two_of_seven_workers_that_crash_are_replaced_and_named() -> None:
    chain = seven_asked()
    chunk_commit(chain, 0, "bank-a", digest("right"))
    chain.time_ms += 20_000
    chain.call("reassign", sender=worker(SEVEN[4]), query=QUERY, index=0)
    for name in SEVEN[3:5]:
        chunk_commit(chain, 0, name, digest("right"))
    for name in ["bank-a", *SEVEN[3:5]]:
        chunk_reveal(chain, 0, name, digest("right"))
    assert chain.view("chunk_info", query=QUERY, index=0)[1] == digest("right")
    late = "worker gave no result in time"
    assert named(chain) == [(name, late) for name in SEVEN[1:3]]


def test_who_committed_in_time_and_could_not_show_its_result_is_not_named() -> None:
    """Two of three assigned crash; the reserve decides before the third shows its result."""
    chain = seven_asked()
    chunk_commit(chain, 0, "bank-a", digest("right"))
    chain.time_ms += 20_000
    chain.call("reassign", sender=worker(SEVEN[4]), query=QUERY, index=0)
    for name in (SEVEN[2], *SEVEN[3:5]):
        chunk_commit(chain, 0, name, digest("right"))
    for name in (SEVEN[2], *SEVEN[3:5]):
        chunk_reveal(chain, 0, name, digest("right"))
    assert chain.view("chunk_info", query=QUERY, index=0)[1] == digest("right")
    assert named(chain) == [(SEVEN[1], "worker gave no result in time")]


def test_who_committed_and_withheld_its_result_until_the_deadline_is_named() -> None:
    chain = seven_asked()
    for name in SEVEN[:3]:
        chunk_commit(chain, 0, name, digest("right"))
    for name in SEVEN[1:3]:
        chunk_reveal(chain, 0, name, digest("right"))
    chain.time_ms += 20_000
    chain.call("reassign", sender=worker(SEVEN[4]), query=QUERY, index=0)
    chunk_commit(chain, 0, SEVEN[3], digest("right"))
    chunk_reveal(chain, 0, SEVEN[3], digest("right"))
    assert named(chain) == [("bank-a", "worker gave no result in time")]


def test_a_worker_that_still_has_time_is_not_named_when_the_reserve_decides() -> None:
    """Of three assigned one lies; the reserve agrees with the second before the third reveals."""
    chain = seven_asked()
    for name in SEVEN[:3]:
        chunk_commit(chain, 0, name, digest("wrong" if name == "guarantor" else "right"))
    for name in SEVEN[:2]:
        text = "wrong" if name == "guarantor" else "right"
        chunk_reveal(chain, 0, name, digest(text))
    state_result(chain, SEVEN[3:5], "right")
    assert chain.view("chunk_info", query=QUERY, index=0)[1] == digest("right")
    assert named(chain) == [("guarantor", "worker gave a wrong result")]


def test_five_of_seven_workers_without_three_that_agree_end_the_query() -> None:
    chain = seven_asked()
    for name in SEVEN[:3]:
        chunk_commit(chain, 0, name, digest(name))
    for name in SEVEN[:3]:
        chunk_reveal(chain, 0, name, digest(name))
    state_result(chain, SEVEN[3:5], "late pair")
    assert (status(chain), reason(chain)) == (REFUSED, "too few workers agree on a chunk")


@pytest.mark.parametrize("last", [0, 1, 6, 7, 255])
@pytest.mark.parametrize("index", [0, 1])
def test_a_chunks_workers_begin_at_the_member_that_the_querys_id_says(
    last: int, index: int
) -> None:
    chain = ready()
    rotate(chain, SEVEN, ORGANISATIONS[:3])
    activate(chain, SEVEN, opened=2)
    query = b"\x05" * 31 + bytes([last])
    submit(chain, query=query, epoch=2, chunk_count=2)
    turn = chunk_workers(SEVEN, query, index)
    for name in turn[3:]:
        with pytest.raises(Reverted, match="assigned worker"):
            chunk_commit(chain, index, name, digest("r"), query)
    for name in turn[:2]:
        chunk_commit(chain, index, name, digest("r"), query)
    # One of the three is late and the reserve takes part: the next two, and nobody else.
    chain.time_ms += 20_000
    chain.call("reassign", sender=worker(turn[0]), query=query, index=index)
    for name in turn[5:]:
        with pytest.raises(Reverted, match="assigned worker"):
            chunk_commit(chain, index, name, digest("r"), query)
    for name in turn[3:5]:
        chunk_commit(chain, index, name, digest("r"), query)
    for name in (*turn[:2], turn[3]):
        chunk_reveal(chain, index, name, digest("r"), query)
    assert chain.view("chunk_info", query=query, index=index)[1] == digest("r")
    assert named(chain) == [(turn[2], "worker gave no result in time")]
