"""Sums of numbers that only one key owner can read, over Paillier ciphertexts."""

from dataclasses import dataclass

from chainnode.contract import (
    Address,
    Contract,
    Error,
    Map,
    call,
    ctx,
    emit,
    error,
    event,
    i64,
    paillier_add,
    paillier_add_plain,
    paillier_scalar_multiply,
    u32,
    view,
)

NAME_MAX_CHARACTERS = 64


@dataclass(frozen=True)
class Sum:
    owner: Address
    public_key: bytes
    total: bytes
    parts: u32
    closed: bool


@event
class Opened:
    name: str
    owner: Address


@event
class Contributed:
    name: str
    sender: Address


@event
class Closed:
    name: str
    parts: u32


@error
class NameTaken(Error):
    name: str


@error
class UnknownSum(Error):
    name: str


@error
class SumClosed(Error):
    name: str


@error
class AlreadyContributed(Error):
    name: str
    sender: Address


@error
class NotOwner(Error):
    owner: Address


class EncryptedSum(Contract, version="1.0"):
    """Each member adds one weighted encrypted number; the owner reads the sum, nobody the parts."""

    sums: Map[str, Sum]
    contributed: Map[tuple[str, Address], bool]

    @call
    def open(self, name: str, public_key: bytes, zero: bytes) -> None:
        """Begin a sum at the caller's ciphertext, best a fresh encryption of 0."""
        assert len(name) > 0 and len(name) <= NAME_MAX_CHARACTERS, "a name has 1 to 64 characters"
        if name in self.sums:
            raise NameTaken(name)
        # Adding a known 0 checks the key and the ciphertext and changes nothing.
        start = paillier_add_plain(public_key, zero, 0)
        self.sums[name] = Sum(ctx.sender, public_key, start, 0, False)
        emit(Opened(name, ctx.sender))

    @call
    def contribute(self, name: str, amount: bytes, weight: i64) -> None:
        """Add weight times an encrypted amount; each member once."""
        found = self.running(name)
        if (name, ctx.sender) in self.contributed:
            raise AlreadyContributed(name, ctx.sender)
        scaled = paillier_scalar_multiply(found.public_key, amount, weight)
        total = paillier_add(found.public_key, found.total, scaled)
        self.contributed[(name, ctx.sender)] = True
        self.sums[name] = Sum(found.owner, found.public_key, total, found.parts + 1, False)
        emit(Contributed(name, ctx.sender))

    @call
    def correct(self, name: str, amount: i64) -> None:
        """Add a number everyone may see; only the owner may."""
        found = self.running(name)
        if ctx.sender != found.owner:
            raise NotOwner(found.owner)
        total = paillier_add_plain(found.public_key, found.total, amount)
        self.sums[name] = Sum(found.owner, found.public_key, total, found.parts, False)

    @call
    def close(self, name: str) -> None:
        """Let nobody add any more; only the owner may."""
        found = self.running(name)
        if ctx.sender != found.owner:
            raise NotOwner(found.owner)
        self.sums[name] = Sum(found.owner, found.public_key, found.total, found.parts, True)
        emit(Closed(name, found.parts))

    @view
    def get(self, name: str) -> Sum:
        """Return the sum as it stands, encrypted."""
        found = self.sums.get(name)
        if found is None:
            raise UnknownSum(name)
        return found

    def running(self, name: str) -> Sum:
        """Return a sum that can still grow."""
        found = self.sums.get(name)
        if found is None:
            raise UnknownSum(name)
        if found.closed:
            raise SumClosed(name)
        return found
