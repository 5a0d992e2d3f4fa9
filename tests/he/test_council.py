"""The key ceremony on the real engine: joint keys work, and a bad message is noticed."""

import hashlib

import pytest

from chainnode._native import HeSecretKey
from chainnode.he import council
from chainnode.he.engine import pack_container, unpack_container
from chainnode.types.errors import ClientFault, PeerFault

MEMBERS = ("bank-a", "guarantor", "registry", "statistics")
EPOCH = 1
EPOCH_SEED = hashlib.sha256(b"epoch").digest()
TEST_SEED = hashlib.sha256(b"test").digest()


class Council:
    """A whole ceremony in one place; each member holds only its own secrets."""

    def __init__(self) -> None:
        self.secrets = {
            name: {profile: HeSecretKey.generate(profile) for profile in council.PUBLIC_PROFILES}
            for name in MEMBERS
        }
        ceremonies = {
            name: council.Ceremony(EPOCH_SEED, secrets) for name, secrets in self.secrets.items()
        }
        self.first = {name: item.round1() for name, item in ceremonies.items()}
        self.second = {name: item.round2(self.first) for name, item in ceremonies.items()}
        self.keys = council.aggregate(EPOCH_SEED, self.first, self.second)
        self.vectors = council.test_vectors(self.keys, TEST_SEED)

    def shares(self) -> dict[str, bytes]:
        return {
            name: council.share_of_vectors(
                self.vectors, self.secrets[name], name.encode().ljust(32), EPOCH, MEMBERS
            )
            for name in MEMBERS
        }


@pytest.fixture(scope="module")
def made() -> Council:
    return Council()


def test_the_joint_keys_open_every_test_vector(made: Council) -> None:
    assert [vector.name for vector in made.vectors] == ["fresh S", "fresh S36", "product S36"]
    council.check_vectors(made.vectors, made.shares())


def test_every_member_computes_the_same_keys_and_vectors(made: Council) -> None:
    again = council.aggregate(EPOCH_SEED, made.first, made.second)
    assert again.hashes() == made.keys.hashes()
    ciphertexts = [vector.ciphertext for vector in council.test_vectors(again, TEST_SEED)]
    assert ciphertexts == [vector.ciphertext for vector in made.vectors]
    assert len(set(again.hashes().values())) == 3


def test_a_member_that_shares_with_another_key_fails_the_epoch(made: Council) -> None:
    shares = made.shares()
    stranger = {profile: HeSecretKey.generate(profile) for profile in council.PUBLIC_PROFILES}
    shares["registry"] = council.share_of_vectors(made.vectors, stranger, bytes(32), EPOCH, MEMBERS)
    with pytest.raises(PeerFault, match="one of: bank-a, guarantor, registry, statistics"):
        council.check_vectors(made.vectors, shares)


def test_a_swapped_first_message_makes_keys_that_fail(made: Council) -> None:
    other = council.Ceremony(EPOCH_SEED, Council().secrets["bank-a"]).round1()
    first = made.first | {"bank-a": other}
    keys = council.aggregate(EPOCH_SEED, first, made.second)
    assert keys.hashes() != made.keys.hashes()
    vectors = council.test_vectors(keys, TEST_SEED)
    shares = {
        name: council.share_of_vectors(vectors, made.secrets[name], bytes(32), EPOCH, MEMBERS)
        for name in MEMBERS
    }
    with pytest.raises(PeerFault, match="WRONG_SHARE"):
        council.check_vectors(vectors, shares)


@pytest.mark.parametrize("broken", [b"", b"\x01\x00\x00\x00", pack_container([b"x", b"y", b"z"])])
def test_a_malformed_message_names_its_sender(made: Council, broken: bytes) -> None:
    with pytest.raises(PeerFault) as refused:
        council.aggregate(EPOCH_SEED, made.first | {"registry": broken}, made.second)
    assert refused.value.code == "CEREMONY_MESSAGE_MALFORMED"
    assert "registry" in refused.value.subject


def test_a_restarted_member_cannot_finish_a_ceremony_it_forgot(made: Council) -> None:
    forgotten = council.Ceremony(EPOCH_SEED, made.secrets["bank-a"])
    with pytest.raises(ClientFault, match="CEREMONY_LOST"):
        forgotten.round2(made.first)


def test_commitments_differ_by_member_round_and_epoch() -> None:
    blob = hashlib.sha256(b"blob").digest()
    made = {
        council.commitment(epoch, round_number, blob, name)
        for epoch in (1, 2)
        for round_number in (1, 2)
        for name in MEMBERS
    }
    assert len(made) == 16


def test_no_message_contains_another_members_part(made: Council) -> None:
    parts = {part for name in MEMBERS for part in unpack_container(made.first[name])}
    assert len(parts) == 12
