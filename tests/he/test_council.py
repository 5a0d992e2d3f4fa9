"""The key ceremony on the real engine: joint keys work, and a bad message is noticed."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chainnode import _native
from chainnode._native import HeSecretKey
from chainnode.he import council, key_vectors, release
from chainnode.he.engine import pack_container, unpack_container
from chainnode.he.profiles import ProfileName
from chainnode.he.threshold import Sharing
from chainnode.types.errors import ClientFault, PeerFault

MEMBERS = ("bank-a", "guarantor", "registry", "statistics")
SHARING = Sharing.of(MEMBERS, 3)
EPOCH = 1
EPOCH_SEED = hashlib.sha256(b"epoch").digest()
TEST_SEED = hashlib.sha256(b"test").digest()


DEEP: tuple[ProfileName, ...] = ("S", "S36", "M")


def added(
    messages: Mapping[str, Sequence[bytes]], profiles: Sequence[ProfileName]
) -> council.FirstRound:
    first = council.FirstRound(EPOCH_SEED, SHARING, profiles)
    for name, parts in messages.items():
        for index, part in zip(SHARING.led_by(name), parts, strict=True):
            first.add(index, part)
    return first


class Council:
    """A whole ceremony in one place; each member holds only its own secrets."""

    def __init__(self, profiles: Sequence[ProfileName] = council.BASE_PROFILES) -> None:
        self.profiles = profiles
        sealing = {name: X25519PrivateKey.generate() for name in MEMBERS}
        public = {name: release.public_bytes(key) for name, key in sealing.items()}
        self.held = {
            name: {index: council.PieceSecret.draw(profiles) for index in SHARING.led_by(name)}
            for name in MEMBERS
        }
        ceremonies = {
            name: council.Ceremony(EPOCH_SEED, SHARING, name, dict(led), profiles)
            for name, led in self.held.items()
        }
        self.first = {name: item.round1(public) for name, item in ceremonies.items()}
        total = added(self.first, profiles)
        for name, item in ceremonies.items():
            self.held[name] |= item.receive(total, sealing[name])
        self.second = {
            index: part
            for name, item in ceremonies.items()
            for index, part in zip(SHARING.led_by(name), item.round2(total), strict=True)
        }
        self.keys = council.aggregate(total, self.second)
        self.vectors = key_vectors.test_vectors(self.keys, TEST_SEED)

    def shares(self) -> dict[str, bytes]:
        return {
            name: key_vectors.share_of_vectors(self.vectors, self.held[name], EPOCH, SHARING)
            for name in MEMBERS
        }


@pytest.fixture(scope="module")
def made() -> Council:
    return Council()


def test_the_joint_keys_open_every_test_vector(made: Council) -> None:
    assert [vector.name for vector in made.vectors] == ["fresh S", "fresh S36", "product S36"]
    key_vectors.check_vectors(made.vectors, SHARING, made.shares())


def test_every_member_computes_the_same_keys_and_vectors(made: Council) -> None:
    backwards = dict(reversed(made.first.items()))
    again = council.aggregate(added(backwards, made.profiles), made.second)
    assert again.hashes() == made.keys.hashes()
    ciphertexts = [vector.ciphertext for vector in key_vectors.test_vectors(again, TEST_SEED)]
    assert ciphertexts == [vector.ciphertext for vector in made.vectors]
    assert len(set(again.hashes().values()) - {b""}) == 3


def test_a_member_that_shares_with_another_key_fails_the_epoch_and_is_named(made: Council) -> None:
    shares = made.shares()
    strangers = {index: council.PieceSecret.draw() for index in made.held["registry"]}
    shares["registry"] = key_vectors.share_of_vectors(made.vectors, strangers, EPOCH, SHARING)
    with pytest.raises(PeerFault, match="the guilty member is registry"):
        key_vectors.check_vectors(made.vectors, SHARING, shares)


def test_a_piece_dealt_differently_to_its_holders_fails_the_epoch(made: Council) -> None:
    # guarantor and registry hold a piece; one of them was dealt something else.
    held = dict(made.held["registry"])
    index = SHARING.pieces.index(("guarantor", "registry"))
    held[index] = council.PieceSecret.draw()
    shares = made.shares() | {
        "registry": key_vectors.share_of_vectors(made.vectors, held, EPOCH, SHARING)
    }
    with pytest.raises(PeerFault, match="the guilty member is registry"):
        key_vectors.check_vectors(made.vectors, SHARING, shares)


def test_a_swapped_first_message_makes_keys_that_fail(made: Council) -> None:
    first = made.first | {"bank-a": Council().first["bank-a"]}
    keys = council.aggregate(added(first, made.profiles), made.second)
    assert keys.hashes() != made.keys.hashes()
    vectors = key_vectors.test_vectors(keys, TEST_SEED)
    shares = {
        name: key_vectors.share_of_vectors(vectors, made.held[name], EPOCH, SHARING)
        for name in MEMBERS
    }
    with pytest.raises(PeerFault, match="WRONG_SHARE"):
        key_vectors.check_vectors(vectors, SHARING, shares)


def test_every_holder_of_a_piece_has_the_same_and_nobody_else_has_it(made: Council) -> None:
    for index, holders in enumerate(SHARING.pieces):
        floods = {made.held[name][index].flood_key for name in holders}
        assert len(floods) == 1
        assert all(index not in made.held[name] for name in MEMBERS if name not in holders)


def test_a_deal_for_another_member_does_not_open(made: Council) -> None:
    other = council.Ceremony(EPOCH_SEED, SHARING, "registry", {})
    with pytest.raises(PeerFault, match="CEREMONY_MESSAGE_MALFORMED"):
        other.receive(added(made.first, made.profiles), X25519PrivateKey.generate())


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x01\x00\x00\x00",
        pack_container([b"x", b"y", b"z"]),
        pack_container([b""] * 5 + [pack_container([b""] * 3)]),
        pack_container([b""] * 5 + [b"no container"]),
    ],
)
def test_a_malformed_part_names_its_leader(made: Council, broken: bytes) -> None:
    with pytest.raises(PeerFault) as refused:
        added({"registry": [broken] * len(made.first["registry"])}, made.profiles)
    assert refused.value.code == "CEREMONY_MESSAGE_MALFORMED"
    assert refused.value.subject == "registry"


def changed(part: bytes, place: int, to: bytes) -> bytes:
    """A part with one of its fields replaced."""
    fields = unpack_container(part)
    fields[place] = to
    return pack_container(fields)


def of_another_place(
    seed: bytes = EPOCH_SEED, index: int = SHARING.led_by("registry")[0], name: str = "registry"
) -> bytes:
    """A first part of registry's first piece, honest but for what its proofs are bound to."""
    piece, right = council.PieceSecret.draw(), SHARING.led_by("registry")[0]
    shares, seconds, proofs = [], [], []
    for profile in council.BASE_PROFILES:
        place = council.first_claim(seed, profile, index, name)[2]
        seeds = council.first_claim(EPOCH_SEED, profile, right, "registry")[:2]
        share, relin, proof = piece.keys[profile].first_shares((*seeds, place))
        shares.append(share)
        seconds += [relin[0]] if relin else []
        proofs.append(proof)
    deal = pack_container([b""] * (2 + len(SHARING.pieces[right])))
    return pack_container([*shares, *seconds, *proofs, deal])


