"""The validator set: who may vote with which power, whose turn it is, what a quorum is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd

from chainnode._proto import types_pb2
from chainnode.types.codec import (
    PUBLIC_KEY_SIZE_BYTES,
    address_of,
    check_size,
    encode,
    malformed,
    merkle_root,
)
from chainnode.types.errors import PeerFault
from chainnode.types.limits import ROTATION_SLOTS_MAX, VALIDATORS_MAX
from chainnode.types.vote import CommitCertificate, Evidence, Vote

VerifyBatch = Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], list[bool]]
"""(public keys, messages, signatures) -> one verdict each, as `_native.verify_ed25519_batch`."""


@dataclass(frozen=True, slots=True)
class Validator:
    """A voting key, its organisation and its power."""

    public_key: bytes
    organisation: str
    power: int

    @property
    def address(self) -> bytes:
        """SHA-256 address of the public key."""
        return address_of(self.public_key)

    def to_proto(self) -> types_pb2.Validator:
        """The wire form."""
        return types_pb2.Validator(
            public_key=self.public_key, organisation=self.organisation, power=self.power
        )

    @classmethod
    def from_proto(cls, message: types_pb2.Validator) -> Validator:
        """Read and check the shape.

        Raises:
            ClientFault: `MALFORMED`.
        """
        check_size("Validator.public_key", message.public_key, PUBLIC_KEY_SIZE_BYTES)
        if message.power < 1:
            raise malformed("Validator.power", "is 0")
        return cls(message.public_key, message.organisation, message.power)


class ValidatorSet:
    """An immutable set of validators sorted by address.

    Args:
        validators: any order; addresses must differ.

    Raises:
        ClientFault: `MALFORMED`, when empty, too large, repeated, or when the powers divided by
            their greatest common divisor sum to more than `ROTATION_SLOTS_MAX`.
    """

    __slots__ = ("_by_address", "_hash", "_rotation", "_validators", "total_power")

    def __init__(self, validators: Iterable[Validator]) -> None:
        ordered = sorted(((item.address, item) for item in validators), key=lambda pair: pair[0])
        self._by_address = dict(ordered)
        if not ordered or len(ordered) > VALIDATORS_MAX or len(self._by_address) != len(ordered):
            raise malformed("ValidatorSet", f"wants 1 to {VALIDATORS_MAX} distinct validators")
        self._validators = tuple(item for _, item in ordered)
        self.total_power = sum(item.power for item in self._validators)
        divisor = gcd(*(item.power for item in self._validators))
        if self.total_power // divisor > ROTATION_SLOTS_MAX:
            raise malformed("ValidatorSet", f"powers need more than {ROTATION_SLOTS_MAX} slots")
        self._hash = merkle_root([encode(item.to_proto()) for item in self._validators])
        self._rotation = _weighted_rotation(ordered, divisor)

    def __len__(self) -> int:
        return len(self._validators)

    def __iter__(self) -> Iterator[Validator]:
        return iter(self._validators)

    def __contains__(self, address: bytes) -> bool:
        return address in self._by_address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValidatorSet) and self._validators == other._validators

    def __hash__(self) -> int:
        return hash(self._hash)

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """Addresses in order."""
        return tuple(self._by_address)

    def get(self, address: bytes) -> Validator | None:
        """The validator at an address, or None."""
        return self._by_address.get(address)

    def hash(self) -> bytes:
        """The header's `validators_hash`: Merkle root over canonical Validator in address order."""
        return self._hash

    def power(self, address: bytes) -> int:
        """Voting power; 0 for a stranger."""
        validator = self._by_address.get(address)
        return 0 if validator is None else validator.power

    def is_quorum(self, power: int) -> bool:
        """Whether a power is more than two thirds: any two quorums share a correct validator."""
        return 3 * power > 2 * self.total_power

    def has_correct(self, power: int) -> bool:
        """Whether a power is at least f + 1: one third or more includes a correct validator."""
        return 3 * power >= self.total_power

    def proposer(self, height: int, round_number: int, skipped: Collection[bytes] = ()) -> bytes:
        """The proposer's address: weighted round robin over height + round, the same everywhere.

        Args:
            height: the height.
            round_number: its round.
            skipped: validators whose turn does not come; not all of them.
        """
        rotation = self._rotation_without(skipped)
        return rotation[(height + round_number) % len(rotation)]

    def proposers(
        self, height: int, rounds: int, skipped: Collection[bytes] = ()
    ) -> tuple[bytes, ...]:
        """Different proposers of the first rounds of a height, in the order of their turns."""
        rotation = self._rotation_without(skipped)
        size = len(rotation)
        turns = (rotation[(height + turn) % size] for turn in range(min(rounds, size)))
        return tuple(dict.fromkeys(turns))

    def _rotation_without(self, skipped: Collection[bytes]) -> tuple[bytes, ...]:
        if not skipped:
            return self._rotation
        return tuple(address for address in self._rotation if address not in skipped)

    def verify_vote(self, chain_id: str, vote: Vote, verify_batch: VerifyBatch) -> bool:
        """Whether a vote is signed by the validator it names, a member of this set."""
        return all(self._verify([vote], chain_id, verify_batch))

    def verify_evidence(self, chain_id: str, evidence: Evidence, verify_batch: VerifyBatch) -> bool:
        """Whether both votes of well-formed evidence are signed by a member of this set."""
        votes = [evidence.first, evidence.second]
        return all(self._verify(votes, chain_id, verify_batch))

    def verify_certificate(
        self, chain_id: str, certificate: CommitCertificate, verify_batch: VerifyBatch
    ) -> None:
        """Accept a certificate of more than two thirds of this set's power, or raise.

        Args:
            chain_id: the chain whose votes these are.
            certificate: precommits of one round for one block, sorted by validator.
            verify_batch: checks all signatures at once.

        Raises:
            ClientFault: `MALFORMED`.
            PeerFault: `CERTIFICATE_INVALID`.
        """
        certificate.validate()
        subject = f"height {certificate.height}"
        if any(signature.validator not in self for signature in certificate.signatures):
            raise PeerFault("CERTIFICATE_INVALID", "signed by a stranger", subject=subject)
        power = sum(self.power(signature.validator) for signature in certificate.signatures)
        if not self.is_quorum(power):
            raise PeerFault(
                "CERTIFICATE_INVALID",
                f"power {power} of {self.total_power} is no quorum",
                subject=subject,
            )
        if not all(self._verify(certificate.votes(), chain_id, verify_batch)):
            raise PeerFault("CERTIFICATE_INVALID", "a signature is wrong", subject=subject)

    def median_time_ms(self, certificate: CommitCertificate) -> int:
        """BFT time: the power-weighted median of a certificate's timestamps, in ms.

        With less than a third faulty it lies between two correct validators' clocks.
        """
        stamps = sorted(
            (signature.timestamp_ms, self.power(signature.validator))
            for signature in certificate.signatures
        )
        total = sum(power for _, power in stamps)
        passed = 0
        for timestamp_ms, power in stamps:
            passed += power
            if 2 * passed > total:
                return timestamp_ms
        return 0

    def _verify(self, votes: list[Vote], chain_id: str, verify_batch: VerifyBatch) -> list[bool]:
        keys = []
        for vote in votes:
            validator = self._by_address.get(vote.validator)
            if validator is None:
                return [False]
            keys.append(validator.public_key)
        messages = [vote.sign_bytes(chain_id) for vote in votes]
        return verify_batch(keys, messages, [vote.signature for vote in votes])


def _weighted_rotation(
    validators: Sequence[tuple[bytes, Validator]], divisor: int
) -> tuple[bytes, ...]:
    """Smooth weighted round robin over one full period: each gets power / divisor slots."""
    weights = [validator.power // divisor for _, validator in validators]
    total = sum(weights)
    credits = [0] * len(weights)
    rotation = []
    for _ in range(total):
        for index, weight in enumerate(weights):
            credits[index] += weight
        best = max(range(len(credits)), key=lambda index: (credits[index], -index))
        credits[best] -= total
        rotation.append(validators[best][0])
    return tuple(rotation)
