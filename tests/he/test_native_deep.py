"""Products of three and four factors: against SEAL, against plaintext, under a joint key."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import seal
from he_council import joint_keys

from chainnode import _native as native
from chainnode.he import seal_format

PARTIES = 4
PAGE_BYTES = 4096
TAIL_BITS = 2
FLOOD_SEED = b"\x07" * 32
Slots = npt.NDArray[np.uint64]
Factor = tuple[Sequence[str], Sequence[int], int]

# (a - b) (c - d) e v: the shape of TPC-H Q6, three range filters and a value.
Q6: list[Factor] = [
    (["a", "b"], [1, -1], 0),
    (["c", "d"], [1, -1], 0),
    (["e"], [-1], 1),
    (["v"], [1], 0),
]
PLAIN_PRODUCT: list[Factor] = [Q6[0], Q6[1], Q6[3]]
FLAGS = ("a", "b", "c", "d", "e")


@dataclass(frozen=True)
class Council:
    profile: str
    members: list[native.HeSecretKey]
    public_key: bytes
    relin_key: bytes


@functools.cache
def council(profile: str) -> Council:
    seed = b"common randomness of the epoch"
    members = [native.HeSecretKey.generate(profile) for _ in range(PARTIES)]
    return Council(profile, members, *joint_keys(profile, seed, members))


def random_slots(seed: int, bound: int, count: int) -> Slots:
    return np.random.default_rng(seed).integers(0, bound, count).astype("<u8")


def columns_of(name: str, blocks: int) -> dict[str, list[Slots]]:
    """Flags that are 0 or 1 with b <= a and d <= c, and a value of 16 bits."""
    slots = native.he_profile(name).slots
    data = {
        flag: [random_slots(100 * i + b, 2, slots) for b in range(blocks)]
        for i, flag in enumerate(FLAGS)
    }
    data["b"] = [np.asarray(x * y, "<u8") for x, y in zip(data["a"], data["b"], strict=True)]
    data["d"] = [np.asarray(x * y, "<u8") for x, y in zip(data["c"], data["d"], strict=True)]
    bound = min(1 << 16, native.he_profile(name).plain_modulus)
    data["v"] = [random_slots(900 + b, bound, slots) for b in range(blocks)]
    return data


def expected_sum(data: dict[str, list[Slots]], factors: Sequence[Factor], blocks: range) -> int:
    total = 0
    for block in blocks:
        product: npt.NDArray[np.object_] = np.ones(len(data["a"][block]), dtype=object)
        for names, weights, constant in factors:
            linear = sum(
                w * data[n][block].astype(object) for n, w in zip(names, weights, strict=True)
            )
            product = product * (linear + constant)
        total += int(product.sum())
    return total


def stored(folder: Path, group: Council, data: dict[str, list[Slots]]) -> native.HeColumns:
    limbs = len(native.he_profile(group.profile).moduli)
    for name, blocks in data.items():
        encrypted = native.he_encrypt_many(
            group.profile,
            group.public_key,
            [block.tobytes() for block in blocks],
            [os.urandom(32) for _ in blocks],
            limbs,
        )
        # Eight bytes a residue, so that the files can be read as words again.
        native.HeColumns.write(str(folder), name, group.profile, limbs, encrypted, 8)
    return native.HeColumns.open(str(folder), group.profile)


def stored_blocks(folder: Path, profile: str, column: str) -> list[bytes]:
    """The ciphertexts of a column, put together again from its tiles."""
    facts = native.he_profile(profile)
    planes = []
    for limb in range(len(facts.moduli)):
        words = np.fromfile(folder / f"{column}.{limb}.tiles", "<u8", offset=PAGE_BYTES)
        tiles = words.reshape(2, facts.slots // 64, -1, 64)
        planes.append(tiles.transpose(2, 0, 1, 3).reshape(tiles.shape[2], 2, facts.slots))
    return [block.tobytes() for block in np.stack(planes, axis=2)]


def noise_bound(name: str, factors: Sequence[Factor], blocks: int) -> int:
    """The planner's rule: variances multiply by parties, squared weights and blocks."""
    variance = blocks
    for _, weights, _ in factors:
        variance *= PARTIES * sum(w * w for w in weights)
    root = ((variance - 1).bit_length() + 1) // 2
    return native.he_profile(name).noise_bits[len(factors) - 1] + root + TAIL_BITS


