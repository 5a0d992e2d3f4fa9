"""The key store: sealed on disk, closed to others, counts every opening once."""

from pathlib import Path

import pytest

from chainnode.he.council import PieceSecret
from chainnode.he.release import FULL_RELEASE_UNITS, public_bytes
from chainnode.keyholder.main import read_passphrase
from chainnode.keyholder.store import KeyStore
from chainnode.types.errors import ConfigError, PeerFault
from chainnode.types.limits import RELEASE_UNITS_MAX


def test_a_reopened_store_holds_the_same_keys(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", b"right")
    made = PieceSecret.draw()
    store.keep_pieces(3, {4: made})
    ciphertext_seed = bytes(32)
    again = KeyStore(tmp_path / "keys", b"right")
    assert public_bytes(again.sealing_key) == public_bytes(store.sealing_key)
    pieces = again.pieces(3, [4])
    assert pieces is not None and again.pieces(4, [4]) is None and again.pieces(3, [3, 4]) is None
    assert pieces[4].flood_key == made.flood_key
    found = pieces[4].keys
    # A key share's public part depends on the secret; the error in it is a few bits only.
    assert set(found) == set(made.keys) == {"S", "S36"}
    assert len(found["S"].first_shares((ciphertext_seed, None, b""))[0]) > 0


def test_a_wrong_passphrase_opens_nothing(tmp_path: Path) -> None:
    KeyStore(tmp_path / "keys", b"right")
    with pytest.raises(ConfigError, match="PASSPHRASE_WRONG"):
        KeyStore(tmp_path / "keys", b"wrong")


def test_a_damaged_key_share_is_reported(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", b"right")
    store.keep_pieces(1, {0: PieceSecret.draw()})
    path = tmp_path / "keys" / "epoch-1-piece-0-S36.key"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ConfigError, match="KEY_STORE_DAMAGED"):
        store.pieces(1, [0])


def test_nothing_in_the_store_is_readable_by_others_or_in_the_clear(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", b"a passphrase")
    piece = PieceSecret.draw()
    store.keep_pieces(1, {0: piece})
    secret = [piece.flood_key, store.sealing_key.private_bytes_raw(), b"a passphrase"]
    files = list((tmp_path / "keys").iterdir())
    assert len(files) >= 6
    for path in files:
        assert path.stat().st_mode & 0o077 == 0, path
        assert not any(part in path.read_bytes() for part in secret), path


def test_openings_are_counted_once_and_stop_hard_after_a_restart(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", b"right")
    full = RELEASE_UNITS_MAX // FULL_RELEASE_UNITS
    for _ in range(2):
        store.count_release(1, "first", full - 1)
    again = KeyStore(tmp_path / "keys", b"right")
    assert again.releases_left(1) == FULL_RELEASE_UNITS
    with pytest.raises(PeerFault, match="RELEASES_EXHAUSTED"):
        again.count_release(1, "second", 2)
    again.count_release(1, "second", 2, spare_bits=1)
    assert again.releases_left(1) == FULL_RELEASE_UNITS // 2
    again.count_release(2, "second", 3)


def test_a_passed_group_check_is_remembered(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", b"right")
    assert not store.has_passed(b"q" * 32)
    store.record_passed(b"q" * 32)
    assert KeyStore(tmp_path / "keys", b"right").has_passed(b"q" * 32)


def test_a_passphrase_file_must_be_private(tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert len(read_passphrase(made)) > 30
    assert read_passphrase(made) == read_passphrase(made)
    made.chmod(0o644)
    with pytest.raises(ConfigError, match="KEY_FILE_EXPOSED"):
        read_passphrase(made)
