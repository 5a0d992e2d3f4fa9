"""The public description of an encrypted table: who holds which column and how it is encoded.

A table is a registry of enterprise ids in a fixed order; every organisation's columns are aligned
on it, so a join on the id costs nothing and nobody sees who banks whom. A predicate column becomes
one 0/1 indicator column per bin, named `feature.bin`; a missing value has its own indicator or
none at all, hence never satisfies a comparison (SQL's NULL).
"""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation
from itertools import pairwise
from typing import Final

import msgspec

from chainnode.he import canonical
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.types.errors import ClientFault

SLOTS_PER_BLOCK: Final = 8192
SENTINEL_SLOTS: Final = 64
ROWS_PER_BLOCK: Final = SLOTS_PER_BLOCK - SENTINEL_SLOTS
EXACT: Final = Context(prec=60, traps=[InvalidOperation])
"""Decimal arithmetic that no caller's precision can change."""

NUMBER_DIGITS_MAX: Final = 15
PRESENCE: Final = "presence"
PRESENCE_COLUMN: Final = "presence.0"


class OneHot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="one_hot"):
    """One indicator per category.

    Args:
        categories: every allowed value as text, in the order that numbers the indicators.
        missing: whether a missing value gets an indicator of its own.
    """

    categories: tuple[str, ...]
    missing: bool = False

    def bin_count(self) -> int:
        """Indicators that comparisons use (the missing one is extra)."""
        return len(self.categories)


