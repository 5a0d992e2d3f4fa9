"""The genesis of a chain from its organisations and their members."""

from __future__ import annotations

from collections.abc import Iterable

from chainnode import _native
from chainnode.types.errors import ConfigError
from chainnode.types.genesis import ChainConfig, Genesis
from chainnode.types.member import Member, Organisation, Role
from chainnode.types.validators import Validator


def build_genesis(
    config: ChainConfig,
    genesis_time_ms: int,
    organisations: Iterable[Organisation],
    members: Iterable[Member],
    *,
    validator_power: int = 1,
) -> Genesis:
    """Put a genesis together and check it; every consensus member becomes a validator.

    The order of the arguments' items does not matter: the same parties give the same hash.

    Args:
        config: the chain's configuration.
        genesis_time_ms: the time of block 1.
        organisations: records with the authorities' certificates.
        members: records of all first members.
        validator_power: voting power of each validator.

    Raises:
        ConfigError: `KEY_REFUSED` for a key outside the prime-order subgroup; `NO_VALIDATORS`.
        ClientFault: `MALFORMED` when the parts do not fit together.
    """
    ordered = sorted(members, key=lambda item: (item.organisation, item.name))
    for item in ordered:
        if not _native.is_torsion_free(item.public_key):
            raise ConfigError(
                "KEY_REFUSED",
                "the key is not of prime order",
                subject=f"{item.organisation}/{item.name}",
                fix="generate a new signing key",
            )
    validators = [
        Validator(item.public_key, item.organisation, validator_power)
        for item in ordered
        if item.role is Role.CONSENSUS
    ]
    if not validators:
        raise ConfigError(
            "NO_VALIDATORS",
            "no member has the consensus role",
            subject="members",
            fix="issue at least one member with role consensus",
        )
    genesis = Genesis(
        config,
        genesis_time_ms,
        tuple(sorted(organisations, key=lambda item: item.id)),
        tuple(ordered),
        tuple(sorted(validators, key=lambda item: item.address)),
    )
    genesis.validate()
    return genesis
