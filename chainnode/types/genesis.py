"""The chain's configuration and its first state, whose hash is the parent of block 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chainnode._proto import types_pb2
from chainnode.types import limits
from chainnode.types.codec import decode, encode, malformed, tagged_hash
from chainnode.types.member import Member, Organisation
from chainnode.types.validators import Validator, ValidatorSet

SUITE_ED25519: Final = "ed25519-sha256"


@dataclass(frozen=True, slots=True)
class Policy:
    """How many distinct organisations' admins an action needs; 0 is a majority."""

    action: str
    organisations: int = 0


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """What all nodes of a chain agree on. Fields as in types.proto; defaults suit a testnet."""

    chain_id: str
    suite: str = SUITE_ED25519
    engine: str = "tbft"
    engine_epoch: int = 0
    expiry_window: int = limits.EXPIRY_WINDOW_BLOCKS
    execution_depth: int = 2
    gas_limit_max: int = 1_000_000_000
    block_tx_cap_min: int = 100
    block_tx_cap_max: int = limits.BLOCK_TRANSACTIONS_MAX
    block_interval_min_ms: int = 10
    block_interval_max_ms: int = 500
    block_size_max_bytes: int = limits.BLOCK_SIZE_MAX_BYTES
    transaction_size_max_bytes: int = limits.TRANSACTION_SIZE_MAX_BYTES
    policies: tuple[Policy, ...] = (Policy("contract-admin"), Policy("config"))
    timeout_propose_ms: int = 1_000
    timeout_vote_ms: int = 500
    timeout_delta_ms: int = 250

    def validate(self) -> None:
        """Check ranges and bounds against each other and against the limits.

        Raises:
            ClientFault: `MALFORMED`, naming the field.
        """
        rules = (
            ("chain_id", 1 <= len(self.chain_id.encode()) <= 128),
            ("suite", self.suite == SUITE_ED25519),
            ("engine", bool(self.engine)),
            ("expiry_window", self.expiry_window >= 1),
            ("execution_depth", self.execution_depth >= 1),
            ("gas_limit_max", self.gas_limit_max >= 1),
            (
                "block_tx_cap_min",
                1 <= self.block_tx_cap_min <= self.block_tx_cap_max,
            ),
            ("block_tx_cap_max", self.block_tx_cap_max <= limits.BLOCK_TRANSACTIONS_MAX),
            (
                "block_interval_min_ms",
                self.block_interval_min_ms <= self.block_interval_max_ms,
            ),
            ("block_size_max_bytes", 1 <= self.block_size_max_bytes <= limits.BLOCK_SIZE_MAX_BYTES),
            (
                "transaction_size_max_bytes",
                1 <= self.transaction_size_max_bytes <= limits.TRANSACTION_SIZE_MAX_BYTES,
            ),
            ("timeout_propose_ms", self.timeout_propose_ms >= 1),
            ("timeout_vote_ms", self.timeout_vote_ms >= 1),
        )
        for name, holds in rules:
            if not holds:
                raise malformed(f"ChainConfig.{name}", f"{getattr(self, name)!r} is out of range")

    def to_proto(self) -> types_pb2.ChainConfig:
        """The wire form."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "policies"}
        return types_pb2.ChainConfig(
            **plain,
            policies=[
                types_pb2.Policy(action=item.action, organisations=item.organisations)
                for item in self.policies
            ],
        )

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self.to_proto())

    @classmethod
    def from_proto(cls, message: types_pb2.ChainConfig) -> ChainConfig:
        """Read and validate.

        Raises:
            ClientFault: `MALFORMED`.
        """
        plain = {name: getattr(message, name) for name in cls.__slots__ if name != "policies"}
        policies = tuple(Policy(item.action, item.organisations) for item in message.policies)
        config = cls(**plain, policies=policies)
        config.validate()
        return config

    @classmethod
    def decode(cls, data: bytes) -> ChainConfig:
        """Read canonical bytes.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return cls.from_proto(decode(types_pb2.ChainConfig, data))


@dataclass(frozen=True, slots=True)
class Genesis:
    """The first state: configuration, organisations, members, validators sorted by address."""

    config: ChainConfig
    genesis_time_ms: int
    organisations: tuple[Organisation, ...]
    members: tuple[Member, ...]
    validators: tuple[Validator, ...]

    @property
    def chain_id(self) -> str:
        """The configuration's chain id."""
        return self.config.chain_id

    def genesis_hash(self) -> bytes:
        """SHA-256("chainnode/genesis/v1" || canonical Genesis): the parent of block 1."""
        return tagged_hash(b"chainnode/genesis/v1", self.encode())

    def validator_set(self) -> ValidatorSet:
        """The validators of height 1."""
        return ValidatorSet(self.validators)

    def validate(self) -> None:
        """Check the configuration and that members, validators and organisations fit together.

        Raises:
            ClientFault: `MALFORMED`.
        """
        self.config.validate()
        organisations = [item.id for item in self.organisations]
        if len(set(organisations)) != len(organisations):
            raise malformed("Genesis.organisations", "an id appears twice")
        addresses = [item.address for item in self.members]
        if len(set(addresses)) != len(addresses):
            raise malformed("Genesis.members", "a key appears twice")
        names = [(item.organisation, item.name) for item in self.members]
        if len(set(names)) != len(names):
            raise malformed("Genesis.members", "a name appears twice in an organisation")
        for organisation, name in names:
            if organisation not in organisations:
                raise malformed("Genesis.members", f"{name} is of unknown {organisation!r}")
        if [item.address for item in self.validators] != list(self.validator_set().addresses):
            raise malformed("Genesis.validators", "are not sorted by address")

    def to_proto(self) -> types_pb2.Genesis:
        """The wire form."""
        return types_pb2.Genesis(
            config=self.config.to_proto(),
            genesis_time_ms=self.genesis_time_ms,
            organisations=[item.to_proto() for item in self.organisations],
            members=[item.to_proto() for item in self.members],
            validators=[item.to_proto() for item in self.validators],
        )

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self.to_proto())

    @classmethod
    def from_proto(cls, message: types_pb2.Genesis) -> Genesis:
        """Read and validate.

        Raises:
            ClientFault: `MALFORMED`.
        """
        genesis = cls(
            ChainConfig.from_proto(message.config),
            message.genesis_time_ms,
            tuple(Organisation.from_proto(item) for item in message.organisations),
            tuple(Member.from_proto(item) for item in message.members),
            tuple(Validator.from_proto(item) for item in message.validators),
        )
        genesis.validate()
        return genesis

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        """Read canonical bytes.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return cls.from_proto(decode(types_pb2.Genesis, data))
