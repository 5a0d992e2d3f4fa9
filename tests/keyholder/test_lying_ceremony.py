"""A member whose message of the ceremony is wrong ends the epoch, with its name on chain."""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from consortium import Consortium, build
from local_chain import ORGANISATIONS, LocalChain, LocalLedger

from chainnode._native import he_profile
from chainnode.he.council import Ceremony, FirstRound, PieceSecret
from chainnode.he.engine import pack_container, unpack_container
from chainnode.sdk.scoring import EPOCH_ACTIVE, EPOCH_FAILED

HONEST = Ceremony._first_part

Keys = Mapping[str, bytes]
Lie = Callable[[Ceremony, int, PieceSecret, Keys], bytes]


def altered(part: bytes, place: int, change: Callable[[bytes], bytes]) -> bytes:
    fields = unpack_container(part)
    fields[place] = change(fields[place])
    return pack_container(fields)


def rogue_key(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
    """The own key share less another's, proven with the own secret."""
    profile = he_profile("S")
    primes = np.array([*profile.moduli, profile.special_modulus], "<u8").repeat(profile.slots)
    other = HONEST(own, index, PieceSecret.draw(), keys)
    theirs = np.frombuffer(unpack_container(other)[0], "<u8")

    def less(share: bytes) -> bytes:
        return bytes(((np.frombuffer(share, "<u8") + primes - theirs) % primes).tobytes())

    return altered(HONEST(own, index, piece, keys), 0, less)


def no_proof(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
    return altered(HONEST(own, index, piece, keys), 3, lambda _: b"")


def flipped_proof(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
    def flipped(proof: bytes) -> bytes:
        return proof[:40] + bytes([proof[40] ^ 1]) + proof[41:]

    return altered(HONEST(own, index, piece, keys), 4, flipped)


def of_another_epoch(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
    earlier = Ceremony(bytes(32), own._sharing, own._member, own._led)
    return HONEST(earlier, index, piece, keys)


def of_another_piece(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
    HONEST(own, index, piece, keys)
    return HONEST(own, (index + 1) % len(own._sharing.pieces), piece, keys)


def of_another_member(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
    HONEST(own, index, piece, keys)
    other = next(name for name in ORGANISATIONS if name != own._member)
    return HONEST(Ceremony(own._seed, own._sharing, other, own._led), index, piece, keys)


def cut_short(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
    return HONEST(own, index, piece, keys)[:-1]


LIES: dict[str, Lie] = {
    "rogue key": rogue_key,
    "no proof": no_proof,
    "flipped proof": flipped_proof,
    "another epoch": of_another_epoch,
    "another piece": of_another_piece,
    "another member": of_another_member,
    "cut short": cut_short,
}


@pytest.fixture
async def beginning(tmp_path: Path) -> AsyncIterator[Consortium]:
    """Four organisations whose first ceremony has not begun."""
    made = build(LocalLedger(), tmp_path)
    try:
        yield made
    finally:
        await made.stop()


async def ended(consortium: Consortium) -> list[dict[str, object]]:
    """The steps of the ceremony up to its end."""
    chain = LocalChain(consortium.ledger, "client", "bank-a", "client")
    async for _ in chain.follow(1):
        consortium.check_tasks()
        epoch, status, _, _ = await chain.view("epoch_info", epoch=0)
        if epoch > 0 and status in (EPOCH_ACTIVE, EPOCH_FAILED):
            break
    events = consortium.ledger.deployed.events
    return [fields for name, fields in events if name == "CouncilStep"]


def lie_as(monkeypatch: pytest.MonkeyPatch, liar: str, lie: Lie) -> None:
    def first_part(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
        made = lie if own._member == liar and index == min(own._led) else HONEST
        return made(own, index, piece, keys)

    monkeypatch.setattr(Ceremony, "_first_part", first_part)


@pytest.mark.parametrize(
    ("liar", "lie"),
    [("guarantor", lie) for lie in LIES]
    + [(name, "no proof") for name in ORGANISATIONS if name != "guarantor"],
)
async def test_a_lying_dealer_fails_the_epoch_and_is_named_on_chain(
    beginning: Consortium, monkeypatch: pytest.MonkeyPatch, liar: str, lie: str
) -> None:
    lie_as(monkeypatch, liar, LIES[lie])
    steps = await ended(beginning)
    assert str(steps[-1]["step"]).startswith(f"failed: {liar}: ")
    assert "keys" not in {step["step"] for step in steps}
    if lie != "cut short":
        assert f"{liar} has not proven that it knows its secret" in str(steps[-1]["step"])


async def test_a_malformed_second_part_fails_the_epoch_and_is_named_on_chain(
    beginning: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Ceremony.round2

    def round2(own: Ceremony, first: FirstRound) -> list[bytes]:
        parts = honest(own, first)
        if own._member != "guarantor":
            return parts
        return [part[:8] + b"\xff" * 8 + part[16:] for part in parts]

    monkeypatch.setattr(Ceremony, "round2", round2)
    steps = await ended(beginning)
    assert str(steps[-1]["step"]).startswith("failed: guarantor: round 2 share: a residue")
    assert "keys" not in {step["step"] for step in steps}


async def test_after_a_failed_epoch_the_next_one_can_be_made(
    beginning: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie_as(monkeypatch, "registry", no_proof)
    assert str((await ended(beginning))[-1]["step"]).startswith("failed: registry: ")
    monkeypatch.setattr(Ceremony, "_first_part", HONEST)
    await LocalChain(beginning.ledger, "keyholder", "bank-a", "common").call("open_epoch")
    assert (await ended(beginning))[-1]["step"] == "active"