def refuse_unproven(made: Council, part: bytes) -> str:
    first = council.FirstRound(EPOCH_SEED, SHARING, made.profiles)
    index = SHARING.led_by("registry")[0]
    with pytest.raises(PeerFault) as refused:
        first.add(index, part)
    assert refused.value.code == "CEREMONY_PROOF_WRONG"
    assert refused.value.subject == "registry"
    assert f"of piece {index} in " in refused.value.message
    # Nothing of a refused part is kept.
    assert not first.deals and not first.relin_totals
    return refused.value.message


@pytest.mark.parametrize(
    "place",
    [{"seed": hashlib.sha256(b"another epoch").digest()}, {"index": 0}, {"name": "guarantor"}],
)
def test_a_proof_for_another_epoch_piece_or_member_names_the_leader(
    made: Council, place: dict[str, Any]
) -> None:
    refuse_unproven(made, of_another_place(**place))
    right = council.FirstRound(EPOCH_SEED, SHARING, made.profiles)
    right.add(SHARING.led_by("registry")[0], of_another_place())


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
def test_every_share_needs_its_own_proof(made: Council, place: int) -> None:
    # Another honest dealer's field in place of the own: a share copied, or its proof.
    part, other = made.first["registry"][0], made.first["bank-a"][0]
    swapped = changed(part, place, unpack_container(other)[place])
    assert ("in S36" if place in (1, 2, 4) else "in S:") in refuse_unproven(made, swapped)
    refuse_unproven(made, changed(part, place, b""))


