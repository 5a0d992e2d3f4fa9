"""Every query text in plans/*.txt plans, or is refused, exactly as written there.

A changed plan is changed in those files by hand, with its reason in the commit, because nodes vote
on these bytes.
"""

import json
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from chainnode.he.plan import Plan
from chainnode.he.planner.chunks import READS_PER_RESULT, worthwhile
from chainnode.he.schema import rows_per_block
from chainnode.he.sql import Catalog, Policy, explain, plan_query, refusal, verify_plan
from chainnode.types.errors import ClientFault

PLANS = Path(__file__).with_name("plans")


def cases() -> list[tuple[str, str]]:
    found = []
    for path in sorted(PLANS.glob("*.txt")):
        for entry in path.read_text(encoding="utf-8").split("\n\n>> "):
            sql, _, expected = entry.strip().removeprefix(">> ").partition("\n")
            found.append((sql, expected))
    return found


def outcome(sql: str, catalog: Catalog) -> str:
    try:
        return explain(plan_query(sql, catalog))
    except ClientFault as error:
        return refusal(error)


@pytest.mark.parametrize(("sql", "expected"), cases())
def test_text_gives_the_recorded_plan_or_refusal(sql: str, expected: str, catalog: Catalog) -> None:
    assert outcome(sql, catalog) == expected


@pytest.mark.parametrize("sql", [sql for sql, text in cases() if text.startswith("plan ")])
def test_plan_json_is_canonical_and_read_back(sql: str, catalog: Catalog) -> None:
    plan = plan_query(sql, catalog)
    again = Plan.decode(plan.encode())
    assert again == plan
    assert again.hash() == plan.hash()
    json.loads(plan.encode(), parse_float=pytest.fail)
    with pytest.raises(ClientFault) as caught:
        Plan.decode(plan.encode().replace(b'{"', b'{ "', 1))
    assert caught.value.code == "MALFORMED"


def test_fixtures_cover_both_outcomes() -> None:
    texts = [text for _, text in cases()]
    assert sum(text.startswith("plan ") for text in texts) >= 12
    assert sum(text.startswith("refused ") for text in texts) >= 40


@pytest.mark.parametrize("chunk_count", [1, 2, 4, 100])
def test_a_plan_of_its_own_text_verifies(catalog: Catalog, chunk_count: int) -> None:
    for sql in (
        "SELECT SUM(debt) FROM firms WHERE region = '1'",
        "SELECT CREDIT_SCORE('m1') FROM firms",
    ):
        verify_plan(plan_query(sql, catalog, chunk_count), catalog)


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_another_chunk_is_made_while_it_saves_more_than_it_adds(workers: int) -> None:
    """The number with the least of reads / chunks + weighted sums x chunks, the larger of two."""
    for sums in (1, 7, 1_000):
        for read in (0, 1, *(sums * READS_PER_RESULT * n - n % 2 for n in range(300))):

            def weight(count: int, read: int = read, sums: int = sums) -> Fraction:
                return Fraction(read, count) + READS_PER_RESULT * sums * count

            used = worthwhile(read, sums, workers)
            counts = range(1, workers + 1)
            assert used == max(counts, key=lambda count: (-weight(count), count))
            assert worthwhile(read, sums, used) == used


def test_few_blocks_of_many_sums_are_one_chunk_and_a_long_scan_has_one_a_worker(
    catalog: Catalog,
) -> None:
    few = "SELECT COUNT(*), SUM(staff) FROM firms"
    more = "SELECT sector, region, COUNT(*), SUM(staff) FROM firms GROUP BY sector, region"

    def chunks(sql: str, rows: int) -> int:
        schema = msgspec.structs.replace(catalog.schema, rows=rows)
        return len(plan_query(sql, Catalog(schema, {}), 4).chunks)

    sizes = (9_000, 100_000, 300_000, 1_000_000, 2_000_000)
    assert [chunks(few, rows) for rows in sizes] == [1, 1, 1, 2, 3]
    assert [chunks(more, rows) for rows in sizes] == [1, 1, 2, 3, 4]


def test_scores_are_read_in_long_runs(catalog: Catalog) -> None:
    def chunks(rows: int) -> list[int]:
        schema = msgspec.structs.replace(catalog.schema, rows=rows)
        models = {
            "m1": msgspec.structs.replace(catalog.models["m1"], schema_hash=schema.hash().hex())
        }
        plan = plan_query("SELECT CREDIT_SCORE('m1') FROM firms", Catalog(schema, models), 4)
        verify_plan(plan, Catalog(schema, models))
        return [count for _, count in plan.chunks]

    block = rows_per_block("S")
    assert chunks(block) == [1]
    assert chunks(15 * block) == [15]
    assert chunks(15 * block + 1) == [8, 8]
    assert chunks(123 * block) == [31, 31, 31, 30]


def test_forged_plans_are_refused(catalog: Catalog) -> None:
    replace = msgspec.structs.replace
    plan = plan_query("SELECT COUNT(*) FROM firms WHERE region = '1'", catalog)
    output = plan.aggregate.outputs[0]
    column = replace(output.terms[0].factors[0], columns=("turnover",))
    secret = replace(output, terms=(replace(output.terms[0], factors=(column,)),))
    larger = Catalog(catalog.schema, catalog.models, Policy(minimum_group_size=50, outputs_max=24))
    for forged, known in (
        (replace(plan, aggregate=replace(plan.aggregate, outputs=(secret,))), catalog),
        (replace(plan, aggregate=replace(plan.aggregate, minimum_group_size=1)), catalog),
        (replace(plan, chunks=((0, 2), (0, 1))), catalog),
        (replace(plan, limbs=2), catalog),
        (plan, larger),
    ):
        with pytest.raises(ClientFault) as caught:
            verify_plan(forged, known)
        assert caught.value.code == "PLAN_FORGED"
