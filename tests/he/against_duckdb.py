"""Random queries against DuckDB: on plaintext slots by default, a share of them encrypted.

`python tests/he/against_duckdb.py --queries 5000 --encrypted 200` prints how many answers were
equal, what was refused with which code, and ends with status 1 on the first difference.

The slot engine does to plaintext slots, modulo t, padding included, what the native kernels do to
ciphertexts: weighted sums of columns with a constant, products of up to four factors, sums over
all slots. It does not see noise; the encrypted share does.
"""

import argparse
import collections
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import numpy as np
from he_council import Council
from random_queries import Queries, RandomQuery, expected
from random_tables import RandomTable, random_table

from chainnode.he import encode
from chainnode.he.answer import number
from chainnode.he.engine import LocalEngine, validate_result
from chainnode.he.plan import LinearForm, Plan
from chainnode.he.planner.chunks import split
from chainnode.he.profiles import PROFILES
from chainnode.he.results import assemble
from chainnode.he.sql import Catalog, Policy, plan_query
from chainnode.types.errors import ClientFault

PADDING = 3
Opener = Callable[[Plan], list[int]]
Answers = list[tuple[object, ...]]


class SlotEngine:
    """Evaluates plans on plaintext slots modulo t; a few empty slots stand for the padding."""

    def __init__(self, table: RandomTable) -> None:
        self._table = table
        self._columns: dict[str, dict[str, np.ndarray]] = {}

    def open(self, plan: Plan) -> list[int]:
        """What the council would open."""
        modulus = PROFILES[plan.profile].plain_modulus
        opened = []
        for output in plan.aggregate.outputs:
            total = 0
            for term in output.terms:
                product = self._form(term.factors[0], plan)
                for factor in term.factors[1:]:
                    product = product * self._form(factor, plan) % modulus
                total += int(product.sum())
            opened.append(total % modulus)
        return opened

    def _form(self, form: LinearForm, plan: Plan) -> np.ndarray:
        columns = self._load(plan)
        modulus = PROFILES[plan.profile].plain_modulus
        rows = self._table.schema.rows + PADDING
        total = np.full(rows, form.constant % modulus, dtype=object)
        for name, weight in zip(form.columns, form.weights, strict=True):
            total = total + columns[name] * (weight % modulus)
        return total % modulus

    def _load(self, plan: Plan) -> dict[str, np.ndarray]:
        if plan.profile not in self._columns:
            found = {}
            for owner in self._table.schema.owners():
                for name, blocks in encode.owner_blocks(
                    self._table.schema, owner, self._table.cells, plan.profile
                ):
                    slots = np.frombuffer(b"".join(blocks), dtype="<u8")
                    found[name] = slots[: self._table.schema.rows + PADDING].astype(object)
            self._columns[plan.profile] = found
        return self._columns[plan.profile]


class Encrypted:
    """Evaluates plans on real ciphertexts and has four key holders open the answers."""

    def __init__(self, table: RandomTable, folder: Path, councils: dict[str, Council]) -> None:
        self._councils = councils
        self._columns = {
            name: council.encrypt_table(folder / name, table.schema, table.cells)
            for name, council in councils.items()
            if table.schema.stores(name)
        }

    def open(self, plan: Plan) -> list[int]:
        """Compute in as many chunks as there are blocks, up to four, reduce and release."""
        council, engine = self._councils[plan.profile], LocalEngine(2)
        blocks = sum(count for _, count in plan.chunks)
        plan = msgspec.structs.replace(plan, chunks=split(blocks, 4))
        chunks = [
            engine.run_chunk(plan, index, self._columns[plan.profile], (), b"query")
            for index in range(len(plan.chunks))
        ]
        result = engine.reduce(plan, chunks, council.relin_key)
        return council.open_scalars(plan, validate_result(plan, result))


