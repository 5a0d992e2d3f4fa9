"""Rule 3, derived columns: arithmetic that an owner did before encrypting is not done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

import sqlglot
from sqlglot.errors import SqlglotError

from chainnode.he.encode import Cell
from chainnode.he.planner import expressions, values
from chainnode.he.planner.polynomial import ONE
from chainnode.he.planner.scope import Scope
from chainnode.he.schema import EXACT, Column, TableSchema, plain_number
from chainnode.types.errors import ClientFault


def known(schema: TableSchema) -> values.Derived:
    """Every derived column with its arithmetic, the longest first.

    Raises:
        ClientFault: `SCHEMA_INVALID`.
    """
    found = [(column, arithmetic(column, schema)) for column in schema.columns if column.derived]
    return tuple(sorted(found, key=lambda item: (-len(item[1]), item[0].name)))


def arithmetic(column: Column, schema: TableSchema) -> values.Arithmetics:
    """A derived column's arithmetic over other columns of its owner.

    Raises:
        ClientFault: `SCHEMA_INVALID`.
    """
    try:
        node = sqlglot.parse_one(f"SELECT {column.derived}", read="duckdb").expressions[0]
        summed = values.summed(expressions.number(node, Scope(), 1), schema)
    except (SqlglotError, RecursionError, IndexError) as error:
        raise _invalid(column, "it is no arithmetic") from error
    except ClientFault as error:
        raise _invalid(column, error.message) from error
    if set(summed.pieces) != {values.key(ONE)} or summed.known != ONE:
        raise _invalid(column, "it is + - * on columns that are never missing")
    terms = dict(summed.pieces[values.key(ONE)])
    for name in {variable[0] for monomial in terms for variable in monomial}:
        source = schema.column(name)
        if source is None or source.owner != column.owner or source.derived:
            raise _invalid(column, f"{name} is no plain column of {column.owner}")
    return terms


def cells(column: Column, schema: TableSchema, rows: Mapping[str, Sequence[Cell]]) -> list[Decimal]:
    """A derived column's values, exactly, from the cells of the columns it is made of.

    Raises:
        ClientFault: `SCHEMA_INVALID`, or `VALUE_OUT_OF_DOMAIN` naming the row's value.
    """
    terms = arithmetic(column, schema)
    names = sorted({variable[0] for monomial in terms for variable in monomial})
    if not names:
        raise _invalid(column, "it names no column")
    computed = []
    for row in zip(*(rows[name] for name in names), strict=True):
        known_values = {
            name: _number(name, cell, schema) for name, cell in zip(names, row, strict=True)
        }
        total = Fraction(0)
        for monomial, coefficient in terms.items():
            # Coefficients are per stored unit; cells are in the user's units.
            part = coefficient
            for name, _ in monomial:
                part *= known_values[name]
            total += part
        computed.append(EXACT.divide(Decimal(total.numerator), Decimal(total.denominator)))
    return computed


def _number(name: str, cell: Cell, schema: TableSchema) -> Fraction:
    column = schema.column(name)
    number = plain_number("" if cell is None else str(cell).strip())
    if number is None or column is None:
        raise ClientFault(
            "VALUE_OUT_OF_DOMAIN",
            f"value {cell!r} of column {name}: not a number of at most 15 digits",
            subject=name,
            fix="correct the row",
        )
    return Fraction(number) * Fraction(10**column.value_decimals)


def _invalid(column: Column, rule: str) -> ClientFault:
    return ClientFault(
        "SCHEMA_INVALID",
        f"{column.name} is derived as {column.derived!r}: {rule}",
        subject=column.name,
        fix="correct the expression and publish the schema again",
    )
