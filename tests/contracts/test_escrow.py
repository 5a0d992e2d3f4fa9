"""The escrow: both legs or none, deposits that come back, and what it refuses."""

from typing import Any

import pytest

from chainnode.contract.testing import START_TIME_MS, Deployed, Reverted, deploy, member

ISSUER = member("issuer", role="admin")
ALICE, BOB = member("alice"), member("bob", "guarantor")
LATE_MS = START_TIME_MS + 10**9


@pytest.fixture
def market(shipped: Any) -> tuple[Deployed, Deployed, Deployed]:
    """Alice has 10 papers, Bob 500 cash; both approved the escrow."""
    asset = shipped("asset").Asset
    cash = deploy(asset, sender=ISSUER, called="cash", name="Cash", decimals=2)
    paper = deploy(asset, sender=ISSUER, called="paper", beside=cash, name="Paper", decimals=0)
    escrow = deploy(shipped("escrow").Escrow, sender=ISSUER, beside=cash)
    paper.call("issue", to=ALICE.address, amount=10)
    cash.call("issue", to=BOB.address, amount=500)
    paper.call("approve", sender=ALICE, spender=escrow.address, amount=10)
    cash.call("approve", sender=BOB, spender=escrow.address, amount=500)
    return cash, paper, escrow


def offer(escrow: Deployed, amount: int, price: int, until_ms: int = LATE_MS) -> bytes:
    number: bytes = escrow.call(
        "offer",
        sender=ALICE,
        gives="paper",
        amount=amount,
        wants="cash",
        price=price,
        until_ms=until_ms,
    )
    return number


def held(asset: Deployed, *owners: Any) -> list[int]:
    return [asset.view("balance_of", owner=owner) for owner in owners]


def test_both_legs_move_at_once(market: tuple[Deployed, ...]) -> None:
    cash, paper, escrow = market
    assert escrow.view("address") == escrow.address
    number = offer(escrow, 4, 300)
    assert held(paper, ALICE.address, escrow.address) == [6, 4]
    assert escrow.view("offer_of", offer=number).price == 300
    escrow.call("accept", sender=BOB, offer=number)
    assert held(cash, ALICE.address, BOB.address) == [300, 200]
    assert held(paper, ALICE.address, BOB.address, escrow.address) == [6, 4, 0]
    assert escrow.view("offer_of", offer=number) is None
    settled = ("Settled", {"offer": number, "seller": ALICE.address, "buyer": BOB.address})
    assert escrow.events[-1] == settled
    paid = {"source": BOB.address, "to": ALICE.address, "amount": 300}
    assert cash.events[-1] == ("Transferred", paid)
    with pytest.raises(Reverted) as caught:
        escrow.call("accept", sender=BOB, offer=number)
    assert caught.value.error == "NoSuchOffer"


def test_who_cannot_pay_gets_nothing_and_the_error_says_why(market: tuple[Deployed, ...]) -> None:
    cash, paper, escrow = market
    number = offer(escrow, 4, 501)
    before = [dict(item.storage) for item in market]
    with pytest.raises(Reverted) as caught:
        escrow.call("accept", sender=BOB, offer=number)
    assert caught.value.error == "CallFailed"
    text = caught.value.fields["text"]
    assert text.startswith("cash.transfer_from: REVERTED 101 InsufficientAllowance 0x")
    assert [item.storage for item in market] == before
    cash.call("approve", sender=BOB, spender=escrow.address, amount=600)
    with pytest.raises(Reverted, match="REVERTED 100 InsufficientBalance"):
        escrow.call("accept", sender=BOB, offer=number)
    assert held(paper, escrow.address) == [4]


def test_a_frozen_asset_stops_both_legs(market: tuple[Deployed, ...]) -> None:
    cash, paper, escrow = market
    number = offer(escrow, 4, 300)
    paper.frozen = True
    with pytest.raises(Reverted, match=r"paper\.transfer: CONTRACT_FROZEN"):
        escrow.call("accept", sender=BOB, offer=number)
    assert held(cash, BOB.address) == [500]
    paper.frozen = False
    escrow.call("accept", sender=BOB, offer=number)
    assert held(cash, BOB.address) == [200]


def test_the_first_payable_offer_is_taken(market: tuple[Deployed, ...]) -> None:
    cash, paper, escrow = market
    dear, fair = offer(escrow, 5, 900), offer(escrow, 3, 450)
    assert escrow.call("accept_first", sender=BOB, offers=[bytes(32), dear, fair]) == fair
    assert held(cash, ALICE.address, BOB.address) == [450, 50]
    assert held(paper, BOB.address, escrow.address) == [3, 5]
    assert escrow.call("accept_first", sender=BOB, offers=[dear]) is None
    assert held(cash, ALICE.address, BOB.address) == [450, 50]


def test_a_deposit_comes_back_to_the_seller_alone(market: tuple[Deployed, ...]) -> None:
    _, paper, escrow = market
    number = offer(escrow, 4, 300, until_ms=1)
    with pytest.raises(Reverted, match="OfferOver"):
        escrow.call("accept", sender=BOB, offer=number)
    with pytest.raises(Reverted, match="NotTheSeller"):
        escrow.call("withdraw", sender=BOB, offer=number)
    escrow.call("withdraw", sender=ALICE, offer=number)
    assert held(paper, ALICE.address, escrow.address) == [10, 0]


def test_what_is_not_approved_cannot_be_offered(market: tuple[Deployed, ...]) -> None:
    _, paper, escrow = market
    offer(escrow, 10, 1)
    with pytest.raises(Reverted, match="InsufficientAllowance"):
        offer(escrow, 1, 1)
    with pytest.raises(Reverted, match=r"gold\.transfer_from: UNKNOWN_CONTRACT no"):
        escrow.call(
            "offer", sender=ALICE, gives="gold", amount=1, wants="cash", price=1, until_ms=LATE_MS
        )
    assert held(paper, escrow.address) == [10]
