"""What plans of every kind are put together from: their ring, their work and their chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from chainnode.he.plan import PLAN_VERSION, AggregatePart, Cost, Output, Plan, ScorePart
from chainnode.he.planner import chunks, degree_and_noise
from chainnode.he.profiles import Profile
from chainnode.he.schema import TableSchema


class Room(NamedTuple):
    """The limbs a plan is computed on, its noise, and the most that flooding hides on them."""

    profile: Profile
    limbs: int
    noise_bits: int
    capacity_bits: int


class Work(NamedTuple):
    """What outputs take in every block: columns read and products. And once: relinearisations."""

    columns: int
    products: int
    relinearisations: int


def sums_room(profile: Profile, noise_bits: int, parties: int, subject: str) -> Room:
    """The fewest limbs that open scalars of this noise.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` where the profile has too few.
    """
    limbs = degree_and_noise.fewest_limbs(profile, noise_bits, parties)
    capacity = degree_and_noise.scalar_capacity_bits(profile, parties, limbs)
    degree_and_noise.check_noise(noise_bits, capacity, profile, subject)
    return Room(profile, limbs, noise_bits, capacity)


def work(outputs: Sequence[Output]) -> Work:
    """What these outputs take."""
    terms = [term for output in outputs for term in output.terms]
    return Work(
        columns=sum(len(form.columns) for term in terms for form in term.factors),
        products=sum(len(term.factors) - 1 for term in terms),
        relinearisations=sum(output.degree() > 1 for output in outputs),
    )


def plan_of(
    kind: Literal["scores", "aggregate", "check"],
    text: str,
    schema: TableSchema,
    room: Room,
    cost: Cost,
    chunk_count: int,
    content: AggregatePart | Sequence[ScorePart],
) -> Plan:
    """A plan over a whole table, in at most `chunk_count` chunks."""
    sums = content if isinstance(content, AggregatePart) else None
    scores = () if isinstance(content, AggregatePart) else tuple(content)
    return Plan(
        version=PLAN_VERSION,
        kind=kind,
        sql=text,
        table=schema.table,
        schema_hash=schema.hash().hex(),
        profile=room.profile.name,
        limbs=room.limbs,
        rows=schema.rows,
        chunks=chunks.split(schema.block_count(room.profile.name), chunk_count),
        noise_bits=room.noise_bits,
        capacity_bits=room.capacity_bits,
        cost=cost,
        scores=scores[0] if scores else None,
        aggregate=sums,
        further_scores=scores[1:] or msgspec.UNSET,
    )
