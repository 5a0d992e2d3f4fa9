"""Results and faults that several must state before they count, and what they are about."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from scoring_chain import (
    CHECKING,
    COMPUTING,
    ORGANISATIONS,
    QUERY,
    REFUSED,
    SEVEN,
    activate,
    asked,
    chunk_commit,
    chunk_reveal,
    client,
    compute,
    consent,
    digest,
    events,
    inputs_hash,
    keyholder,
    named,
    publish,
    ready,
    reason,
    rotate,
    status,
    submit,
    worker,
)
from scoring_chain import backend as backend

from chainnode.contract.testing import Deployed, Reverted


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


def input_fault(**changes: Any) -> dict[str, Any]:
    return {
        "code": "COLUMN_MALFORMED",
        "owner": "statistics",
        "profile": "S36",
        "root": digest("root"),
        "column": "turnover",
        "block": 3,
    } | changes


def refuse_input(chain: Deployed, sender: Any, **changes: Any) -> None:
    chain.call("refuse_input", sender=sender, query=QUERY, fault=input_fault(**changes))


def test_two_organisations_that_name_the_same_column_fault_end_the_query() -> None:
    chain = asked()
    refuse_input(chain, worker("bank-a"))
    assert (status(chain), chain.view("input_refusals", query=QUERY)) == (COMPUTING, 1)
    with pytest.raises(Reverted, match="Invalid"):
        chain.view("refused_input", query=QUERY)
    refuse_input(chain, keyholder("registry"))
    assert (status(chain), reason(chain)) == (REFUSED, "input refused")
    found = chain.view("refused_input", query=QUERY)
    assert {name: getattr(found, name) for name in input_fault()} == input_fault()
    assert named(chain) == [("statistics", "COLUMN_MALFORMED")]
    with pytest.raises(Reverted, match="WrongState"):
        refuse_input(chain, worker("guarantor"))


def test_the_word_of_one_organisation_ends_nothing_however_often_it_is_given() -> None:
    chain = asked()
    refuse_input(chain, worker("bank-a"))
    for sender in (worker("bank-a"), keyholder("bank-a")):
        with pytest.raises(Reverted, match="AlreadyDone"):
            refuse_input(chain, sender)
    for block in range(4, 9):
        refuse_input(chain, keyholder("bank-a"), block=block)
    assert (status(chain), chain.view("input_refusals", query=QUERY)) == (COMPUTING, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "COLUMN_MISSING"},
        {"owner": "registry", "root": bytes(32)},
        {"column": "other"},
        {"block": 4},
        {"profile": "M", "root": bytes(32)},
    ],
)
def test_organisations_that_name_different_faults_end_nothing(changes: dict[str, Any]) -> None:
    chain = asked()
    refuse_input(chain, worker("bank-a"))
    refuse_input(chain, worker("guarantor"), **changes)
    assert (status(chain), chain.view("input_refusals", query=QUERY)) == (COMPUTING, 2)
    # A member that looks again may come to agree.
    refuse_input(chain, worker("guarantor"))
    assert status(chain) == REFUSED


@pytest.mark.parametrize(
    ("sender", "changes", "error"),
    [
        (worker("registry"), {"root": digest("other")}, "root"),
        (worker("registry"), {"profile": "S"}, "root"),
        (worker("registry"), {"owner": "bank-a"}, "fault"),
        (worker("registry"), {"code": ""}, "fault"),
        (client("registry"), {}, "NotAllowed"),
        (worker("stranger"), {}, "NotAllowed"),
    ],
)
def test_a_fault_without_evidence_or_by_a_stranger_is_not_taken(
    sender: Any, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(Reverted, match=error):
        refuse_input(asked(), sender, **changes)


def test_a_result_of_the_refused_columns_names_the_liar_though_they_were_replaced() -> None:
    chain = asked()
    refuse_input(chain, worker("statistics"))
    publish(chain, "statistics", 1, "new")
    compute(chain)
    assert status(chain) == CHECKING
    assert named(chain) == [("statistics", "refused input without cause")]


SELECTORS = {"code": "SELECTORS_MALFORMED", "owner": "bank-a", "root": digest("plan"), "block": 1}


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"owner": "registry"}, "fault"), ({"root": digest("root")}, "root")],
)
def test_selectors_are_the_asking_banks_and_those_that_its_plan_binds(
    changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(Reverted, match=error):
        refuse_input(asked(), worker("guarantor"), **(SELECTORS | changes))


POINTS = {
    "code": "PRIVATE_POINTS_MALFORMED",
    "owner": "statistics",
    "profile": "M",
    "root": hashlib.sha256(b"hidden points").digest(),
    "column": "hidden",
    "block": 2,
}


def asked_for_points() -> Deployed:
    """A query of bank-a on a table with a model that statistics registered."""
    chain = asked()
    for name in ("statistics", "registry"):
        approve(chain, name, b"hidden points")
    return chain


def approve(chain: Deployed, owner: str, model: bytes, name: str = "hidden") -> None:
    chain.call("approve_model", sender=client(owner), table="sme", name=name, model=model)


@pytest.mark.parametrize(
    ("asks", "fault", "missing", "third"),
    [
        (asked, SELECTORS, "SELECTORS_MISSING", "statistics"),
        (asked_for_points, POINTS, "PRIVATE_POINTS_MISSING", "bank-a"),
    ],
    ids=["selectors", "points"],
)
def test_ciphertexts_that_two_find_malformed_end_the_query_and_name_whose_they_are(
    asks: Callable[[], Deployed], fault: dict[str, Any], missing: str, third: str
) -> None:
    chain = asks()
    refuse_input(chain, worker("guarantor"), **fault)
    # Another ciphertext, or another fault of it, is another fault.
    refuse_input(chain, worker("registry"), **(fault | {"block": 0}))
    refuse_input(chain, worker(third), **(fault | {"code": missing}))
    assert status(chain) == COMPUTING
    refuse_input(chain, keyholder("registry"), **fault)
    assert (status(chain), reason(chain)) == (REFUSED, "input refused")
    assert named(chain) == [(fault["owner"], fault["code"])]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"owner": "bank-a"}, "fault"),
        ({"owner": "registry"}, "fault"),
        ({"owner": ""}, "fault"),
        ({"root": digest("plan")}, "root"),
        ({"root": digest("plan"), "owner": ""}, "root"),
    ],
)
def test_points_are_those_of_a_model_of_the_table_and_its_registrars(
    changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(Reverted, match=error):
        refuse_input(asked_for_points(), worker("guarantor"), **(POINTS | changes))


def test_who_registers_a_model_first_answers_for_it_under_every_name() -> None:
    chain = asked_for_points()
    approve(chain, "registry", b"hidden points", "copied")
    approve(chain, "registry", b"other points", "other")
    found = {
        data: chain.view("registrar_of", table="sme", model=hashlib.sha256(data).digest())
        for data in (b"hidden points", b"other points")
    }
    assert found == {b"hidden points": "statistics", b"other points": "registry"}
    with pytest.raises(Reverted, match="model"):
        chain.view("registrar_of", table="sme", model=digest("plan"))


@pytest.mark.parametrize(
    ("asks", "fault", "liar"),
    [(asked, SELECTORS, "statistics"), (asked_for_points, POINTS, "registry")],
    ids=["selectors", "points"],
)
def test_a_result_of_what_was_refused_names_the_liar(
    asks: Callable[[], Deployed], fault: dict[str, Any], liar: str
) -> None:
    chain = asks()
    refuse_input(chain, worker(liar), **fault)
    compute(chain)
    assert named(chain) == [(liar, "refused input without cause")]


@pytest.mark.parametrize(
    "gone",
    [
        {"code": "COLUMNS_REPLACED"},
        SELECTORS | {"code": "SELECTORS_MISSING"},
        POINTS | {"code": "PRIVATE_POINTS_MISSING"},
    ],
)
def test_nobody_is_named_for_what_is_gone_at_its_node_only(gone: dict[str, Any]) -> None:
    chain = asked_for_points()
    refuse_input(chain, worker("statistics"), **gone)
    compute(chain)
    assert status(chain) == CHECKING
    assert named(chain) == []


def test_a_query_reads_the_columns_and_consents_of_its_submission() -> None:
    chain = ready()
    owners = ("registry", "statistics")
    for name in owners:
        publish(chain, name, 1)
        consent(chain, name, "first")
    submit(chain, kind=1)
    for name in owners:
        publish(chain, name, 1, "second")
        consent(chain, name, "second")
    _, inputs = chain.view("query_inputs", query=QUERY)
    assert [(part.root, part.consent) for part in inputs] == [(digest("root"), digest("first"))] * 2
    with pytest.raises(Reverted, match="root"):
        refuse_input(chain, worker("registry"), root=digest("second"))
    compute(chain)
    (finalised,) = events(chain, "QueryFinalised")
    bound = inputs_hash(*((name, digest("first")) for name in owners), root=digest("root"))
    keys = digest("plan") + digest("reply") + digest("target") + bound
    numbers = (1).to_bytes(8, "big") + (1).to_bytes(8, "big")
    assert finalised["terms"] == hashlib.sha256(keys + numbers + b"bank-a").digest()


def test_an_aggregate_pins_no_consent_and_no_profile_that_the_epoch_lacks() -> None:
    chain = asked()
    consent(chain, "statistics", "all")
    submit(chain, query=b"\x08" * 32)
    _, inputs = chain.view("query_inputs", query=b"\x08" * 32)
    assert [part.consent for part in inputs] == [bytes(32)] * 2
    with pytest.raises(Reverted, match="profile"):
        submit(ready(), profile="M")


def test_as_many_must_agree_as_may_lie_and_one_more() -> None:
    chain = ready()
    rotate(chain, SEVEN, ORGANISATIONS[:3])
    activate(chain, SEVEN, opened=2)
    publish(chain, "statistics", 2)
    submit(chain, epoch=2)
    for name in ("bank-a", "six"):
        refuse_input(chain, worker(name))
        assert status(chain) == COMPUTING
    refuse_input(chain, worker("seven"))
    assert status(chain) == REFUSED
