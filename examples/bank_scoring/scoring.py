"""Publishing a table, asking for scores and aggregates, and comparing with the plaintext."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

import duckdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from chainnode.he.encode import Cell
from chainnode.he.profiles import ProfileName
from chainnode.he.results import Average
from chainnode.he.schema import OneHot, TableSchema
from chainnode.he.scorecard import Scorecard
from examples.bank_scoring import training
from examples.bank_scoring.network import BANK, Party
from examples.bank_scoring.stages import Advance

OWNERS = ("bank-a", "guarantor", "statistics", "registry")
MINIMUM_GROUP = 20
BUDGET = 40
AUDITED_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class Table:
    """One encrypted table with the plaintext that only its owners hold."""

    schema: TableSchema
    model: Scorecard
    cases: Sequence[training.Case]
    cells: Mapping[str, Sequence[Cell]]

    @property
    def ids(self) -> list[str]:
        """The registry's ids in row order."""
        return training.registry_ids(self.cases)

    def plain_scores(self) -> NDArray[np.int64]:
        """What the scorecard gives in the clear."""
        return self.model.score(self.schema, self.cells)


def table_of(
    train: Sequence[training.Case],
    cases: Sequence[training.Case],
    profiles: Sequence[ProfileName] = (),
) -> Table:
    """The table of the cases to score, with a model trained on the others.

    Args:
        train: cases to train on.
        cases: cases to score.
        profiles: to store the columns in, beside those of every table.
    """
    schema = training.build_schema(train, len(cases)).stored_in(*profiles)
    return Table(schema, training.train(train, schema), cases, training.cells(cases))


def large_table(
    train: Sequence[training.Case],
    cases: Sequence[training.Case],
    summed: Sequence[str],
    profiles: Sequence[ProfileName] = (),
) -> Table:
    """Like `table_of`, storing for SQL only the columns named: 100,000 rows on one disk."""
    full = training.build_schema(train, len(cases)).stored_in(*profiles)
    columns = tuple(
        column
        if column.name in summed
        else msgspec.structs.replace(column, profiles=("S",), value_maximum=None, value_limb_bits=0)
        for column in full.columns
    )
    schema = msgspec.structs.replace(full, table="loans_resampled", columns=columns)
    schema.validate()
    model = training.train(train, schema, name="sba_resampled")
    return Table(schema, model, cases, training.cells(cases))


async def publish(table: Table, parties: Mapping[str, Party], advance: Advance) -> None:
    """Create the table, encrypt and upload every organisation's columns, grant and consent."""
    name = table.schema.table
    await parties["registry"].bank.create_table(
        table.schema, table.ids, minimum_group=MINIMUM_GROUP, owners=list(OWNERS)
    )
    for party in parties.values():
        # In a consortium this height comes with the invitation to the table.
        party.client.saw(parties["registry"].client.seen_height)
    holders = [owner for owner in OWNERS if holds_columns(table.schema, owner)]
    for number, owner in enumerate(holders):

        def shown(done: int, total: int, number: int = number) -> None:
            advance(number * total + done, len(holders) * total)

        await parties[owner].bank.publish_columns(name, table.cells, progress=shown)
    for owner in OWNERS:
        bank = parties[owner].bank
        await bank.approve_model(name, table.model)
        await bank.grant(name, BANK, BUDGET)
        await bank.set_consent(name, BANK, table.ids)


async def audit_openings(table: Table, owner: Party, auditor: Party) -> str:
    """Have an owner open the blocks that the chain chooses and the auditor check them."""
    name = table.schema.table
    chosen = await owner.bank.audit_choice(name, owner.organisation, AUDITED_BLOCKS)
    opened = {
        profile: await owner.bank.open_blocks(name, profile, places, table.cells)
        for profile, places in chosen.items()
    }
    passed = await auditor.bank.audit_blocks(name, owner.organisation, opened, AUDITED_BLOCKS)
    blocks = [
        f"{profile} {column}/{block}" for profile in passed for column, block in passed[profile]
    ]
    return (
        f"{owner.organisation}'s blocks {', '.join(blocks)}: encrypted again, equal byte for byte"
    )


def holds_columns(schema: TableSchema, owner: str) -> bool:
    """Whether an organisation has anything to encrypt for a table."""
    return bool(schema.stored_columns("S", owner) or schema.stored_columns("S36", owner))


def mismatches(table: Table, scores: Mapping[str, int]) -> int:
    """How many rows differ from the plaintext score, missing ones included."""
    plain = table.plain_scores()
    return sum(
        scores.get(identifier) != int(expected)
        for identifier, expected in zip(table.ids, plain, strict=True)
    )


def quality(table: Table, scores: Mapping[str, int] | None = None) -> tuple[float, float]:
    """AUC and KS of the plaintext scores, or of released ones."""
    values = (
        table.plain_scores()
        if scores is None
        else np.array([scores[identifier] for identifier in table.ids], dtype=np.int64)
    )
    bad = training.outcomes(table.cases)
    return training.area_under_curve(values, bad), training.kolmogorov_smirnov(values, bad)


def smallest_group(table: Table) -> str | None:
    """The condition on two columns that the fewest rows meet, if fewer than the minimum do."""
    coded = [
        column
        for column in table.schema.columns
        if isinstance(column.encoding, OneHot) and "S36" in column.profiles
    ]
    found: list[tuple[int, str]] = []
    for left, right in combinations(coded, 2):
        pairs = zip(table.cells[left.name], table.cells[right.name], strict=True)
        for (first, second), count in Counter(pairs).items():
            if first and second and count < MINIMUM_GROUP:
                found.append((count, f"{left.name} = '{first}' AND {right.name} = '{second}'"))
    return min(found)[1] if found else None


def plain_rows(table: Table, sql: str) -> list[list[Any]]:
    """The answer of an ordinary database on the plaintext, averages as exact fractions."""
    database = duckdb.connect()
    columns: dict[str, NDArray[Any]] = {}
    for column in table.schema.columns:
        values = [str(value) or None for value in table.cells[column.name]]
        if column.value_maximum is not None:
            columns[column.name] = np.array([int(value or 0) for value in values], dtype=np.int64)
        else:
            columns[column.name] = np.array(values, dtype=object)
    database.register(table.schema.table, columns)
    return [list(row) for row in database.execute(exact(sql)).fetchall()]


def exact(sql: str) -> str:
    """The same query with every AVG as `sum/count` text, since a float is not an answer."""
    import re

    return re.sub(
        r"AVG\((\w+)\)", r"CAST(SUM(\1) AS VARCHAR) || '/' || CAST(COUNT(\1) AS VARCHAR)", sql
    )


def comparable(value: Any) -> Any:
    """An answer's cell as text that both sides write alike."""
    if isinstance(value, Average):
        return str(value.exact())
    if isinstance(value, str) and "/" in value:
        return str(Fraction(value))
    return str(value)
