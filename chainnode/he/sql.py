"""SQL to a plan: parse, bind, policy, normal form, aggregates, degree and noise, chunks.

Nothing is evaluated here and nothing is read but public facts, so every node makes the same plan
of the same text and can check the hash a client submitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from chainnode.he import checks, private_constants, private_points
from chainnode.he.plan import (
    AggregatePart,
    Cost,
    LinearForm,
    Output,
    Plan,
    PrivateConstant,
    ScorePart,
    Term,
)
from chainnode.he.planner import aggregate, build, chunks, degree_and_noise, policy
from chainnode.he.planner.bind import BoundQuery, bind
from chainnode.he.planner.parse import parse
from chainnode.he.planner.policy import Policy
from chainnode.he.planner.refusals import unsupported
from chainnode.he.private_points import Model, PrivateScorecard
from chainnode.he.profiles import AGGREGATES, DEEP, SCORES, SUMS, Profile
from chainnode.he.schema import Bins, OneHot, TableSchema, rows_per_block
from chainnode.he.scorecard import Scorecard
from chainnode.types.errors import ClientFault

__all__ = ["Catalog", "Policy", "explain", "plan_query", "refusal", "verify_plan"]

STORED_RESIDUE_BYTES = 6
RESULT_RESIDUE_BYTES = 8
READ_BYTES_PER_US = 20_000
RELINEARISE_US = 3_000
PRIVATE_POINT_US = 2_000
"""Reference figures of one thread that EXPLAIN estimates with; never part of a plan."""

ONE_COLUMN_ADVICE = (
    "keep one condition column beside the value or the group (OR, IN and BETWEEN on one column "
    "are free), have the owner store a joint of its columns, or store the columns in profile M"
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
    models: Mapping[str, Model]
    policy: Policy = Policy()
    parties: int = 4


def plan_query(sql: str, catalog: Catalog, chunk_count: int = 4) -> Plan:
    """The plan of one SELECT, or of the statement of a check (`chainnode.he.checks`).

    Args:
        sql: the query text.
        catalog: table, models and policy.
        chunk_count: workers to split the blocks over, if so many chunks pay; part of the plan and
            of its hash.

    Raises:
        ClientFault: `SQL_UNSUPPORTED`, `SQL_SYNTAX`, `SQL_TOO_LONG`, `SQL_TOO_DEEP`,
            `PLAN_TOO_DEEP`, `PLAN_OVERFLOW` or `POLICY_DENIED`; each names the node and the
            nearest query that would do.
    """
    statement = checks.CheckStatement.read(sql)
    if statement is not None:
        return checks.check_plan(statement, catalog.schema, catalog.parties, chunk_count)
    bound = bind(parse(sql), catalog.schema, catalog.models)
    policy.check(bound, catalog.policy)
    if bound.query.score is not None:
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
    schema, score = catalog.schema, bound.query.score
    names = ("" if score is None else score.model, *bound.query.further_models)
    models = [catalog.models[name] for name in names]
    # Several models have public points, which all are scored in one profile on the same limbs.
    rings = [_score_ring(model, model.linear_form(schema), catalog.parties) for model in models]
    profile, limbs, noise = rings[0][0], rings[0][1], max(ring[2] for ring in rings)
    capacity = degree_and_noise.vector_capacity_bits(catalog.parties, profile, limbs)
    parts = []
    for model in models:
        subject, (low, high) = f"CREDIT_SCORE('{model.name}')", model.bounds()
        degree_and_noise.check_noise(noise, capacity, profile, subject)
        degree_and_noise.check_range(low, high, profile, subject)
        cuts = () if score is None else score.cuts
        form, digest = model.linear_form(schema), model.hash().hex()
        parts.append(ScorePart(model.name, digest, form, model.offset, low, high, bound.ids, cuts))
    room = build.Room(profile, limbs, noise, capacity)
    cost = _score_cost(models, schema, profile, limbs)
    if not isinstance(models[0], PrivateScorecard):
        chunk_count = chunks.in_long_runs(schema.block_count(profile.name), chunk_count)
    return build.plan_of("scores", bound.query.sql, schema, room, cost, chunk_count, parts)


def _score_ring(model: Model, form: LinearForm, parties: int) -> tuple[Profile, int, int]:
    """Profile, limbs and noise of a score vector."""
    if isinstance(model, Scorecard):
        return SCORES, SCORES.limbs, degree_and_noise.score_noise_bits(form, parties)
    noise = degree_and_noise.private_score_noise_bits(len(form.columns), parties)
    private_points.require_limbs(model, parties)
    return DEEP, model.limbs, noise


def _score_cost(models: Sequence[Model], schema: TableSchema, profile: Profile, limbs: int) -> Cost:
    """Each private point is a ciphertext to read too, and a product a block."""
    stored, result = _stored_bytes(profile, limbs), _result_bytes(profile, limbs)
    blocks = schema.block_count(profile.name)
    private = isinstance(models[0], PrivateScorecard)
    # A column that several models read is read once.
    columns = len({name for model in models for name in model.linear_form(schema).columns})
    points = private * (columns + 1)
    return Cost(
        bytes_read=columns * blocks * stored + points * result,
        products=private * columns * blocks,
        relinearisations=private * blocks,
        result_bytes=len(models) * blocks * result,
    )


def _aggregate_plan(bound: BoundQuery, catalog: Catalog, chunk_count: int) -> Plan:
    schema = catalog.schema
    openings = aggregate.Openings(schema)
    answers = aggregate.answers(bound, openings)
    having = bound.query.having
    kept = None if having is None else aggregate.having(having, openings)
    groups = aggregate.groups(bound, schema)
    planned = len(groups) * len(openings.listed)
    policy.check_outputs(planned, catalog.policy)
    outputs = aggregate.outputs(openings.listed, groups, schema)
    part = AggregatePart(
        group_columns=tuple(group.column.column for group in bound.query.groups),
        groups=tuple(labels for labels, _ in groups),
        minimum_group_size=catalog.policy.minimum_group_size,
        outputs=tuple(outputs),
        answers=answers,
        having=kept,
        order=tuple((item.position, item.descending) for item in bound.query.order),
        limit=bound.query.limit,
        private=_private(bound, schema),
    )
    return _cheapest(bound.query.sql, part, catalog, chunk_count)


def _private(bound: BoundQuery, schema: TableSchema) -> PrivateConstant | msgspec.UnsetType:
    private = bound.query.private
    column = None if private is None else schema.column(private.column.column)
    if private is None or column is None or not isinstance(column.encoding, OneHot | Bins):
        return msgspec.UNSET
    choices = column.encoding.bin_count()
    return PrivateConstant(column.name, private.operator, choices, private.record)


def _cheapest(sql: str, part: AggregatePart, catalog: Catalog, chunk_count: int) -> Plan:
    """The plan in the first profile that carries it and stores its columns."""
    first: ClientFault | None = None
    # Selectors and their checks need the room of M.
    for profile in SUMS if part.private is msgspec.UNSET else (DEEP,):
        try:
            return _in_profile(sql, part, catalog, chunk_count, profile)
        except ClientFault as error:
            # The refusal of the usual profile says what to change; the deeper one is optional.
            first = first or error
    raise first or unsupported("profile", "there is none", "report this")


def _in_profile(
    sql: str, part: AggregatePart, catalog: Catalog, chunk_count: int, profile: Profile
) -> Plan:
    schema, parties = catalog.schema, catalog.parties
    private = None if isinstance(part.private, msgspec.UnsetType) else part.private
    bounded = tuple(_bounded(output, schema, parties, profile, private) for output in part.outputs)
    part = msgspec.structs.replace(part, outputs=bounded)
    noise = max(output.noise_bits for output in bounded)
    if private is not None:
        check = degree_and_noise.selector_check_noise_bits(private.choices, parties)
        noise = max(noise, check)
    room = build.sums_room(profile, noise, parties, sql)
    cost = _aggregate_cost(part, schema, room.limbs, profile)
    sums_bytes = part.polynomials() * room.limbs * profile.slots * RESULT_RESIDUE_BYTES
    chunk_count = chunks.worthwhile(cost.bytes_read, sums_bytes, chunk_count)
    plan = build.plan_of("aggregate", sql, schema, room, cost, chunk_count, part)
    stored = set(schema.stored_columns(profile.name))
    for name in plan.columns():
        if name not in stored:
            raise unsupported(name, f"not stored in profile {profile.name}", "leave the column out")
    return plan


def _bounded(
    output: Output,
    schema: TableSchema,
    parties: int,
    profile: Profile,
    private: PrivateConstant | None,
) -> Output:
    degree, terms = output.degree(), output.terms
    if private is not None:
        # A selector is one factor more, and as many products as choices are added up.
        selector = LinearForm(("selector",), (1,))
        degree += 1
        terms = tuple(Term((*term.factors, selector)) for term in terms) * private.choices
    degree_and_noise.check_degree(degree, profile, parties, output.name, ONE_COLUMN_ADVICE)
    degree_and_noise.check_range(output.minimum, output.maximum, profile, output.name)
    blocks = schema.block_count(profile.name)
    noise = degree_and_noise.output_noise_bits(profile, terms, blocks, parties)
    return msgspec.structs.replace(output, noise_bits=noise)


def _stored_bytes(profile: Profile, limbs: int) -> int:
    """What a pass reads of one block of a column."""
    return 2 * limbs * profile.slots * STORED_RESIDUE_BYTES


def _result_bytes(profile: Profile, limbs: int) -> int:
    return 2 * limbs * profile.slots * RESULT_RESIDUE_BYTES


def _aggregate_cost(part: AggregatePart, schema: TableSchema, limbs: int, profile: Profile) -> Cost:
    blocks = schema.block_count(profile.name)
    columns, products, relinearisations = build.work(part.outputs)
    kept, selectors = len(part.outputs), 0
    products *= blocks
    if not isinstance(part.private, msgspec.UnsetType):
        chosen, further, kept = private_constants.selection_cost(part, part.private)
        products, relinearisations = products + chosen, relinearisations + further
        selectors = part.private.choices
    stored, result = _stored_bytes(profile, limbs), _result_bytes(profile, limbs)
    return Cost(
        bytes_read=columns * blocks * stored + selectors * result,
        products=products,
        relinearisations=relinearisations,
        result_bytes=kept * result,
    )


def explain(plan: Plan) -> str:
    """Cost, noise and bytes read of a plan, as text (`EXPLAIN`)."""
    cost = plan.cost
    lines = [
        f"plan {plan.hash().hex()}",
        f"  kind      {plan.kind} on {plan.table} ({plan.rows} rows)",
        f"  profile   {plan.profile}, {plan.limbs} limbs, degree {_degree(plan)}",
        f"  noise     {plan.noise_bits} of {plan.capacity_bits} bits that flooding hides",
        f"  reads     {cost.bytes_read} bytes of {len(plan.columns())} columns",
        f"  work      {cost.products} products, {cost.relinearisations} relinearisations",
        f"  cost      about {_milliseconds(plan)} ms of one thread",
        f"  result    {cost.result_bytes} bytes",
        f"  chunks    {' '.join(f'{first}+{count}' for first, count in plan.chunks)}",
    ]
    if plan.scores is not None:
        asked = "every row" if plan.scores.ids is None else f"{len(plan.scores.ids)} ids"
        lines.extend(
            f"  model     {part.model}: {len(part.points.columns)} indicators, "
            f"scores {part.minimum}..{part.maximum}, {asked}"
            for part in plan.score_parts()
        )
        if plan.has_private_points():
            lines.append(_explain_private(plan))
        if plan.scores.bands:
            lines.append("  bands     counted by the bank, cut at " + _listed(plan.scores.bands))
    if plan.aggregate is not None:
        lines.append(f"  opened    groups of at least {plan.aggregate.minimum_group_size} rows:")
        lines.extend(_explain_output(output) for output in plan.aggregate.outputs)
        if plan.private_constant() is not None:
            lines.append(_explain_selectors(plan))
        if plan.aggregate.having is not None:
            lines.append("  having    applied by the bank, after every group was opened to it")
    return "\n".join(lines)


def _explain_private(plan: Plan) -> str:
    """What private points cost against the same model with public ones."""
    columns = len(plan.scored_columns())
    blocks = -(-plan.rows // rows_per_block(SCORES.name))
    public = Cost(columns * blocks * _stored_bytes(SCORES, SCORES.limbs), 0, 0, 0)
    bytes_factor = plan.cost.bytes_read / public.bytes_read
    time_factor = (_microseconds(plan.cost) + _points_us(plan)) / _microseconds(public)
    return (
        f"  private   points are {columns + 1} ciphertexts; {bytes_factor:.1f} times the bytes and "
        f"about {time_factor:.0f} times the time of public points"
    )


def _explain_selectors(plan: Plan) -> str:
    """What a private constant costs against the same text with a constant in it."""
    part, private = plan.aggregate, private_constants.private_of(plan)
    outputs = () if part is None else part.outputs
    width = len(outputs) // max(1, 0 if part is None else len(part.groups))
    profile, limbs = _public_ring(outputs[:width], plan.limbs)
    blocks = -(-plan.rows // rows_per_block(profile.name))
    public = sum(
        len(form.columns) * blocks * _stored_bytes(profile, limbs)
        for output in outputs[:width]
        for term in output.terms
        for form in term.factors
    )
    factor = plan.cost.bytes_read / (max(1, len(outputs) // width // private.choices) * public)
    return (
        f"  private   {private.column} {private.operator} PRIVATE: one of {private.choices} "
        f"selectors; the bank gets {len(outputs) // private.choices} scalars, every group's count "
        f"is opened to the council; about {factor:.0f} times the bytes of a public constant"
    )


def _public_ring(outputs: Sequence[Output], private_limbs: int) -> tuple[Profile, int]:
    """Profile and limbs that outputs would be read in were their constant public."""
    degree = max((output.degree() for output in outputs), default=1)
    if degree > AGGREGATES.factors_max():
        return DEEP, private_limbs - 1
    return AGGREGATES, AGGREGATES.limbs - (degree == 1)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _degree(plan: Plan) -> int:
    outputs = () if plan.aggregate is None else plan.aggregate.outputs
    selected = plan.private_constant() is not None
    degrees = [output.degree() + selected for output in outputs]
    return max(degrees, default=1 + plan.has_private_points())


def _milliseconds(plan: Plan) -> int:
    return -(-(_microseconds(plan.cost) + _points_us(plan)) // 1_000)


def _points_us(plan: Plan) -> int:
    """Products with the bank's ciphertexts are made one by one, not while tiles are read."""
    private = plan.private_constant()
    if private is not None and plan.aggregate is not None:
        products, _, _ = private_constants.selection_cost(plan.aggregate, private)
        return products * PRIVATE_POINT_US
    return plan.cost.products * PRIVATE_POINT_US if plan.has_private_points() else 0


def _microseconds(cost: Cost) -> int:
    return cost.bytes_read // READ_BYTES_PER_US + cost.relinearisations * RELINEARISE_US


def _explain_output(output: Output) -> str:
    terms = " + ".join(_explain_term(term) for term in output.terms)
    return f"    {output.name} [{output.minimum}, {output.maximum}] = sum of {terms}"


def _explain_term(term: Term) -> str:
    if len(term.factors) == 1:
        return term.factors[0].text()
    return " x ".join(f"({form.text()})" for form in term.factors)


def refusal(error: ClientFault) -> str:
    """A refused query as text (`EXPLAIN`): code, reason and what to write instead."""
    return f"refused {error.code}\n  reason    {error.message}\n  instead   {error.fix}"
