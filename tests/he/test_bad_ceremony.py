"""Malformed messages of the key ceremony: a typed error names the sender of each."""

import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from test_council import EPOCH_SEED, MEMBERS, SHARING, Council, added

from chainnode.he import council, key_vectors, release
from chainnode.he.engine import pack_container, unpack_container
from chainnode.types.errors import PeerFault

SENDER = "registry"
INDEX = SHARING.led_by(SENDER)[0]
HOLDER = next(name for name in SHARING.pieces[INDEX] if name != SENDER)
ONES = b"\xff" * 8

Bytes = Callable[[bytes], bytes]
Fields = Callable[[list[bytes]], list[bytes]]

FIELDS = {"share S": 0, "share S36": 1, "round 1 S36": 2, "proof S": 3, "proof S36": 4}
FIELD_CHANGES: dict[str, Bytes] = {
    "empty": lambda _: b"",
    "a byte less": lambda field: field[:-1],
    "a byte more": lambda field: field + b"\0",
    "a first word of ones": lambda field: ONES + field[8:],
    "a last word of ones": lambda field: field[:-8] + ONES,
    "all zero": lambda field: bytes(len(field)),
    "one bit": lambda field: bytes([field[0] ^ 1]) + field[1:],
    "twice": lambda field: field + field,
}
FRAMINGS: dict[str, Bytes] = {
    "nothing": lambda _: b"",
    "three bytes": lambda part: part[:3],
    "a count alone": lambda part: part[:4],
    "no parts": lambda _: pack_container([]),
    "a count one too large": lambda part: struct.pack("<I", 7) + part[4:],
    "a count one too small": lambda part: struct.pack("<I", 5) + part[4:],
    "the largest count": lambda part: ONES[:4] + part[4:],
    "the largest length": lambda part: part[:4] + ONES[:4] + part[8:],
    "a length of zero": lambda part: part[:4] + bytes(4) + part[8:],
    "a byte less": lambda part: part[:-1],
    "a byte more": lambda part: part + b"\0",
    "twice": lambda part: part + part,
    "a container in a container": lambda part: pack_container([part]),
    "text": lambda _: b"CEREMONY" * 100,
}
ORDERS: dict[str, Fields] = {
    "one field less": lambda fields: fields[:-1],
    "one field more": lambda fields: [*fields, b""],
    "backwards": lambda fields: fields[::-1],
    "shares swapped": lambda fields: [fields[1], fields[0], *fields[2:]],
    "proofs swapped": lambda fields: [*fields[:3], fields[4], fields[3], fields[5]],
    "round 1 for a share": lambda fields: [fields[2], *fields[1:]],
    "no deal": lambda fields: [*fields[:5], b""],
    "a deal of no fields": lambda fields: [*fields[:5], pack_container([])],
    "a deal with a field less": lambda fields: [*fields[:5], dealt(fields[5], lambda d: d[:-1])],
    "a deal with a field more": lambda fields: [
        *fields[:5],
        dealt(fields[5], lambda d: [*d, b""]),
    ],
}
# Changes of a deal's fields: sealed keys of S and S36, then a box for each holder.
PLACE = 2 + SHARING.pieces[INDEX].index(HOLDER)
DEALS: dict[str, tuple[int, Bytes]] = {
    "no key": (0, lambda _: b""),
    "a key cut short": (0, lambda key: key[:-1]),
    "a longer key": (1, lambda key: key + b"\0"),
    "a key of one bit": (0, lambda key: key[:20] + bytes([key[20] ^ 1]) + key[21:]),
    "a key of zeros": (1, lambda key: bytes(len(key))),
    "no box": (PLACE, lambda _: b""),
    "half a public key": (PLACE, lambda box: box[:16]),
    "a box of nothing": (PLACE, lambda box: box[:32]),
    "a box without its end": (PLACE, lambda box: box[:-1]),
    "a longer box": (PLACE, lambda box: box + b"\0"),
    "a point of order one": (PLACE, lambda box: bytes(32) + box[32:]),
    "a box of one bit": (PLACE, lambda box: box[:40] + bytes([box[40] ^ 1]) + box[41:]),
    "another box": (PLACE, lambda box: box[32:] + box[:32]),
}
SECONDS: dict[str, Bytes] = {
    **{name: FRAMINGS[name] for name in ("nothing", "a count alone", "no parts", "a byte more")},
    "two parts": lambda part: pack_container([*unpack_container(part), b""]),
    "an empty share": lambda _: pack_container([b""]),
    "a share cut short": lambda part: pack_container([unpack_container(part)[0][:-8]]),
    "a longer share": lambda part: pack_container([unpack_container(part)[0] + bytes(8)]),
    "a first word of ones": lambda part: part[:8] + ONES + part[16:],
    "a last word of ones": lambda part: part[:-8] + ONES,
}
INDEXES: dict[str, Bytes] = {
    "nothing": lambda _: b"",
    "a byte less": lambda index: index[:-1],
    "a byte more": lambda index: index + b"\0",
    "twice": lambda index: index + index,
    "half a hash": lambda index: index[:16],
}
SHARES: dict[str, Bytes] = {
    **{name: FRAMINGS[name] for name in ("nothing", "a count alone", "no parts", "a byte less")},
    "a part less": lambda data: pack_container(unpack_container(data)[:-1]),
    "a part more": lambda data: pack_container([*unpack_container(data), b""]),
    "empty parts": lambda data: pack_container([b""] * len(unpack_container(data))),
    "a word of ones": lambda data: data[:8] + ONES + data[16:],
    "a shorter part": lambda data: changed(data, 0, lambda part: part[:-8]),
    "a longer part": lambda data: changed(data, 0, lambda part: part + bytes(8)),
}


@pytest.fixture(scope="module")
def made() -> Council:
    return Council()


