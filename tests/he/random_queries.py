"""Random SQL over a random table, with what DuckDB is asked to know the exact answer.

Aggregates are asked of DuckDB one by one; averages and quotients are divided here as fractions,
since DuckDB rounds them.
"""

import random
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from random_tables import RandomTable, band

from chainnode.he.planner.bind import single_values
from chainnode.he.schema import Bins, Column, Digits, OneHot


@dataclass
class RandomQuery:
    """One query: its SQL, and the plaintext pieces of every answer column."""

    sql: str
    oracle: str
    shapes: list[object]
    labels: int
    ordered: bool
    leaves: list[str] = field(default_factory=list)


class Queries:
    """Draws queries over one table."""

    def __init__(self, source: random.Random, table: RandomTable) -> None:
        self.source = source
        self.schema = table.schema
        columns = table.schema.columns
        self.filters = [column for column in columns if column.encoding is not None]
        self.values = [column for column in columns if column.value_maximum is not None]
        self.used: list[Column] = []

    def column(self) -> Column:
        """A filter column; few different ones in a query."""
        if len(self.used) >= 2 or (self.used and self.source.random() < 0.5):
            return self.source.choice(self.used)
        self.used.append(self.source.choice(self.filters))
        return self.used[-1]

    def condition(self, depth: int) -> str:
        """A WHERE condition; the same text for both."""
        if depth == 0 or self.source.random() < 0.4:
            return self.atom(self.column())
        parts = [self.condition(depth - 1) for _ in range(self.source.randint(2, 3))]
        text = "(" + f" {self.source.choice(['AND', 'OR'])} ".join(parts) + ")"
        return f"NOT {text}" if self.source.random() < 0.25 else text

    def shallow(self) -> str:
        """A condition inside an aggregate."""
        return self.condition(self.source.choice([0, 0, 1]))

    def atom(self, column: Column) -> str:
        """One comparison."""
        choice = self.source.choice
        name, encoding = column.name, column.encoding
        if self.source.random() < 0.1:
            return f"{name} IS {choice(['', 'NOT '])}NULL"
        if isinstance(encoding, OneHot):
            return self._category(name, encoding)
        wide = isinstance(encoding, Bins) and not single_values(encoding)
        points = not wide or self.source.random() < 0.05
        operator = choice(["<", "<=", ">", ">=", *(["=", "<>"] if points else [])])
        if self.source.random() < 0.2:
            low, high = self.number(encoding, ">="), self.number(encoding, "<=")
            return f"{name} {choice(['', 'NOT '])}BETWEEN {low} AND {high}"
        if points and self.source.random() < 0.15:
            listed = ", ".join(self.number(encoding, "=") for _ in range(self.source.randint(1, 4)))
            return f"{name} IN ({listed})"
        others = [
            other
            for other in self.filters
            if isinstance(other.encoding, Bins)
            and single_values(other.encoding)
            and other.encoding.decimals == 0
        ]
        if column in others and self.source.random() < 0.3:
            return f"{name} {operator} {choice(others).name}"
        constant = self.number(encoding, operator)
        if self.source.random() < 0.1:
            mirrored = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
            return f"{constant} {mirrored} {name}"
        return f"{name} {operator} {constant}"

    def _category(self, name: str, encoding: OneHot) -> str:
        choice = self.source.choice
        quoted = ["'" + text.replace("'", "''") + "'" for text in encoding.categories]
        form = self.source.random()
        if form < 0.4:
            return f"{name} {choice(['=', '<>'])} {choice(quoted)}"
        if form < 0.8:
            chosen = self.source.sample(quoted, self.source.randint(1, len(quoted)))
            return f"{name} {choice(['', 'NOT '])}IN ({', '.join(chosen)})"
        return f"{name} LIKE '{choice(['%s%', '_', 'S%', '%th', '%e%r%', '%', ''])}'"

    def number(self, encoding: Bins | Digits, operator: str) -> str:
        """A constant: mostly one that bins can decide."""
        if isinstance(encoding, Bins) and self.source.random() < 0.95:
            scaled = self.source.choice(encoding.bounds()) - (operator in ("<=", ">"))
        else:
            scaled = self.source.randint(encoding.minimum - 3, encoding.maximum + 3)
        if encoding.dates:
            return f"DATE '{encoding.text(max(0, scaled))}'"
        text = encoding.text(scaled)
        if isinstance(encoding, Digits) and self.source.random() < 0.1:
            text += "5" if "." in text else ".5"
        return text

    def argument(self, depth: int) -> str:
        """What SUM and AVG take."""
        choice = self.source.choice
        if depth == 0 or self.source.random() < 0.5:
            return choice(self.values).name
        form = self.source.random()
        if form < 0.35:
            operator = choice(["+", "-"])
            return f"({self.argument(depth - 1)} {operator} {self.argument(depth - 1)})"
        if form < 0.5:
            return f"({self.argument(depth - 1)} {choice(['+', '-'])} {choice([1, 2, 0.5, 10])})"
        if form < 0.65:
            return f"{choice([2, 3, 0.5, 100])} * {self.argument(depth - 1)}"
        if form < 0.8:
            return f"{choice(self.values).name} * {self.argument(depth - 1)}"
        if form < 0.85:
            return f"(- {self.argument(depth - 1)})"
        end = choice(["", " ELSE 0", f" ELSE {choice(self.values).name}", " ELSE 1"])
        if depth < 2 and end == "":
            end = " ELSE 0"
        return f"CASE WHEN {self.shallow()} THEN {self.argument(depth - 1)}{end} END"

    def leaf(self) -> tuple[str, object]:
        """An aggregate and how it is known: one or two plain aggregates."""
        where = f" FILTER (WHERE {self.shallow()})" if self.source.random() < 0.2 else ""
        form = self.source.random()
        if form < 0.3 or not self.values:
            return f"COUNT(*){where}", [f"COUNT(*){where}"]
        if form < 0.4:
            name = self.source.choice(self.schema.columns).name
            return f"COUNT({name}){where}", [f"COUNT({name}){where}"]
        argument = self.argument(self.source.choice([0, 1, 1, 2]))
        if form < 0.75:
            return f"SUM({argument}){where}", [f"SUM({argument}){where}"]
        pieces = [f"SUM({argument}){where}", f"COUNT({argument}){where}"]
        return f"AVG({argument}){where}", pieces

    def item(self) -> tuple[str, object]:
        """A selected expression."""
        text, shape = self.leaf()
        if self.source.random() < 0.25:
            other, other_shape = self.leaf()
            operator = self.source.choice("+-*/")
            return f"{text} {operator} {other}", (operator, shape, other_shape)
        return text, shape

    def query(self) -> RandomQuery:
        """A query over the table or its joined parts."""
        self.used = []
        groups = self._groups()
        items = [self.item() for _ in range(self.source.randint(1, 3))]
        selected = [text for _, text, _ in groups] + [text for text, _ in items]
        depth = self.source.choice([0, 1, 1, 2])
        where = f" WHERE {self.condition(depth)}" if self.source.random() < 0.7 else ""
        source = self.schema.table
        if self.source.random() < 0.2:
            first, *rest = [self.schema.part(owner) for owner in self.schema.owners()]
            source = first + "".join(f" JOIN {part} USING (id)" for part in rest)
        grouped = f" GROUP BY {', '.join(text for _, text, _ in groups)}" if groups else ""
        plain_group = f" GROUP BY {', '.join(plain for _, _, plain in groups)}" if groups else ""
        having = self._having() if groups and self.source.random() < 0.3 else ""
        order, plain_order = self._order(groups)
        leaves: list[str] = []
        shapes = [_numbered(shape, leaves) for _, shape in items]
        labels = [f"CAST({plain} AS VARCHAR)" for _, _, plain in groups]
        oracle = (
            f"SELECT {', '.join([*labels, *leaves])} FROM {source}{where}{plain_group}{having}"
            f"{plain_order}"
        )
        sql = f"SELECT {', '.join(selected)} FROM {source}{where}{grouped}{having}{order}"
        return RandomQuery(sql, oracle, shapes, len(groups), bool(order), leaves)

    def _groups(self) -> list[tuple[Column, str, str]]:
        choices = [
            column
            for column in self.filters
            if isinstance(column.encoding, OneHot)
            or (isinstance(column.encoding, Bins) and len(column.encoding.edges) < 6)
        ]
        count = self.source.choice([0, 0, 1, 1, 2])
        found = []
        for column in self.source.sample(choices, min(count, len(choices))):
            encoding = column.encoding
            single = isinstance(encoding, OneHot) or (
                isinstance(encoding, Bins) and single_values(encoding)
            )
            text = column.name if single else f"BAND({column.name})"
            found.append((column, text, column.name if single else band(column)))
        return found

    def _having(self) -> str:
        tests = []
        for _ in range(self.source.randint(1, 2)):
            side = "COUNT(*)"
            if self.values and self.source.random() < 0.6:
                side = f"SUM({self.source.choice(self.values).name})"
            operator = self.source.choice(["<", ">=", "<>"])
            tests.append(f"{side} {operator} {self.source.choice([0, 3, 17, 2.5, 1000])}")
        text = f" {self.source.choice(['AND', 'OR'])} ".join(tests)
        return f" HAVING {text}" if self.source.random() < 0.7 else f" HAVING NOT ({text})"

    def _order(self, groups: list[tuple[Column, str, str]]) -> tuple[str, str]:
        if not groups or self.source.random() < 0.6:
            return "", ""
        # Group columns together are a key: the order is the only one possible.
        keys = [
            (place, self.source.choice(["", " DESC"]))
            for place in self.source.sample(range(len(groups)), len(groups))
        ]
        limit = f" LIMIT {self.source.randint(0, 4)}" if self.source.random() < 0.5 else ""
        ours = ", ".join(f"{place + 1}{way}" for place, way in keys)
        plain = ", ".join(f"{_sorted_by(*groups[place])}{way}" for place, way in keys)
        return f" ORDER BY {ours}{limit}", f" ORDER BY {plain}{limit}"


def _sorted_by(column: Column, text: str, plain: str) -> str:
    return plain if text == column.name else f"MIN({band(column, numbered=True)})"


def _numbered(shape: object, leaves: list[str]) -> object:
    if isinstance(shape, list):
        leaves.extend(shape)
        return list(range(len(leaves) - len(shape), len(leaves)))
    operator, left, right = shape
    return (operator, _numbered(left, leaves), _numbered(right, leaves))


def expected(shape: object, leaves: list[object]) -> Fraction | None:
    """The exact answer from DuckDB's aggregates."""
    if isinstance(shape, list):
        found = [leaves[index] for index in shape]
        if len(found) == 1:
            return _fraction(found[0])
        return None if found[0] is None else _fraction(found[0]) / int(found[1])
    operator, left, right = shape
    first, second = expected(left, leaves), expected(right, leaves)
    if first is None or second is None or (operator == "/" and second == 0):
        return None
    if operator == "/":
        return first / second
    return {"+": first + second, "-": first - second, "*": first * second}[operator]


def _fraction(value: object) -> Fraction | None:
    if value is None:
        return None
    assert isinstance(value, int | Decimal)
    return Fraction(value)
