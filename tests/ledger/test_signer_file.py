"""The signer's own file: forward only, through torn writes, and one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainnode.ledger.signer_file import Place, SignerFile
from chainnode.types.errors import ConfigError, InternalError

CHAIN = bytes(range(32))
SLOTS = (0, 4_096)


def digest(number: int) -> bytes:
    return bytes([number]) * 32


def signed(path: Path, *places: Place) -> None:
    file = SignerFile(path, CHAIN)
    for place in places:
        file.advance(place, digest(place[3]))
    file.close()


def last(path: Path) -> Place | None:
    file = SignerFile(path, CHAIN)
    file.close()
    return file.last


def test_it_remembers_the_last_place(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signer.state"
    assert last(path) is None
    signed(path, (0, 1, 0, 1), (0, 1, 0, 2), (0, 1, 0, 3), (0, 1, 1, 2), (0, 2, 0, 2))
    assert last(path) == (0, 2, 0, 2)
    signed(path, (1, 3, 0, 1))
    assert last(path) == (1, 3, 0, 1)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", [(0, 5, 2, 2), (0, 5, 2, 1), (0, 5, 1, 3), (0, 4, 9, 3)])
def test_an_older_place_or_another_value_is_refused(tmp_path: Path, place: Place) -> None:
    file = SignerFile(tmp_path / "signer.state", CHAIN)
    file.advance((0, 5, 2, 2), digest(1))
    file.advance((0, 5, 2, 2), digest(1))
    with pytest.raises(InternalError) as refused:
        file.advance(place, digest(9))
    assert refused.value.code == "DOUBLE_SIGN"
    assert file.last == (0, 5, 2, 2)
    file.advance((0, 5, 2, 3), digest(2))


@pytest.mark.parametrize("writes", [4, 5])
@pytest.mark.parametrize("damaged", [0, 1])
def test_a_torn_write_leaves_the_place_before_it(tmp_path: Path, writes: int, damaged: int) -> None:
    path = tmp_path / "signer.state"
    places: list[Place] = [(0, height, 0, 3) for height in range(1, writes + 1)]
    signed(path, *places)
    data = bytearray(path.read_bytes())
    data[SLOTS[damaged] + 50 : SLOTS[damaged] + 60] = bytes(10)
    path.write_bytes(data)
    # The last write is torn, or the slot before it is: then nothing is lost.
    assert last(path) in places[-2:]
    signed(path, (0, 99, 0, 1))
    assert last(path) == (0, 99, 0, 1)


def test_a_damaged_file_stops_the_node(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    signed(path, (0, 1, 0, 1))
    for content in (b"", bytes(8_192), b"\xff" * 8_192, path.read_bytes()[:20]):
        path.write_bytes(content)
        with pytest.raises(InternalError) as damaged:
            SignerFile(path, CHAIN)
        assert damaged.value.code == "SIGNER_STATE_DAMAGED"
        assert path.read_bytes() == content


def test_a_file_belongs_to_one_chain_and_one_process(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    file = SignerFile(path, CHAIN)
    with pytest.raises(ConfigError) as taken:
        SignerFile(path, CHAIN)
    assert taken.value.code == "SIGNER_IN_USE"
    file.close()
    with pytest.raises(ConfigError) as other:
        SignerFile(path, bytes(32))
    assert other.value.code == "SIGNER_OTHER_CHAIN"
    assert last(path) is None
