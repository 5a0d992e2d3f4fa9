"""The credit scoring contract: who may do what, in which order, and what ends a query."""

import hashlib
from typing import Any

import pytest
from scoring_chain import (
    CHECKING,
    CLOSED,
    EXPIRED,
    ORGANISATIONS,
    QUERY,
    REFUSED,
    RELEASED,
    RELEASING,
    activate,
    check_groups,
    chunk_commit,
    chunk_reveal,
    client,
    compute,
    council_commitment,
    digest,
    digests,
    events,
    inputs_hash,
    keyholder,
    keys,
    named,
    new_chain,
    publish,
    ready,
    reason,
    rotate,
    run_round,
    share_commit,
    share_post,
    status,
    submit,
    worker,
)
from scoring_chain import backend as backend

from chainnode.contract.testing import Deployed, Reverted, member


def test_a_ceremony_ends_in_an_active_epoch() -> None:
    chain = new_chain()
    epoch = activate(chain)
    number, state, seed, test_seed = chain.view("epoch_info", epoch=0)
    assert (number, state) == (epoch, 2)
    assert len(seed) == len(test_seed) == 32 and seed != test_seed
    assert [fields["step"] for fields in events(chain, "CouncilStep")][-1] == "active"


def test_the_receipt_of_an_opening_names_the_epochs_council() -> None:
    chain = new_chain()
    chain.call("open_epoch", sender=keyholder("bank-a"))
    chain.call("open_epoch", sender=keyholder("registry"))
    activate(chain, opened=2)
    rotate(chain, ["statistics", "registry", "newcomer"], ORGANISATIONS[:3], ("S", "S36", "M"))
    whole = {"organisations": ORGANISATIONS, "threshold": 3, "profiles": ["S", "S36"]}
    new = {"organisations": ["statistics", "registry", "newcomer"], "threshold": 2}
    assert events(chain, "EpochOpened") == [
        {"epoch": 1} | whole,
        {"epoch": 2} | whole,
        {"epoch": 3, "profiles": ["S", "S36", "M"]} | new,
    ]
    for fields in events(chain, "EpochOpened"):
        members = chain.view("epoch_members", epoch=fields["epoch"])
        assert members == (fields["organisations"], fields["threshold"])


def test_the_receipt_of_the_last_equal_statement_holds_an_epochs_keys() -> None:
    chain = new_chain()
    epoch = activate(chain)
    assert events(chain, "EpochKeys") == [{"epoch": epoch} | keys()]
    rotate(chain, ORGANISATIONS, ORGANISATIONS[:3], ("S", "S36", "M"))
    activate(chain, opened=2, deep="deep")
    assert events(chain, "EpochKeys")[1:] == [{"epoch": 2} | keys(deep="deep")]


def test_no_message_is_revealed_before_all_are_committed() -> None:
    chain = new_chain()
    epoch = chain.call("open_epoch", sender=keyholder("bank-a"))
    for name in ORGANISATIONS[:3]:
        commitment = council_commitment(epoch, 1, digest(f"{name} 1"), name)
        chain.call("commit", sender=keyholder(name), epoch=epoch, round=1, commitment=commitment)
    with pytest.raises(Reverted, match="WrongState"):
        chain.call(
            "reveal", sender=keyholder("bank-a"), epoch=epoch, round=1, blob=digest("bank-a 1")
        )


def test_a_reveal_must_open_its_commitment_and_rounds_keep_their_order() -> None:
    chain = new_chain()
    epoch = chain.call("open_epoch", sender=keyholder("bank-a"))
    with pytest.raises(Reverted, match="WrongState"):
        chain.call(
            "commit", sender=keyholder("bank-a"), epoch=epoch, round=2, commitment=digest("x")
        )
    for name in ORGANISATIONS:
        commitment = council_commitment(epoch, 1, digest(f"{name} 1"), name)
        chain.call("commit", sender=keyholder(name), epoch=epoch, round=1, commitment=commitment)
    with pytest.raises(Reverted, match="commitment"):
        chain.call("reveal", sender=keyholder("bank-a"), epoch=epoch, round=1, blob=digest("else"))


def test_different_aggregated_keys_fail_the_epoch() -> None:
    chain = new_chain()
    epoch = chain.call("open_epoch", sender=keyholder("bank-a"))
    run_round(chain, epoch, 1)
    run_round(chain, epoch, 2)
    chain.call("submit_keys", sender=keyholder("bank-a"), epoch=epoch, keys=keys())
    chain.call("submit_keys", sender=keyholder("registry"), epoch=epoch, keys=keys("other"))
    assert chain.view("epoch_info", epoch=epoch)[1] == 3
    assert chain.call("open_epoch", sender=keyholder("bank-a")) == epoch + 1


