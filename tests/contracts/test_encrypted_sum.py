"""The encrypted_sum contract: the same ciphertexts under CPython and on the executor."""

import json
from pathlib import Path
from typing import Any

import pytest

from chainnode.contract.testing import Deployed, Reverted, deploy, member
from chainnode.sdk.paillier import PaillierSecretKey

SETS = json.loads((Path(__file__).parents[1] / "vectors/paillier.json").read_text())
OWNER, ALICE, BOB = member("owner"), member("alice"), member("bob", "registry")


@pytest.fixture
def contract(shipped: Any) -> Deployed:
    return deploy(shipped("encrypted_sum").EncryptedSum, sender=OWNER)


@pytest.mark.parametrize("made", SETS, ids=["2048", "3072"])
def test_the_owner_reads_the_weighted_sum(contract: Deployed, made: dict[str, Any]) -> None:
    key = PaillierSecretKey(bytes.fromhex(made["secret_key"]))
    start, alice, bob = (key.public.encrypt(value) for value in (0, 250, -40))
    contract.call("open", name="limits", public_key=key.public.data, zero=start)
    contract.call("contribute", sender=ALICE, name="limits", amount=alice, weight=3)
    contract.call("contribute", sender=BOB, name="limits", amount=bob, weight=-2)
    contract.call("correct", name="limits", amount=-(2**63))
    contract.call("close", name="limits")
    found = contract.view("get", name="limits")
    expected = key.public.add(
        key.public.add(start, key.public.scalar_multiply(alice, 3)),
        key.public.scalar_multiply(bob, -2),
    )
    # Equal bytes on every engine, not merely equal plaintexts.
    assert found.total == key.public.add_plain(expected, -(2**63))
    assert key.decrypt(found.total) == 3 * 250 + 2 * 40 - 2**63
    assert (found.parts, found.closed, found.owner) == (2, True, OWNER.address)
    assert [name for name, _ in contract.events] == [
        "Opened", "Contributed", "Contributed", "Closed",
    ]  # fmt: skip


def refused(contract: Deployed, method: str, **arguments: Any) -> str:
    with pytest.raises(Reverted) as caught:
        contract.call(method, **arguments)
    return caught.value.error


def test_what_is_no_key_or_ciphertext_reverts_by_name(contract: Deployed) -> None:
    first, other = (bytes.fromhex(made["public_key"]) for made in SETS)
    zero = bytes.fromhex(SETS[0]["encryptions"][0]["ciphertext"])
    even = first[:-1] + bytes([first[-1] & 0xFE])
    for key in (b"", even, bytes(256), first[1:], bytes(10_000)):
        error = refused(contract, "open", name="a", public_key=key, zero=zero)
        assert error == "PaillierKeyInvalid"
    for bad in (b"", bytes(512), b"\xff" * 512, zero[1:], bytes(256) + first):
        error = refused(contract, "open", name="a", public_key=first, zero=bad)
        assert error == "PaillierCiphertextInvalid"
    error = refused(contract, "open", name="a", public_key=other, zero=zero)
    assert error == "PaillierCiphertextInvalid"
    contract.call("open", name="a", public_key=first, zero=zero)
    error = refused(contract, "contribute", name="a", amount=bytes(512), weight=1)
    assert error == "PaillierCiphertextInvalid"


def test_each_member_adds_once_and_only_the_owner_closes(contract: Deployed) -> None:
    key = bytes.fromhex(SETS[0]["public_key"])
    zero = bytes.fromhex(SETS[0]["encryptions"][0]["ciphertext"])
    contract.call("open", name="a", public_key=key, zero=zero)
    assert refused(contract, "open", name="a", public_key=key, zero=zero) == "NameTaken"
    assert refused(contract, "open", name="", public_key=key, zero=zero) == "AssertionFailed"
    contract.call("contribute", sender=ALICE, name="a", amount=zero, weight=1)
    again = refused(contract, "contribute", sender=ALICE, name="a", amount=zero, weight=1)
    assert again == "AlreadyContributed"
    assert refused(contract, "close", sender=ALICE, name="a") == "NotOwner"
    assert refused(contract, "correct", sender=ALICE, name="a", amount=1) == "NotOwner"
    assert refused(contract, "close", name="b") == "UnknownSum"
    contract.call("close", name="a")
    late = refused(contract, "contribute", sender=BOB, name="a", amount=zero, weight=1)
    assert late == "SumClosed"
    with pytest.raises(Reverted):
        contract.view("get", name="b")
