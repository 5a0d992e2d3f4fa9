"""Members and organisations as the chain's state records them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from chainnode._proto import types_pb2
from chainnode.types.codec import (
    HASH_SIZE_BYTES,
    PUBLIC_KEY_SIZE_BYTES,
    address_of,
    check_size,
    decode,
    encode,
    malformed,
)


class Role(IntEnum):
    """What a member is for. COMMON: services beside a node (HE worker, keyholder)."""

    ADMIN = 1
    CLIENT = 2
    CONSENSUS = 3
    COMMON = 4
    LIGHT = 5


class MemberStatus(IntEnum):
    """Whether a member may act; REVOKED is for good."""

    ACTIVE = 1
    FROZEN = 2
    REVOKED = 3


@dataclass(frozen=True, slots=True)
class Member:
    """A signing key, whose it is, and until when. Times in ms since the epoch, by BFT time."""

    public_key: bytes
    organisation: str
    role: Role
    name: str
    not_before_ms: int
    not_after_ms: int
    tls_key_hash: bytes
    certificate_hash: bytes
    status: MemberStatus = MemberStatus.ACTIVE

    @property
    def address(self) -> bytes:
        """SHA-256 address of the public key."""
        return address_of(self.public_key)

    def to_proto(self) -> types_pb2.Member:
        """The wire form."""
        return types_pb2.Member(
            public_key=self.public_key,
            organisation=self.organisation,
            role=types_pb2.Role.ValueType(int(self.role)),
            name=self.name,
            status=types_pb2.MemberStatus.ValueType(int(self.status)),
            not_before_ms=self.not_before_ms,
            not_after_ms=self.not_after_ms,
            tls_key_hash=self.tls_key_hash,
            certificate_hash=self.certificate_hash,
        )

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self.to_proto())

    @classmethod
    def from_proto(cls, message: types_pb2.Member) -> Member:
        """Read and check the shape.

        Raises:
            ClientFault: `MALFORMED`.
        """
        try:
            role, status = Role(message.role), MemberStatus(message.status)
        except ValueError as error:
            raise malformed("Member", f"role {message.role}, status {message.status}") from error
        check_size("Member.public_key", message.public_key, PUBLIC_KEY_SIZE_BYTES)
        check_size("Member.tls_key_hash", message.tls_key_hash, 0, HASH_SIZE_BYTES)
        check_size("Member.certificate_hash", message.certificate_hash, 0, HASH_SIZE_BYTES)
        return cls(
            message.public_key,
            message.organisation,
            role,
            message.name,
            message.not_before_ms,
            message.not_after_ms,
            message.tls_key_hash,
            message.certificate_hash,
            status,
        )

    @classmethod
    def decode(cls, data: bytes) -> Member:
        """Read canonical bytes.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return cls.from_proto(decode(types_pb2.Member, data))


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation and the certificate of its authority, DER."""

    id: str
    name: str
    ca_certificate: bytes

    def to_proto(self) -> types_pb2.Organisation:
        """The wire form."""
        return types_pb2.Organisation(
            id=self.id, name=self.name, ca_certificate=self.ca_certificate
        )

    @classmethod
    def from_proto(cls, message: types_pb2.Organisation) -> Organisation:
        """Read; an organisation must have an id.

        Raises:
            ClientFault: `MALFORMED`.
        """
        if not message.id:
            raise malformed("Organisation.id", "is empty")
        return cls(message.id, message.name, message.ca_certificate)