def test_an_index_of_another_length_names_its_sender(made: Council) -> None:
    index = council.message_index(made.first["registry"])
    hashes = council.part_hashes(SHARING, "registry", index)
    assert list(hashes) == list(SHARING.led_by("registry"))
    for broken in (index[:-1], index + bytes(32), b""):
        with pytest.raises(PeerFault, match="CEREMONY_MESSAGE_MALFORMED") as refused:
            council.part_hashes(SHARING, "registry", broken)
        assert refused.value.subject == "registry"


def test_keys_are_not_made_before_every_part_is_there(made: Council) -> None:
    first = {name: parts for name, parts in made.first.items() if name != "registry"}
    with pytest.raises(PeerFault, match="part is missing"):
        council.aggregate(added(first, made.profiles), made.second)


def test_a_ceremony_with_profile_m_proves_its_deepest_product() -> None:
    deep = Council(DEEP)
    names = [
        f"{kind} {name}" for kind, some in (("fresh", DEEP), ("product", DEEP[1:])) for name in some
    ]
    assert [vector.name for vector in deep.vectors] == names
    key_vectors.check_vectors(deep.vectors, SHARING, deep.shares())
    assert len(set(deep.keys.hashes().values())) == 5
    # A relinearisation key of M that is not of this secret is found by that product alone.
    other = Council(DEEP).keys.relin_keys["M"]
    keys = council.KeySet(deep.keys.public_keys, {**deep.keys.relin_keys, "M": other})
    vectors = key_vectors.test_vectors(keys, TEST_SEED)

    def check(some: Sequence[key_vectors.TestVector]) -> None:
        shares = {
            name: key_vectors.share_of_vectors(some, held, EPOCH, SHARING)
            for name, held in deep.held.items()
        }
        key_vectors.check_vectors(some, SHARING, shares)

    assert vectors[-1].name == "product M"
    check(vectors[:-1])
    with pytest.raises(PeerFault, match="WRONG_SHARE"):
        check(vectors)


def test_a_restarted_member_cannot_finish_a_ceremony_it_forgot(made: Council) -> None:
    led = {index: made.held["bank-a"][index] for index in SHARING.led_by("bank-a")}
    forgotten = council.Ceremony(EPOCH_SEED, SHARING, "bank-a", led)
    with pytest.raises(ClientFault, match="CEREMONY_LOST"):
        forgotten.round2(added(made.first, made.profiles))


def test_commitments_differ_by_member_round_and_epoch() -> None:
    blob = hashlib.sha256(b"blob").digest()
    made = {
        council.commitment(epoch, round_number, blob, name)
        for epoch in (1, 2)
        for round_number in (1, 2)
        for name in MEMBERS
    }
    assert len(made) == 16


@pytest.mark.parametrize(
    ("profile", "size_bytes"), [("S", 65_568), ("S36", 360_480), ("M", 1_114_144)]
)
def test_a_proof_is_small_beside_what_it_proves(profile: ProfileName, size_bytes: int) -> None:
    claim = council.first_claim(EPOCH_SEED, profile, 0, "bank-a")
    share, relin, proof = HeSecretKey.generate(profile).first_shares(claim)
    second = relin[0] if relin else None
    _native.he_verify_first_shares(profile, claim, share, second, proof)
    assert len(proof) == size_bytes < (len(share) + len(second or b"")) / 4
    with pytest.raises(ValueError, match="belong together"):
        other = claim[0], b"" if relin is None else None, claim[2]
        _native.he_verify_first_shares(profile, other, share, second, proof)


def test_no_message_contains_another_members_part(made: Council) -> None:
    parts = {part for name in MEMBERS for part in made.first[name]}
    assert len(parts) == len(SHARING.pieces) == 6
