"""The credit scoring contract: who may do what, in which order, and what ends a query."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from executor_backend import ExecutorBackend
from hinted_backend import HintedBackend

from chainnode.contract.testing import Deployed, Reverted, deploy, load_contract, member

SOURCE = Path(__file__).resolve().parents[2] / "contracts" / "credit_scoring"
ORGANISATIONS = ["bank-a", "guarantor", "registry", "statistics"]
SEVEN = [*ORGANISATIONS, "five", "six", "seven"]
COMPUTING, CHECKING, RELEASING, RELEASED, CLOSED, REFUSED, EXPIRED = range(7)
QUERY = b"\x07" * 32


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def keyholder(organisation: str) -> Any:
    return member("keyholder", organisation, "common")


def worker(organisation: str) -> Any:
    return member("worker", organisation, "common")


def client(organisation: str) -> Any:
    return member("client", organisation, "client")


def council_commitment(epoch: int, round_number: int, blob: bytes, organisation: str) -> bytes:
    return hashlib.sha256(
        b"chainnode/council-commit/v1"
        + epoch.to_bytes(8, "big")
        + round_number.to_bytes(8, "big")
        + blob
        + organisation.encode()
    ).digest()


def new_chain() -> Deployed:
    council = {
        "organisations": ORGANISATIONS,
        "threshold": 3,
        "profiles": ["S", "S36"],
        "keyholder_name": "keyholder",
        "worker_name": "worker",
        "chunk_deadline_ms": 20_000,
        "share_deadline_ms": 8_000,
        "query_deadline_ms": 600_000,
    }
    return deploy(load_contract(SOURCE).CreditScoring, backend=BACKENDS[-1], council=council)


@pytest.fixture(autouse=True, params=["cpython", "executor"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every rule holds in the contract's own Python and in its WebAssembly on the real executor."""
    BACKENDS.append(HintedBackend if request.param == "cpython" else compiled)
    yield
    BACKENDS.pop()


@lru_cache(maxsize=1)
def compiled(contract: Any) -> ExecutorBackend:
    return ExecutorBackend(contract)


BACKENDS: list[Any] = []


def run_round(
    chain: Deployed, epoch: int, round_number: int, members: list[str] = ORGANISATIONS
) -> None:
    for name in members:
        blob = digest(f"{name} {round_number}")
        commitment = council_commitment(epoch, round_number, blob, name)
        chain.call(
            "commit", sender=keyholder(name), epoch=epoch, round=round_number, commitment=commitment
        )
    for name in members:
        blob = digest(f"{name} {round_number}")
        chain.call("reveal", sender=keyholder(name), epoch=epoch, round=round_number, blob=blob)


def keys(marker: str = "", deep: str = "") -> dict[str, bytes]:
    return {
        "public_key_s": digest("s" + marker),
        "public_key_s36": digest("s36"),
        "public_key_m": digest("m") if deep else b"",
        "relin_key_s36": digest("relin"),
        "relin_key_m": digest("relin " + deep) if deep else b"",
    }


def activate(
    chain: Deployed, members: list[str] = ORGANISATIONS, opened: int = 0, deep: str = ""
) -> int:
    epoch = opened or int(chain.call("open_epoch", sender=keyholder("bank-a")))
    run_round(chain, epoch, 1, members)
    run_round(chain, epoch, 2, members)
    for name in members:
        chain.call("submit_keys", sender=keyholder(name), epoch=epoch, keys=keys(deep=deep))
    for name in members:
        chain.call("post_test", sender=keyholder(name), epoch=epoch, shares=b"share")
    for name in members:
        chain.call("vote_test", sender=keyholder(name), epoch=epoch, fault="")
    return epoch


def ready(budget: int = 2) -> Deployed:
    chain = new_chain()
    activate(chain)
    chain.call(
        "create_table",
        sender=client("registry"),
        table="sme",
        schema=b"{}",
        registry=digest("registry"),
        minimum_group=10,
        owners=["registry", "statistics"],
    )
    for name in ("registry", "statistics"):
        chain.call("grant", sender=client(name), table="sme", bank="bank-a", budget=budget)
    return chain


def submit(chain: Deployed, query: bytes = QUERY, kind: int = 0, **changes: Any) -> None:
    ask = {
        "table": "sme",
        "epoch": 1,
        "profile": "S36",
        "kind": kind,
        "plan_hash": digest("plan"),
        "chunk_count": 1,
        "output_count": 2,
        "check_count": 1 if kind == 0 else 0,
        "reply_key": digest("reply"),
        "target_key": digest("target"),
    } | changes
    chain.call("submit", sender=client("bank-a"), query=query, ask=ask, sql="SELECT COUNT(*)")


def chunk_commit(chain: Deployed, index: int, name: str, result: bytes) -> None:
    salt = digest("salt " + name)
    commitment = hashlib.sha256(result + salt + name.encode()).digest()
    chain.call("chunk_commit", sender=worker(name), query=QUERY, index=index, commitment=commitment)


def chunk_reveal(chain: Deployed, index: int, name: str, result: bytes) -> None:
    chain.call(
        "chunk_reveal",
        sender=worker(name),
        query=QUERY,
        index=index,
        result=result,
        salt=digest("salt " + name),
    )


def compute(chain: Deployed, chunks: int = 1) -> None:
    for index in range(chunks + 1):
        pair = [ORGANISATIONS[(index + offset) % 4] for offset in range(2)]
        for name in pair:
            chunk_commit(chain, index, name, digest(f"result {index}"))
        for name in pair:
            chunk_reveal(chain, index, name, digest(f"result {index}"))


