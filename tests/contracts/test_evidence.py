"""The evidence contract: a hash is recorded once, with who and when."""

from typing import Any

import pytest

from chainnode.contract.testing import Deployed, Reverted, deploy, member

ALICE, BOB = member("alice"), member("bob", "registry", "common")
DIGEST = bytes(range(32))


@pytest.fixture
def evidence(shipped: Any) -> Deployed:
    return deploy(shipped("evidence").Evidence)


def test_a_record_says_who_and_when(evidence: Deployed) -> None:
    evidence.call("put", sender=BOB, digest=DIGEST, metadata="loan file 7 · ü")
    found = evidence.view("get", digest=DIGEST)
    assert (found.owner, found.organisation) == (BOB.address, "registry")
    assert (found.height, found.time_ms) == (evidence.height, evidence.time_ms)
    assert found.metadata == "loan file 7 · ü"
    assert evidence.view("owner", digest=DIGEST) == BOB.address
    assert evidence.view("exists", digest=DIGEST) is True
    assert evidence.view("total") == 1
    assert evidence.events == [("Recorded", {"digest": DIGEST, "owner": BOB.address})]


def test_a_hash_is_recorded_once(evidence: Deployed) -> None:
    evidence.call("put", sender=ALICE, digest=DIGEST, metadata="first")
    with pytest.raises(Reverted) as caught:
        evidence.call("put", sender=BOB, digest=DIGEST, metadata="second")
    assert caught.value.error == "AlreadyRecorded"
    assert caught.value.fields == {"digest": DIGEST, "owner": ALICE.address}
    assert evidence.view("get", digest=DIGEST).metadata == "first"


def test_an_unknown_hash_is_an_error_not_an_empty_record(evidence: Deployed) -> None:
    assert evidence.view("exists", digest=DIGEST) is False
    for method in ("get", "owner"):
        with pytest.raises(Reverted) as caught:
            evidence.view(method, digest=DIGEST)
        assert caught.value.error == "NotRecorded"


def test_records_are_listed_in_pages_by_hash(evidence: Deployed) -> None:
    digests = [bytes([first]) + bytes(31) for first in (9, 3, 255, 0)]
    for digest in digests:
        evidence.call("put", digest=digest, metadata=digest.hex()[:2])
    page = evidence.view("page", start=bytes(32), limit=3)
    assert [(digest, record.metadata) for digest, record in page] == [
        (digest, digest.hex()[:2]) for digest in sorted(digests)[:3]
    ]
    rest = evidence.view("page", start=page[-1][0], limit=3)
    assert [digest for digest, _ in rest] == sorted(digests)[2:]
    assert evidence.view("page", start=b"\xff" * 32, limit=3) == []


def test_the_text_is_limited_in_characters_not_bytes(evidence: Deployed) -> None:
    evidence.call("put", digest=DIGEST, metadata="ü" * 4096)
    with pytest.raises(Reverted) as caught:
        evidence.call("put", digest=bytes(32), metadata="u" * 4097)
    assert caught.value.error == "AssertionFailed"
    assert caught.value.fields == {"text": "metadata too long"}
