"""Which tables a query reads, and reading names and SQL nodes strictly."""

from __future__ import annotations

from sqlglot import exp

from chainnode.he.planner.refusals import SUPPORTED, unsupported
from chainnode.he.planner.tree import Name

_SHOWN_CHARACTERS = 80
_REWRITES = {
    "joins": "write JOIN part USING (id)",
    "distinct": "drop DISTINCT, or GROUP BY the column",
    "with_": "write one SELECT without WITH",
    "offset": "drop OFFSET and skip released rows",
    "on": "write JOIN part USING (id)",
    "side": "write JOIN part USING (id): parts hold every id",
}


def shown(node: exp.Expr) -> str:
    """A node as SQL, shortened for messages."""
    text = node.sql(dialect="duckdb")
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def only(node: exp.Expr, *allowed: str) -> None:
    """Refuse a node that carries anything beside the named parts.

    Raises:
        ClientFault: `SQL_UNSUPPORTED`.
    """
    for key, value in node.args.items():
        if key not in allowed and value not in (None, False, [], ""):
            raise unsupported(
                key.rstrip("_").upper(),
                f"not supported in {shown(node)}",
                _REWRITES.get(key, SUPPORTED),
            )


class Scope:
    """The joined tables by the name that columns may be qualified with."""

    def __init__(self) -> None:
        self._tables: dict[str, str] = {}
        self.id_columns: tuple[str, ...] = ()
        self.score_columns: tuple[Name, ...] = ()

    def add(self, node: object) -> None:
        """Read one table of FROM or JOIN."""
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise unsupported("FROM", "a query reads tables by name", SUPPORTED)
        only(node, "this", "alias")
        alias = node.args.get("alias")
        if alias is not None:
            only(alias, "this")
        name = (node.alias or node.name).casefold()
        if name in self._tables or node.name in self._tables.values():
            raise unsupported(shown(node), "a table is joined once", "drop the second mention")
        self._tables[name] = node.name

    def using(self, columns: tuple[str, ...]) -> None:
        """Note the columns of one JOIN; the table decides whether they are its id."""
        self.id_columns += columns

    def tables(self) -> tuple[str, ...]:
        """Names of the tables as written, then after a bar the columns they are joined on."""
        return (*self._tables.values(), *(f"|{name}" for name in self.id_columns))

    def column(self, node: object, where: str) -> Name:
        """A column, perhaps qualified.

        Raises:
            ClientFault: `SQL_UNSUPPORTED`.
        """
        if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
            what = shown(node) if isinstance(node, exp.Expr) else "nothing"
            raise unsupported(where, f"expects a column, not {what}", SUPPORTED)
        only(node, "this", "table")
        if not node.table:
            return Name(node.name)
        source = self._tables.get(node.table.casefold())
        if source is None:
            raise unsupported(shown(node), "no such table in FROM", SUPPORTED)
        return Name(node.name, source)
