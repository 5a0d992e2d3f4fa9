"""The key ceremony on the real engine: joint keys work, and a bad message is noticed."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chainnode.he import council, release
from chainnode.he.engine import pack_container, unpack_container
from chainnode.he.threshold import Sharing
from chainnode.types.errors import ClientFault, PeerFault

MEMBERS = ("bank-a", "guarantor", "registry", "statistics")
SHARING = Sharing.of(MEMBERS, 3)
EPOCH = 1
EPOCH_SEED = hashlib.sha256(b"epoch").digest()
TEST_SEED = hashlib.sha256(b"test").digest()


class Council:
    """A whole ceremony in one place; each member holds only its own secrets."""

    def __init__(self) -> None:
        sealing = {name: X25519PrivateKey.generate() for name in MEMBERS}
        public = {name: release.public_bytes(key) for name, key in sealing.items()}
        self.held = {
            name: {index: council.PieceSecret.draw() for index in SHARING.led_by(name)}
            for name in MEMBERS
        }
        ceremonies = {
            name: council.Ceremony(EPOCH_SEED, SHARING, name, dict(led))
            for name, led in self.held.items()
        }
        self.first = {name: item.round1(public) for name, item in ceremonies.items()}
        for name, item in ceremonies.items():
            self.held[name] |= item.receive(self.first, sealing[name])
        self.second = {name: item.round2(self.first) for name, item in ceremonies.items()}
        self.keys = council.aggregate(EPOCH_SEED, SHARING, self.first, self.second)
        self.vectors = council.test_vectors(self.keys, TEST_SEED)

    def shares(self) -> dict[str, bytes]:
        return {
            name: council.share_of_vectors(self.vectors, self.held[name], EPOCH, SHARING)
            for name in MEMBERS
        }


@pytest.fixture(scope="module")
def made() -> Council:
    return Council()


def test_the_joint_keys_open_every_test_vector(made: Council) -> None:
    assert [vector.name for vector in made.vectors] == ["fresh S", "fresh S36", "product S36"]
    council.check_vectors(made.vectors, SHARING, made.shares())


def test_every_member_computes_the_same_keys_and_vectors(made: Council) -> None:
    again = council.aggregate(EPOCH_SEED, SHARING, made.first, made.second)
    assert again.hashes() == made.keys.hashes()
    ciphertexts = [vector.ciphertext for vector in council.test_vectors(again, TEST_SEED)]
    assert ciphertexts == [vector.ciphertext for vector in made.vectors]
    assert len(set(again.hashes().values())) == 3


def test_a_member_that_shares_with_another_key_fails_the_epoch_and_is_named(made: Council) -> None:
    shares = made.shares()
    strangers = {index: council.PieceSecret.draw() for index in made.held["registry"]}
    shares["registry"] = council.share_of_vectors(made.vectors, strangers, EPOCH, SHARING)
    with pytest.raises(PeerFault, match="the guilty member is registry"):
        council.check_vectors(made.vectors, SHARING, shares)


def test_a_piece_dealt_differently_to_its_holders_fails_the_epoch(made: Council) -> None:
    # guarantor and registry hold a piece; one of them was dealt something else.
    held = dict(made.held["registry"])
    index = SHARING.pieces.index(("guarantor", "registry"))
    held[index] = council.PieceSecret.draw()
    shares = made.shares() | {
        "registry": council.share_of_vectors(made.vectors, held, EPOCH, SHARING)
    }
    with pytest.raises(PeerFault, match="the guilty member is registry"):
        council.check_vectors(made.vectors, SHARING, shares)


def test_a_swapped_first_message_makes_keys_that_fail(made: Council) -> None:
    first = made.first | {"bank-a": Council().first["bank-a"]}
    keys = council.aggregate(EPOCH_SEED, SHARING, first, made.second)
    assert keys.hashes() != made.keys.hashes()
    vectors = council.test_vectors(keys, TEST_SEED)
    shares = {
        name: council.share_of_vectors(vectors, made.held[name], EPOCH, SHARING) for name in MEMBERS
    }
    with pytest.raises(PeerFault, match="WRONG_SHARE"):
        council.check_vectors(vectors, SHARING, shares)


def test_every_holder_of_a_piece_has_the_same_and_nobody_else_has_it(made: Council) -> None:
    for index, holders in enumerate(SHARING.pieces):
        floods = {made.held[name][index].flood_key for name in holders}
        assert len(floods) == 1
        assert all(index not in made.held[name] for name in MEMBERS if name not in holders)


def test_a_deal_for_another_member_does_not_open(made: Council) -> None:
    other = council.Ceremony(EPOCH_SEED, SHARING, "registry", {})
    with pytest.raises(PeerFault, match="CEREMONY_MESSAGE_MALFORMED"):
        other.receive(made.first, X25519PrivateKey.generate())


@pytest.mark.parametrize("broken", [b"", b"\x01\x00\x00\x00", pack_container([b"x", b"y", b"z"])])
def test_a_malformed_message_names_its_sender(made: Council, broken: bytes) -> None:
    with pytest.raises(PeerFault) as refused:
        council.aggregate(EPOCH_SEED, SHARING, made.first | {"registry": broken}, made.second)
    assert refused.value.code == "CEREMONY_MESSAGE_MALFORMED"
    assert "registry" in refused.value.subject


def test_a_restarted_member_cannot_finish_a_ceremony_it_forgot(made: Council) -> None:
    led = {index: made.held["bank-a"][index] for index in SHARING.led_by("bank-a")}
    forgotten = council.Ceremony(EPOCH_SEED, SHARING, "bank-a", led)
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
    assert len(parts) == len(SHARING.pieces) == 6
