"""The consensus log: torn tails are cut, old damage stops the node."""

import pytest

from chainnode.consensus.wal import (
    CHAIN_START,
    RecordType,
    WalRecord,
    decode_records,
    encode_records,
)
from chainnode.types.errors import InternalError

FIRST = [WalRecord(1, RecordType.LOCK, b"lock" * 9), WalRecord(1, RecordType.VOTE, b"vote")]
SECOND = [WalRecord(2, RecordType.VOTE, b""), WalRecord(2, RecordType.VALID, b"x" * 100)]


def _log() -> tuple[bytes, int]:
    head, last_hash = encode_records(FIRST, CHAIN_START)
    tail, _ = encode_records(SECOND, last_hash)
    return head + tail, len(head)


def test_round_trip() -> None:
    log, _ = _log()
    decoded = decode_records(log)
    assert list(decoded.records) == FIRST + SECOND
    assert decoded.valid_size_bytes == len(log)
    assert decode_records(b"").records == ()


def test_every_torn_tail_is_cut_to_whole_records() -> None:
    log, _ = _log()
    for size in range(len(log)):
        decoded = decode_records(log[:size])
        assert list(decoded.records) == (FIRST + SECOND)[: len(decoded.records)]
        assert decoded.valid_size_bytes <= size


def test_appending_after_a_cut_goes_on() -> None:
    log, _ = _log()
    decoded = decode_records(log[:-1])
    more, _ = encode_records(FIRST, decoded.last_hash)
    again = decode_records(log[: decoded.valid_size_bytes] + more)
    assert list(again.records) == [*FIRST, SECOND[0], *FIRST]


def test_any_flipped_bit_of_an_earlier_append_stops() -> None:
    log, head_size = _log()
    for position in range(head_size):
        damaged = bytearray(log)
        damaged[position] ^= 0x10
        with pytest.raises(InternalError) as raised:
            decode_records(bytes(damaged))
        assert raised.value.code == "WAL_DAMAGED"


def test_any_flipped_bit_of_the_last_append_is_a_torn_tail() -> None:
    log, head_size = _log()
    first_of_tail = encode_records(SECOND[:1], CHAIN_START)[0]
    for position in range(head_size, head_size + len(first_of_tail)):
        damaged = bytearray(log)
        damaged[position] ^= 0x10
        assert decode_records(bytes(damaged)).valid_size_bytes == head_size


def test_swapped_or_repeated_appends_stop() -> None:
    log, head_size = _log()
    for rearranged in (log[head_size:] + log[:head_size], log + log[head_size:]):
        with pytest.raises(InternalError):
            decode_records(rearranged)
