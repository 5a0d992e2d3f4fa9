"""The public description of an encrypted table: who holds which column and how it is encoded.

A table is a registry of enterprise ids in a fixed order; every organisation's columns are aligned
on it, so a join on the id costs nothing and nobody sees who banks whom. A predicate column becomes
one 0/1 indicator column per bin, named `feature.bin`; a missing value has its own indicator or
none at all, hence never satisfies a comparison (SQL's NULL).
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Context, Decimal, InvalidOperation
from itertools import pairwise
from math import prod
from typing import Final

import msgspec

from chainnode.he import canonical
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.types.errors import ClientFault
from chainnode.types.limits import COLUMN_INDICATORS_MAX, NUMBER_DIGITS_MAX

SLOTS_PER_BLOCK: Final = 8192
SENTINEL_SLOTS: Final = 64
ROWS_PER_BLOCK: Final = SLOTS_PER_BLOCK - SENTINEL_SLOTS
EXACT: Final = Context(prec=60, traps=[InvalidOperation])
"""Decimal arithmetic that no caller's precision can change."""

EPOCH_DAY: Final = date(1970, 1, 1)
DAY_MAX: Final = (date(9999, 12, 31) - EPOCH_DAY).days
LIMB_VALUE_MAX: Final = 10**NUMBER_DIGITS_MAX - 1

PRESENCE: Final = "presence"
PRESENCE_COLUMN: Final = "presence.0"


def rows_per_block(profile: ProfileName) -> int:
    """Rows in one ciphertext of a profile."""
    return PROFILES[profile].slots - SENTINEL_SLOTS


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
        dates: values are days since 1970-01-01, written YYYY-MM-DD.
    """

    minimum: int
    edges: tuple[int, ...]
    maximum: int
    decimals: int = 0
    missing: bool = False
    dates: bool = False

    def bin_count(self) -> int:
        """Indicators that comparisons use (the missing one is extra)."""
        return len(self.edges) + 1

    def bounds(self) -> tuple[int, ...]:
        """All edges: bin i is [bounds[i], bounds[i + 1])."""
        return (self.minimum, *self.edges, self.maximum + 1)

    def text(self, scaled: int) -> str:
        """A scaled integer as the decimal number or date a user writes."""
        return scaled_text(scaled, self)


class Digits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="digits"):
    """Digits base 2^digit_bits of (value - minimum), one indicator per digit and digit value.

    Any constant can be compared with: `x < c` multiplies as many columns as there are digits.

    Args:
        minimum: smallest allowed value, times 10^decimals.
        maximum: largest allowed value, times 10^decimals.
        digit_bits: bits of a digit.
        decimals: digits after the point that the column keeps.
        missing: whether a missing value gets an indicator of its own.
        dates: values are days since 1970-01-01, written YYYY-MM-DD.
    """

    minimum: int
    maximum: int
    digit_bits: int
    decimals: int = 0
    missing: bool = False
    dates: bool = False

    def digit_count(self) -> int:
        """Digits, the lowest being number 0."""
        return max(1, -(-(self.maximum - self.minimum).bit_length() // self.digit_bits))

    def digit_values(self, digit: int) -> int:
        """Indicators of one digit: the values it can take."""
        largest = (self.maximum - self.minimum) >> (digit * self.digit_bits)
        return min(largest + 1, 1 << self.digit_bits)

    def text(self, scaled: int) -> str:
        """A scaled integer as the decimal number or date a user writes."""
        return scaled_text(scaled, self)


def scaled_text(scaled: int, encoding: Bins | Digits) -> str:
    """A scaled integer as the decimal number or date a user writes."""
    if encoding.dates:
        return (EPOCH_DAY + timedelta(days=scaled)).isoformat()
    return str(Decimal(scaled).scaleb(-encoding.decimals, context=EXACT))


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One SQL column: its owner, its indicators for predicates, its values for sums.

    Args:
        name: SQL name; compared without regard to case.
        owner: organisation that encrypts it.
        encoding: indicators, or None for a column that can only be summed.
        value_maximum: largest value times 10^value_decimals (the smallest is 0) if the column can
            be summed; a missing value is stored as 0 and needs the encoding's missing indicator.
        value_limb_bits: split values into limbs of so many bits, each summed alone, so that sums
            over many rows stay below t; 0 stores the whole value in one column.
        value_decimals: digits after the point of values.
        profiles: profiles the indicators are stored in; values are always in S36, and in M if it
            is named (products of three and four columns).
        derived: arithmetic on the owner's other columns that this column's values are, such as
            `price * (1 - discount)`; the planner reads this column in its place.
    """

    name: str
    owner: str
    encoding: OneHot | Bins | Digits | None = None
    value_maximum: int | None = None
    value_limb_bits: int = 0
    profiles: tuple[ProfileName, ...] = ("S", "S36")
    value_decimals: int = 0
    derived: str = ""

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
        if isinstance(self.encoding, Digits):
            names = tuple(
                f"{self.digit(place)}.{value}"
                for place in range(self.encoding.digit_count())
                for value in range(self.encoding.digit_values(place))
            )
        else:
            names = tuple(self.indicator(index) for index in range(self.encoding.bin_count()))
        return (*names, self.missing_indicator()) if self.encoding.missing else names

    def stores_values(self, profile: ProfileName) -> bool:
        """Whether a profile holds the column's values."""
        return self.value_maximum is not None and (
            profile == "S36" or (profile == "M" and "M" in self.profiles)
        )

    def digit(self, place: int) -> str:
        """The name that a digit's indicators begin with."""
        return f"{self.name}.digit{place}"

    def may_be_missing(self) -> bool:
        """Whether the column has an indicator of missing values."""
        return self.encoding is not None and self.encoding.missing


