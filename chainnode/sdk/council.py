"""The key council as its members and admins see it: who, which epoch, which keys; and rotations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chainnode.he.council import BASE_PROFILES
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.sdk.scoring import ScoringChain, read_profiles
from chainnode.types.errors import ConfigError

EPOCH_STATUS_NAMES: Final = ("ceremony", "testing", "active", "failed", "retired")


@dataclass(frozen=True, slots=True)
class EpochState:
    """One epoch of the council.

    Args:
        epoch: number; 0 before the first ceremony.
        status: `ceremony`, `testing`, `active`, `failed` or `retired`.
        organisations: that hold the key, in council order.
        threshold: how many of them open a result together.
        profiles: parameter sets it has, or will have, keys of.
    """

    epoch: int
    status: str
    organisations: tuple[str, ...]
    threshold: int
    profiles: tuple[ProfileName, ...]


async def read_epoch(chain: ScoringChain, epoch: int = 0) -> EpochState:
    """An epoch's state; 0 asks for the latest."""
    found, status, _, _ = await chain.view("epoch_info", epoch=epoch)
    organisations, threshold = await chain.view("epoch_members", epoch=found)
    profiles = await read_profiles(chain, found)
    name = EPOCH_STATUS_NAMES[status]
    return EpochState(int(found), name, tuple(organisations), int(threshold), profiles)


def key_profiles(wanted: Iterable[str]) -> tuple[ProfileName, ...]:
    """The profiles of a ceremony: S and S36, and M if it is wanted.

    Raises:
        ConfigError: `PROFILE_UNKNOWN`.
    """
    names = {*BASE_PROFILES, *wanted}
    unknown = sorted(names.difference(PROFILES))
    if unknown:
        raise ConfigError(
            "PROFILE_UNKNOWN",
            "there is no such profile",
            subject=unknown[0],
            fix=f"use one of: {', '.join(PROFILES)}",
        )
    return tuple(name for name in PROFILES if name in names)


async def vote_rotation(
    chain: ScoringChain,
    profiles: Iterable[str] = (),
    organisations: Sequence[str] = (),
    threshold: int = 0,
) -> EpochState:
    """An admin's vote for a new epoch; a majority of the council's admins opens it.

    Args:
        chain: signed access of an admin.
        profiles: beside S and S36; none keeps those of the present council.
        organisations: of the new epoch; none keeps the present ones.
        threshold: of the new epoch; 0 keeps the present one.

    Returns:
        The latest epoch after the vote.

    Raises:
        ConfigError: `PROFILE_UNKNOWN`.
        ContractRefused: the sender is no admin, has voted, or the proposal is none.
    """
    now = await chain.view("council_info")
    wanted = key_profiles(tuple(profiles) or now["profiles"])
    await chain.call(
        "rotate",
        organisations=list(organisations) or now["organisations"],
        threshold=threshold or now["threshold"],
        profiles=list(wanted),
    )
    return await read_epoch(chain)