def test_a_wrong_message_fails_the_epoch_and_names_its_sender() -> None:
    chain = new_chain()
    epoch = chain.call("open_epoch", sender=keyholder("bank-a"))
    blame = {"epoch": epoch, "organisation": "registry", "fault": "no proof"}
    with pytest.raises(Reverted, match="WrongState"):
        chain.call("fail_epoch", sender=keyholder("bank-a"), **blame)
    run_round(chain, epoch, 1)
    for sender in (worker("bank-a"), client("bank-a"), keyholder("stranger")):
        with pytest.raises(Reverted, match="NotAllowed"):
            chain.call("fail_epoch", sender=sender, **blame)
    with pytest.raises(Reverted, match="organisation"):
        stranger = blame | {"organisation": "stranger"}
        chain.call("fail_epoch", sender=keyholder("bank-a"), **stranger)
    chain.call("fail_epoch", sender=keyholder("bank-a"), **blame)
    last = events(chain, "CouncilStep")[-1]
    assert (last["step"], last["organisation"]) == ("failed: registry: no proof", "bank-a")
    assert chain.view("epoch_info", epoch=epoch)[1] == 3
    with pytest.raises(Reverted, match="WrongState"):
        chain.call("fail_epoch", sender=keyholder("guarantor"), **blame)
    # Keys that were agreed on are judged by their test vectors alone.
    assert activate(chain) == epoch + 1
    with pytest.raises(Reverted, match="WrongState"):
        chain.call("fail_epoch", sender=keyholder("bank-a"), **blame | {"epoch": epoch + 1})


def test_one_failed_test_vector_fails_the_epoch() -> None:
    chain = new_chain()
    epoch = chain.call("open_epoch", sender=keyholder("bank-a"))
    run_round(chain, epoch, 1)
    run_round(chain, epoch, 2)
    for name in ORGANISATIONS:
        chain.call("submit_keys", sender=keyholder(name), epoch=epoch, keys=keys())
    for name in ORGANISATIONS:
        chain.call("post_test", sender=keyholder(name), epoch=epoch, shares=b"share")
    chain.call("vote_test", sender=keyholder("registry"), epoch=epoch, fault="a fault")
    assert chain.view("epoch_info", epoch=epoch)[1] == 3


@pytest.mark.parametrize(
    "sender", [client("bank-a"), worker("bank-a"), member("keyholder", "stranger", "common")]
)
def test_only_keyholders_of_members_speak_for_the_council(sender: Any) -> None:
    with pytest.raises(Reverted, match="NotAllowed"):
        new_chain().call("open_epoch", sender=sender)


def test_every_owner_must_grant_and_the_least_budget_counts() -> None:
    chain = ready(budget=5)
    assert chain.view("budget", table="sme", bank="bank-a") == (5, 0)
    chain.call("grant", sender=client("statistics"), table="sme", bank="bank-a", budget=1)
    submit(chain)
    with pytest.raises(Reverted) as refused:
        submit(chain, query=b"\x08" * 32)
    assert refused.value.error == "BudgetExceeded"
    assert refused.value.fields == {"table": "sme", "budget": 1, "used": 1}


def test_a_query_without_grant_epoch_or_table_is_refused() -> None:
    chain = ready()
    with pytest.raises(Reverted, match="a grant by registry"):
        chain.view("budget", table="sme", bank="guarantor")
    with pytest.raises(Reverted, match="NotAllowed"):
        chain.call("grant", sender=client("bank-a"), table="sme", bank="bank-a", budget=9)
    with pytest.raises(Reverted) as refused:
        submit(chain, epoch=2)
    assert refused.value.error == "StaleEpoch"
    assert refused.value.fields == {"epoch": 2, "active": 1}


def test_an_aggregate_without_a_count_to_check_is_refused() -> None:
    with pytest.raises(Reverted, match="Invalid"):
        submit(ready(), check_count=0)


