"""What owners allow: policies, of which the strictest counts, consents with an end, and models."""

import hashlib

import pytest
from scoring_chain import (
    QUERY,
    client,
    consent,
    digest,
    model_record,
    publish,
    ready,
    set_policy,
    submit,
)
from scoring_chain import backend as backend

from chainnode.contract.testing import Deployed, Reverted

OTHER = b"\x08" * 32


def consents(chain: Deployed, query: bytes) -> list[bytes]:
    return [part.consent for part in chain.view("query_inputs", query=query)[1]]


def test_one_owner_that_forbids_scores_or_many_outputs_is_named() -> None:
    chain = ready(budget=9)
    set_policy(chain, "statistics", scores_allowed=False, outputs_max=1)
    with pytest.raises(Reverted) as refused:
        submit(chain, kind=1)
    assert refused.value.error == "PolicyDenied"
    assert refused.value.fields == {"owner": "statistics", "rule": "scores"}
    with pytest.raises(Reverted, match="outputs"):
        submit(chain)
    # A refusal costs nothing.
    assert chain.view("budget", table="sme", bank="bank-a") == (9, 0)
    submit(chain, output_count=1)
    set_policy(chain, "statistics")
    submit(chain, query=OTHER, kind=1)


def test_an_owners_word_on_one_bank_stands_in_place_of_its_word_on_all() -> None:
    chain = ready()
    set_policy(chain, "registry", scores_allowed=False)
    set_policy(chain, "registry", bank="bank-a", denied_columns=["overdue"])
    (registry, statistics) = chain.view("policies_of", table="sme", bank="bank-a")
    assert (list(registry.denied_columns), registry.scores_allowed) == (["overdue"], True)
    assert (list(statistics.denied_columns), statistics.outputs_max) == ([], 64)
    assert not chain.view("policies_of", table="sme", bank="guarantor")[0].scores_allowed
    submit(chain, kind=1)
    set_policy(chain, "registry", bank="bank-a", scores_allowed=False)
    _, inputs = chain.view("query_inputs", query=QUERY)
    assert inputs[0].policy.scores_allowed
    assert list(inputs[0].policy.denied_columns) == ["overdue"]


def test_only_owners_state_policies_and_only_well_formed_ones() -> None:
    chain = ready()
    with pytest.raises(Reverted, match="NotAllowed"):
        set_policy(chain, "bank-a")
    for rules in ({"outputs_max": 4_097}, {"denied_columns": ["c"] * 65}):
        with pytest.raises(Reverted, match="policy"):
            set_policy(chain, "registry", **rules)
    for name in ("", "c" * 257):
        with pytest.raises(Reverted, match="denied_columns"):
            set_policy(chain, "registry", denied_columns=[name])


def test_a_consent_counts_for_its_purpose_only() -> None:
    chain = ready()
    for owner in ("registry", "statistics"):
        consent(chain, owner, "rows")
    consent(chain, "registry", "others", purpose="marketing")
    submit(chain, kind=1)
    assert consents(chain, QUERY) == [digest("rows")] * 2
    submit(chain, query=OTHER, kind=1, purpose="marketing")
    assert consents(chain, OTHER) == [digest("others"), bytes(32)]
    with pytest.raises(Reverted, match="purpose"):
        consent(chain, "registry", "rows", purpose="")


def test_a_consent_ends_after_its_last_block() -> None:
    chain = ready(budget=3)
    publish(chain, "registry", 1)
    last = chain.height + 2
    consent(chain, "registry", "rows", until_height=last)
    chain.height = last - 1
    submit(chain, kind=1)
    heights = [chain.view("query_info", query=QUERY)[0].height]
    submit(chain, query=OTHER, kind=1)
    heights.append(chain.view("query_info", query=OTHER)[0].height)
    assert heights[0] <= last < heights[1], heights
    assert consents(chain, QUERY) == [digest("rows"), bytes(32)]
    assert consents(chain, OTHER) == [bytes(32)] * 2
    found = chain.view("consent", table="sme", bank="bank-a", owner="registry", purpose="scoring")
    assert (found.bitmap, found.until_height) == (digest("rows"), last)


def test_a_model_counts_only_when_every_owner_approved_the_same_points() -> None:
    chain = ready()
    points, other = model_record("m"), model_record("m", "other")
    chain.call("approve_model", sender=client("registry"), table="sme", name="m", model=points)
    assert chain.view("models_of", table="sme") == []
    with pytest.raises(Reverted, match="Invalid"):
        chain.call("approve_model", sender=client("statistics"), table="sme", name="m", model=other)
    chain.call("approve_model", sender=client("statistics"), table="sme", name="m", model=points)
    assert chain.view("models_of", table="sme") == [points]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("m", model_record("n")),
        ("m", model_record("m2")),
        ("m2", model_record("m")),
        ("", model_record("m")),
        ("m", b""),
        ("m", model_record("n", 'a "name":"m" b')),
        ("m", model_record("n", ',"name":"m",')),
        # A name that reaches over the record's next field, and one that is spelled as it is read.
        ('m","offset":0,"x":"', b'{"features":1,"name":"m","offset":0,"x":"",'),
        ("m\\\\x", model_record("m\\x")),
        ('m"x', model_record('m"x')),
    ],
)
def test_a_model_is_registered_and_approved_under_the_name_of_its_record(
    name: str, model: bytes
) -> None:
    chain = ready()
    with pytest.raises(Reverted, match="ModelMisnamed"):
        chain.call("approve_model", sender=client("registry"), table="sme", name=name, model=model)
    assert chain.view("models_of", table="sme") == []
    with pytest.raises(Reverted, match="Invalid"):
        chain.view("registrar_of", table="sme", model=hashlib.sha256(model).digest())


@pytest.mark.parametrize("name", ["m", "modèle 1", "信用", "m{},[]:'"])
def test_every_name_that_a_record_spells_as_it_is_can_be_registered(name: str) -> None:
    chain = ready()
    model = model_record(name, "n" * 3_000)
    for owner in ("registry", "statistics"):
        chain.call("approve_model", sender=client(owner), table="sme", name=name, model=model)
    assert chain.view("models_of", table="sme") == [model]
