"""The credit scoring contract: what members say on chain about one another's columns."""

from typing import Any

import pytest
from scoring_chain import (
    CHECKING,
    CLOSED,
    ORGANISATIONS,
    QUERY,
    REFUSED,
    client,
    compute,
    digest,
    events,
    keyholder,
    named,
    publish,
    ready,
    reason,
    share_post,
    status,
    submit,
    worker,
)
from scoring_chain import backend as backend

from chainnode.contract.testing import Deployed, Reverted


def record_audit(chain: Deployed, sender: Any, passed: bool = True, **changes: Any) -> None:
    stated = {
        "table": "sme",
        "owner": "statistics",
        "profile": "S36",
        "epoch": 1,
        "root": digest("root"),
        "passed": passed,
        "detail": "8 blocks",
        **changes,
    }
    chain.call("record_audit", sender=sender, **stated)


def audits_of(chain: Deployed, root: str = "root") -> tuple[list[str], list[str]]:
    passed, failed = chain.view(
        "audits_of", table="sme", owner="statistics", profile="S36", root=digest(root)
    )
    return list(passed), list(failed)


def test_audits_are_recorded_by_others_for_the_root_they_looked_at() -> None:
    chain = ready()
    publish(chain, "statistics", 1)
    record_audit(chain, client("bank-a"))
    record_audit(chain, client("registry"), passed=False, detail="block 3 of overdue.1")
    assert audits_of(chain) == (["bank-a"], ["registry"])
    name, fields = chain.events[-1]
    assert name == "ColumnsAudited"
    assert (fields["owner"], fields["auditor"], fields["outcome"], fields["detail"]) == (
        "statistics",
        "registry",
        "failed",
        "block 3 of overdue.1",
    )
    # The last word counts, and a new publication begins with none.
    record_audit(chain, client("registry"))
    assert audits_of(chain) == (["bank-a", "registry"], [])
    publish(chain, "statistics", 1, "new")
    assert audits_of(chain, "new") == ([], [])
    with pytest.raises(Reverted, match="Invalid"):
        record_audit(chain, client("bank-a"))


def test_an_audit_by_the_owner_by_no_member_or_of_nothing_is_refused() -> None:
    chain = ready()
    publish(chain, "statistics", 1)
    for sender, changes, error in (
        (client("statistics"), {}, "NotAllowed"),
        (client("stranger"), {}, "NotAllowed"),
        (worker("bank-a"), {}, "NotAllowed"),
        (client("bank-a"), {"root": digest("other")}, "Invalid"),
        (client("bank-a"), {"epoch": 2}, "Invalid"),
        (client("bank-a"), {"profile": "S"}, "Invalid"),
        (client("statistics"), {"owner": "registry"}, "Invalid"),
    ):
        with pytest.raises(Reverted, match=error):
            record_audit(chain, sender, **changes)
    assert audits_of(chain) == ([], [])


def test_audits_are_required_while_any_owner_asks_for_them() -> None:
    chain = ready()

    def require(owner: str, required: bool) -> bool:
        chain.call("require_audits", sender=client(owner), table="sme", required=required)
        return bool(chain.view("audits_required", table="sme"))

    assert not chain.view("audits_required", table="sme")
    assert require("registry", True) and require("statistics", True)
    assert require("registry", False)
    assert not require("statistics", False)
    with pytest.raises(Reverted, match="NotAllowed"):
        require("bank-a", True)


def pinned(chain: Deployed, query: bytes) -> list[tuple[bool, bool]]:
    """Of each owner: whether it required audits, whether one stood, as the query reads it."""
    submit(chain, query=query)
    return pinned_before(chain, query)


def pinned_before(chain: Deployed, query: bytes) -> list[tuple[bool, bool]]:
    _, inputs = chain.view("query_inputs", query=query)
    return [(part.audit_required, part.audited) for part in inputs]


def test_a_query_reads_the_demands_and_the_audits_of_its_submission() -> None:
    chain = ready(budget=3)
    publish(chain, "statistics", 1)
    assert pinned(chain, b"\x01" * 32) == [(False, False), (False, False)]
    record_audit(chain, client("bank-a"))
    chain.call("require_audits", sender=client("registry"), table="sme", required=True)
    assert pinned_before(chain, b"\x01" * 32) == [(False, False), (False, False)]
    assert pinned(chain, b"\x02" * 32) == [(True, False), (False, True)]
    # As many that failed it as passed it: no audit stands.
    record_audit(chain, client("guarantor"), passed=False)
    assert pinned_before(chain, b"\x02" * 32) == [(True, False), (False, True)]
    assert pinned(chain, b"\x03" * 32) == [(True, False), (False, False)]