def test_an_aggregate_runs_from_submission_to_its_answer() -> None:
    chain = ready()
    submit(chain)
    compute(chain)
    assert status(chain) == CHECKING
    (finalised,) = events(chain, "QueryFinalised")
    assert (finalised["query"], finalised["result"]) == (QUERY, digest("result 1"))
    keys = digest("plan") + digest("reply") + digest("target")
    keys += inputs_hash(("registry", bytes(32)), ("statistics", bytes(32)))
    numbers = (1).to_bytes(8, "big") + (0).to_bytes(8, "big")
    assert finalised["terms"] == hashlib.sha256(keys + numbers + b"bank-a").digest()
    check_groups(chain)
    assert list(chain.view("posts_of", epoch=1, subject=QUERY, step="counts")) == [b"box"] * 4
    assert status(chain) == RELEASING
    assert chain.view("opened_queries", table="sme", first=0) == [QUERY]
    for name in ORGANISATIONS:
        share_post(chain, name)
    assert status(chain) == RELEASED
    assert chain.view("posts_of", epoch=1, subject=QUERY, step="share")[0] == b"sbank-a"
    assert events(chain, "MemberFault") == []
    with pytest.raises(Reverted, match="NotAllowed"):
        chain.call("close", sender=client("registry"), query=QUERY, outcome="answered")
    chain.call("close", sender=client("bank-a"), query=QUERY, outcome="answered")
    assert (status(chain), reason(chain)) == (CLOSED, "answered")


def test_a_score_query_goes_straight_to_release_and_takes_blob_hashes() -> None:
    chain = ready()
    submit(chain, kind=1)
    compute(chain)
    assert status(chain) == RELEASING
    for name in ORGANISATIONS:
        share_commit(chain, name)
    for name in ORGANISATIONS:
        share_post(chain, name, share=b"")
    assert chain.view("digests_of", query=QUERY)[0] == digests("bank-a")
    assert (status(chain), named(chain)) == (RELEASED, [])


def test_one_small_group_refuses_the_query_and_the_budget_stays_spent() -> None:
    chain = ready()
    submit(chain)
    compute(chain)
    for name in ORGANISATIONS:
        chain.call("post_counts", sender=keyholder(name), query=QUERY, boxes=b"box")
    chain.call("group_check", sender=keyholder("registry"), query=QUERY, passed=False)
    assert status(chain) == CHECKING
    chain.call("group_check", sender=keyholder("bank-a"), query=QUERY, passed=False)
    assert (status(chain), reason(chain)) == (REFUSED, "group too small")
    assert chain.view("budget", table="sme", bank="bank-a") == (2, 1)
    with pytest.raises(Reverted, match="WrongState"):
        share_post(chain, "registry")


def test_a_result_is_not_shown_before_two_are_committed_nor_by_a_stranger() -> None:
    chain = ready()
    submit(chain)
    chunk_commit(chain, 0, "bank-a", digest("r"))
    with pytest.raises(Reverted, match="WrongState"):
        chunk_reveal(chain, 0, "bank-a", digest("r"))
    with pytest.raises(Reverted, match="assigned worker"):
        chunk_commit(chain, 0, "registry", digest("r"))
    chunk_commit(chain, 0, "guarantor", digest("r"))
    with pytest.raises(Reverted, match="commitment"):
        chunk_reveal(chain, 0, "bank-a", digest("other"))


def test_the_reduction_waits_for_every_chunk() -> None:
    chain = ready()
    submit(chain)
    with pytest.raises(Reverted, match="chunks finished"):
        chunk_commit(chain, 1, "guarantor", digest("r"))


def test_a_query_that_nobody_answers_expires() -> None:
    chain = ready()
    submit(chain)
    with pytest.raises(Reverted, match="time, allowed from"):
        chain.call("expire", sender=client("bank-a"), query=QUERY)
    chain.time_ms += 600_000
    chain.call("expire", sender=client("bank-a"), query=QUERY)
    assert status(chain) == EXPIRED


def test_one_keyholder_may_refuse_two_end_the_query_with_their_reason() -> None:
    chain = ready()
    submit(chain)
    compute(chain)
    for name in ("statistics", "registry"):
        assert status(chain) == CHECKING
        chain.call("refuse", sender=keyholder(name), query=QUERY, reason="hash not reproduced")
    assert (status(chain), reason(chain)) == (REFUSED, "hash not reproduced")


def test_a_ceremony_started_over_gives_up_the_unfinished_one() -> None:
    chain = new_chain()
    first = chain.call("open_epoch", sender=keyholder("bank-a"))
    second = chain.call("open_epoch", sender=keyholder("registry"))
    assert second == first + 1
    assert chain.view("epoch_info", epoch=first)[1] == 3


def releasing() -> Deployed:
    chain = ready(budget=9)
    submit(chain)
    compute(chain)
    check_groups(chain)
    return chain