@pytest.mark.parametrize(
    ("name", "factors"),
    [("M", Q6), ("M", Q6[:3]), ("M", Q6[2:]), ("M", PLAIN_PRODUCT), ("S", Q6[:3])],
)
def test_deep_products_are_released_exactly(
    tmp_path: Path, name: str, factors: list[Factor]
) -> None:
    group, blocks = council(name), 3
    profile = native.he_profile(name)
    limbs = len(profile.moduli)
    data = columns_of(name, blocks)
    store = stored(tmp_path, group, data)
    product = store.tensor_sum(factors, limbs, 1, 2)
    assert len(product) == (len(factors) + 1) * limbs * profile.slots * 8
    assert product == store.tensor_sum(factors, limbs, 1, 2, threads=3)
    steps = [
        [(w, stored_blocks(tmp_path, name, n)[1:3]) for n, w in zip(names, weights, strict=True)]
        for names, weights, constant in factors
        if constant == 0
    ]
    if len(steps) == len(factors):
        assert native.he_stepwise_sum(name, limbs, steps) == product
    closed = native.he_relinearise(name, limbs, product, group.relin_key)
    shares = [m.scalar_share(closed, limbs, FLOOD_SEED, PARTIES) for m in group.members]
    answer, left = native.he_combine_scalar(name, limbs, closed, shares)
    assert answer == expected_sum(data, factors, range(1, 3)) % profile.plain_modulus
    assert left >= native.HE_SCALAR_MARGIN_BITS
    flood = native.he_flood_bits(name, limbs, PARTIES, True)
    assert flood >= noise_bound(name, factors, 64) + 43, "64 blocks would not be hidden"


@pytest.mark.parametrize("name", ["S", "S36", "M"])
def test_noise_of_every_degree_is_the_tables(tmp_path: Path, name: str) -> None:
    profile = native.he_profile(name)
    limbs = len(profile.moduli)
    key = native.HeSecretKey.generate(name)
    public_key, relin_key = joint_keys(name, os.urandom(32), [key])
    alone = Council(name, [key], public_key, relin_key)
    names = [f"c{i}" for i in range(profile.factors_max)]
    data = {n: [random_slots(i, profile.plain_modulus, profile.slots)] for i, n in enumerate(names)}
    store = stored(tmp_path, alone, data)
    modulus_bits = sum(prime.bit_length() for prime in profile.moduli)
    for count in range(2, profile.factors_max + 1):
        factors: list[Factor] = [([n], [1], 0) for n in names[:count]]
        product = store.tensor_sum(factors, limbs, 0, 1)
        closed = native.he_relinearise(name, limbs, product, relin_key)
        for ciphertext in (product, closed):
            noise = modulus_bits - key.noise_budget_bits(ciphertext, limbs)
            assert abs(noise - profile.noise_bits[count - 1]) <= 1
        expected = functools.reduce(
            lambda left, n: left * data[n][0].astype(object) % profile.plain_modulus,
            names[:count],
            np.ones(profile.slots, dtype=object),
        )
        slots, room = key.open(closed, limbs)
        assert room == key.noise_budget_bits(closed, limbs)
        assert slots == key.decrypt(closed, limbs)
        opened = np.frombuffer(slots, "<u8")
        assert np.array_equal(opened.astype(object), expected)


def test_a_product_deeper_than_the_profile_is_refused(tmp_path: Path) -> None:
    group = council("S36")
    store = stored(tmp_path, group, {"a": [random_slots(1, 2, 8192)]})
    factor: Factor = (["a"], [1], 0)
    for count in (1, 3, 5):
        with pytest.raises(ValueError, match="profile S36 multiplies 2 to 2 factors"):
            store.tensor_sum([factor] * count, 4, 0, 1)
    with pytest.raises(ValueError, match="three to five"):
        native.he_relinearise("S36", 4, store.sum(["a"], [1], 4, 0, 1), group.relin_key)