def changed(data: bytes, place: int, change: Bytes) -> bytes:
    fields = unpack_container(data)
    fields[place] = change(fields[place])
    return pack_container(fields)


def dealt(deal: bytes, change: Fields) -> bytes:
    return pack_container(change(unpack_container(deal)))


def test_there_are_at_least_sixty_cases_by_hand() -> None:
    tables = ([*FRAMINGS], [*ORDERS], [*DEALS], [*SECONDS], [*INDEXES], [*SHARES])
    assert sum(map(len, tables)) >= 60


def refuse_first(made: Council, part: bytes) -> None:
    first = council.FirstRound(EPOCH_SEED, SHARING, made.profiles)
    with pytest.raises(PeerFault) as refused:
        first.add(INDEX, part)
    assert refused.value.code in council.MESSAGE_FAULTS
    assert refused.value.subject == SENDER
    assert not first.deals and not first.relin_totals


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("change", FIELD_CHANGES)
def test_a_changed_field_of_a_first_part_names_its_sender(
    made: Council, field: str, change: str
) -> None:
    part = made.first[SENDER][0]
    refuse_first(made, changed(part, FIELDS[field], FIELD_CHANGES[change]))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_first_part_in_another_frame_names_its_sender(made: Council, framing: str) -> None:
    refuse_first(made, FRAMINGS[framing](made.first[SENDER][0]))


@pytest.mark.parametrize("order", ORDERS)
def test_a_first_part_of_other_fields_names_its_sender(made: Council, order: str) -> None:
    fields = unpack_container(made.first[SENDER][0])
    refuse_first(made, pack_container(ORDERS[order](fields)))


class Dealt:
    """What everyone deals to one holder."""

    def __init__(self) -> None:
        self.key = X25519PrivateKey.generate()
        publics = dict.fromkeys(MEMBERS, release.public_bytes(self.key))
        self.deals: dict[int, list[bytes]] = {}
        for index in SHARING.held_by(HOLDER):
            led = {index: council.PieceSecret.draw()}
            leader = council.Ceremony(EPOCH_SEED, SHARING, SHARING.leader(index), led)
            self.deals[index] = unpack_container(unpack_container(leader.round1(publics)[0])[-1])

    def receive(self, place: int, change: Bytes) -> dict[int, council.PieceSecret]:
        """The holder's pieces, after a change of one field of the sender's deal."""
        first = council.FirstRound(EPOCH_SEED, SHARING, council.BASE_PROFILES)
        first.deals = dict(self.deals)
        fields = list(self.deals[INDEX])
        fields[place] = change(fields[place])
        first.deals[INDEX] = fields
        return council.Ceremony(EPOCH_SEED, SHARING, HOLDER, {}).receive(first, self.key)


@pytest.fixture(scope="module")
def to_holder() -> Dealt:
    return Dealt()


def refuse_deal(to_holder: Dealt, place: int, change: Bytes) -> None:
    with pytest.raises(PeerFault) as refused:
        to_holder.receive(place, change)
    assert (refused.value.code, refused.value.subject) == (council.MALFORMED, SENDER)
    assert f"its deal of piece {INDEX} does not open" in refused.value.message


@pytest.mark.parametrize("case", DEALS)
def test_a_deal_that_does_not_open_names_its_leader(to_holder: Dealt, case: str) -> None:
    refuse_deal(to_holder, *DEALS[case])


@pytest.mark.parametrize("size_bytes", [0, 31, 32, 63, 64, 65, 96])
def test_a_deal_of_keys_of_another_length_names_its_leader(
    to_holder: Dealt, size_bytes: int
) -> None:
    """With the right transport key and half a flood key, its holder would flood differently."""
    context = council.Ceremony(EPOCH_SEED, SHARING, SENDER, {})._context(INDEX, HOLDER)

    def resized(box: bytes) -> bytes:
        content = release.open_sealed(to_holder.key, box, context) + bytes(32)
        return release.seal(release.public_bytes(to_holder.key), content[:size_bytes], context)

    if size_bytes == 64:
        assert len(to_holder.receive(PLACE, resized)[INDEX].flood_key) == 32
    else:
        refuse_deal(to_holder, PLACE, resized)


@pytest.fixture(scope="module")
def first(made: Council) -> council.FirstRound:
    return added(made.first, made.profiles)


@pytest.mark.parametrize("case", [*SECONDS, "missing"])
def test_a_malformed_second_part_names_its_sender(
    made: Council, first: council.FirstRound, case: str
) -> None:
    second = {index: part for index, part in made.second.items() if index != INDEX}
    if case != "missing":
        second[INDEX] = SECONDS[case](made.second[INDEX])
    with pytest.raises(PeerFault) as refused:
        council.aggregate(first, second)
    assert (refused.value.code, refused.value.subject) == (council.MALFORMED, SENDER)


@pytest.mark.parametrize("case", INDEXES)
def test_a_malformed_index_names_its_sender(made: Council, case: str) -> None:
    index = INDEXES[case](council.message_index(made.first[SENDER]))
    with pytest.raises(PeerFault) as refused:
        council.part_hashes(SHARING, SENDER, index)
    assert (refused.value.code, refused.value.subject) == (council.MALFORMED, SENDER)


@pytest.mark.parametrize("case", SHARES)
def test_malformed_shares_of_the_test_name_their_sender(made: Council, case: str) -> None:
    shares = made.shares()
    shares[SENDER] = SHARES[case](shares[SENDER])
    with pytest.raises(PeerFault) as refused:
        key_vectors.check_vectors(made.vectors, SHARING, shares)
    assert refused.value.code in {council.MALFORMED, "WRONG_SHARE"}
    named = [name for name in MEMBERS if name in str(refused.value)]
    assert named == [SENDER]