@pytest.mark.parametrize(
    ("wrong", "faults"),
    [
        ((0, 2, 4), [("guarantor", "wrong share")]),
        ((0, 2), [("guarantor", "wrong share")]),
        ((2,), [("guarantor", "disputed share"), ("registry", "disputed share")]),
    ],
)
def test_the_contract_names_who_every_disagreement_has_in_common(
    wrong: tuple[int, ...], faults: list[tuple[str, str]]
) -> None:
    chain = releasing()
    for name in ORGANISATIONS:
        pieces = wrong if name == "guarantor" else ()
        share_post(chain, name, digests=digests(name, "wrong ", pieces))
    assert status(chain) == RELEASED
    assert named(chain) == faults


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"epoch": 2}, "stale epoch"),
        ({"result": digest("result 0")}, "share for another query"),
        ({"digests": digests("registry")}, "malformed share"),
        ({"digests": []}, "malformed share"),
        ({"digests": [b"short"] * 6}, "malformed share"),
    ],
)
def test_a_share_that_is_not_for_this_query_is_evidence(
    changes: dict[str, Any], fault: str
) -> None:
    chain = releasing()
    share_post(chain, "guarantor", **changes)
    assert named(chain) == [("guarantor", fault)]
    for name in ("bank-a", "registry", "statistics"):
        share_post(chain, name)
    assert status(chain) == RELEASED
    assert chain.view("digests_of", query=QUERY)[1] == []


def test_too_many_wrong_shares_end_the_query() -> None:
    chain = releasing()
    for name in ORGANISATIONS:
        share_post(chain, name, epoch=2 if name in ("bank-a", "registry") else 1)
    assert (status(chain), reason(chain)) == (REFUSED, "too few right shares")


def test_the_silent_are_named_when_the_others_settle_after_the_deadline() -> None:
    chain = releasing()
    for name in ("bank-a", "registry"):
        share_post(chain, name)
    with pytest.raises(Reverted, match="time, allowed from"):
        chain.call("settle", sender=client("bank-a"), query=QUERY)
    chain.time_ms += 8_000
    with pytest.raises(Reverted, match="WrongState"):
        chain.call("settle", sender=client("bank-a"), query=QUERY)
    share_post(chain, "statistics")
    chain.call("settle", sender=client("bank-a"), query=QUERY)
    assert status(chain) == RELEASED
    assert named(chain) == [("guarantor", "no share")]


def test_only_the_council_and_the_bank_accuse_members() -> None:
    chain = releasing()
    for sender in (client("bank-a"), keyholder("registry")):
        chain.call("accuse", sender=sender, query=QUERY, organisation="guarantor", fault="f")
    assert [fault["shown_by"] for fault in events(chain, "MemberFault")] == ["bank-a", "registry"]
    with pytest.raises(Reverted, match="NotAllowed"):
        chain.call(
            "accuse", sender=client("registry"), query=QUERY, organisation="guarantor", fault="f"
        )
    with pytest.raises(Reverted, match="Invalid"):
        chain.call("accuse", sender=client("bank-a"), query=QUERY, organisation="nobody", fault="f")


def test_a_majority_of_admins_rotates_the_epoch_and_replaces_a_member() -> None:
    chain = ready()
    with pytest.raises(Reverted, match="rotate, by a majority"):
        chain.call("open_epoch", sender=keyholder("bank-a"))
    new = ["bank-a", "registry", "newcomer"]
    rotate(chain, new, ORGANISATIONS[:2])
    assert chain.view("epoch_info", epoch=0)[0] == 1
    with pytest.raises(Reverted, match="AlreadyDone"):
        rotate(chain, new, ["bank-a"])
    rotate(chain, new, ["registry"])
    assert chain.view("epoch_info", epoch=0)[:2] == (2, 0)
    assert chain.view("epoch_members", epoch=2) == (new, 2)
    assert chain.view("epoch_members", epoch=0)[0] == ORGANISATIONS
    with pytest.raises(Reverted, match="NotAllowed"):
        chain.call("enrol_keyholder", sender=keyholder("guarantor"), sealing_key=digest("key"))
    chain.call("enrol_keyholder", sender=keyholder("newcomer"), sealing_key=digest("key"))
    # The old epoch answers until the new one is active, and for old tables after that.
    submit(chain)
    activate(chain, new, opened=2)
    assert chain.view("latest_active_epoch") == 2
    assert chain.view("epoch_members", epoch=0) == (new, 2)
    submit(chain, query=b"\x08" * 32)


