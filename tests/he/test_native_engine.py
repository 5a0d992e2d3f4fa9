"""The engine against Microsoft SEAL, and the council's protocols end to end."""

import functools
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import seal
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from he_council import joint_keys

from chainnode import _native as native
from chainnode.he import seal_format
from chainnode.he.profiles import ProfileName
from chainnode.types.errors import ClientFault

DEGREE = 8192
LIMBS = 4
SECRET_HEADER_BYTES = 88
SEALING_KEY = bytes(range(32))
FLOOD_SEED = b"\x05" * 32
Slots = npt.NDArray[np.uint64]


def slots_of(data: bytes) -> Slots:
    return np.frombuffer(data, "<u8")


def bytes_of(values: Sequence[int] | Slots) -> bytes:
    return np.asarray(values, "<u8").tobytes()


def random_slots(seed: int, bound: int) -> Slots:
    return np.random.default_rng(seed).integers(0, bound, DEGREE).astype("<u8")


@functools.cache
def inverse_powers(prime: int) -> tuple[list[int], int]:
    """Bit-reversed powers of the inverse of the smallest primitive 2N-th root."""
    base = next(
        root
        for root in (pow(g, (prime - 1) // (2 * DEGREE), prime) for g in range(2, 100))
        if pow(root, DEGREE, prime) == prime - 1
    )
    square, current, psi = base * base % prime, base, base
    for _ in range(DEGREE):
        psi, current = min(psi, current), current * square % prime
    inverse = pow(psi, -1, prime)
    table = [0] * DEGREE
    power = 1
    for i in range(DEGREE):
        table[int(format(i, "013b")[::-1], 2)] = power
        power = power * inverse % prime
    return table, pow(DEGREE, -1, prime)


def plain_inverse_transform(values: list[int], prime: int) -> list[int]:
    """Gentleman-Sande in plain Python: an oracle that shares nothing with the engine."""
    table, degree_inverse = inverse_powers(prime)
    a = list(values)
    gap, groups = 1, DEGREE // 2
    while groups:
        for group in range(groups):
            root = table[groups + group]
            for j in range(2 * group * gap, 2 * group * gap + gap):
                u, v = a[j], a[j + gap]
                a[j], a[j + gap] = (u + v) % prime, (u - v) * root % prime
        gap, groups = gap * 2, groups // 2
    return [x * degree_inverse % prime for x in a]


@dataclass(frozen=True)
class Oracle:
    """SEAL and our engine holding the same secret key."""

    name: ProfileName
    profile: native.HeProfile
    context: seal.SEALContext
    encoder: seal.BatchEncoder
    encryptor: seal.Encryptor
    decryptor: seal.Decryptor
    evaluator: seal.Evaluator
    secret: native.HeSecretKey
    folder: Path

    def to_seal(self, ciphertext: bytes) -> seal.Ciphertext:
        """A SEAL object with our residues."""
        path = self.folder / "ciphertext.bin"
        path.write_bytes(seal_format.wrap(self.name, LIMBS, ciphertext))
        loaded = seal.Ciphertext()
        loaded.load(self.context, str(path))
        return loaded

    def from_seal(self, ciphertext: seal.Ciphertext) -> bytes:
        data, limbs = seal_format.unwrap(self.name, self.saved(ciphertext))
        assert limbs == LIMBS
        return data

    def saved(self, ciphertext: seal.Ciphertext) -> bytes:
        path = self.folder / "ciphertext.bin"
        ciphertext.save(str(path), seal.compr_mode_type.none)
        return path.read_bytes()

    def encode(self, values: Slots) -> seal.Plaintext:
        """SEAL's encoder takes centred values."""
        t = self.profile.plain_modulus
        return self.encoder.encode([int(v) if v <= t // 2 else int(v) - t for v in values])

    def encrypt(self, values: Slots) -> seal.Ciphertext:
        return self.encryptor.encrypt(self.encode(values))

    def decrypt(self, ciphertext: seal.Ciphertext) -> Slots:
        return np.asarray(self.encoder.decode_uint64(self.decryptor.decrypt(ciphertext)), "<u8")


def sealed_from_seal(secret_key: seal.SecretKey, profile: native.HeProfile, path: Path) -> bytes:
    """Our sealed form of a SEAL secret key, from its first limb's ternary coefficients."""
    secret_key.save(str(path))
    data = path.read_bytes()
    words = np.frombuffer(data[-(LIMBS + 1) * DEGREE * 8 :], "<u8")
    prime = profile.moduli[0]
    coefficients = plain_inverse_transform([int(x) for x in words[:DEGREE]], prime)
    digits = bytes((x + 1) % prime for x in coefficients)
    nonce = os.urandom(12)
    domain = b"chainnode/he-secret-key/v1/" + profile.name.encode()
    return nonce + ChaCha20Poly1305(SEALING_KEY).encrypt(nonce, digits, domain)


@pytest.fixture(scope="module", params=["S", "S36"])
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    profile = native.he_profile(request.param)
    parameters = seal.EncryptionParameters(seal.scheme_type.bgv)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, [42, 42, 42, 43, 43]))
    parameters.set_plain_modulus(profile.plain_modulus)
    context = seal.SEALContext(parameters)
    keys = seal.KeyGenerator(context)
    folder = tmp_path_factory.mktemp("seal")
    path = folder / "secret.bin"
    keys.secret_key().save(str(path))
    sealed = sealed_from_seal(keys.secret_key(), profile, path)
    return Oracle(
        request.param,
        profile,
        context,
        seal.BatchEncoder(context),
        seal.Encryptor(context, keys.create_public_key()),
        seal.Decryptor(context, keys.secret_key()),
        seal.Evaluator(context),
        native.HeSecretKey.unseal(profile.name, sealed, SEALING_KEY),
        folder,
    )


@dataclass(frozen=True)
class Council:
    profile: str
    members: list[native.HeSecretKey]
    public_key: bytes
    relin_key: bytes

    def scalar(self, ciphertext: bytes, limbs: int) -> tuple[int, int]:
        return native.he_combine_scalar(
            self.profile, limbs, ciphertext, self.scalar_shares(ciphertext, limbs)
        )

    def scalar_shares(self, ciphertext: bytes, limbs: int) -> list[bytes]:
        count = len(self.members)
        return [m.scalar_share(ciphertext, limbs, FLOOD_SEED, count) for m in self.members]


@functools.cache
def council(profile: str) -> Council:
    seed = b"common randomness of the epoch"
    members = [native.HeSecretKey.generate(profile) for _ in range(4)]
    return Council(profile, members, *joint_keys(profile, seed, members))


def encrypt(group: Council, values: Slots, number: int, limbs: int = LIMBS) -> bytes:
    seed = number.to_bytes(32, "big")
    return native.he_encrypt(group.profile, group.public_key, values.tobytes(), seed, limbs)


def test_primes_are_those_seal_creates() -> None:
    created = [m.value() for m in seal.CoeffModulus.Create(DEGREE, [42, 42, 42, 43, 43])]
    for name in ("S", "S36"):
        profile = native.he_profile(name)
        assert [*profile.moduli, profile.special_modulus] == created
    assert native.he_profile("S36").plain_modulus == seal.PlainModulus.Batching(DEGREE, 36).value()


def test_our_ciphertext_decrypts_in_seal(oracle: Oracle) -> None:
    values = random_slots(1, oracle.profile.plain_modulus)
    ours = native.he_encrypt(
        oracle.profile.name, oracle.secret.public_key(), values.tobytes(), bytes(32), LIMBS
    )
    theirs = oracle.to_seal(ours)
    assert np.array_equal(oracle.decrypt(theirs), values)
    budget = oracle.decryptor.invariant_noise_budget(theirs)
    assert budget == oracle.secret.noise_budget_bits(ours, LIMBS)


def test_seal_ciphertext_decrypts_here(oracle: Oracle) -> None:
    values = random_slots(2, oracle.profile.plain_modulus)
    theirs = oracle.encrypt(values)
    data = oracle.from_seal(theirs)
    assert np.array_equal(slots_of(oracle.secret.decrypt(data, LIMBS)), values)


def test_a_wrapped_ciphertext_is_the_file_that_seal_saves(oracle: Oracle) -> None:
    one = oracle.encrypt(random_slots(8, oracle.profile.plain_modulus))
    for ciphertext in (one, oracle.evaluator.multiply(one, one)):
        data = oracle.saved(ciphertext)
        minor_version = data[4]
        assert seal_format.wrap(oracle.name, LIMBS, data[113:], minor_version) == data


def test_a_file_that_is_no_ciphertext_of_the_profile_is_refused(oracle: Oracle) -> None:
    name = oracle.name
    data = oracle.saved(oracle.encrypt(random_slots(9, 2)))

    def changed(at: int, value: bytes) -> bytes:
        return data[:at] + value + data[at + len(value) :]

    cases = {
        "ends before": data[:100],
        "not a file of SEAL 4": changed(0, b"x"),
        "it is compressed": changed(5, b"\x02"),
        "524400 bytes where its header says 524401": data[:-1],
        "not those of profile": changed(16, bytes(32)),
        "not in NTT form": changed(48, b"\0"),
        "modulus was switched": changed(81, b"\x02"),
        "sizes do not add up": changed(105, b"\x01"),
        "2 to 5 polynomials, not 9": changed(49, b"\x09"),
        "not below its prime": changed(113, b"\xff" * 8),
    }
    for reason, wrong in cases.items():
        with pytest.raises(ClientFault, match=reason) as caught:
            seal_format.unwrap(name, wrong)
        assert caught.value.code == "SEAL_MALFORMED"
    with pytest.raises(ClientFault, match="not those of profile"):
        seal_format.unwrap("M", data)
    with pytest.raises(ValueError, match="limbs must be 1 to 4, got 0"):
        seal_format.wrap(name, 0, data[113:])


@pytest.mark.parametrize("limbs", [2, 3])
def test_leading_limbs_are_a_lower_level_of_seal(oracle: Oracle, limbs: int) -> None:
    values = random_slots(10, oracle.profile.plain_modulus)
    key = oracle.secret.public_key()
    ours = native.he_encrypt(oracle.name, key, values.tobytes(), bytes(32), limbs)
    path = oracle.folder / "lower.bin"
    path.write_bytes(seal_format.wrap(oracle.name, limbs, ours))
    loaded = seal.Ciphertext()
    loaded.load(oracle.context, str(path))
    assert np.array_equal(oracle.decrypt(loaded), values)
    assert seal_format.unwrap(oracle.name, path.read_bytes()) == (ours, limbs)


def test_operations_give_the_bytes_of_seal(oracle: Oracle) -> None:
    name, t = oracle.profile.name, oracle.profile.plain_modulus
    plain = random_slots(3, t)
    a, b = (oracle.encrypt(random_slots(i, t)) for i in (4, 5))
    raw = [oracle.from_seal(x) for x in (a, b)]
    encoded = oracle.encode(plain)
    pairs = [
        (native.he_multiply(name, LIMBS, *raw), oracle.evaluator.multiply(a, b)),
        (native.he_add(name, LIMBS, raw), oracle.evaluator.add(a, b)),
        (
            native.he_multiply_plain(name, LIMBS, raw[0], plain.tobytes()),
            oracle.evaluator.multiply_plain(a, encoded),
        ),
        (
            native.he_add_plain(name, LIMBS, raw[0], plain.tobytes()),
            oracle.evaluator.add_plain(a, encoded),
        ),
    ]
    for ours, theirs in pairs:
        assert ours == oracle.from_seal(theirs)


@pytest.mark.parametrize("limbs", [1, 2, 3, 4])
def test_leading_limbs_alone_decrypt(limbs: int) -> None:
    key = native.HeSecretKey.generate("S")
    values = random_slots(6, 65_537)
    full = native.he_encrypt("S", key.public_key(), values.tobytes(), bytes(32), limbs)
    assert len(full) == 2 * limbs * DEGREE * 8
    assert np.array_equal(slots_of(key.decrypt(full, limbs)), values)


def test_encryption_repeats_from_its_seed_and_cuts_limbs() -> None:
    group = council("S")
    values = random_slots(7, 65_537)
    full = encrypt(group, values, 1)
    assert full == encrypt(group, values, 1)
    assert full != encrypt(group, values, 2)
    half = len(full) // 2
    two = encrypt(group, values, 1, 2)
    assert two == full[: half // 2] + full[half : half + half // 2]
    seed = (1).to_bytes(32, "big")
    many = native.he_encrypt_many("S", group.public_key, [values.tobytes()] * 2, [seed] * 2, 4)
    assert many == [full, full]


@pytest.mark.parametrize("profile", ["S", "S36"])
def test_joint_key_sum_and_scalar_release(profile: str) -> None:
    group = council(profile)
    t = native.he_profile(profile).plain_modulus
    values = [random_slots(10 + i, t) for i in range(3)]
    total = native.he_add(profile, 3, [encrypt(group, v, i, 3) for i, v in enumerate(values)])
    answer, left = group.scalar(total, 3)
    assert answer == sum(int(x) for v in values for x in v) % t
    assert left >= native.HE_SCALAR_MARGIN_BITS


@pytest.mark.parametrize(("profile", "limbs"), [("S36", 4), ("S", 3), ("S", 4)])
def test_tensor_sum_relinearise_release(tmp_path: Path, profile: str, limbs: int) -> None:
    group = council(profile)
    t = native.he_profile(profile).plain_modulus
    flags = [[random_slots(20 + 9 * c + b, 2) for b in range(3)] for c in range(2)]
    amounts = [random_slots(50 + b, min(1 << 16, t)) for b in range(3)]
    for name, blocks in {"p": flags[0], "q": flags[1], "amount": amounts}.items():
        data = [encrypt(group, v, 100 * len(name) + i, limbs) for i, v in enumerate(blocks)]
        native.HeColumns.write(str(tmp_path), name, profile, limbs, data)
    store = native.HeColumns.open(str(tmp_path), profile)
    assert store.columns == ["amount", "p", "q"]
    assert store.block_count("p") == 3
    factors = [(["p", "q"], [1, -3], 2), (["amount"], [1], 0)]
    product = store.tensor_sum(factors, limbs, 1, 2, threads=2)
    assert product == store.tensor_sum(factors, limbs, 1, 2, threads=1)
    closed = native.he_relinearise(profile, limbs, product, group.relin_key)
    answer, left = group.scalar(closed, limbs)
    expected = sum(
        (int(p) - 3 * int(q) + 2) * int(v)
        for b in (1, 2)
        for p, q, v in zip(flags[0][b], flags[1][b], amounts[b], strict=True)
    )
    assert answer == expected % t
    assert left >= native.HE_SCALAR_MARGIN_BITS


def test_kernels_equal_operations_one_by_one(tmp_path: Path) -> None:
    group = council("S")
    weights = [3, -7, 65_000]
    columns = [f"c{i}" for i in range(3)]
    blocks = [
        [encrypt(group, random_slots(9 * c + b, 2), 9 * c + b, 2) for b in range(4)]
        for c in range(3)
    ]
    for name, data in zip(columns, blocks, strict=True):
        native.HeColumns.write(str(tmp_path), name, "S", 2, data)
    store = native.HeColumns.open(str(tmp_path), "S")

    def scaled(ciphertext: bytes, weight: int) -> bytes:
        return native.he_multiply_plain("S", 2, ciphertext, bytes_of([weight % 65_537] * DEGREE))

    one_by_one = [
        native.he_add("S", 2, [scaled(blocks[c][b], w) for c, w in enumerate(weights)])
        for b in range(4)
    ]
    # 65,000 is lifted to its negative by the encoder: same slots, other residues.
    fused = store.mac_scalar(columns, [[3, -7, 65_000 - 65_537], [1, 0, 0]], 2, 1, 3, threads=2)
    assert fused[0] == one_by_one[1:]
    assert fused[1] == blocks[0][1:]
    assert store.sum(columns, [3, -7, 65_000 - 65_537], 2, 0, 4) == native.he_add(
        "S", 2, one_by_one
    )
    for threads in (1, 2, 7):
        assert fused == store.mac_scalar(
            columns, [[3, -7, 65_000 - 65_537], [1, 0, 0]], 2, 1, 3, threads=threads
        )


def test_score_vector_opens_to_the_bank_alone_where_the_mask_is_one(tmp_path: Path) -> None:
    group, limbs = council("S"), 3
    columns = [random_slots(60 + i, 2) for i in range(5)]
    points = [12, -8, 40, 113, -38]
    names = [f"bin{i}" for i in range(5)]
    for i, (name, values) in enumerate(zip(names, columns, strict=True)):
        block = encrypt(group, values, 700 + i, limbs)
        native.HeColumns.write(str(tmp_path), name, "S", limbs, [block])
    score = native.HeColumns.open(str(tmp_path), "S").mac_scalar(names, [points], limbs, 0, 1)
    mask = random_slots(70, 2)
    masked = native.he_multiply_plain("S", limbs, score[0][0], mask.tobytes())
    bank = native.HeSecretKey.generate("S")
    key = bank.public_key()
    shares = [m.key_switch_share(masked, limbs, key, FLOOD_SEED, 4) for m in group.members]
    assert shares[0] == group.members[0].key_switch_share(masked, limbs, key, FLOOD_SEED, 4)
    opened = native.he_combine_key_switch("S", limbs, masked, shares)
    expected = sum(p * c.astype(np.int64) for p, c in zip(points, columns, strict=True)) % 65_537
    assert np.array_equal(slots_of(bank.decrypt(opened, limbs)), expected * mask)
    assert bank.noise_budget_bits(opened, limbs) >= 2
    assert group.members[0].noise_budget_bits(opened, limbs) == 0
    wrong = [*shares[1:], shares[1]]
    broken = native.he_combine_key_switch("S", limbs, masked, wrong)
    assert bank.noise_budget_bits(broken, limbs) == 0


def test_wrong_share_shows_in_the_noise_bits() -> None:
    group = council("S36")
    ciphertext = encrypt(group, random_slots(80, 1000), 80)
    shares = group.scalar_shares(ciphertext, LIMBS)
    assert shares == group.scalar_shares(ciphertext, LIMBS)
    again = group.members[0].scalar_share(ciphertext, LIMBS, b"\x06" * 32, 4)
    assert again != shares[0]
    answer, left = native.he_combine_scalar("S36", LIMBS, ciphertext, [*shares[1:], again])
    assert answer == int(random_slots(80, 1000).sum())
    assert left >= native.HE_SCALAR_MARGIN_BITS
    words = [struct.pack("<Q", (w + 1) % (1 << 41)) for w in struct.unpack("<4Q", shares[2])]
    for wrong in ([*shares[:2], words[0] + shares[2][8:], shares[3]], shares[:3]):
        _, left = native.he_combine_scalar("S36", LIMBS, ciphertext, wrong)
        assert left < native.HE_SCALAR_MARGIN_BITS


def test_flooding_grows_with_the_modulus() -> None:
    widths = [native.he_flood_bits("S", limbs, 4, True) for limbs in (2, 3, 4)]
    assert widths == sorted(widths)
    assert native.he_flood_bits("S36", 4, 4, True) >= 102 + 46
    assert native.he_flood_bits("S", 3, 4, False) > native.he_flood_bits("S", 3, 4, True)
    with pytest.raises(ValueError, match="no room"):
        native.he_flood_bits("S36", 1, 4, True)


def test_malformed_input_is_refused_with_a_reason(tmp_path: Path) -> None:
    group = council("S")
    good = encrypt(group, random_slots(90, 2), 90, 2)
    native.he_validate_ciphertext("S", good, 2, 2)
    bad = good[:-8] + b"\xff" * 8
    with pytest.raises(ValueError, match="polynomial 1 limb 1 is not below its prime"):
        native.he_validate_ciphertext("S", bad, 2, 2)
    with pytest.raises(ValueError, match="expected"):
        native.he_validate_ciphertext("S", good[:-1], 2, 2)
    with pytest.raises(ValueError, match="limbs"):
        native.he_validate_ciphertext("S", good, 2, 5)
    with pytest.raises(ValueError, match="profile"):
        native.he_profile("XL")
    with pytest.raises(ValueError, match="plain modulus"):
        native.he_encrypt("S", group.public_key, bytes_of([65_537]), bytes(32), 2)
    with pytest.raises(ValueError, match="32 bytes"):
        native.he_encrypt("S", group.public_key, b"", b"", 2)
    with pytest.raises(ValueError, match="column name"):
        native.HeColumns.write(str(tmp_path), "../x", "S", 2, [good])
    native.HeColumns.write(str(tmp_path), "x", "S", 2, [good])
    with pytest.raises(ValueError, match="profile S"):
        native.HeColumns.open(str(tmp_path), "S36")
    store = native.HeColumns.open(str(tmp_path), "S")
    with pytest.raises(ValueError, match="no column"):
        store.sum(["y"], [1], 2, 0, 1)
    with pytest.raises(ValueError, match="limbs only"):
        store.sum(["x"], [1], 3, 0, 1)
    with pytest.raises(ValueError, match="block range"):
        store.sum(["x"], [1], 2, 0, 2)
    with pytest.raises(ValueError, match="weights"):
        store.sum(["x"], [1, 2], 2, 0, 1)
    (tmp_path / "x.0.tiles").write_bytes(b"short")
    with pytest.raises(ValueError, match="is not"):
        native.HeColumns.open(str(tmp_path), "S")
