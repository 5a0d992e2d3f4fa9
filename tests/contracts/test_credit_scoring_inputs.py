"""What a query reads, and how it ends when several find that this cannot be computed on."""

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
    RELEASING,
    SEVEN,
    activate,
    asked,
    client,
    compute,
    consent,
    digest,
    events,
    inputs_hash,
    keyholder,
    model_record,
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
    "root": hashlib.sha256(model_record("hidden")).digest(),
    "column": "hidden",
    "block": 2,
}


def asked_for_points() -> Deployed:
    """A query of bank-a on a table with a model that statistics registered."""
    chain = asked()
    for name in ("statistics", "registry"):
        approve(chain, name, model_record("hidden"))
    return chain


def approve(chain: Deployed, owner: str, model: bytes, name: str = "hidden") -> None:
    chain.call("approve_model", sender=client(owner), table="sme", name=name, model=model)


CONSENT = {
    "code": "CONSENT_MALFORMED",
    "owner": "statistics",
    "root": digest("all"),
    "column": "",
    "block": 0,
}


def asked_for_scores() -> Deployed:
    """A score query, with the consent of statistics and none of registry."""
    chain = ready()
    publish(chain, "statistics", 1)
    consent(chain, "statistics", "all")
    submit(chain, kind=1)
    return chain


@pytest.mark.parametrize(
    ("asks", "changes", "error"),
    [
        (asked_for_scores, {"owner": "bank-a"}, "fault"),
        (asked_for_scores, {"owner": "registry"}, "root"),
        (asked_for_scores, {"owner": "registry", "root": bytes(32)}, "root"),
        (asked_for_scores, {"root": digest("root")}, "root"),
        (asked_for_scores, {"root": digest("later")}, "root"),
        (asked, {}, "root"),
    ],
)
@pytest.mark.parametrize("code", ["CONSENT_MALFORMED", "CONSENT_MISSING"])
def test_a_consent_is_its_owners_and_the_one_that_the_query_reads(
    asks: Callable[[], Deployed], changes: dict[str, Any], error: str, code: str
) -> None:
    chain = asks()
    consent(chain, "statistics", "later")
    with pytest.raises(Reverted, match=error):
        refuse_input(chain, worker("guarantor"), **(CONSENT | changes | {"code": code}))


@pytest.mark.parametrize(
    ("asks", "fault", "missing", "third"),
    [
        (asked, SELECTORS, "SELECTORS_MISSING", "statistics"),
        (asked_for_points, POINTS, "PRIVATE_POINTS_MISSING", "bank-a"),
        (asked_for_scores, CONSENT, "CONSENT_MISSING", "bank-a"),
    ],
    ids=["selectors", "points", "consent"],
)
def test_what_two_find_malformed_ends_the_query_and_names_whose_it_is(
    asks: Callable[[], Deployed], fault: dict[str, Any], missing: str, third: str
) -> None:
    chain = asks()
    refuse_input(chain, worker("guarantor"), **fault)
    # Another ciphertext, or another fault of it, is another fault.
    refuse_input(chain, worker("registry"), **(fault | {"block": 7}))
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


def test_who_registers_a_model_first_answers_for_it() -> None:
    chain = asked_for_points()
    hidden, other = model_record("hidden"), model_record("other")
    approve(chain, "registry", hidden)
    approve(chain, "registry", other, "other")
    with pytest.raises(Reverted, match="ModelMisnamed"):
        approve(chain, "registry", hidden, "copied")
    found = {
        data: chain.view("registrar_of", table="sme", model=hashlib.sha256(data).digest())
        for data in (hidden, other)
    }
    assert found == {hidden: "statistics", other: "registry"}
    with pytest.raises(Reverted, match="model"):
        chain.view("registrar_of", table="sme", model=digest("plan"))


@pytest.mark.parametrize(
    ("asks", "fault", "liar"),
    [
        (asked, SELECTORS, "statistics"),
        (asked_for_points, POINTS, "registry"),
        (asked_for_scores, CONSENT, "statistics"),
    ],
    ids=["selectors", "points", "consent"],
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


def test_nobody_is_named_for_a_consent_that_is_gone_at_its_node_only() -> None:
    chain = asked_for_scores()
    refuse_input(chain, worker("registry"), **(CONSENT | {"code": "CONSENT_MISSING"}))
    compute(chain)
    assert status(chain) == RELEASING
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