def test_a_council_asks_for_keys_of_profile_m_by_a_rotation_and_must_then_make_them() -> None:
    chain = ready()
    assert chain.view("epoch_profiles", epoch=1) == ["S", "S36"]
    deep = ("S", "S36", "M")
    # Votes for other profiles are votes for another proposal.
    rotate(chain, ORGANISATIONS, ["bank-a"])
    rotate(chain, ORGANISATIONS, ORGANISATIONS[:2], deep)
    assert chain.view("epoch_info", epoch=0)[0] == 1
    rotate(chain, ORGANISATIONS, ["registry"], deep)
    assert chain.view("epoch_profiles", epoch=2) == list(deep)
    run_round(chain, 2, 1)
    run_round(chain, 2, 2)
    with pytest.raises(Reverted, match="keys of M"):
        chain.call("submit_keys", sender=keyholder("bank-a"), epoch=2, keys=keys())
    chain.call("submit_keys", sender=keyholder("bank-a"), epoch=2, keys=keys(deep="a"))
    chain.call("submit_keys", sender=keyholder("registry"), epoch=2, keys=keys(deep="b"))
    assert chain.view("epoch_info", epoch=2)[1] == 3
    # What is started over makes the same profiles, and so does what comes after it.
    assert chain.call("open_epoch", sender=keyholder("bank-a")) == 3
    activate(chain, opened=3, deep="a")
    assert chain.view("epoch_profiles", epoch=0) == list(deep)
    assert chain.view("keys_of", epoch=3).public_key_m == digest("m")


def test_an_epoch_without_profile_m_takes_no_keys_of_it() -> None:
    chain = new_chain()
    epoch = chain.call("open_epoch", sender=keyholder("bank-a"))
    run_round(chain, epoch, 1)
    run_round(chain, epoch, 2)
    with pytest.raises(Reverted, match="keys of M"):
        chain.call("submit_keys", sender=keyholder("bank-a"), epoch=epoch, keys=keys(deep="a"))


@pytest.mark.parametrize("profiles", [(), ("S",), ("S", "M"), ("S36", "S"), ("S", "S36", "L")])
def test_other_sets_of_profiles_are_refused(profiles: tuple[str, ...]) -> None:
    with pytest.raises(Reverted, match="profiles"):
        rotate(ready(), ORGANISATIONS, ["bank-a"], profiles)


@pytest.mark.parametrize("sender", [client("bank-a"), keyholder("bank-a")])
def test_only_admins_rotate(sender: Any) -> None:
    with pytest.raises(Reverted, match="NotAllowed"):
        ready().call(
            "rotate",
            sender=sender,
            organisations=ORGANISATIONS,
            threshold=2,
            profiles=["S", "S36"],
        )


def test_columns_of_a_stale_epoch_are_refused_by_name_and_old_ones_stay_readable() -> None:
    chain = ready()
    owners = ("registry", "statistics")
    for name in owners:
        publish(chain, name, 1)
    wanted = {"table": "sme", "profiles": ["S", "S36"]}
    assert chain.view("active_epoch_of", **wanted) == 1
    rotate(chain, ORGANISATIONS, ORGANISATIONS[:3])
    activate(chain, opened=2)
    with pytest.raises(Reverted) as refused:
        publish(chain, "registry", 1)
    assert refused.value.error == "StaleEpoch"
    assert refused.value.fields == {"epoch": 1, "active": 2}
    publish(chain, "registry", 2)
    assert chain.view("active_epoch_of", **wanted) == 1
    publish(chain, "statistics", 2)
    assert chain.view("active_epoch_of", **wanted) == 2
    old = chain.view("columns_of", table="sme", owner="registry", profile="S36", epoch=1)
    assert old.epoch == 1


def test_the_epoch_before_last_is_retired() -> None:
    chain = ready()
    for epoch in (2, 3):
        rotate(chain, ORGANISATIONS, ORGANISATIONS[:3])
        activate(chain, opened=epoch)
    assert [chain.view("epoch_info", epoch=epoch)[1] for epoch in (1, 2, 3)] == [4, 2, 2]
    with pytest.raises(Reverted, match="StaleEpoch"):
        submit(chain, epoch=1)


def test_a_rotation_that_fails_is_started_over_by_the_new_members() -> None:
    chain = ready()
    rotate(chain, ["bank-a", "registry", "newcomer"], ORGANISATIONS[:3])
    assert chain.call("open_epoch", sender=keyholder("newcomer")) == 3
    with pytest.raises(Reverted, match="NotAllowed"):
        chain.call("open_epoch", sender=keyholder("guarantor"))