def compare(
    query: RandomQuery, catalog: Catalog, opener: Opener, database: duckdb.DuckDBPyConnection
) -> str:
    """`equal`, or the code of the refusal. Raises `AssertionError` on a difference."""
    try:
        plan = plan_query(query.sql, catalog)
    except ClientFault as error:
        return error.code
    try:
        rows = database.execute(query.oracle).fetchall()
    except duckdb.OutOfRangeException:
        return "DuckDB overflows"
    plain: Answers = [
        (
            *row[: query.labels],
            *(expected(shape, list(row[query.labels :])) for shape in query.shapes),
        )
        for row in rows
    ]
    ours: Answers = []
    for answer in assemble(plan, opener(plan)):
        assert not answer.refused, query.sql
        labels, values = answer.values[: query.labels], answer.values[query.labels :]
        ours.append((*labels, *(number(value) for value in values)))
    if not query.ordered:
        plain.sort(key=_key)
        ours.sort(key=_key)
    assert ours == plain, f"{query.sql}\n  ours   {ours}\n  DuckDB {plain}"
    return "equal"


def _key(row: tuple[object, ...]) -> tuple[tuple[bool, str], ...]:
    return tuple((item is None, str(item)) for item in row)


def catalog_of(table: RandomTable, outputs_max: int = 256) -> Catalog:
    """No minimum group size, so that every group is compared."""
    return Catalog(table.schema, {}, Policy(minimum_group_size=0, outputs_max=outputs_max))


def run(seed: str, queries: int, per_table: int = 100) -> collections.Counter[str]:
    """Compare until so many queries were equal, on plaintext slots."""
    counted: collections.Counter[str] = collections.Counter()
    number_of_table = 0
    while counted["equal"] < queries:
        source = random.Random(f"{seed}/{number_of_table}")
        table = random_table(source, source.randint(20, 200), deep=number_of_table % 2 == 0)
        number_of_table += 1
        engine, database = SlotEngine(table), table.load()
        generator, catalog = Queries(source, table), catalog_of(table)
        for _ in range(per_table):
            counted[compare(generator.query(), catalog, engine.open, database)] += 1
        database.close()
    return counted


def run_encrypted(seed: str, queries: int, per_table: int = 25) -> collections.Counter[str]:
    """The same through encryption, kernels, relinearisation and four scalar shares each."""
    councils = {name: Council(name) for name in ("S36", "M")}
    counted: collections.Counter[str] = collections.Counter()
    number_of_table = 0
    while counted["equal"] < queries:
        source = random.Random(f"{seed}/encrypted/{number_of_table}")
        table = random_table(source, source.randint(20, 200), deep=number_of_table % 2 == 0)
        number_of_table += 1
        with tempfile.TemporaryDirectory() as folder:
            engine, database = Encrypted(table, Path(folder), councils), table.load()
            generator, catalog = Queries(source, table), catalog_of(table, 24)
            equal = 0
            while equal < per_table and counted["equal"] < queries:
                profile: list[str] = []

                def opener(plan: Plan, engine=engine, profile=profile) -> list[int]:
                    profile.append(f"{plan.profile} degree {_degree(plan)}")
                    return engine.open(plan)

                outcome = compare(generator.query(), catalog, opener, database)
                counted[outcome] += 1
                counted.update(profile)
                equal += outcome == "equal"
            database.close()
    return counted


def _degree(plan: Plan) -> int:
    return max(output.degree() for output in plan.aggregate.outputs)


def main() -> int:
    """Run both parts and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="chainnode")
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--encrypted", type=int, default=200)
    options = parser.parse_args()
    for title, work, wanted in (
        ("plaintext slots", run, options.queries),
        ("encrypted", run_encrypted, options.encrypted),
    ):
        started = time.monotonic()
        counted = work(options.seed, wanted)
        print(f"{title}: {time.monotonic() - started:.0f} s, seed {options.seed!r}")
        for name, count in counted.most_common():
            print(f"  {count:6d} {name}")
        print("  none different", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
