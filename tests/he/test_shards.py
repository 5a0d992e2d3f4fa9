"""Shards without a cluster: the same bytes for any split, and tiles that are checked."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from he_council import Council

from chainnode.he.checks import CheckStatement, check_plan
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine, combine
from chainnode.he.plan import Plan
from chainnode.he.planner.chunks import READS_PER_RESULT, split
from chainnode.he.ray_engine import RayEngine, RaySettings
from chainnode.he.schema import TableSchema
from chainnode.he.shards import ShardOrder, ShardStore, order_of, place, shard_count, tiles_of
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import ConfigError, PeerFault

SUMS = "SELECT COUNT(*), SUM(staff) FROM firms WHERE overdue >= 3"
SCORES = "SELECT id, CREDIT_SCORE('m1') FROM firms"
QUERY = b"\x07" * 32
MEBI = 1 << 20


@pytest.fixture(scope="module")
def plans(catalog: Catalog) -> dict[str, Plan]:
    return {sql: plan_query(sql, catalog, chunk_count=1) for sql in (SUMS, SCORES)}


@pytest.fixture(scope="module")
def columns(
    plans: dict[str, Plan],
    schema: TableSchema,
    firms: dict[str, list[Cell]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, object]:
    made = {}
    for plan in plans.values():
        folder = tmp_path_factory.mktemp(plan.profile)
        council = Council(plan.profile)
        made[plan.sql] = council.encrypt_table(folder, schema, firms, plan.columns())
    return made


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., ShardStore]]:
    with ExitStack() as stack:

        def opened(name: str = "shards", size_max_bytes: int = 1_000 * MEBI) -> ShardStore:
            return stack.enter_context(closing(ShardStore(tmp_path / name, size_max_bytes)))

        yield opened


def masks_of(plan: Plan, blocks: int) -> list[bytes]:
    if plan.scores is None:
        return []
    return [(np.arange(8_192, dtype="<u8") & 1).tobytes() for _ in range(blocks)]


def orders(plan: Plan, columns, pieces: int) -> list[ShardOrder]:
    (_, blocks), *_ = plan.chunks
    return [order_of(plan, columns, first, count) for first, count in split(blocks, pieces)]


@pytest.mark.parametrize("sql", [SUMS, SCORES])
def test_shards_in_another_folder_give_the_local_bytes(
    plans: dict[str, Plan],
    columns: dict[str, object],
    open_store: Callable[..., ShardStore],
    sql: str,
) -> None:
    plan, stored = (
        next(item for item in plans.items() if item[0] == sql)[1],
        columns[plans[sql].sql],
    )
    masks = masks_of(plan, plan.chunks[0][1])
    local = LocalEngine(2).run_chunk(plan, 0, stored, masks, QUERY)
    for pieces in (1, 2):
        store, results = open_store(str(pieces)), []
        for order in orders(plan, stored, pieces):
            assert not store.holds(order)
            store.keep(order, tiles_of(order, stored))
            part = masks[order.first : order.first + order.count]
            results.append(store.compute(order, plan, part, QUERY, 1))
        assert len(results) == pieces
        assert combine(plan, results) == local


def test_tiles_that_arrive_wrong_are_refused_by_column(
    plans: dict[str, Plan], columns: dict[str, object], open_store: Callable[..., ShardStore]
) -> None:
    plan, store = plans[SUMS], open_store()
    order = orders(plan, columns[plan.sql], 2)[0]
    tiles = tiles_of(order, columns[plan.sql])
    name = plan.columns()[1]
    changed = bytearray(tiles[name])
    changed[70_000] ^= 1
    for wrong in ({**tiles, name: bytes(changed)}, {**tiles, name: tiles[name][:-8]}):
        with pytest.raises(PeerFault, match=name) as refused:
            store.keep(order, wrong)
        assert refused.value.code == "CHUNK_MISMATCH"
        assert not store.holds(order)


@pytest.mark.parametrize("forged", [False, True])
def test_tiles_that_changed_on_disk_are_found_before_computing(
    plans: dict[str, Plan],
    columns: dict[str, object],
    open_store: Callable[..., ShardStore],
    forged: bool,
) -> None:
    plan = plans[SUMS]
    first, second = orders(plan, columns[plan.sql], 2)
    store = open_store()
    store.keep(first, tiles_of(first, columns[plan.sql]))
    place_of = store.folder / first.key()
    if forged:
        # Whole files of another shard, which agree with their own manifest.
        store.keep(second, tiles_of(second, columns[plan.sql]))
        for path in (store.folder / second.key()).iterdir():
            path.replace(place_of / path.name)
    else:
        damaged = sorted(place_of.glob("*.tiles"))[0]
        data = bytearray(damaged.read_bytes())
        data[9_999] ^= 4
        damaged.write_bytes(bytes(data))
    with pytest.raises(PeerFault, match="CHUNK_MISMATCH"):
        store.compute(first, plan, [], QUERY, 1)
    assert not store.holds(first)
    store.keep(first, tiles_of(first, columns[plan.sql]))
    assert store.compute(first, plan, [], QUERY, 1)


def test_the_least_recently_used_tiles_go_first_and_stay_after_a_restart(
    plans: dict[str, Plan], columns: dict[str, object], open_store: Callable[..., ShardStore]
) -> None:
    plan = plans[SUMS]
    both = orders(plan, columns[plan.sql], 2)
    tiles = [tiles_of(order, columns[plan.sql]) for order in both]
    room = sum(len(data) for data in tiles[0].values()) + MEBI
    store = open_store(size_max_bytes=room)
    store.keep(both[0], tiles[0])
    store.keep(both[1], tiles[1])
    assert [store.holds(order) for order in both] == [False, True]
    beside = open_store(size_max_bytes=room)
    assert beside.folder != store.folder
    store.close()
    beside.close()
    again = open_store(size_max_bytes=room)
    assert [again.holds(order) for order in both] == [False, True]
    assert again.compute(both[1], plan, [], QUERY, 1)


def test_placement_is_even_and_moves_few_shards() -> None:
    keys = [f"shard {number}" for number in range(60)]
    before = place(keys, ["a", "b", "c", "d"])
    assert all(sorted(ranked) == ["a", "b", "c", "d"] for ranked in before)
    first = [ranked[0] for ranked in before]
    assert {name: first.count(name) for name in "abcd"} == dict.fromkeys("abcd", 15)
    after = place(keys, ["a", "b", "d"])
    stayed = sum(old[0] == new[0] for old, new in zip(before, after, strict=True) if old[0] != "c")
    assert stayed >= 40


def test_without_ray_the_reason_and_the_command_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how an import fails whether Ray is installed or not.
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"RAY_MISSING.*pip install 'chainnode\[ray\]'"):
        RayEngine(RaySettings())


def longer(plan: Plan, factor: int) -> Plan:
    """The same question on a table of so many times the blocks."""
    replace = msgspec.structs.replace
    chunks = tuple((factor * first, factor * count) for first, count in plan.chunks)
    reads = replace(plan.cost, bytes_read=factor * plan.cost.bytes_read)
    return replace(plan, chunks=chunks, cost=reads)


def test_sums_are_split_into_no_more_shards_than_pay(catalog: Catalog) -> None:
    """Each shard's time is what it reads, and all of them send back all sums."""
    plan = plan_query(SUMS, catalog, chunk_count=1)
    sums_bytes = plan.sums().polynomials() * plan.limbs * 8_192 * 8
    found = []
    for factor in (1, 4, 16, 64, 256, 1_024):
        made = longer(plan, factor)
        (_, blocks), *_ = made.chunks
        read = made.cost.bytes_read

        def time(count: int, read: int = read) -> float:
            return read / count + READS_PER_RESULT * sums_bytes * count

        count = shard_count(made, blocks, 8)
        assert time(count) == min(time(other) for other in range(1, 9))
        found.append(count)
    assert found[0] == 1 and found[-1] == 8 and found == sorted(found)
    # A chunk of half the blocks has half to read.
    whole = longer(plan, 64)
    (_, blocks), *_ = whole.chunks
    halves = msgspec.structs.replace(whole, chunks=split(blocks, 2))
    assert shard_count(halves, blocks // 2, 8) == shard_count(longer(plan, 32), blocks // 2, 8)
    assert shard_count(halves, blocks // 2, 8) < shard_count(whole, blocks, 8)


def test_scores_and_checks_are_split_as_far_as_they_go(
    catalog: Catalog, schema: TableSchema
) -> None:
    assert shard_count(plan_query(SCORES, catalog, chunk_count=1), 2, 8) == 8
    statement = CheckStatement(schema.table, schema.columns[0].owner, "S36", bytes(32))
    check = check_plan(statement, schema, 4, 1)
    assert shard_count(check, 2, 8) == 8
