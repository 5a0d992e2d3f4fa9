"""Why no share is given on an unchecked ciphertext: the attack, and the audit that stops it."""

import os
import random
from dataclasses import dataclass

import numpy as np
import pytest

from chainnode import _native as native
from chainnode.he.opening import BlockOpening, block_seed, check_opening, chosen_blocks
from chainnode.types.errors import ClientFault, PeerFault

DEGREE = 16
PRIME = 1_073_741_789
PLAIN = 257
MEMBERS = 3
FLOOD_MAX = 2**18
Polynomial = list[int]


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """In Z_q[X] / (X^16 + 1), schoolbook."""
    out = [0] * DEGREE
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            sign = 1 if i + j < DEGREE else -1
            out[(i + j) % DEGREE] = (out[(i + j) % DEGREE] + sign * x * y) % PRIME
    return out


@dataclass
class ToyCouncil:
    """Threshold BGV on a toy ring, as the product releases scalars."""

    secrets: list[Polynomial]
    source: random.Random

    def share(self, member: int, second: Polynomial) -> int:
        """The member's share of the constant coefficient, flooded in multiples of t."""
        flood = PLAIN * self.source.randrange(-FLOOD_MAX, FLOOD_MAX)
        return (multiply(second, self.secrets[member])[0] + flood) % PRIME

    def open(self, first: Polynomial, second: Polynomial) -> int:
        total = (first[0] + sum(self.share(m, second) for m in range(MEMBERS))) % PRIME
        centred = total - PRIME if total > PRIME // 2 else total
        return centred % PLAIN

    def joint(self) -> Polynomial:
        return [sum(column) for column in zip(*self.secrets, strict=True)]


def toy_council(seed: int) -> ToyCouncil:
    source = random.Random(seed)
    secrets = [[source.randrange(-1, 2) for _ in range(DEGREE)] for _ in range(MEMBERS)]
    return ToyCouncil(secrets, source)


def test_an_honest_toy_ciphertext_opens_to_its_plaintext() -> None:
    council, source = toy_council(1), random.Random(2)
    uniform = [source.randrange(PRIME) for _ in range(DEGREE)]
    masked = multiply(uniform, council.joint())
    message = [source.randrange(PLAIN) for _ in range(DEGREE)]
    noise = [PLAIN * source.randrange(-3, 4) for _ in range(DEGREE)]
    pairs = zip(masked, message, noise, strict=True)
    first = [(m + e - a) % PRIME for a, m, e in pairs]
    assert council.open(first, uniform) == message[0]


@pytest.mark.parametrize("seed", range(5))
def test_malformed_toy_ciphertexts_open_to_the_joint_key_whatever_the_flooding(seed: int) -> None:
    council = toy_council(seed)
    stolen = []
    for place in range(DEGREE):
        # X^-place brings the secret's coefficient to the constant one; no noise hides it.
        second = [0] * DEGREE
        second[-place % DEGREE] = PRIME - 1 if place else 1
        value = council.open([0] * DEGREE, second)
        stolen.append(value - PLAIN if value > PLAIN // 2 else value)
    assert stolen == council.joint()


@pytest.fixture(scope="module")
def key() -> native.HeSecretKey:
    return native.HeSecretKey.generate("S")


@pytest.fixture(scope="module")
def public_key(key: native.HeSecretKey) -> bytes:
    return key.public_key()


def malformed(limbs: int) -> bytes:
    """(0, 1): in NTT form the constant 1 is 1 everywhere."""
    return np.concatenate([np.zeros(limbs * 8192), np.ones(limbs * 8192)]).astype("<u8").tobytes()


def test_the_real_ring_has_the_same_weakness(key: native.HeSecretKey) -> None:
    pair = malformed(4)
    native.he_validate_ciphertext("S", pair, 2, 4)
    share = key.scalar_share(pair, 4, b"flood", 1)
    opened, left = native.he_combine_scalar("S", 4, pair, [share])
    assert left >= native.HE_SCALAR_MARGIN_BITS
    # N times the secret's constant coefficient: -1, 0 or 1.
    assert opened in {0, 8192, 65_537 - 8192}


def test_the_audit_refuses_what_no_seed_encrypts(public_key: bytes) -> None:
    slots, seed = bytes(8 * 8192), os.urandom(32)
    honest = native.he_encrypt("S", public_key, slots, seed, 3)
    opening = BlockOpening("sector.2", 4, seed, slots)
    check_opening("S", public_key, honest, opening, 1)
    for ciphertext in (malformed(3), honest[:-8] + bytes(8), honest[:-1], b""):
        with pytest.raises(PeerFault, match=r"block 4 of column sector\.2") as caught:
            check_opening("S", public_key, ciphertext, opening, 1)
        assert caught.value.code == "CIPHERTEXT_MALFORMED"


def test_the_audit_refuses_values_outside_the_schema(public_key: bytes) -> None:
    slots = np.full(8192, 2, "<u8").tobytes()
    seed = os.urandom(32)
    honest = native.he_encrypt("S", public_key, slots, seed, 3)
    check_opening("S", public_key, honest, BlockOpening("c", 0, seed, slots), 2)
    with pytest.raises(PeerFault, match="it holds 2, more than 1"):
        check_opening("S", public_key, honest, BlockOpening("c", 0, seed, slots), 1)
    with pytest.raises(PeerFault, match="does not encrypt"):
        check_opening("S", public_key, honest, BlockOpening("c", 0, b"short", slots), 1)


def test_the_choice_is_everyones_and_nobodys() -> None:
    counts = {"b": 5, "a": 90, "c": 1}
    chosen = chosen_blocks(b"block hash", counts, 12)
    assert chosen == chosen_blocks(b"block hash", dict(sorted(counts.items())), 12)
    assert chosen != chosen_blocks(b"another", counts, 12)
    assert len(set(chosen)) == 12
    assert all(0 <= block < counts[name] for name, block in chosen)
    assert len(chosen_blocks(b"x", counts, 1_000)) == 96


def test_seeds_differ_by_everything_and_repeat() -> None:
    secret = b"s" * 32
    seeds = [
        block_seed(secret, 1, "S", "t/c/1/0"),
        block_seed(secret, 2, "S", "t/c/1/0"),
        block_seed(secret, 1, "S36", "t/c/1/0"),
        block_seed(secret, 1, "S", "t/c/1/1"),
        block_seed(b"u" * 32, 1, "S", "t/c/1/0"),
    ]
    assert len(set(seeds)) == 5
    assert seeds[0] == block_seed(secret, 1, "S", "t/c/1/0")
    with pytest.raises(ClientFault, match="32 bytes"):
        block_seed(b"short", 1, "S", "t/c/1/0")
