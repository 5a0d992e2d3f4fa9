"""SQL to a plan: parse, bind, policy, predicate normal form, degree and noise, chunks.

Nothing is evaluated here and nothing is read but public facts, so every node makes the same plan
of the same text and can check the hash a client submitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chainnode.he.plan import (
    PLAN_VERSION,
    AggregatePart,
    Answer,
    Cost,
    LinearForm,
    Output,
    Plan,
    ScorePart,
    Term,
)
from chainnode.he.planner import chunks, degree_and_noise, normal_form, policy
from chainnode.he.planner.bind import bind
from chainnode.he.planner.normal_form import Polynomial
from chainnode.he.planner.parse import parse, unsupported
from chainnode.he.planner.policy import Policy
from chainnode.he.planner.tree import BoundQuery, Item
from chainnode.he.profiles import AGGREGATES, SCORES, Profile
from chainnode.he.schema import PRESENCE_COLUMN, OneHot, TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.types.errors import ClientFault

__all__ = ["Catalog", "Policy", "explain", "plan_query", "refusal", "verify_plan"]

RESIDUE_BYTES = 8
ONE_COLUMN_ADVICE = (
    "keep one condition column beside the value or the group (OR, IN and BETWEEN on one column "
    "are free), or count the parts in separate queries"
)


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
        chunk_count: workers to split the blocks over; part of the plan and of its hash.

    Raises:
        ClientFault: `SQL_UNSUPPORTED`, `SQL_SYNTAX`, `SQL_TOO_LONG`, `SQL_TOO_DEEP`,
            `PLAN_TOO_DEEP`, `PLAN_OVERFLOW` or `POLICY_DENIED`; each names the node and the
            nearest query that would do.
    """
    bound = bind(parse(sql), catalog.schema, catalog.models)
    policy.check(bound, catalog.policy)
    if bound.is_score():
        return _score_plan(bound, catalog, chunk_count)
    return _aggregate_plan(bound, catalog, chunk_count)


def verify_plan(plan: Plan, catalog: Catalog) -> None:
    """Check that a plan is the one its own SQL gives, before computing it or giving a share.

    A plan names columns and weights directly; a forged one could have any linear combination
    opened under a harmless text.

    Raises:
        ClientFault: `PLAN_FORGED`, or what `plan_query` raises for the text.
    """
    if plan_query(plan.sql, catalog, len(plan.chunks)).encode() != plan.encode():
        raise ClientFault(
            "PLAN_FORGED",
            "the plan is not the one this node makes of its SQL on this schema and policy",
            subject=plan.hash().hex(),
            fix="plan the text again with the current schema, models and policy",
        )


def _score_plan(bound: BoundQuery, catalog: Catalog, chunk_count: int) -> Plan:
    schema = catalog.schema
    name = next(item.column for item in bound.query.items if item.kind == "score")
    model = catalog.models[name]
    form = model.linear_form(schema)
    noise = degree_and_noise.score_noise_bits(form, catalog.parties)
    capacity = degree_and_noise.vector_capacity_bits(catalog.parties)
    degree_and_noise.check_noise(noise, capacity, SCORES, f"CREDIT_SCORE('{name}')")
    low, high = model.bounds()
    degree_and_noise.check_range(low, high, SCORES, f"CREDIT_SCORE('{name}')")
    block_bytes = _block_bytes(SCORES)
    blocks = schema.block_count()
    cost = Cost(
        bytes_read=len(form.columns) * blocks * block_bytes,
        products=0,
        relinearisations=0,
        result_bytes=blocks * block_bytes,
    )
    return Plan(
        version=PLAN_VERSION,
        kind="scores",
        sql=bound.query.sql,
        table=schema.table,
        schema_hash=schema.hash().hex(),
        profile=SCORES.name,
        limbs=SCORES.limbs,
        rows=schema.rows,
        chunks=chunks.split(blocks, chunk_count),
        noise_bits=noise,
        capacity_bits=capacity,
        cost=cost,
        scores=ScorePart(name, model.hash().hex(), form, model.offset, low, high, bound.ids),
    )


