"""Who holds what, and who is named when copies of a share differ: every liar, every lie pattern."""

from collections.abc import Mapping
from itertools import combinations

import pytest

from chainnode.he.release import WrongShare, wrong_share
from chainnode.he.threshold import (
    Copies,
    Sharing,
    cover,
    disagreements,
    open_agreed,
    suspects,
    without,
)
from chainnode.types.errors import ConfigError, PeerFault
from chainnode.types.limits import COUNCIL_MEMBERS_MAX

NAMES = tuple("abcdefgh")


def honest(sharing: Sharing) -> dict[str, dict[int, bytes]]:
    return {
        name: {index: b"%d" % index for index in sharing.held_by(name)} for name in sharing.members
    }


@pytest.mark.parametrize(
    ("size", "threshold"),
    [(n, t) for n in range(2, COUNCIL_MEMBERS_MAX + 1) for t in range(1, n + 1)],
)
def test_any_threshold_of_members_has_every_piece_and_one_less_has_not(
    size: int, threshold: int
) -> None:
    sharing = Sharing.of(NAMES[:size], threshold)
    copies = honest(sharing)
    for chosen in combinations(sharing.members, threshold):
        assert cover(sharing, {name: copies[name] for name in chosen}) is not None
    for chosen in combinations(sharing.members, threshold - 1):
        assert cover(sharing, {name: copies[name] for name in chosen}) is None
    led = [index for name in sharing.members for index in sharing.led_by(name)]
    assert sorted(led) == list(range(len(sharing.pieces)))


@pytest.mark.parametrize(("size", "threshold"), [(0, 0), (1, 1), (9, 5), (4, 0), (4, 5)])
def test_a_threshold_that_cannot_be_is_refused(size: int, threshold: int) -> None:
    with pytest.raises(ConfigError, match="THRESHOLD_INVALID"):
        Sharing.of(tuple("abcdefghi")[:size], threshold)


@pytest.mark.parametrize(("size", "threshold"), [(4, 2), (4, 3), (5, 3), (7, 5)])
def test_no_honest_member_is_ever_named_alone_and_a_broad_lie_always_is(
    size: int, threshold: int
) -> None:
    sharing = Sharing.of(NAMES[:size], threshold)
    for liar in sharing.members:
        held = sharing.held_by(liar)
        for count in (1, 2, len(held)):
            for lied in list(combinations(held, count))[:20]:
                copies = honest(sharing)
                for index in lied:
                    copies[liar][index] = b"lie"
                named = suspects(sharing, copies)
                assert liar in named
                partners = {name for i in lied for name in sharing.pieces[i]} - {liar}
                if len(partners) > 1:
                    assert named == (liar,)


def opener(parts: Mapping[int, bytes]) -> int:
    """Garbage does not open; a small lie does."""
    if b"garbage" in parts.values():
        raise wrong_share(["?"], "query", "no room")
    return 42 + sum(part == b"lie" for part in parts.values())


def test_equal_copies_open_without_the_missing_member() -> None:
    sharing = Sharing.of(NAMES[:4], 3)
    assert open_agreed(sharing, honest(sharing), opener, "query") == 42
    assert open_agreed(sharing, without(honest(sharing), "d"), opener, "query") == 42
    with pytest.raises(PeerFault, match=r"SHARES_MISSING.*silent: c, d"):
        open_agreed(sharing, without(honest(sharing), "cd"), opener, "query")


@pytest.mark.parametrize(
    ("threshold", "lie", "pieces", "members"),
    [
        (3, b"lie", 3, ("b",)),
        (3, b"garbage", 1, ("b",)),
        (3, b"lie", 1, ("a", "b")),
        (2, b"lie", 1, ("b",)),
        (2, b"garbage", 3, ("b",)),
    ],
)
def test_a_disagreement_gives_no_number_but_a_name(
    threshold: int, lie: bytes, pieces: int, members: tuple[str, ...]
) -> None:
    sharing = Sharing.of(NAMES[:4], threshold)
    copies = honest(sharing)
    for index in sharing.held_by("b")[:pieces]:
        copies["b"][index] = lie
    with pytest.raises(WrongShare) as refused:
        open_agreed(sharing, copies, opener, "query")
    assert refused.value.members == members


def test_two_liars_are_both_among_the_named() -> None:
    sharing = Sharing.of(NAMES[:4], 3)
    copies: Copies = honest(sharing) | {
        name: dict.fromkeys(sharing.held_by(name), name.encode()) for name in "ab"
    }
    assert len(disagreements(sharing, copies)) == 5
    with pytest.raises(WrongShare) as refused:
        open_agreed(sharing, copies, opener, "query")
    assert set(refused.value.members) >= {"a", "b"}


def test_all_holders_lying_alike_are_named_together() -> None:
    sharing = Sharing.of(NAMES[:4], 3)
    copies = honest(sharing)
    for name in sharing.pieces[0]:
        copies[name][0] = b"garbage"
    with pytest.raises(WrongShare) as refused:
        open_agreed(sharing, copies, opener, "query")
    assert set(refused.value.members) >= set(sharing.pieces[0])
