"""The plan: what every HE worker computes, as one canonical JSON whose hash the contract votes on.

A plan holds no key, no data and no floating-point number. `chunks` splits the blocks over workers;
outputs of all chunks are added in any order (exact modular addition), so the split never changes
the result's bytes.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from chainnode.he import canonical
from chainnode.he.profiles import ProfileName
from chainnode.types.errors import InternalError

PLAN_VERSION: Final = 2

OutputKind = Literal["count", "sum"]


class LinearForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public integer combination of stored columns: constant + the sum of weight x column."""

    columns: tuple[str, ...]
    weights: tuple[int, ...]
    constant: int = 0

    def squared_weight(self) -> int:
        """Sum of squared weights: the growth of the variance of independent columns' noise."""
        return sum(weight * weight for weight in self.weights)

    def text(self) -> str:
        """The form as a formula, e.g. `staff - 2 debt`."""
        parts = [str(self.constant)] if self.constant else []
        for name, weight in zip(self.columns, self.weights, strict=True):
            sign = "-" if weight < 0 else "+"
            factor = "" if abs(weight) == 1 else f"{abs(weight)} "
            parts.append(f"{sign} {factor}{name}")
        return " ".join(parts).removeprefix("+ ")


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The product of one or more linear forms, summed over all slots.

    A single form has constant 0, and of several at least one has: slots without a row add nothing.
    """

    factors: tuple[LinearForm, ...]


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scalar the key council opens: the sum of its terms over all rows.

    Args:
        name: readable, e.g. `UrbanRural=1: SUM(GrAppv)`.
        group: index into the plan's groups.
        kind: `count` outputs are the gates opened first, to the council alone: the rows of the
            group, and of every FILTER and CASE branch in it.
        terms: added together.
        minimum: smallest possible value, used to lift the residue modulo t.
        maximum: largest possible value; maximum - minimum < t.
        noise_bits: bound on the noise before the council floods.
    """

    name: str
    group: int
    kind: OutputKind
    terms: tuple[Term, ...]
    minimum: int
    maximum: int
    noise_bits: int

    def degree(self) -> int:
        """Columns multiplied at most."""
        return max(len(term.factors) for term in self.terms)


# --- arithmetic after release ---------------------------------------------------------------------


class GroupLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="group"):
    """The group's label of one GROUP BY column; `numeric` labels are sorted by first value."""

    position: int
    numeric: bool = False


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="number"):
    """scaled / 10^decimals."""

    scaled: int
    decimals: int = 0


class Total(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="total"):
    """A sum or count: opened outputs times multipliers, over 10^decimals.

    Args:
        parts: (position among the group's outputs, multiplier).
        decimals: digits after the point.
        count: position of the count of rows summed: NULL when it is 0; -1 for a count itself.
    """

    parts: tuple[tuple[int, int], ...]
    decimals: int
    count: int


class Mean(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="mean"):
    """A sum over its count of rows, as an exact fraction; NULL without rows."""

    total: Total


class Computed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="computed"):
    """left op right in exact arithmetic; NULL of a NULL and of a division by zero."""

    operator: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression


Expression = GroupLabel | Number | Total | Mean | Computed


class Test(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="test"):
    """A HAVING comparison."""

    operator: Literal["=", "<>", "<", "<=", ">", ">="]
    left: Expression
    right: Expression


class Connective(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="connective"):
    """AND or OR of HAVING conditions, or NOT of one."""

    operator: Literal["and", "or", "not"]
    parts: tuple[Having, ...]


Having = Test | Connective


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the user's answer, computed by the bank from a group's opened outputs."""

    name: str
    value: Expression


class ScorePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scorecard over every row, masked by public 0/1 slots.

    Args:
        model: registered name.
        model_hash: SHA-256 of the scorecard, hex.
        points: indicator columns and their points; no weights where the points are ciphertexts.
        offset: added in every slot the mask keeps.
        minimum: smallest possible score.
        maximum: largest possible score.
        ids: enterprises asked about; None asks about every row the mask keeps.
        bands: cut-offs between which the bank counts scores after release; empty gives the scores.
    """

    model: str
    model_hash: str
    points: LinearForm
    offset: int
    minimum: int
    maximum: int
    ids: tuple[str, ...] | None
    bands: tuple[int, ...] = ()


