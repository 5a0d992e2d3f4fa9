"""Three, four and more questions that together would tell about too few rows."""

from itertools import combinations, product

import numpy as np
import pytest
from test_differencing import groups, verdict

from chainnode.he import differencing_systems as systems
from chainnode.he.differencing import OpenedGroup, too_close
from chainnode.he.planner.policy import Policy
from chainnode.he.schema import Column, OneHot, TableSchema
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.limits import DIFFERENCING_GROUPS_MAX, DIFFERENCING_SYSTEM_CELLS_MAX

TRADE = "sector = 'trade'"


def asked(*questions: tuple[str, int | None]) -> list[OpenedGroup]:
    return [
        group
        for place, (where, count) in enumerate(questions)
        for group in groups(where, count, query=f"q{place}")
    ]


def test_a_set_left_by_two_earlier_groups_is_refused() -> None:
    """trade - (overdue < 2) - (overdue >= 4) is 2 <= overdue < 4; no two of them are close."""
    known = asked((TRADE, 100), (f"{TRADE} AND overdue < 2", 60))
    for late, small in ((36, True), (31, True), (30, False), (40, False)):
        found = verdict(groups(f"{TRADE} AND overdue >= 4", late, query="q2"), known)
        assert ("groups of queries q1, q0, q2 leave fewer than 10 rows" in found) == small, late
        assert small or found == ""


def test_inclusion_and_exclusion_of_three_earlier_groups_is_refused() -> None:
    """A and not B and not C = A - AB - AC + ABC."""
    schema = TableSchema(
        "firms",
        1_000,
        "id",
        "registry",
        (
            Column("a", "registry", OneHot(("0", "1"), missing=True)),
            Column("b", "registry", OneHot(("0", "1"), missing=True)),
            Column("c", "registry", OneHot(("0", "1"), missing=True), profiles=("S36", "M")),
        ),
    ).stored_in("M")
    catalog = Catalog(schema, {}, Policy(minimum_group_size=10))

    def opened(where: str, count: int) -> list[OpenedGroup]:
        plan = plan_query(f"SELECT COUNT(*) FROM firms WHERE {where}", catalog)
        gate = plan.aggregate.outputs[0] if plan.aggregate is not None else None
        assert gate is not None
        return [OpenedGroup(where, gate.terms, count)]

    known = [
        *opened("a = '1'", 400),
        *opened("a = '1' AND b = '1'", 250),
        *opened("a = '1' AND c = '1'", 200),
    ]
    for inside, small in ((54, True), (50, False), (60, False), (59, True), (45, True)):
        fresh = opened("a = '1' AND b = '1' AND c = '1'", inside)
        # 400 - 250 - 200 + inside rows have a, and neither b nor c.
        assert bool(too_close(schema, fresh, known, 10)) == small, inside
    assert too_close(schema, opened("a = '1' AND b = '1' AND c = '1'", 54), known[1:], 10) == ""


def parts(*counts: int) -> systems.System:
    """All rows and all but the last of so many disjoint groups, the last one asked fresh."""
    masks = [np.eye(len(counts), dtype=np.bool_)[place] for place in range(len(counts) - 1)]
    whole = np.ones(len(counts), dtype=np.bool_)
    made = systems.atoms_of([whole, *masks], [sum(counts), *counts[:-1]])
    return systems.System(made.rows, made.counts, len(counts) - 1)


def test_an_atom_that_any_number_of_answers_isolate_is_found() -> None:
    many = parts(40, 50, 60, 70, 80, 90, 7)
    assert systems.small_combination(many, 10) is None
    assert systems.isolates_few(many, 10)
    assert not systems.isolates_few(parts(40, 50, 60, 70, 80, 90, 10), 10)
    assert not systems.isolates_few(parts(40, 50, 60, 70, 80, 90, 0), 10)
    # What was isolated before says nothing about the fresh question.
    old = systems.System(
        np.vstack([many.rows, [many.rows[1]]]), np.append(many.counts, 40.0), len(many.rows)
    )
    assert not systems.isolates_few(old, 10)


