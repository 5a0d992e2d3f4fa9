"""The typed refusals the rules share: what was refused and the nearest query that would do."""

from __future__ import annotations

from typing import Final

from chainnode.types.errors import ClientFault
from chainnode.types.limits import SQL_DEPTH_MAX

SUPPORTED: Final = (
    "SELECT COUNT, SUM and AVG of columns with + - *, or CREDIT_SCORE('model'), FROM a table "
    "[JOIN its parts USING (id)] [WHERE conditions] [GROUP BY category columns] [HAVING] "
    "[ORDER BY] [LIMIT]; see docs/reference/sql.md"
)


def unsupported(node: str, reason: str, rewrite: str) -> ClientFault:
    """The refusal of a construct, naming it and the nearest query that would do."""
    return ClientFault("SQL_UNSUPPORTED", f"{node}: {reason}", subject=node, fix=rewrite)


def too_deep() -> ClientFault:
    """The refusal of a text nested beyond the limit."""
    return ClientFault(
        "SQL_TOO_DEEP",
        f"the query nests deeper than {SQL_DEPTH_MAX}",
        fix="flatten the condition with IN, BETWEEN, AND and OR",
    )
