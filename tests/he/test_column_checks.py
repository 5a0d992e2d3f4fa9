"""Checks open to zero for honest columns, to something else for any slot that is off."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from he_council import PARTIES, Council, joint_keys

from chainnode import _native
from chainnode._native import HeColumns
from chainnode.he import checks, encode
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine, validate_result
from chainnode.he.plan import Plan
from chainnode.he.planner import degree_and_noise
from chainnode.he.planner.degree_and_noise import scalar_capacity_bits
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.results import passes_gate
from chainnode.he.schema import Bins, Column, Digits, Joint, OneHot, TableSchema, rows_per_block
from chainnode.types.errors import ClientFault

QUERY = bytes(range(32))
OWNER = "registry"
ROOT = hashlib.sha256(b"root").digest()
ROWS = {"S": 8_200, "S36": 8_200, "M": 16_400}
"""A second block with a few rows, so that most of its slots must be empty."""


def schema(profile: ProfileName) -> TableSchema:
    columns = (
        Column("sector", OWNER, OneHot(("farming", "trade")), profiles=("S", "S36", profile)),
        Column("late", OWNER, Bins(0, (2, 4), 9, missing=True), profiles=("S", "S36", profile)),
    )
    return TableSchema("firms", ROWS[profile], "id", OWNER, columns)


def cells(rows: int) -> dict[str, list[Cell]]:
    late: list[Cell] = [row % 10 for row in range(rows)]
    late[7] = None
    return {"sector": [("farming", "trade")[row % 2] for row in range(rows)], "late": late}


@pytest.fixture(scope="module", params=["S", "S36", "M"])
def council(request: pytest.FixtureRequest) -> Council:
    return Council(request.param)


@pytest.fixture(scope="module")
def honest(council: Council, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(f"columns-{council.profile}")
    table = schema(council.profile)
    council.encrypt_table(folder, table, cells(table.rows))
    return folder


def statement(profile: ProfileName) -> checks.CheckStatement:
    return checks.CheckStatement("firms", OWNER, profile, ROOT)


def plan_of(profile: ProfileName, chunk_count: int = 2) -> Plan:
    return checks.check_plan(statement(profile), schema(profile), PARTIES, chunk_count)


def computed(council: Council, columns: HeColumns, plan: Plan, query: bytes = QUERY) -> list[bytes]:
    engine = LocalEngine(2)
    parts = [engine.run_chunk(plan, index, columns, [], query) for index in range(len(plan.chunks))]
    return validate_result(plan, engine.reduce(plan, parts, council.relin_key))


def failing(council: Council, columns: HeColumns) -> set[str]:
    """Names of the sums that do not open to zero; each fails in all its repetitions or in none."""
    plan = plan_of(council.profile)
    opened = council.open_scalars(plan, computed(council, columns, plan))
    assert plan.aggregate is not None
    verdicts: dict[str, set[bool]] = {}
    for output, value in zip(plan.aggregate.outputs, opened, strict=True):
        verdicts.setdefault(output.name.rsplit(" ", 1)[0], set()).add(passes_gate(plan, value))
    assert all(len(found) == 1 for found in verdicts.values())
    return {name for name, found in verdicts.items() if found == {False}}


def with_errors(
    council: Council, honest: Path, folder: Path, errors: Mapping[str, Iterable[tuple[int, int]]]
) -> HeColumns:
    """The honest columns, but in some slots (by table position) other values."""
    table, profile = schema(council.profile), PROFILES[council.profile]
    held = rows_per_block(council.profile)
    folder.mkdir()
    for path in honest.iterdir():
        (folder / path.name).hardlink_to(path)
    for name, blocks in encode.owner_blocks(table, OWNER, cells(table.rows), council.profile):
        if name in errors:
            slots = [np.frombuffer(block, "<u8").copy() for block in blocks]
            for place, value in errors[name]:
                slots[place // held][place % held] = value % profile.plain_modulus
            changed = [block.astype("<u8").tobytes() for block in slots]
            seeds = [hashlib.sha256(f"{name} {n}".encode()).digest() for n in range(len(blocks))]
            sealed = _native.he_encrypt_many(
                council.profile, council.public_key, changed, seeds, profile.limbs
            )
            HeColumns.write(str(folder), name, council.profile, profile.limbs, sealed)
    return HeColumns.open(str(folder), council.profile)


def test_honest_columns_open_to_zero_with_noise_below_the_bound(
    council: Council, honest: Path
) -> None:
    assert failing(council, HeColumns.open(str(honest), council.profile)) == set()
    assert checks.checks_bits(plan_of(council.profile)) == (council.profile == "M")


def test_a_row_in_two_bins_or_in_none_fails_its_group(
    council: Council, honest: Path, tmp_path: Path
) -> None:
    # Row 4 is in bin 2 of `late`; row 0 in bin 0.
    twice = with_errors(council, honest, tmp_path / "twice", {"late.0": [(4, 1)]})
    assert failing(council, twice) == {"late: sum"}
    never = with_errors(council, honest, tmp_path / "never", {"late.0": [(0, 0)]})
    assert failing(council, never) == {"late: sum"}


def test_errors_whose_total_is_zero_do_not_cancel(
    council: Council, honest: Path, tmp_path: Path
) -> None:
    """One row in two bins and another in none: the slot total alone would be right."""
    errors = {"late.0": [(4, 1), (0, 0)]}
    assert failing(council, with_errors(council, honest, tmp_path / "both", errors)) == {
        "late: sum"
    }
    last = ROWS[council.profile] - 1
    apart = {"sector.0": [(1, 1), (last - last % 2, 0)]}
    assert failing(council, with_errors(council, honest, tmp_path / "apart", apart)) == {
        "sector: sum"
    }


def test_something_in_a_slot_without_a_row_fails(
    council: Council, honest: Path, tmp_path: Path
) -> None:
    beyond = {"late.missing": [(ROWS[council.profile] + 1_000, 1)]}
    assert failing(council, with_errors(council, honest, tmp_path / "beyond", beyond)) == {
        "late: sum"
    }


def test_a_two_is_seen_where_the_ring_carries_squares(
    council: Council, honest: Path, tmp_path: Path
) -> None:
    """2 in one bin and -1 in another sum to 1: only b^2 - b tells, and only in M."""
    row = 4
    errors = {"late.2": [(row, 0)], "late.0": [(row, 2)], "late.1": [(row, -1)]}
    found = failing(council, with_errors(council, honest, tmp_path / "two", errors))
    assert found == ({"late: bits"} if council.profile == "M" else set())
    alone = with_errors(council, honest, tmp_path / "alone", {"late.2": [(row, 2)]})
    bits = {"late: bits"} if council.profile == "M" else set()
    assert failing(council, alone) == {"late: sum"} | bits


def test_chunks_threads_and_places_change_no_byte_and_the_id_changes_all(
    council: Council, honest: Path
) -> None:
    columns, plan = HeColumns.open(str(honest), council.profile), plan_of(council.profile)
    assert len(plan.chunks) == 2
    whole = computed(council, columns, plan)
    engine = LocalEngine(1)
    second = engine.run_blocks(plan, columns, 1, 1, [], QUERY, 1)
    assert engine.run_chunk(plan, 1, columns, [], QUERY) == second
    assert engine.run_blocks(plan, columns, 1, 1, [], QUERY, 0) != second
    assert computed(council, columns, plan) == whole
    assert not set(computed(council, columns, plan, bytes(32))) & set(whole)


def bits_noise(profile: ProfileName, members: int, threshold: int, blocks: int = 1) -> list[int]:
    """Of b^2 - b of one column: unweighted, weighted, hidden as a scalar and as a vector."""
    ring, parties = PROFILES[profile], math.comb(members, members - threshold + 1)
    term = (checks._bit("b"),)
    return [
        degree_and_noise.output_noise_bits(ring, term, blocks, parties),
        checks._noise_bits(ring, term, parties, blocks),
        degree_and_noise.scalar_capacity_bits(ring, parties),
        degree_and_noise.vector_capacity_bits(parties, ring),
    ]


def test_no_weights_make_bit_checks_fit_s36_as_adr_21_says() -> None:
    assert bits_noise("S36", 4, 3) == [104, 145, 107, 110]
    for members in range(2, 9):
        # With a threshold of 1 every member has the whole key, in one piece.
        for threshold in range(2, members + 1):
            plain, weighted, scalar, vector = bits_noise("S36", members, threshold)
            assert weighted - scalar >= 35
            # Coefficients of 1 and -1 take root(N), 6.5 bits, and a check needs 80 such openings.
            assert scalar - plain < 7
            assert plain >= 103 and scalar <= 109 and vector <= 112
            _, deep, hidden, _ = bits_noise("M", members, threshold, blocks=62)
            assert deep <= hidden
    # Ten columns of a million rows, before any weight.
    assert bits_noise("S36", 4, 3, blocks=10 * 124)[0] > 107


@pytest.mark.parametrize("profile", ["S", "S36", "M"])
def test_a_false_sum_passes_with_less_than_2_to_the_minus_80(profile: ProfileName) -> None:
    modulus = PROFILES[profile].plain_modulus
    # A weight is 64 random bits modulo t: the likeliest one is this likely.
    likeliest = Fraction(-(-(2**64) // modulus), 2**64)
    assert likeliest ** checks.repetitions(PROFILES[profile]) < Fraction(1, 2**80)
    assert checks.repetitions(PROFILES[profile]) == {"S": 5, "S36": 3, "M": 3}[profile]


@pytest.mark.parametrize("profile", ["S", "S36", "M"])
def test_measured_noise_stays_below_the_bound(profile: ProfileName, tmp_path: Path) -> None:
    one = _native.HeSecretKey.generate(profile)
    ring = PROFILES[profile]
    public_key, relin_key = joint_keys(profile, b"common", [one])
    table = schema(profile)
    for name, blocks in encode.owner_blocks(table, OWNER, cells(table.rows), profile):
        seeds = [hashlib.sha256(f"{name} {n}".encode()).digest() for n in range(len(blocks))]
        sealed = _native.he_encrypt_many(profile, public_key, blocks, seeds, ring.limbs)
        HeColumns.write(str(tmp_path), name, profile, ring.limbs, sealed)
    plan = checks.check_plan(statement(profile), table, 1, 1)
    columns, engine = HeColumns.open(str(tmp_path), profile), LocalEngine(2)
    result = engine.reduce(plan, [engine.run_chunk(plan, 0, columns, [], QUERY)], relin_key)
    assert plan.aggregate is not None
    modulus_bits = ring.modulus_bits(plan.limbs)
    for output, item in zip(plan.aggregate.outputs, validate_result(plan, result), strict=True):
        measured = modulus_bits - one.noise_budget_bits(item, plan.limbs)
        assert measured <= output.noise_bits <= plan.noise_bits, output.name
    assert plan.noise_bits <= plan.capacity_bits <= scalar_capacity_bits(ring, 1)


def test_groups_are_digits_joints_and_presence_too() -> None:
    columns = (
        Column("a", OWNER, OneHot(("x", "y"), missing=True)),
        Column("b", OWNER, Bins(0, (5,), 9)),
        Column("c", OWNER, Digits(0, 99, 4, missing=True)),
        Column("value", OWNER, None, 100),
        Column("other", "bank-a", OneHot(("x", "y"))),
    )
    table = TableSchema("t", 10, "id", OWNER, columns, (Joint("ab", OWNER, ("a", "b")),))
    table.validate()
    found = checks.indicator_groups(table, OWNER, "S36")
    assert list(found) == ["presence.0", "a", "b", "c.digit0", "c.digit1", "ab"]
    assert found["a"] == ("a.0", "a.1", "a.missing")
    assert all(group[-1] == "c.missing" for name, group in found.items() if "digit" in name)
    assert len(found["ab"]) == 6
    # Each row is in exactly one of each group, whatever is missing.
    rows: dict[str, list[Cell]] = {
        "a": ["x", "y", None] * 3 + ["x"],
        "b": list(range(10)),
        "c": [None, *range(9, 99, 10)],
        "value": [0] * 10,
    }
    blocks = dict(encode.owner_blocks(table, OWNER, rows, "S36"))
    for group in found.values():
        total = sum(np.frombuffer(blocks[name][0], "<u8")[:10] for name in group)
        assert list(np.asarray(total)) == [1] * 10


@pytest.mark.parametrize(
    ("owner", "table", "code"),
    [("bank-a", "firms", "NOTHING_TO_CHECK"), (OWNER, "others", "NOTHING_TO_CHECK")],
)
def test_a_check_of_nothing_is_refused(owner: str, table: str, code: str) -> None:
    stated = checks.CheckStatement(table, owner, "S36", ROOT)
    with pytest.raises(ClientFault, match=code):
        checks.check_plan(stated, schema("S36"), PARTIES, 1)


def test_statements_are_read_exactly() -> None:
    stated = statement("S36")
    assert checks.CheckStatement.read(stated.text()) == stated
    for text in ("SELECT COUNT(*) FROM firms", stated.text() + " ", stated.text().lower()):
        assert checks.CheckStatement.read(text) is None