class SealM:
    """SEAL at the ring of profile M, with a key of its own."""

    def __init__(self, folder: Path) -> None:
        parameters = seal.EncryptionParameters(seal.scheme_type.bgv)
        parameters.set_poly_modulus_degree(16_384)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(16_384, [43] * 8))
        parameters.set_plain_modulus(seal.PlainModulus.Batching(16_384, 36).value())
        self.parameters = parameters
        self.context = seal.SEALContext(parameters)
        keys = seal.KeyGenerator(self.context)
        self.encoder = seal.BatchEncoder(self.context)
        self.key = keys.create_public_key()
        self.encryptor = seal.Encryptor(self.context, self.key)
        self.decryptor = seal.Decryptor(self.context, keys.secret_key())
        self.evaluator = seal.Evaluator(self.context)
        self.path = folder / "seal.bin"

    def encrypt(self, values: Slots) -> seal.Ciphertext:
        return self.encryptor.encrypt(self.encoder.encode([int(v) for v in values]))

    def raw(self, ciphertext: seal.Ciphertext) -> bytes:
        ciphertext.save(str(self.path), seal.compr_mode_type.none)
        data, limbs = seal_format.unwrap("M", self.path.read_bytes())
        assert limbs == 7
        return data

    def public_key(self) -> bytes:
        """SEAL's public key without the special prime."""
        self.key.save(str(self.path))
        words = np.frombuffer(self.path.read_bytes()[-2 * 8 * 16_384 * 8 :], "<u8")
        return words.reshape(2, 8, 16_384)[:, :7].tobytes()

    def decrypt(self, ours: bytes) -> Slots:
        self.path.write_bytes(seal_format.wrap("M", 7, ours))
        loaded = seal.Ciphertext()
        loaded.load(self.context, str(self.path))
        return np.asarray(self.encoder.decode_uint64(self.decryptor.decrypt(loaded)), "<u8")

    def product(self, factors: Sequence[seal.Ciphertext]) -> seal.Ciphertext:
        return functools.reduce(self.evaluator.multiply, factors[1:], factors[0])


def test_profile_m_is_seals_ring_and_products_are_seals_bytes(tmp_path: Path) -> None:
    library, profile = SealM(tmp_path), native.he_profile("M")
    primes = [m.value() for m in library.parameters.coeff_modulus()]
    assert [*profile.moduli, profile.special_modulus] == primes
    assert profile.plain_modulus == library.parameters.plain_modulus().value()
    data = [
        [library.encrypt(random_slots(10 * c + b, 1 << 9, 16_384)) for b in range(2)]
        for c in range(4)
    ]
    names = [f"c{c}" for c in range(4)]
    for name, blocks in zip(names, data, strict=True):
        raw = [library.raw(block) for block in blocks]
        native.HeColumns.write(str(tmp_path), name, "M", 7, raw)
    store = native.HeColumns.open(str(tmp_path), "M")
    for count in (2, 3, 4):
        factors: list[Factor] = [([name], [1], 0) for name in names[:count]]
        per_block = [library.product([data[c][b] for c in range(count)]) for b in range(2)]
        total = library.evaluator.add(*per_block)
        assert store.tensor_sum(factors, 7, 0, 2) == library.raw(total)
        opened = library.encoder.decode_uint64(library.decryptor.decrypt(total))
        sums: Slots = np.zeros(16_384, "<u8")
        for b in range(2):
            product = np.ones(16_384, "<u8")
            for c in range(count):
                product = np.asarray(product * random_slots(10 * c + b, 1 << 9, 16_384), "<u8")
            sums = np.asarray(sums + product, "<u8")
        expected = [int(x) % profile.plain_modulus for x in sums]
        assert list(opened) == expected


def test_our_ciphertexts_of_profile_m_decrypt_in_seal(tmp_path: Path) -> None:
    library, t = SealM(tmp_path), native.he_profile("M").plain_modulus
    key = library.public_key()
    values = [random_slots(80 + i, t, 16_384) for i in range(2)]
    ours = [
        native.he_encrypt("M", key, slots.tobytes(), bytes([i]) * 32, 7)
        for i, slots in enumerate(values)
    ]
    for ciphertext, slots in zip(ours, values, strict=True):
        assert np.array_equal(library.decrypt(ciphertext), slots)
    product = native.he_multiply("M", 7, *ours)
    expected = values[0].astype(object) * values[1].astype(object) % t
    assert np.array_equal(library.decrypt(product).astype(object), expected)