def digests(name: str, wrong: str = "", pieces: tuple[int, ...] = ()) -> list[bytes]:
    """Hashes of a member's shares, one place per set of two of four; `wrong` at some places."""
    held = [mask >> ORGANISATIONS.index(name) & 1 for mask in (3, 5, 6, 9, 10, 12)]
    return [
        digest(f"{wrong if place in pieces else ''}share {place}") if mine else b""
        for place, mine in enumerate(held)
    ]


def share_post(chain: Deployed, name: str, **changes: Any) -> None:
    arguments = {
        "query": QUERY,
        "epoch": 1,
        "result": digest("result 1"),
        "digests": digests(name),
        "share": b"s" + name.encode(),
    } | changes
    chain.call("share_post", sender=keyholder(name), **arguments)


def check_groups(chain: Deployed, query: bytes = QUERY) -> None:
    for name in ORGANISATIONS:
        chain.call("post_counts", sender=keyholder(name), query=query, boxes=b"box")
    for name in ORGANISATIONS[:3]:
        chain.call("group_check", sender=keyholder(name), query=query, passed=True)


def named(chain: Deployed) -> list[tuple[str, str]]:
    return [(fault["organisation"], fault["fault"]) for fault in events(chain, "MemberFault")]


def inputs_hash(*owners: tuple[str, bytes], root: bytes = bytes(32)) -> bytes:
    """Of owners and consents, as docs/spec/he-queries.md says; with columns if there is a root."""
    bound = b"chainnode/query-inputs/v1" + hashlib.sha256(b"{}").digest() + digest("registry")
    bound += (10).to_bytes(8, "big")
    manifest, blocks = (digest("manifest"), 1) if any(root) else (bytes(32), 0)
    for name, consent in owners:
        bound += len(name).to_bytes(8, "big") + name.encode() + root + manifest
        bound += blocks.to_bytes(8, "big") + consent
    return hashlib.sha256(bound).digest()


def status(chain: Deployed) -> int:
    return int(chain.view("query_state", query=QUERY)[0])


def reason(chain: Deployed) -> str:
    return str(chain.view("query_state", query=QUERY)[2])


def events(chain: Deployed, name: str) -> list[dict[str, Any]]:
    return [fields for found, fields in chain.events if found == name]


def test_a_ceremony_ends_in_an_active_epoch() -> None:
    chain = new_chain()
    epoch = activate(chain)
    number, state, seed, test_seed = chain.view("epoch_info", epoch=0)
    assert (number, state) == (epoch, 2)
    assert len(seed) == len(test_seed) == 32 and seed != test_seed
    assert [fields["step"] for fields in events(chain, "CouncilStep")][-1] == "active"


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
    share_post(chain, "bank-a")
    assert chain.view("digests_of", query=QUERY)[0] == digests("bank-a")


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
    chain.time_ms += 19_999
    with pytest.raises(Reverted, match="time, allowed from"):
        chain.call("reassign", sender=worker("statistics"), query=QUERY, index=1)
    chain.time_ms += 1
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


def test_a_model_counts_only_when_every_owner_approved_the_same_points() -> None:
    chain = ready()
    chain.call("approve_model", sender=client("registry"), table="sme", name="m", model=b"points")
    assert chain.view("models_of", table="sme") == []
    with pytest.raises(Reverted, match="Invalid"):
        chain.call(
            "approve_model", sender=client("statistics"), table="sme", name="m", model=b"other"
        )
    chain.call("approve_model", sender=client("statistics"), table="sme", name="m", model=b"points")
    assert chain.view("models_of", table="sme") == [b"points"]


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


def rotate(
    chain: Deployed,
    organisations: list[str],
    voters: list[str],
    profiles: tuple[str, ...] = ("S", "S36"),
) -> None:
    for name in voters:
        chain.call(
            "rotate",
            sender=member("admin", name, "admin"),
            organisations=organisations,
            threshold=2,
            profiles=list(profiles),
        )


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


def consent(chain: Deployed, owner: str, text: str) -> None:
    chain.call("set_consent", sender=client(owner), table="sme", bank="bank-a", bitmap=digest(text))


def publish(chain: Deployed, owner: str, epoch: int, root: str = "root") -> None:
    columns = {
        "epoch": epoch,
        "block_count": 1,
        "root": digest(root),
        "manifest": digest("manifest"),
    }
    chain.call("publish_columns", sender=client(owner), table="sme", profile="S36", columns=columns)


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


def asked() -> Deployed:
    chain = ready()
    publish(chain, "statistics", 1)
    submit(chain)
    return chain


def test_two_organisations_that_name_the_same_column_fault_end_the_query() -> None:
    chain = asked()
    refuse_input(chain, worker("bank-a"))
    assert (status(chain), chain.view("input_refusals", query=QUERY)) == (COMPUTING, 1)
    with pytest.raises(Reverted, match="Invalid"):
        chain.view("refused_input", query=QUERY)
    refuse_input(chain, keyholder("registry"))
    assert (status(chain), reason(chain)) == (REFUSED, "columns refused")
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
    assert named(chain) == [("statistics", "refused columns without cause")]


def test_nobody_is_named_for_columns_that_are_gone_at_its_node_only() -> None:
    chain = asked()
    refuse_input(chain, worker("statistics"), code="COLUMNS_REPLACED")
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