def _aggregate_plan(bound: BoundQuery, catalog: Catalog, chunk_count: int) -> Plan:
    schema = catalog.schema
    condition = None if bound.where is None else normal_form.polynomial(bound.where)
    if condition is not None and not condition:
        raise unsupported("WHERE", "the condition can never be true", "widen the condition")
    groups = _groups(bound, schema, condition)
    sums, answers = _answers(bound.query.items, schema)
    planned = len(groups) * (1 + len(sums))
    if planned > catalog.policy.outputs_max:
        raise policy.denied(
            f"{planned} opened scalars", f"at most {catalog.policy.outputs_max} a query"
        )
    outputs: list[Output] = []
    for index, (label, terms) in enumerate(groups):
        outputs.append(_count_output(index, label, terms, catalog))
        for name, form, limits in sums:
            outputs.append(_sum_output(index, _named(label, name), terms, form, limits, catalog))
    noise = max(output.noise_bits for output in outputs)
    capacity = degree_and_noise.scalar_capacity_bits(catalog.parties)
    degree_and_noise.check_noise(noise, capacity, AGGREGATES, bound.query.sql)
    part = AggregatePart(
        group_column=bound.query.group_by,
        groups=tuple(label for label, _ in groups),
        minimum_group_size=catalog.policy.minimum_group_size,
        outputs=tuple(outputs),
        answers=answers,
    )
    return Plan(
        version=PLAN_VERSION,
        kind="aggregate",
        sql=bound.query.sql,
        table=schema.table,
        schema_hash=schema.hash().hex(),
        profile=AGGREGATES.name,
        limbs=AGGREGATES.limbs,
        rows=schema.rows,
        chunks=chunks.split(schema.block_count(), chunk_count),
        noise_bits=noise,
        capacity_bits=capacity,
        cost=_aggregate_cost(part, schema),
        aggregate=part,
    )


def _groups(
    bound: BoundQuery, schema: TableSchema, condition: Polynomial | None
) -> list[tuple[str, Polynomial | None]]:
    column = schema.column(bound.query.group_by) if bound.query.group_by else None
    if column is None or not isinstance(column.encoding, OneHot):
        return [("", condition)]
    labels = list(column.encoding.categories)
    if column.encoding.missing:
        labels.append("NULL")
    groups: list[tuple[str, Polynomial | None]] = []
    for index, label in enumerate(labels):
        terms: Polynomial = {((column.name, index),): 1}
        if condition is not None:
            terms = normal_form.multiply(terms, condition)
        if terms:
            groups.append((label, terms))
    if not groups:
        raise unsupported("WHERE", "the condition is true in no group", "widen the condition")
    return groups


Limits = tuple[int, int]


def _answers(
    items: tuple[Item, ...], schema: TableSchema
) -> tuple[list[tuple[str, LinearForm, Limits]], tuple[Answer, ...]]:
    sums: list[tuple[str, LinearForm, Limits]] = []
    known: dict[tuple[tuple[int, str], ...], tuple[tuple[int, int], ...]] = {}
    answers: list[Answer] = []
    for item in items:
        if item.kind in ("column", "count"):
            answers.append(Answer(item.name, "group" if item.kind == "column" else "count"))
            continue
        if item.terms not in known:
            parts = []
            for name, multiplier, form, limits in _value_forms(item, schema):
                sums.append((name, form, limits))
                parts.append((len(sums), multiplier))
            known[item.terms] = tuple(parts)
        parts_of = known[item.terms]
        answers.append(Answer(item.name, "sum" if item.kind == "sum" else "avg", parts_of))
    return sums, tuple(answers)


def _value_forms(item: Item, schema: TableSchema) -> list[tuple[str, int, LinearForm, Limits]]:
    limbs: dict[int, list[tuple[str, int, int]]] = {}
    for weight, name in item.terms:
        column = schema.column(name)
        stored = () if column is None else column.value_columns()
        for stored_name, multiplier, largest in stored:
            limbs.setdefault(multiplier, []).append((stored_name, weight, largest))
    forms = []
    for multiplier, columns in sorted(limbs.items()):
        names = tuple(name for name, _, _ in columns)
        weights = tuple(weight for _, weight, _ in columns)
        low = sum(min(0, weight * largest) for _, weight, largest in columns)
        high = sum(max(0, weight * largest) for _, weight, largest in columns)
        form = LinearForm(names, weights)
        forms.append(
            (f"SUM({form.text()})", multiplier, form, (schema.rows * low, schema.rows * high))
        )
    return forms