class Joint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Indicators of the combinations of several columns' bins, all of one owner, in S36.

    A condition or group on these columns then costs one factor in place of one for each.

    Args:
        name: begins the stored names; not a SQL name.
        owner: organisation that encrypts it.
        columns: SQL columns with bins or categories.
    """

    name: str
    owner: str
    columns: tuple[str, ...]


class TableSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An encrypted table as every organisation publishes and checks it.

    Args:
        table: SQL table name.
        rows: enterprises in the registry.
        id_column: SQL name of the enterprise id.
        presence_owner: organisation that encrypts the presence column (the registry).
        columns: SQL columns in a fixed order.
        joints: combinations stored beside them.
    """

    table: str
    rows: int
    id_column: str
    presence_owner: str
    columns: tuple[Column, ...]
    joints: tuple[Joint, ...] = ()

    def stored_in(self, *profiles: ProfileName) -> TableSchema:
        """The same table with every column stored in these profiles too."""
        columns = tuple(
            msgspec.structs.replace(
                column,
                profiles=tuple(n for n in PROFILES if n in column.profiles or n in profiles),
            )
            for column in self.columns
        )
        return msgspec.structs.replace(self, columns=columns)

    def block_count(self, profile: ProfileName = "S") -> int:
        """Blocks of a profile; each leaves its last 64 slots to sentinels."""
        return -(-self.rows // rows_per_block(profile))

    def column(self, name: str) -> Column | None:
        """A column by SQL name, in any case."""
        folded = name.casefold()
        return next((item for item in self.columns if item.name.casefold() == folded), None)

    def stored_columns(self, profile: ProfileName, owner: str | None = None) -> tuple[str, ...]:
        """Names of the ciphertext columns of one profile, of one owner or of all."""
        names: list[str] = []
        if self.stores(profile) and owner in (None, self.presence_owner):
            names.append(PRESENCE_COLUMN)
        for column in self.columns:
            if owner not in (None, column.owner):
                continue
            if profile in column.profiles:
                names.extend(column.indicators())
            if column.stores_values(profile):
                names.extend(name for name, _, _ in column.value_columns())
        for joint in self.stored_joints(profile):
            if owner in (None, joint.owner):
                names.extend(self.joint_indicators(joint))
        return tuple(names)

    def stores(self, profile: ProfileName) -> bool:
        """Whether a profile holds counts and sums of this table, hence the presence column."""
        if profile == "S36":
            return True
        return profile == "M" and any("M" in column.profiles for column in self.columns)

    def stored_joints(self, profile: ProfileName) -> tuple[Joint, ...]:
        """Joints stored in a profile: S36, and M if all their columns are."""
        if profile == "S":
            return ()
        return tuple(
            joint
            for joint in self.joints
            if profile == "S36"
            or all(
                column is not None and "M" in column.profiles
                for column in map(self.column, joint.columns)
            )
        )

    def joint_indicators(self, joint: Joint) -> tuple[str, ...]:
        """The stored names of a joint's combinations, the last column's bin changing fastest."""
        return tuple(f"{joint.name}.{index}" for index in range(prod(self.joint_shape(joint))))

    def joint_shape(self, joint: Joint) -> tuple[int, ...]:
        """Bins of each column of a joint, one more where values may be missing."""
        encodings = [self._encoding(name) for name in joint.columns]
        return tuple(encoding.bin_count() + encoding.missing for encoding in encodings)

    def _encoding(self, name: str) -> OneHot | Bins:
        column = self.column(name)
        if column is None or not isinstance(column.encoding, OneHot | Bins):
            raise _invalid(name, "a joint combines columns with bins or categories")
        return column.encoding

    def owners(self) -> tuple[str, ...]:
        """Every organisation that encrypts something, sorted."""
        return tuple(sorted({self.presence_owner, *(column.owner for column in self.columns)}))

    def part(self, owner: str) -> str:
        """The SQL name of one owner's columns as a table of its own."""
        return f"{self.table}_{owner.replace('-', '_')}"

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
        for joint in self.joints:
            if joint.name.casefold() in seen:
                raise _invalid(joint.name, "the name is taken or reserved")
            seen.add(joint.name.casefold())
            self._validate_joint(joint)

    def _validate_joint(self, joint: Joint) -> None:
        if not _is_name(joint.name):
            raise _invalid(joint.name, NAME_RULE)
        found = [self.column(name) for name in joint.columns]
        if len(found) < 2 or len(set(joint.columns)) != len(found):
            raise _invalid(joint.name, "a joint combines at least two different columns")
        for name, column in zip(joint.columns, found, strict=True):
            if column is None or column.name != name or column.owner != joint.owner:
                raise _invalid(joint.name, f"{name} is not a column of {joint.owner}")
        if prod(self.joint_shape(joint)) > COLUMN_INDICATORS_MAX:
            raise _invalid(joint.name, f"a joint has at most {COLUMN_INDICATORS_MAX} combinations")


def day_number(text: str) -> int | None:
    """Days since 1970-01-01 of a date YYYY-MM-DD, or None."""
    try:
        return (date.fromisoformat(text) - EPOCH_DAY).days if len(text) == 10 else None
    except ValueError:
        return None


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


NAME_RULE: Final = "names are ASCII letters, digits and underscores"


def _is_name(name: str) -> bool:
    return name.isascii() and name.replace("_", "a").isalnum()


def _validate_column(column: Column) -> None:
    if not _is_name(column.name):
        raise _invalid(column.name, NAME_RULE)
    if column.encoding is None and column.value_maximum is None:
        raise _invalid(column.name, "a column has indicators, values or both")
    _validate_values(column)
    encoding = column.encoding
    if isinstance(encoding, Bins):
        bounds = encoding.bounds()
        if any(low >= high for low, high in pairwise(bounds)):
            raise _invalid(column.name, "edges rise strictly between minimum and maximum")
    elif isinstance(encoding, Digits):
        if encoding.minimum >= encoding.maximum:
            raise _invalid(column.name, "minimum lies below maximum")
        if not 1 <= encoding.digit_bits <= 10:
            raise _invalid(column.name, "digit_bits lies between 1 and 10")
    elif isinstance(encoding, OneHot):
        categories = encoding.categories
        if not categories or len(set(categories)) != len(categories):
            raise _invalid(column.name, "categories are at least one and all different")
    if isinstance(encoding, Bins | Digits):
        _validate_range(column, encoding)
    if len(column.indicators()) > COLUMN_INDICATORS_MAX:
        raise _invalid(column.name, f"a column has at most {COLUMN_INDICATORS_MAX} indicators")


def _validate_range(column: Column, encoding: Bins | Digits) -> None:
    if not 0 <= encoding.decimals <= 6:
        raise _invalid(column.name, "decimals lie between 0 and 6")
    if encoding.dates and (
        encoding.decimals or not 0 <= encoding.minimum < encoding.maximum <= DAY_MAX
    ):
        raise _invalid(column.name, f"dates are whole days between 0 and {DAY_MAX}")
    if max(abs(encoding.minimum), abs(encoding.maximum)) > LIMB_VALUE_MAX:
        raise _invalid(column.name, f"numbers have at most {NUMBER_DIGITS_MAX} digits")


def _validate_values(column: Column) -> None:
    if column.value_maximum is not None:
        limit = LIMB_VALUE_MAX if column.value_limb_bits else PROFILES["S36"].plain_modulus // 2
        if not 0 < column.value_maximum < limit:
            raise _invalid(column.name, f"value_maximum lies between 1 and {limit}")
    if column.value_limb_bits != 0 and not 8 <= column.value_limb_bits <= 24:
        raise _invalid(column.name, "value_limb_bits is 0 or lies between 8 and 24")
    if not 0 <= column.value_decimals <= 6:
        raise _invalid(column.name, "value_decimals lie between 0 and 6")
    if column.derived and column.value_maximum is None:
        raise _invalid(column.name, "a derived column has values")


def _invalid(subject: str, rule: str) -> ClientFault:
    return ClientFault(
        "SCHEMA_INVALID", rule, subject=subject, fix="correct the schema and publish it again"
    )