def test_a_proof_that_nobody_can_check_is_refused_by_name() -> None:
    chain = ready()
    with pytest.raises(Reverted, match="proof"):
        publish(chain, "statistics", 1, proof=b"proof")


# --- checks ---------------------------------------------------------------------------------------


def submit_check(chain: Deployed, sender: Any, query: bytes = QUERY, **changes: Any) -> None:
    ask = {
        "table": "sme",
        "epoch": 1,
        "profile": "S36",
        "purpose": "",
        "kind": 2,
        "plan_hash": digest("plan"),
        "chunk_count": 1,
        "output_count": 3,
        "check_count": 3,
        "reply_key": bytes(32),
        "target_key": bytes(32),
    } | changes
    owner = "statistics"
    chain.call("submit_check", sender=sender, query=query, ask=ask, owner=owner, statement="CHECK")


def verdict(chain: Deployed, root: str = "root") -> str:
    return str(
        chain.view(
            "check_verdict", table="sme", owner="statistics", profile="S36", root=digest(root)
        )
    )


def vote(chain: Deployed, passed: bool, count: int) -> None:
    for name in ORGANISATIONS:
        chain.call("post_counts", sender=keyholder(name), query=QUERY, boxes=b"box")
    for name in ORGANISATIONS[:count]:
        chain.call("group_check", sender=keyholder(name), query=QUERY, passed=passed)


@pytest.mark.parametrize(("passed", "votes"), [(True, 3), (False, 2)])
def test_the_council_gives_one_verdict_a_publication_and_releases_nothing(
    passed: bool, votes: int
) -> None:
    chain = ready(budget=0)
    publish(chain, "statistics", 1)
    submit_check(chain, client("bank-a"))
    with pytest.raises(Reverted, match="AlreadyDone"):
        submit_check(chain, client("registry"), digest("second"))
    compute(chain)
    assert (status(chain), verdict(chain)) == (CHECKING, "")
    vote(chain, passed, votes)
    outcome = "passed" if passed else "failed"
    assert (status(chain), verdict(chain)) == (CLOSED if passed else REFUSED, outcome)
    assert reason(chain) == f"columns {outcome} their check"
    assert named(chain) == ([] if passed else [("statistics", "columns failed their check")])
    assert events(chain, "ColumnsAudited")[-1] == {
        "table": "sme",
        "owner": "statistics",
        "profile": "S36",
        "root": digest("root"),
        "auditor": "council",
        "outcome": outcome,
        "detail": "sums that must be zero, opened by the council",
    }
    with pytest.raises(Reverted, match="WrongState"):
        share_post(chain, "bank-a")
    with pytest.raises(Reverted, match="AlreadyDone"):
        submit_check(chain, client("bank-a"), digest("third"))
    publish(chain, "statistics", 1, "new")
    submit_check(chain, client("bank-a"), digest("fourth"))
    assert verdict(chain, "new") == ""


def test_the_verdict_is_on_the_columns_that_were_pinned() -> None:
    chain = ready()
    publish(chain, "statistics", 1)
    submit_check(chain, client("bank-a"))
    publish(chain, "statistics", 1, "new")
    compute(chain)
    vote(chain, False, 2)
    assert (verdict(chain), verdict(chain, "new")) == ("failed", "")


def test_a_check_in_a_questions_clothes_and_a_strangers_check_are_refused() -> None:
    chain = ready()
    publish(chain, "statistics", 1)
    with pytest.raises(Reverted, match="kind"):
        submit(chain, kind=2, check_count=2)
    for changes in ({"kind": 0}, {"check_count": 2}, {"check_count": 0, "output_count": 0}):
        with pytest.raises(Reverted, match="Invalid"):
            submit_check(chain, client("bank-a"), **changes)
    for sender in (client("stranger"), worker("bank-a")):
        with pytest.raises(Reverted, match="NotAllowed"):
            submit_check(chain, sender)
    assert chain.view("check_verdict", table="sme", owner="x", profile="S", root=bytes(32)) == ""