class Bins(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="bins"):
    """One indicator per half-open interval between public edges of a scaled integer.

    Bin 0 is [minimum, edges[0]), the last is [edges[-1], maximum].

    Args:
        minimum: smallest allowed value, times 10^decimals.
        edges: increasing inner edges, times 10^decimals.
        maximum: largest allowed value, times 10^decimals.
        decimals: digits after the point that the column keeps.
        missing: whether a missing value gets an indicator of its own.
    """

    minimum: int
    edges: tuple[int, ...]
    maximum: int
    decimals: int = 0
    missing: bool = False

    def bin_count(self) -> int:
        """Indicators that comparisons use (the missing one is extra)."""
        return len(self.edges) + 1

    def bounds(self) -> tuple[int, ...]:
        """All edges: bin i is [bounds[i], bounds[i + 1])."""
        return (self.minimum, *self.edges, self.maximum + 1)

    def text(self, scaled: int) -> str:
        """A scaled integer as the decimal number a user writes."""
        return str(Decimal(scaled).scaleb(-self.decimals, context=EXACT))


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One SQL column: its owner, its indicators for predicates, its values for sums.

    Args:
        name: SQL name; compared without regard to case.
        owner: organisation that encrypts it.
        encoding: indicators, or None for a column that can only be summed.
        value_maximum: largest integer value (the smallest is 0) if the column can be summed.
        value_limb_bits: split values into limbs of so many bits, each summed alone, so that sums
            over many rows stay below t; 0 stores the whole value in one column.
        profiles: profiles the indicators are stored in; values are always in S36.
    """

    name: str
    owner: str
    encoding: OneHot | Bins | None = None
    value_maximum: int | None = None
    value_limb_bits: int = 0
    profiles: tuple[ProfileName, ...] = ("S", "S36")

    def indicator(self, bin_index: int) -> str:
        """The stored name of one bin's 0/1 column."""
        return f"{self.name}.{bin_index}"

    def missing_indicator(self) -> str:
        """The stored name of the 0/1 column of missing values."""
        return f"{self.name}.missing"

    def value_columns(self) -> tuple[tuple[str, int, int], ...]:
        """(stored name, multiplier, largest value) of each limb, lowest first."""
        if self.value_maximum is None:
            return ()
        if self.value_limb_bits == 0:
            return ((self.name, 1, self.value_maximum),)
        limbs = []
        for index in range(-(-self.value_maximum.bit_length() // self.value_limb_bits)):
            shift = index * self.value_limb_bits
            largest = min(self.value_maximum >> shift, (1 << self.value_limb_bits) - 1)
            limbs.append((f"{self.name}.limb{index}", 1 << shift, largest))
        return tuple(limbs)

    def indicators(self) -> tuple[str, ...]:
        """Every stored indicator, bins first, then the missing one if there is any."""
        if self.encoding is None:
            return ()
        names = tuple(self.indicator(index) for index in range(self.encoding.bin_count()))
        return (*names, self.missing_indicator()) if self.encoding.missing else names


class TableSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An encrypted table as every organisation publishes and checks it.

    Args:
        table: SQL table name.
        rows: enterprises in the registry.
        id_column: SQL name of the enterprise id.
        presence_owner: organisation that encrypts the presence column (the registry).
        columns: SQL columns in a fixed order.
    """

    table: str
    rows: int
    id_column: str
    presence_owner: str
    columns: tuple[Column, ...]

    def block_count(self) -> int:
        """Blocks of 8,192 slots; each leaves its last 64 slots to sentinels."""
        return -(-self.rows // ROWS_PER_BLOCK)

    def column(self, name: str) -> Column | None:
        """A column by SQL name, in any case."""
        folded = name.casefold()
        return next((item for item in self.columns if item.name.casefold() == folded), None)

    def stored_columns(self, profile: ProfileName, owner: str | None = None) -> tuple[str, ...]:
        """Names of the ciphertext columns of one profile, of one owner or of all."""
        names: list[str] = []
        if profile == "S36" and owner in (None, self.presence_owner):
            names.append(PRESENCE_COLUMN)
        for column in self.columns:
            if owner not in (None, column.owner):
                continue
            if profile in column.profiles:
                names.extend(column.indicators())
            if profile == "S36":
                names.extend(name for name, _, _ in column.value_columns())
        return tuple(names)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical.encode(self)

    def hash(self) -> bytes:
        """SHA-256 of the canonical JSON under `chainnode/he-schema/v1`."""
        return canonical.digest("chainnode/he-schema/v1", self)

    @staticmethod
    def decode(data: bytes) -> TableSchema:
        """Read and validate canonical JSON.

        Raises:
            ClientFault: `MALFORMED`, or `SCHEMA_INVALID` naming the column and the rule.
        """
        schema = canonical.decode(TableSchema, data)
        schema.validate()
        return schema

    def validate(self) -> None:
        """Check every rule a well-typed schema can still break.

        Raises:
            ClientFault: `SCHEMA_INVALID` naming the column and the rule.
        """
        if self.rows < 1:
            raise _invalid(self.table, "a table has at least one row")
        seen = {self.id_column.casefold(), PRESENCE}
        for column in self.columns:
            if column.name.casefold() in seen:
                raise _invalid(column.name, "the name is taken or reserved")
            seen.add(column.name.casefold())
            _validate_column(column)


def plain_number(text: str) -> Decimal | None:
    """A decimal number of few digits on either side of the point, or None.

    The bounds keep every later step exact: `1e-999999999` would otherwise round to zero.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() >= NUMBER_DIGITS_MAX:
        return None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -NUMBER_DIGITS_MAX:
        return None
    return number


def _validate_column(column: Column) -> None:
    if not column.name.replace("_", "a").isalnum() or not column.name.isascii():
        raise _invalid(column.name, "names are ASCII letters, digits and underscores")
    if column.encoding is None and column.value_maximum is None:
        raise _invalid(column.name, "a column has indicators, values or both")
    if column.value_maximum is not None:
        limit = PROFILES["S36"].plain_modulus // 2
        if not 0 < column.value_maximum < limit:
            raise _invalid(column.name, f"value_maximum lies between 1 and {limit}")
    if column.value_limb_bits != 0 and not 8 <= column.value_limb_bits <= 24:
        raise _invalid(column.name, "value_limb_bits is 0 or lies between 8 and 24")
    if isinstance(column.encoding, Bins):
        bounds = column.encoding.bounds()
        if any(low >= high for low, high in pairwise(bounds)):
            raise _invalid(column.name, "edges rise strictly between minimum and maximum")
        if not 0 <= column.encoding.decimals <= 6:
            raise _invalid(column.name, "decimals lie between 0 and 6")
    elif isinstance(column.encoding, OneHot):
        categories = column.encoding.categories
        if not categories or len(set(categories)) != len(categories):
            raise _invalid(column.name, "categories are at least one and all different")


def _invalid(subject: str, rule: str) -> ClientFault:
    return ClientFault(
        "SCHEMA_INVALID", rule, subject=subject, fix="correct the schema and publish it again"
    )
