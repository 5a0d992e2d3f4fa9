"""Opening results: only with every share, never a wrong number, the same noise on every resend."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from he_council import joint_keys

from chainnode import _native
from chainnode._native import HeSecretKey
from chainnode.he import council, release
from chainnode.he.planner import degree_and_noise
from chainnode.he.profiles import DEEP, PROFILES, SCORES
from chainnode.types.errors import ClientFault, InternalError, PeerFault
from chainnode.types.limits import RELEASE_UNITS_MAX

MEMBERS = ("bank-a", "guarantor", "registry", "statistics")
RESULT = hashlib.sha256(b"result").digest()


@dataclass
class Joint:
    profile: str
    secrets: dict[str, HeSecretKey]
    public_key: bytes

    @property
    def limbs(self) -> int:
        return PROFILES[self.profile].limbs  # type: ignore[index]

    def encrypt(self, values: list[int]) -> bytes:
        slots = np.zeros(8192, dtype="<u8")
        slots[: len(values)] = values
        seed = hashlib.sha256(bytes(slots)).digest()
        return _native.he_encrypt(self.profile, self.public_key, slots.tobytes(), seed, self.limbs)

    def scalar_shares(self, ciphertexts: list[bytes]) -> dict[str, bytes]:
        return {
            name: b"".join(
                secret.scalar_share(ciphertext, self.limbs, seed_of(name, str(index)), len(MEMBERS))
                for index, ciphertext in enumerate(ciphertexts)
            )
            for name, secret in self.secrets.items()
        }

    def switch_shares(self, ciphertext: bytes, target: bytes) -> dict[str, list[bytes]]:
        return {
            name: [
                secret.key_switch_share(
                    ciphertext, self.limbs, target, seed_of(name, "0", target), len(MEMBERS)
                )
            ]
            for name, secret in self.secrets.items()
        }


def seed_of(member: str, part: str, target: bytes = b"") -> bytes:
    key = hashlib.sha256(member.encode()).digest()
    return release.flood_seed(key, 1, RESULT, MEMBERS, part, target)


def joint(profile: str) -> Joint:
    secrets = {name: HeSecretKey.generate(profile) for name in MEMBERS}
    seed = council.common_seed(bytes(32), profile)
    public_key, _ = joint_keys(profile, seed, list(secrets.values()))
    return Joint(profile, secrets, public_key)


@pytest.fixture(scope="module")
def sums() -> Joint:
    return joint("S36")


@pytest.fixture(scope="module")
def scores() -> Joint:
    return joint("S")


def test_all_shares_open_the_exact_sums(sums: Joint) -> None:
    ciphertexts = [sums.encrypt([5, 7, 30]), sums.encrypt([10**9] * 20)]
    shares = sums.scalar_shares(ciphertexts)
    assert all(len(data) == 2 * 8 * sums.limbs for data in shares.values())
    opened = release.open_scalars("S36", sums.limbs, ciphertexts, shares, "query")
    assert opened == [42, 20 * 10**9]


@pytest.mark.parametrize("missing", MEMBERS)
def test_one_missing_share_opens_nothing(sums: Joint, missing: str) -> None:
    ciphertexts = [sums.encrypt([42]), sums.encrypt([43])]
    shares = sums.scalar_shares(ciphertexts)
    del shares[missing]
    with pytest.raises(release.WrongShare):
        release.open_scalars("S36", sums.limbs, ciphertexts, shares, "query")


def test_a_wrong_share_is_an_error_that_names_the_members(sums: Joint) -> None:
    ciphertexts = [sums.encrypt([42]), sums.encrypt([44])]
    others = [sums.encrypt([43]), sums.encrypt([45])]
    shares = sums.scalar_shares(ciphertexts)
    shares["registry"] = sums.scalar_shares(others)["registry"]
    with pytest.raises(release.WrongShare) as refused:
        release.open_scalars("S36", sums.limbs, ciphertexts, shares, "query 7")
    assert "one of: bank-a, guarantor, registry, statistics" in refused.value.message
    assert refused.value.subject == "query 7"


def test_a_share_of_the_wrong_length_names_its_member_alone(sums: Joint) -> None:
    ciphertext = sums.encrypt([42])
    shares = sums.scalar_shares([ciphertext])
    shares["guarantor"] += b"\x00"
    with pytest.raises(release.WrongShare, match="guilty member is guarantor") as refused:
        release.open_scalars("S36", sums.limbs, [ciphertext], shares, "query")
    assert "registry" not in refused.value.message


def test_switched_vectors_open_under_the_banks_key_only(scores: Joint) -> None:
    bank, other = HeSecretKey.generate("S"), HeSecretKey.generate("S")
    ciphertext = scores.encrypt([600, 0, 720])
    shares = scores.switch_shares(ciphertext, bank.public_key())
    (switched,) = release.switch_vectors("S", scores.limbs, [ciphertext], shares, "query")
    slots = np.frombuffer(bank.decrypt(switched, scores.limbs), dtype="<u8")
    assert slots[:4].tolist() == [600, 0, 720, 0]
    release.check_margin([bank.noise_budget_bits(switched, scores.limbs)], MEMBERS, "query")
    stolen = np.frombuffer(other.decrypt(switched, scores.limbs), dtype="<u8")
    assert stolen[:3].tolist() != [600, 0, 720]


def test_a_wrong_switch_share_leaves_no_noise_room(scores: Joint) -> None:
    bank = HeSecretKey.generate("S")
    target = bank.public_key()
    ciphertext = scores.encrypt([600, 0, 720])
    shares = scores.switch_shares(ciphertext, target)
    shares["registry"] = scores.switch_shares(scores.encrypt([1]), target)["registry"]
    (switched,) = release.switch_vectors("S", scores.limbs, [ciphertext], shares, "query")
    with pytest.raises(release.WrongShare):
        release.check_margin([bank.noise_budget_bits(switched, scores.limbs)], MEMBERS, "query")


def test_a_malformed_switch_share_names_its_member(scores: Joint) -> None:
    ciphertext = scores.encrypt([600])
    shares = scores.switch_shares(ciphertext, HeSecretKey.generate("S").public_key())
    shares["statistics"] = [b"\xff" * len(shares["statistics"][0])]
    with pytest.raises(release.WrongShare, match="guilty member is statistics"):
        release.switch_vectors("S", scores.limbs, [ciphertext], shares, "query")


def test_a_resent_share_is_byte_equal_and_every_other_input_changes_the_seed(sums: Joint) -> None:
    ciphertext = sums.encrypt([42])
    assert sums.scalar_shares([ciphertext]) == sums.scalar_shares([ciphertext])
    key = bytes(32)
    seeds = {
        release.flood_seed(key, 1, RESULT, MEMBERS, "0"),
        release.flood_seed(bytes([1]) * 32, 1, RESULT, MEMBERS, "0"),
        release.flood_seed(key, 2, RESULT, MEMBERS, "0"),
        release.flood_seed(key, 1, bytes(32), MEMBERS, "0"),
        release.flood_seed(key, 1, RESULT, MEMBERS[:3], "0"),
        release.flood_seed(key, 1, RESULT, MEMBERS, "1"),
        release.flood_seed(key, 1, RESULT, MEMBERS, "0", b"target"),
    }
    assert len(seeds) == 7


def test_a_sealed_share_opens_for_its_recipient_and_context_only() -> None:
    bank, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    context = release.share_context(b"q" * 32, RESULT, "registry", "counts")
    box = release.seal(release.public_bytes(bank), b"share", context)
    assert release.open_sealed(bank, box, context) == b"share"
    assert b"share" not in box
    wrong = release.share_context(b"q" * 32, RESULT, "guarantor", "counts")
    for private, given, place in ((other, box, context), (bank, box, wrong), (bank, b"", context)):
        with pytest.raises(PeerFault, match="SEALED_SHARE_INVALID"):
            release.open_sealed(private, given, place)


def test_sealing_to_a_useless_key_is_refused() -> None:
    with pytest.raises(ClientFault, match="KEY_INVALID"):
        release.seal(bytes(32), b"share", b"context")


def test_the_release_counter_stops_hard() -> None:
    counter = release.ReleaseCounter(RELEASE_UNITS_MAX - 3)
    counter.spend(2, spare_bits=4)
    with pytest.raises(PeerFault, match="RELEASES_EXHAUSTED"):
        counter.spend(2, spare_bits=4)
    with pytest.raises(PeerFault, match="RELEASES_EXHAUSTED"):
        counter.spend(1)
    assert counter.used == RELEASE_UNITS_MAX - 1


@pytest.mark.parametrize(
    ("hiding_bits", "coefficients"),
    [
        (degree_and_noise.SCALAR_HIDING_BITS, 1),
        (degree_and_noise.VECTOR_HIDING_BITS, SCORES.slots),
        (degree_and_noise.VECTOR_HIDING_BITS + 1, DEEP.slots),
    ],
)
def test_all_openings_up_to_the_stop_leave_64_bits(hiding_bits: int, coefficients: int) -> None:
    """Openings as noisy as a plan may be, and less noisy ones: what they give away adds up."""
    most = 0
    for spare_bits in range(12):
        count = RELEASE_UNITS_MAX // release.release_units(spare_bits)
        most = max(most, count)
        lost = Fraction(24 * coefficients * count, 4 ** (hiding_bits + spare_bits))
        assert lost <= Fraction(1, 2**64), spare_bits
    assert RELEASE_UNITS_MAX // release.release_units(0) == 2**16
    assert most == 2**24


def test_noise_above_the_capacity_is_never_opened() -> None:
    with pytest.raises(InternalError, match="NOISE_NOT_HIDDEN"):
        release.ReleaseCounter().spend(1, spare_bits=-1)
