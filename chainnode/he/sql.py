"""SQL to a plan: parse, bind, policy, predicate normal form, degree and noise, chunks.

Nothing is evaluated here and nothing is read but public facts, so every node makes the same plan
of the same text and can check the hash a client submitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chainnode.he.plan import Plan
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the contract allows on a table.

    Args:
        minimum_group_size: smallest count whose answer is released.
        denied_columns: SQL columns no query may use.
        scores_allowed: whether `CREDIT_SCORE` may be asked.
        groups_max: most groups a query may have.
    """

    minimum_group_size: int = 10
    denied_columns: tuple[str, ...] = ()
    scores_allowed: bool = True
    groups_max: int = 32


class Catalog(msgspec.Struct, frozen=True):
    """The public facts a plan is made from.

    Args:
        schema: the table.
        models: registered scorecards by name.
        policy: the contract's rules for the table.
        parties: key council members, for the noise of a joint key.
    """

    schema: TableSchema
    models: Mapping[str, Scorecard]
    policy: Policy = Policy()
    parties: int = 4


def plan_query(sql: str, catalog: Catalog, chunk_count: int = 4) -> Plan:
    """The plan of one SELECT.

    Args:
        sql: the query text.
        catalog: table, models and policy.
        chunk_count: workers to split the blocks over.

    Raises:
        ClientFault: `SQL_UNSUPPORTED`, `SQL_TOO_LONG`, `PLAN_TOO_DEEP`, `PLAN_OVERFLOW`,
            `POLICY_DENIED`; each names the node and the nearest query that would do.
    """
    raise NotImplementedError


def explain(plan: Plan) -> str:
    """Cost, noise and bytes read of a plan, as text (`EXPLAIN`)."""
    raise NotImplementedError