def _named(label: str, name: str) -> str:
    return f"{label}: {name}" if label else name


def _count_output(group: int, label: str, condition: Polynomial | None, catalog: Catalog) -> Output:
    schema = catalog.schema
    name = _named(label, "COUNT(*)")
    if condition is None:
        terms: tuple[Term, ...] = (Term(LinearForm((PRESENCE_COLUMN,), (1,))),)
    else:
        degree_and_noise.check_degree(
            normal_form.degree(condition), catalog.parties, name, ONE_COLUMN_ADVICE
        )
        terms = normal_form.count_terms(condition, schema)
    degree_and_noise.check_range(0, schema.rows, AGGREGATES, name)
    noise = degree_and_noise.output_noise_bits(terms, schema.block_count(), catalog.parties)
    return Output(name, group, "count", terms, 0, schema.rows, noise)


def _sum_output(
    group: int,
    name: str,
    condition: Polynomial | None,
    form: LinearForm,
    limits: Limits,
    catalog: Catalog,
) -> Output:
    low, high = limits
    if condition is None:
        term = Term(form)
    else:
        degree = 1 + normal_form.degree(condition)
        degree_and_noise.check_degree(degree, catalog.parties, name, ONE_COLUMN_ADVICE)
        term = Term(form, normal_form.linear_form(condition, catalog.schema))
    degree_and_noise.check_range(low, high, AGGREGATES, name)
    blocks = catalog.schema.block_count()
    noise = degree_and_noise.output_noise_bits((term,), blocks, catalog.parties)
    return Output(name, group, "sum", (term,), low, high, noise)


def _block_bytes(profile: Profile) -> int:
    return 2 * profile.limbs * profile.slots * RESIDUE_BYTES


def _aggregate_cost(part: AggregatePart, schema: TableSchema) -> Cost:
    columns = products = relinearisations = 0
    for output in part.outputs:
        for term in output.terms:
            columns += len(term.left.columns)
            columns += 0 if term.right is None else len(term.right.columns)
            products += 0 if term.right is None else 1
        relinearisations += any(term.right is not None for term in output.terms)
    block_bytes = _block_bytes(AGGREGATES)
    return Cost(
        bytes_read=columns * schema.block_count() * block_bytes,
        products=products * schema.block_count(),
        relinearisations=relinearisations,
        result_bytes=len(part.outputs) * block_bytes,
    )


def explain(plan: Plan) -> str:
    """Cost, noise and bytes read of a plan, as text (`EXPLAIN`)."""
    cost = plan.cost
    lines = [
        f"plan {plan.hash().hex()}",
        f"  kind      {plan.kind} on {plan.table} ({plan.rows} rows)",
        f"  profile   {plan.profile}, {plan.limbs} limbs",
        f"  noise     {plan.noise_bits} of {plan.capacity_bits} bits that flooding hides",
        f"  reads     {cost.bytes_read} bytes of {len(plan.columns())} columns",
        f"  work      {cost.products} products, {cost.relinearisations} relinearisations",
        f"  result    {cost.result_bytes} bytes",
        f"  chunks    {' '.join(f'{first}+{count}' for first, count in plan.chunks)}",
    ]
    if plan.scores is not None:
        asked = "every row" if plan.scores.ids is None else f"{len(plan.scores.ids)} ids"
        lines.append(
            f"  model     {plan.scores.model}: {len(plan.scores.points.columns)} indicators, "
            f"scores {plan.scores.minimum}..{plan.scores.maximum}, {asked}"
        )
    if plan.aggregate is not None:
        lines.append(f"  opened    groups of at least {plan.aggregate.minimum_group_size} rows:")
        lines.extend(_explain_output(output) for output in plan.aggregate.outputs)
    return "\n".join(lines)


def _explain_output(output: Output) -> str:
    terms = " + ".join(
        term.left.text() if term.right is None else f"({term.left.text()}) x ({term.right.text()})"
        for term in output.terms
    )
    return f"    {output.name} [{output.minimum}, {output.maximum}] = sum of {terms}"


def refusal(error: ClientFault) -> str:
    """A refused query as text (`EXPLAIN`): code, reason and what to write instead."""
    return f"refused {error.code}\n  reason    {error.message}\n  instead   {error.fix}"
