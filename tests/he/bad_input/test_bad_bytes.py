"""Mutated ciphertexts, keys, chunks, results, schemas and plans: refused, never computed on.

Every case changes one thing of something that is right. A case is wrong if it crashes the process,
raises anything untyped, or is accepted as if nothing had been changed.
"""

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from he_council import Council

from chainnode import _native
from chainnode._native import HeColumns, HeSecretKey
from chainnode.he import engine
from chainnode.he.engine import LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.he.sql import Catalog, plan_query, verify_plan
from chainnode.types.errors import ChainnodeError, ClientFault, PeerFault

LIMBS = 4
SIZE = 2 * LIMBS * 8192 * 8


@dataclasses.dataclass
class Material:
    """One right thing of every kind, in profile S36."""

    council: Council
    ciphertext: bytes
    product: bytes
    shares: list[bytes]
    sealed: bytes


@pytest.fixture(scope="module")
def material() -> Material:
    council = Council("S36")
    slots = bytes(8192 * 8)
    one = _native.he_encrypt("S36", council.public_key, slots, b"\x01" * 32, LIMBS)
    shares = [key.scalar_share(one, LIMBS, b"\x02" * 32, 4) for key in council.keys]
    product = _native.he_multiply("S36", LIMBS, one, one)
    return Material(council, one, product, shares, council.keys[0].seal(b"\x03" * 32))


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: b"\x00",
    "one short": lambda data: data[:-1],
    "one long": lambda data: data + b"\x00",
    "a word short": lambda data: data[:-8],
    "a word long": lambda data: data + bytes(8),
    "half": lambda data: data[: len(data) // 2],
    "three times": lambda data: data * 3,
    "first residue too large": lambda data: b"\xff" * 8 + data[8:],
    "last residue too large": lambda data: data[:-8] + b"\xff" * 8,
    "middle residue too large": lambda data: (
        data[: len(data) // 2] + b"\xff" * 8 + data[len(data) // 2 + 8 :]
    ),
    "all ones": lambda data: b"\xff" * len(data),
}

USES: dict[str, Callable[[Material, Callable[[bytes], bytes]], object]] = {
    "validate": lambda m, f: _native.he_validate_ciphertext("S36", f(m.ciphertext), 2, LIMBS),
    "add": lambda m, f: _native.he_add("S36", LIMBS, [m.ciphertext, f(m.ciphertext)]),
    "multiply left": lambda m, f: _native.he_multiply("S36", LIMBS, f(m.ciphertext), m.ciphertext),
    "multiply right": lambda m, f: _native.he_multiply("S36", LIMBS, m.ciphertext, f(m.ciphertext)),
    "add plain": lambda m, f: _native.he_add_plain("S36", LIMBS, f(m.ciphertext), bytes(65_536)),
    "multiply plain": lambda m, f: _native.he_multiply_plain(
        "S36", LIMBS, f(m.ciphertext), bytes(65_536)
    ),
    "relinearise": lambda m, f: _native.he_relinearise(
        "S36", LIMBS, f(m.product), m.council.relin_key
    ),
    "relinearisation key": lambda m, f: _native.he_relinearise(
        "S36", LIMBS, m.product, f(m.council.relin_key)
    ),
    "public key": lambda m, f: _native.he_encrypt(
        "S36", f(m.council.public_key), bytes(65_536), b"\x01" * 32, LIMBS
    ),
    "decrypt": lambda m, f: m.council.keys[0].decrypt(f(m.ciphertext), LIMBS),
    "noise": lambda m, f: m.council.keys[0].noise_budget_bits(f(m.ciphertext), LIMBS),
    "scalar share": lambda m, f: m.council.keys[0].scalar_share(
        f(m.ciphertext), LIMBS, b"\x02" * 32, 4
    ),
    "switch share": lambda m, f: m.council.keys[0].key_switch_share(
        f(m.ciphertext), LIMBS, m.council.public_key, b"\x02" * 32, 4
    ),
    "combine ciphertext": lambda m, f: _native.he_combine_scalar(
        "S36", LIMBS, f(m.ciphertext), m.shares
    ),
    "combine share": lambda m, f: _native.he_combine_scalar(
        "S36", LIMBS, m.ciphertext, [f(m.shares[0]), *m.shares[1:]]
    ),
    "sealed key": lambda m, f: HeSecretKey.unseal("S36", f(m.sealed), b"\x03" * 32),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("change", CHANGES)
def test_changed_bytes_are_refused(use: str, change: str, material: Material) -> None:
    with pytest.raises(ValueError):
        USES[use](material, CHANGES[change])


@pytest.mark.parametrize("wrong", [b"", b"\x03" * 31, b"\x04" * 32, b"\x03" * 33])
def test_a_sealed_key_opens_with_its_own_key_only(wrong: bytes, material: Material) -> None:
    with pytest.raises(ValueError):
        HeSecretKey.unseal("S36", material.sealed, wrong)


@pytest.mark.parametrize("position", range(0, 60, 5))
def test_every_bit_of_a_sealed_key_counts(position: int, material: Material) -> None:
    changed = bytearray(material.sealed)
    changed[position % len(changed)] ^= 1 << (position % 8)
    with pytest.raises(ValueError):
        HeSecretKey.unseal("S36", bytes(changed), b"\x03" * 32)


@pytest.mark.parametrize("seed", range(16))
def test_a_changed_share_fills_the_modulus_or_is_refused(seed: int, material: Material) -> None:
    source = random.Random(seed)
    share = bytearray(material.shares[seed % 4])
    share[source.randrange(len(share))] ^= 1 << source.randrange(8)
    shares = [*material.shares]
    shares[seed % 4] = bytes(share)
    try:
        value, margin = _native.he_combine_scalar("S36", LIMBS, material.ciphertext, shares)
    except ValueError:
        return
    assert value != 0 or margin < _native.HE_SCALAR_MARGIN_BITS


# --- containers and chunks ------------------------------------------------------------------------

CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    **{name: CHANGES[name] for name in ("empty", "one byte", "one short", "one long", "half")},
    "count too large": lambda data: (2).to_bytes(4, "little") + data[4:],
    "count enormous": lambda data: b"\xff" * 4 + data[4:],
    "count zero": lambda data: bytes(4) + data[4:],
    "nothing": lambda data: bytes(4),
    "length too large": lambda data: data[:4] + (SIZE + 1).to_bytes(4, "little") + data[8:],
    "length enormous": lambda data: data[:4] + b"\xff" * 4 + data[8:],
    "length zero": lambda data: data[:4] + bytes(4) + data[8:],
    "residue": lambda data: data[:8] + b"\xff" * 8 + data[16:],
    "last residue": lambda data: data[:-8] + b"\xff" * 8,
    "twice": lambda data: data + data,
    "two": lambda data: engine.pack_container([data[8:], data[8:]]),
    "three polynomials": lambda data: engine.pack_container([data[8:] + data[8 : 8 + SIZE // 2]]),
}


@pytest.mark.parametrize("change", CONTAINERS)
def test_changed_results_are_refused(change: str, material: Material, catalog: Catalog) -> None:
    plan = plan_query("SELECT SUM(staff) FROM firms WHERE region = '1'", catalog)
    plan = msgspec.structs.replace(
        plan,
        aggregate=msgspec.structs.replace(plan.aggregate, outputs=plan.aggregate.outputs[1:]),
    )
    right = engine.pack_container([material.ciphertext])
    assert engine.validate_result(plan, right) == [material.ciphertext]
    with pytest.raises(PeerFault) as caught:
        engine.validate_result(plan, CONTAINERS[change](right))
    assert caught.value.code == "RESULT_MALFORMED"


@pytest.mark.parametrize("count", [0, 2, 3, 100])
def test_missing_and_surplus_chunks_are_refused(
    count: int, material: Material, catalog: Catalog
) -> None:
    plan = plan_query("SELECT COUNT(*) FROM firms", catalog)
    parts = [engine.pack_container([material.ciphertext])] * count
    with pytest.raises(ClientFault) as caught:
        LocalEngine().reduce(plan, parts, material.council.relin_key)
    assert caught.value.code == "CHUNKS_INCOMPLETE"


FILES: dict[str, Callable[[bytes], bytes]] = {
    name: CHANGES[name]
    for name in ("empty", "one byte", "one short", "one long", "half", "three times")
}


@pytest.mark.parametrize("change", FILES)
def test_changed_tile_files_are_refused(change: str, material: Material, tmp_path: Path) -> None:
    HeColumns.write(str(tmp_path), "x", "S36", LIMBS, [material.ciphertext])
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert files
    files[0].write_bytes(FILES[change](files[0].read_bytes()))
    with pytest.raises((ValueError, OSError, KeyError)):
        HeColumns.open(str(tmp_path), "S36").sum(["x"], [1], LIMBS, 0, 1)


@pytest.mark.parametrize(
    ("columns", "weights", "limbs", "first", "count"),
    [
        (["y"], [1], 4, 0, 1),
        ([], [], 4, 0, 1),
        (["x"], [], 4, 0, 1),
        (["x"], [1, 2], 4, 0, 1),
        (["x"], [1], 0, 0, 1),
        (["x"], [1], 5, 0, 1),
        (["x"], [1], 4, 0, 2),
        (["x"], [1], 4, 1, 1),
        (["x"], [1], 4, 0, 0),
        (["../x"], [1], 4, 0, 1),
    ],
)
def test_kernels_refuse_what_is_not_there(
    columns: list[str],
    weights: list[int],
    limbs: int,
    first: int,
    count: int,
    material: Material,
    tmp_path: Path,
) -> None:
    HeColumns.write(str(tmp_path), "x", "S36", LIMBS, [material.ciphertext])
    store = HeColumns.open(str(tmp_path), "S36")
    with pytest.raises((ValueError, KeyError)):
        store.sum(columns, weights, limbs, first, count)
    with pytest.raises((ValueError, KeyError)):
        factor = (columns, weights, 0)
        store.tensor_sum([factor, factor], limbs, first, count)


# --- plans, schemas, models -----------------------------------------------------------------------

PLANNED = (
    "SELECT region, COUNT(*), SUM(staff - turnover) / COUNT(*) AS x FROM firms GROUP BY region"
)


def values_of(
    node: object, path: tuple[object, ...] = ()
) -> Iterator[tuple[tuple[object, ...], object]]:
    """Every value of a JSON document with its path."""
    yield path, node
    if isinstance(node, dict):
        for key in sorted(node):
            yield from values_of(node[key], (*path, key))
    elif isinstance(node, list):
        for index, item in enumerate(node[:3]):
            yield from values_of(item, (*path, index))


def replaced(document: object, path: tuple[object, ...], value: object) -> bytes:
    """The document with one value changed, as canonical JSON."""
    again = msgspec.json.decode(msgspec.json.encode(document))
    if not path:
        return msgspec.json.encode(value, order="sorted")
    inner = again
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return msgspec.json.encode(again, order="sorted")


def other_values(value: object) -> list[object]:
    """Values that are not this one: near it and of other types."""
    if isinstance(value, bool):
        return [not value, 2]
    if isinstance(value, int):
        return [value + 1, -value - 1, 2**70, "1"]
    if isinstance(value, str):
        return [value + "x", "", 7]
    if isinstance(value, list):
        return [value + value, [], value[:-1] or [None], {}]
    if isinstance(value, dict):
        return [{}, [], {**value, "more": 1}]
    return [0, "x", []]


@functools.cache
def sampled(data: bytes, seed: int, count: int) -> list[bytes]:
    """Changed documents, spread over all fields."""
    document = msgspec.json.decode(data)
    every = [
        replaced(document, path, other)
        for path, value in values_of(document)
        for other in other_values(value)
    ]
    changed = [text for text in every if text != data]
    return random.Random(seed).sample(changed, min(count, len(changed)))


@pytest.mark.parametrize("index", range(150))
def test_changed_plans_are_refused(index: int, catalog: Catalog) -> None:
    plan = plan_query(PLANNED, catalog)
    data = sampled(plan.encode(), 1, 150)[index]
    with pytest.raises(ClientFault) as caught:
        verify_plan(Plan.decode(data), catalog)
    assert caught.value.code.startswith(("MALFORMED", "PLAN_", "SQL_", "POLICY_"))


@pytest.mark.parametrize("index", range(80))
def test_changed_schemas_are_refused_or_are_other_schemas(index: int, schema: TableSchema) -> None:
    data = sampled(schema.encode(), 2, 80)[index]
    try:
        found = TableSchema.decode(data)
    except ClientFault as error:
        assert error.code in ("MALFORMED", "SCHEMA_INVALID")
        return
    assert found.hash() != schema.hash()


@pytest.mark.parametrize("index", range(40))
def test_changed_models_are_refused_or_are_other_models(
    index: int, schema: TableSchema, model: Scorecard
) -> None:
    data = sampled(model.encode(), 3, 40)[index]
    try:
        found = Scorecard.decode(data)
        found.validate(schema)
    except ClientFault as error:
        assert error.code in ("MALFORMED", "MODEL_INVALID")
        return
    assert found.hash() != model.hash()


@pytest.mark.parametrize("seed", range(60))
def test_random_bytes_of_a_plan_are_refused(seed: int, catalog: Catalog) -> None:
    source = random.Random(seed)
    data = bytearray(plan_query(PLANNED, catalog).encode())
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(data))
        kind = source.random()
        if kind < 0.4:
            data[place] ^= 1 << source.randrange(8)
        elif kind < 0.7:
            del data[place : place + source.randint(1, 9)]
        else:
            data[place:place] = source.randbytes(source.randint(1, 5))
    with pytest.raises(ChainnodeError):
        verify_plan(Plan.decode(bytes(data)), catalog)