class PrivateConstant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A comparison whose constant is encrypted: it chooses among the groups of the last column.

    Args:
        column: SQL column, the last of `group_columns`.
        operator: public; `=` chooses exactly one group, the others any of them.
        choices: groups to choose from, for every group that is released.
        record: SHA-256 of the record that names the selectors, hex; empty in a plan that is only
            explained.
    """

    column: str
    operator: Literal["=", "<>", "<", "<=", ">", ">="]
    choices: int
    record: str


class AggregatePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sums and counts per group.

    Args:
        group_columns: SQL columns of GROUP BY.
        groups: labels of every group, one for each column; one group without labels if none.
        minimum_group_size: below this count a group's answer is refused.
        outputs: ordered by group, the same ones in each; the first of each group is its count.
        answers: the user's columns.
        having: applied by the bank to released groups.
        order: (answer position, descending) applied by the bank.
        limit: rows the bank keeps; -1 keeps all.
        private: the groups are those of a private constant; what is released is chosen from them.
    """

    group_columns: tuple[str, ...]
    groups: tuple[tuple[str | None, ...], ...]
    minimum_group_size: int
    outputs: tuple[Output, ...]
    answers: tuple[Answer, ...]
    having: Having | None = None
    order: tuple[tuple[int, bool], ...] = ()
    limit: int = -1
    private: PrivateConstant | msgspec.UnsetType = msgspec.UNSET

    def polynomials(self) -> int:
        """Polynomials of all outputs before any is relinearised: the size of a chunk's result."""
        return sum(output.degree() + 1 for output in self.outputs)

    def gates(self) -> tuple[int, ...]:
        """Indices of the outputs the council opens first, to itself alone: one count a group.

        Where a result holds them is `private_constants.gate_places`.
        """
        return tuple(index for index, output in enumerate(self.outputs) if output.kind == "count")


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What running the plan takes, all chunks together."""

    bytes_read: int
    products: int
    relinearisations: int
    result_bytes: int


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One approved query, ready to compute.

    Args:
        version: of this format.
        kind: `scores` fills `scores`, `aggregate` fills `aggregate`; so does `check`, whose
            outputs are weighted slot by slot and open to zero (`chainnode.he.checks`).
        sql: the user's text, as parsed.
        table: SQL table name.
        schema_hash: of the table's schema, hex.
        profile: ring of columns and result.
        limbs: leading limbs read and returned.
        rows: rows of the table.
        chunks: (first block, block count), covering every block once.
        noise_bits: largest bound over outputs, before the council floods.
        capacity_bits: the most noise that the council's flooding hides on these limbs.
        cost: for `EXPLAIN` and quotas.
        scores: for kind `scores`.
        aggregate: for kinds `aggregate` and `check`.
        further_scores: other scorecards over the same rows, computed in the same pass.
    """

    version: int
    kind: Literal["scores", "aggregate", "check"]
    sql: str
    table: str
    schema_hash: str
    profile: ProfileName
    limbs: int
    rows: int
    chunks: tuple[tuple[int, int], ...]
    noise_bits: int
    capacity_bits: int
    cost: Cost
    scores: ScorePart | None = None
    aggregate: AggregatePart | None = None
    further_scores: tuple[ScorePart, ...] | msgspec.UnsetType = msgspec.UNSET

    def encode(self) -> bytes:
        """Canonical JSON: sorted keys, no floats, no white space."""
        return canonical.encode(self)

    def hash(self) -> bytes:
        """SHA-256 of the canonical JSON under `chainnode/he-plan/v1`."""
        return canonical.digest("chainnode/he-plan/v1", self)

    def columns(self) -> tuple[str, ...]:
        """Every stored column the plan reads, sorted."""
        names: set[str] = set()
        for form in self.forms():
            names.update(form.columns)
        return tuple(sorted(names))

    def score_parts(self) -> tuple[ScorePart, ...]:
        """Every scorecard of a score query, in the order of the text."""
        further = () if isinstance(self.further_scores, msgspec.UnsetType) else self.further_scores
        return () if self.scores is None else (self.scores, *further)

    def scored_columns(self) -> tuple[str, ...]:
        """A score's indicator columns in the order of its points."""
        return () if self.scores is None else self.scores.points.columns

    def has_private_points(self) -> bool:
        """Whether the score's points are ciphertexts, which the plan's model names by hash."""
        return (
            bool(self.scored_columns())
            and self.scores is not None
            and not (self.scores.points.weights)
        )

    def sums(self) -> AggregatePart:
        """What an aggregate or a check computes.

        Raises:
            InternalError: `PLAN_KIND` for a plan of scores.
        """
        if self.aggregate is None:
            raise InternalError("PLAN_KIND", "not an aggregate plan", subject=self.hash().hex())
        return self.aggregate

    def private_constant(self) -> PrivateConstant | None:
        """The encrypted constant of the query's condition, if it has one."""
        private = msgspec.UNSET if self.aggregate is None else self.aggregate.private
        return None if isinstance(private, msgspec.UnsetType) else private

    def forms(self) -> tuple[LinearForm, ...]:
        """Every linear form the plan evaluates, in order."""
        if self.scores is not None:
            return tuple(part.points for part in self.score_parts())
        outputs = self.aggregate.outputs if self.aggregate is not None else ()
        return tuple(form for output in outputs for term in output.terms for form in term.factors)

    @staticmethod
    def decode(data: bytes) -> Plan:
        """Read canonical JSON.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return canonical.decode(Plan, data)
