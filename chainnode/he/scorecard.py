"""Integer scorecards: weight-of-evidence points per bin, exact in the clear and encrypted.

A model is public to the consortium. Its score is offset + the sum over features of the points of
the row's bin, so on one-hot columns it is a linear map with no homomorphic product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from chainnode.he import canonical
from chainnode.he.encode import Cell, bin_indices
from chainnode.he.plan import LinearForm
from chainnode.he.profiles import SCORES, ProfileName
from chainnode.he.schema import Bins, OneHot, TableSchema
from chainnode.types.errors import ClientFault


class FeaturePoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points of one feature.

    Args:
        feature: SQL column name.
        points: one per bin of the column's encoding.
        missing: points of a missing value; used only if the column encodes missing values.
    """

    feature: str
    points: tuple[int, ...]
    missing: int = 0


class Scorecard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scorecard in integer points.

    Args:
        name: what `CREDIT_SCORE('name')` refers to.
        table: SQL table it scores.
        schema_hash: of the schema whose bins the points belong to, hex.
        offset: points of every row.
        features: in the schema's order.
    """

    name: str
    table: str
    schema_hash: str
    offset: int
    features: tuple[FeaturePoints, ...]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical.encode(self)

    def hash(self) -> bytes:
        """SHA-256 of the canonical JSON under `chainnode/he-scorecard/v1`."""
        return canonical.digest("chainnode/he-scorecard/v1", self)

    @staticmethod
    def decode(data: bytes) -> Scorecard:
        """Read canonical JSON.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return canonical.decode(Scorecard, data)

    def bounds(self) -> tuple[int, int]:
        """Smallest and largest possible score; a row without a value gets 0 points for it."""
        low = high = self.offset
        for item in self.features:
            low += min(0, item.missing, *item.points)
            high += max(0, item.missing, *item.points)
        return low, high

    def validate(self, schema: TableSchema, profile: ProfileName = "S") -> None:
        """Check the model against the table it scores, whose columns are stored in a profile.

        Raises:
            ClientFault: `MODEL_INVALID` naming the feature and the rule.
        """
        if self.schema_hash != schema.hash().hex() or self.table != schema.table:
            raise _invalid(self.name, "the model belongs to another schema")
        seen: list[str] = []
        for item in self.features:
            column = schema.column(item.feature)
            if column is None or column.name != item.feature:
                raise _invalid(item.feature, "the table has no such column")
            if not isinstance(column.encoding, OneHot | Bins):
                raise _invalid(item.feature, "a feature has categories or bins")
            if profile not in column.profiles:
                where = "for scores" if profile == "S" else f"in profile {profile}"
                raise _invalid(item.feature, f"the column is not stored {where}")
            if len(item.points) != column.encoding.bin_count():
                raise _invalid(item.feature, "there is one number of points for every bin")
            if item.feature in seen:
                raise _invalid(item.feature, "a feature occurs once")
            seen.append(item.feature)
        low, high = self.bounds()
        if not self.features or high - low >= SCORES.plain_modulus:
            raise _invalid(self.name, "scores span fewer values than t = 65537")

    def linear_form(self, schema: TableSchema) -> LinearForm:
        """Indicator columns and their points; zero points read no column."""
        columns: list[str] = []
        weights: list[int] = []
        for item in self.features:
            column = schema.column(item.feature)
            if column is None or column.encoding is None:
                raise _invalid(item.feature, "the table has no such encoded column")
            pairs = [(column.indicator(index), value) for index, value in enumerate(item.points)]
            if column.encoding.missing:
                pairs.append((column.missing_indicator(), item.missing))
            for name, value in pairs:
                if value != 0:
                    columns.append(name)
                    weights.append(value)
        return LinearForm(tuple(columns), tuple(weights))

    def score(self, schema: TableSchema, cells: Mapping[str, Sequence[Cell]]) -> NDArray[np.int64]:
        """Score plaintext rows: the oracle of every encrypted result.

        Args:
            schema: of the table.
            cells: SQL column name to one cell per row.
        """
        total: NDArray[np.int64] | None = None
        for item in self.features:
            column = schema.column(item.feature)
            if column is None or column.encoding is None:
                raise _invalid(item.feature, "the table has no such encoded column")
            missing = item.missing if column.encoding.missing else 0
            points = np.array([*item.points, missing], dtype=np.int64)
            part = points[bin_indices(column, cells[item.feature])]
            total = part if total is None else total + part
        if total is None:
            raise _invalid(self.name, "a model has at least one feature")
        return total + self.offset

    def explain(self, schema: TableSchema) -> str:
        """The scorecard as a table a person can read."""
        lines = [f"scorecard {self.name} on {self.table}: offset {self.offset}"]
        for item in self.features:
            column = schema.column(item.feature)
            if column is None or not isinstance(column.encoding, OneHot | Bins):
                continue
            shown = list(zip(_bin_labels(column.encoding), item.points, strict=True))
            if column.encoding.missing:
                shown.append(("missing", item.missing))
            for label, value in shown:
                lines.append(f"  {item.feature:<16} {label:<24} {value:+d}")
        return "\n".join(lines)


def _bin_labels(encoding: OneHot | Bins) -> tuple[str, ...]:
    if isinstance(encoding, OneHot):
        return encoding.categories
    texts = [encoding.text(edge) for edge in encoding.bounds()]
    return tuple(f"[{low}, {high})" for low, high in pairwise(texts))


def _invalid(subject: str, rule: str) -> ClientFault:
    return ClientFault(
        "MODEL_INVALID", rule, subject=subject, fix="train the model again on this schema"
    )
