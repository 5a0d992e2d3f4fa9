"""The block log keeps what it acknowledged and tells an unfinished write from damage."""

import os
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest

from chainnode.ledger.block_log import BlockLog
from chainnode.ledger.durable_file import DurableFile
from chainnode.ledger.wal_file import WalFile
from chainnode.types.errors import InternalError


def block_hash(height: int, variant: int = 0) -> bytes:
    return bytes([height, variant]) * 16


def fill(log: BlockLog, heights: int) -> None:
    for height in range(log.height + 1, log.height + heights + 1):
        log.append_body(height, block_hash(height), b"block %d" % height, b"batch %d" % height)
        log.append_commit(height, block_hash(height), b"certificate %d" % height)


def segment(directory: Path) -> Path:
    return sorted(directory.glob("blocks-*.log"))[-1]


def test_committed_blocks_are_read_back_after_reopening(tmp_path: Path) -> None:
    log = BlockLog(tmp_path, segment_size_max_bytes=200)
    fill(log, 5)
    log.close()
    again = BlockLog(tmp_path, segment_size_max_bytes=200)
    assert len(list(tmp_path.glob("blocks-*.log"))) > 1
    assert again.height == 5
    third = again.read(3)
    assert third is not None
    assert (third.block, third.batch, third.certificate) == (
        b"block 3",
        b"batch 3",
        b"certificate 3",
    )
    assert again.read(6) is None


def test_the_commit_record_chooses_among_bodies_of_a_height(tmp_path: Path) -> None:
    log = BlockLog(tmp_path)
    log.append_body(1, block_hash(1, 1), b"first round", b"")
    log.append_body(1, block_hash(1, 2), b"second round", b"")
    log.append_commit(1, block_hash(1, 2), b"c")
    log.close()
    kept = BlockLog(tmp_path).read(1)
    assert kept is not None and kept.block == b"second round"


def test_a_body_survives_without_its_commit(tmp_path: Path) -> None:
    log = BlockLog(tmp_path)
    fill(log, 1)
    log.append_body(2, block_hash(2), b"voted", b"bodies")
    log.close()
    again = BlockLog(tmp_path)
    assert again.height == 1
    assert again.holds_body(2, block_hash(2))
    assert again.read_body(2, block_hash(2)) == (b"voted", b"bodies")
    again.append_commit(2, block_hash(2), b"c")
    assert again.height == 2


@pytest.mark.parametrize("lost_bytes", [1, 7, 20])
def test_an_unfinished_last_write_is_cut_and_the_log_goes_on(
    tmp_path: Path, lost_bytes: int
) -> None:
    log = BlockLog(tmp_path)
    fill(log, 3)
    log.close()
    path = segment(tmp_path)
    os.truncate(path, path.stat().st_size - lost_bytes)
    again = BlockLog(tmp_path)
    assert again.height == 2
    assert again.torn_size_bytes > 0
    with pytest.raises(InternalError, match="torn tail"):
        again.append_body(3, block_hash(3, 9), b"other", b"")
    again.cut_torn_tail()
    assert again.torn_size_bytes == 0
    again.append_commit(3, block_hash(3), b"again")
    again.close()
    assert BlockLog(tmp_path).height == 3


def test_damage_before_valid_records_is_never_cut(tmp_path: Path) -> None:
    log = BlockLog(tmp_path)
    fill(log, 3)
    log.close()
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(InternalError) as caught:
        BlockLog(tmp_path)
    assert caught.value.code == "BLOCK_LOG_DAMAGED"
    assert path.read_bytes() == bytes(data)


def test_bytes_that_change_under_the_node_are_noticed_on_read(tmp_path: Path) -> None:
    log = BlockLog(tmp_path)
    fill(log, 1)
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"batch 1")] ^= 1
    path.write_bytes(data)
    with pytest.raises(InternalError) as caught:
        log.read(1)
    assert caught.value.code == "BLOCK_LOG_DAMAGED"


def test_heights_are_committed_in_order_and_never_without_a_body(tmp_path: Path) -> None:
    log = BlockLog(tmp_path)
    log.append_body(2, block_hash(2), b"block", b"")
    for height, digest in ((2, block_hash(2)), (1, block_hash(1))):
        with pytest.raises(InternalError) as caught:
            log.append_commit(height, digest, b"c")
        assert caught.value.code == "BLOCK_LOG_ORDER"


def test_a_failed_write_is_final(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "full")
    file.append(b"kept")
    full = os.open("/dev/full", os.O_WRONLY)
    kept = os.dup(file._descriptor)
    os.dup2(full, file._descriptor)
    os.close(full)
    with pytest.raises(InternalError) as first:
        file.append(b"lost")
    os.dup2(kept, file._descriptor)
    os.close(kept)
    with pytest.raises(InternalError) as second:
        file.append(b"after the disk recovered")
    assert first.value.code == second.value.code == "STORAGE_FAILED"
    assert (tmp_path / "full").read_bytes() == b"kept"


def test_the_consensus_log_file_keeps_order_and_cuts(tmp_path: Path) -> None:
    log = WalFile(tmp_path / "wal")
    log.append(b"one")
    log.append(b"two")
    log.close()
    again = WalFile(tmp_path / "wal")
    assert again.contents() == b"onetwo"
    again.cut(3)
    assert again.contents() == b"one"
    again.append(b"three")
    assert again.contents() == b"onethree"


def test_memory_does_not_grow_with_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What counts here is the index, not thousands of syncs.
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    heights, name = 4_000, sha256(b"").digest()
    log = BlockLog(tmp_path)

    def grow(to: int) -> int:
        """Bytes in use at this height."""
        for height in range(log.height + 1, to + 1):
            log.append_body(height, name, b"b%d" % height, b"")
            log.append_commit(height, name, b"c")
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first_half = grow(heights // 2)
        assert grow(heights) - first_half < 4 * heights
    finally:
        tracemalloc.stop()
    log.close()
    again = BlockLog(tmp_path)
    for height in (1, 2, heights - 1, heights):
        assert again.read_block(height) == b"b%d" % height
    assert again.read(0) is again.read(heights + 1) is None
    # The index has no name: nothing but the log stays behind.
    assert [path.name for path in tmp_path.iterdir()] == ["blocks-000001.log"]
    again.close()