def test_the_limit_sets_of_several_atoms_behind_five_answers_pass() -> None:
    """Written down, not wished: 8 rows in two atoms, isolated by six answers together."""
    counts = (40, 50, 60, 70, 80, 3, 5)
    masks = [np.eye(7, dtype=np.bool_)[place] for place in range(5)]
    whole, last = np.ones(7, dtype=np.bool_), np.array([1, 0, 0, 0, 0, 1, 0], dtype=np.bool_)
    made = systems.atoms_of(
        [last, whole, *masks], [counts[0] + counts[5], sum(counts), *counts[:5]]
    )
    # Without the group that tells the two atoms apart, they are one, and are found.
    joined = systems.atoms_of([whole, *masks], [sum(counts), *counts[:5]])
    assert systems.isolates_few(systems.System(joined.rows, joined.counts, 5), 10)
    apart = systems.System(made.rows[1:], made.counts[1:], 5)
    assert systems.small_combination(apart, 10) is None
    assert not systems.isolates_few(apart, 10)


def test_an_unknown_count_is_taken_for_a_small_one() -> None:
    known = asked(("overdue < 4", 100), (f"{TRADE} AND overdue < 4", 60))
    fresh = asked(("sector IN ('farming', 'craft') AND overdue < 4", 20))
    masks = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0]], dtype=np.bool_)
    for count, refused in ((60, False), (75, True), (None, True)):
        made = systems.atoms_of(list(masks), [100, count, 20])
        system = systems.System(made.rows, made.counts, 2)
        assert (systems.small_combination(system, 10) is not None) == refused
    assert verdict(fresh, known) == ""


def exhaustive(system: systems.System, minimum: int) -> bool:
    """Every sum and difference of the fresh group and two or three others, one by one."""
    fresh = len(system.rows) - 1
    for size in (2, 3):
        for places in combinations(range(fresh), size):
            for signs in product((1, -1), repeat=size):
                pairs = list(zip(signs, places, strict=True))
                vector = system.rows[fresh] + sum(s * system.rows[p] for s, p in pairs)
                total = system.counts[fresh] + sum(s * system.counts[p] for s, p in pairs)
                values = set(vector.tolist())
                if values in ({0, 1}, {0, -1}, {1}, {-1}) and 0 < abs(total) < minimum:
                    return True
    return False


@pytest.mark.parametrize("seed", range(30))
def test_the_search_finds_exactly_what_trying_everything_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    cells, count = int(random.integers(3, 7)), int(random.integers(4, 9))
    sizes = random.integers(0, 12, cells)
    masks = [random.random(cells) < 0.5 for _ in range(count)]
    masks = [mask if mask.any() else ~mask for mask in masks]
    made = systems.atoms_of(masks, [int(sizes[mask].sum()) for mask in masks])
    system = systems.System(made.rows, made.counts, count - 1)
    found = systems.small_combination(system, 10)
    assert (found is not None) == exhaustive(system, 10)
    if found is not None:
        assert found[-1] == count - 1 and len(set(found)) == len(found) in (3, 4)


def test_sixty_four_groups_on_thousands_of_cells_take_seconds_at_most() -> None:
    random = np.random.default_rng(1)
    masks = [
        random.random(DIFFERENCING_SYSTEM_CELLS_MAX) < 0.5
        for _ in range(DIFFERENCING_GROUPS_MAX + 1)
    ]
    made = systems.atoms_of(masks, [int(mask.sum()) for mask in masks])
    system = systems.System(made.rows, made.counts, DIFFERENCING_GROUPS_MAX)
    assert made.rows.shape == (65, DIFFERENCING_SYSTEM_CELLS_MAX)
    assert systems.small_combination(system, 10) is None
    assert not systems.isolates_few(system, 10)
