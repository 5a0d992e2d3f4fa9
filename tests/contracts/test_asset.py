"""The fungible asset: who may issue, what moves, what is refused, what is published."""

from typing import Any

import pytest

from chainnode.contract.testing import Deployed, Reverted, deploy, member
from chainnode.types.errors import ClientFault

ISSUER = member("issuer", role="admin")
ALICE, BOB, CAROL = member("alice"), member("bob"), member("carol", "guarantor")
U64_MAX = 2**64 - 1


@pytest.fixture
def asset(shipped: Any) -> Deployed:
    return deploy(shipped("asset").Asset, sender=ISSUER, name="Töken", decimals=2)


def balance(asset: Deployed, owner: Any) -> int:
    found = asset.view("balance_of", owner=owner.address)
    assert isinstance(found, int)
    return found


def test_setup_is_readable(asset: Deployed) -> None:
    assert asset.view("name") == "Töken"
    assert asset.view("decimals") == 2
    assert asset.view("supply") == 0
    assert balance(asset, ALICE) == 0


def test_issue_and_transfer_keep_the_supply(asset: Deployed) -> None:
    asset.call("issue", to=ALICE.address, amount=100)
    asset.call("transfer", sender=ALICE, to=BOB.address, amount=30)
    asset.call("transfer", sender=BOB, to=BOB.address, amount=30)
    assert (balance(asset, ALICE), balance(asset, BOB)) == (70, 30)
    assert asset.view("supply") == 100
    assert asset.events == [
        ("Issued", {"to": ALICE.address, "amount": 100}),
        ("Transferred", {"source": ALICE.address, "to": BOB.address, "amount": 30}),
        ("Transferred", {"source": BOB.address, "to": BOB.address, "amount": 30}),
    ]


def test_only_the_issuer_issues(asset: Deployed) -> None:
    with pytest.raises(Reverted) as caught:
        asset.call("issue", sender=ALICE, to=ALICE.address, amount=1)
    assert caught.value.error == "NotIssuer"
    assert caught.value.fields == {"sender": ALICE.address}


def test_a_refused_transfer_changes_nothing(asset: Deployed) -> None:
    asset.call("issue", to=ALICE.address, amount=5)
    before, events = dict(asset.storage), list(asset.events)
    with pytest.raises(Reverted) as caught:
        asset.call("transfer", sender=ALICE, to=BOB.address, amount=6)
    assert caught.value.error == "InsufficientBalance"
    assert caught.value.fields == {"balance": 5, "needed": 6}
    assert (asset.storage, asset.events) == (before, events)


def test_a_balance_cannot_exceed_u64(asset: Deployed) -> None:
    asset.call("issue", to=ALICE.address, amount=U64_MAX)
    with pytest.raises(Reverted) as caught:
        asset.call("issue", to=ALICE.address, amount=1)
    assert caught.value.error == "Overflow"
    asset.call("issue", to=BOB.address, amount=1)
    with pytest.raises(Reverted, match="Overflow"):
        asset.call("transfer", sender=ALICE, to=BOB.address, amount=U64_MAX)
    assert (balance(asset, ALICE), balance(asset, BOB)) == (U64_MAX, 1)


def test_allowances_are_spent_and_then_forgotten(asset: Deployed) -> None:
    asset.call("issue", to=ALICE.address, amount=50)
    asset.call("approve", sender=ALICE, spender=BOB.address, amount=20)
    asset.call("transfer_from", sender=BOB, source=ALICE.address, to=CAROL.address, amount=15)
    assert asset.view("allowance", owner=ALICE.address, spender=BOB.address) == 5
    with pytest.raises(Reverted) as caught:
        asset.call("transfer_from", sender=BOB, source=ALICE.address, to=BOB.address, amount=6)
    assert caught.value.fields == {"allowance": 5, "needed": 6}
    entries = len(asset.storage)
    asset.call("transfer_from", sender=BOB, source=ALICE.address, to=CAROL.address, amount=5)
    assert len(asset.storage) == entries - 1
    assert balance(asset, CAROL) == 20


def test_moving_nothing_without_an_allowance_is_allowed(asset: Deployed) -> None:
    asset.call("transfer_from", sender=BOB, source=ALICE.address, to=CAROL.address, amount=0)
    assert balance(asset, CAROL) == 0


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        ({"to": ALICE.address}, "amount"),
        ({"to": ALICE.address, "amount": -1}, "amount"),
        ({"to": ALICE.address, "amount": U64_MAX + 1}, "amount"),
        ({"to": b"short", "amount": 1}, "to"),
        ({"to": ALICE.address, "amount": 1, "memo": "x"}, "memo"),
        ({"to": ALICE.address, "amount": True}, "amount"),
    ],
)
def test_wrong_arguments_name_the_argument(
    asset: Deployed, arguments: dict[str, Any], subject: str
) -> None:
    with pytest.raises(ClientFault) as caught:
        asset.call("transfer", **arguments)
    assert (caught.value.code, caught.value.subject) == ("INVALID_ARGUMENTS", subject)
