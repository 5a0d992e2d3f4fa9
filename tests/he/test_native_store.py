"""Stored columns: their Merkle roots, and damage of every kind as a typed error."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from chainnode import _native as native
from chainnode.types.codec import merkle_root

BLOCKS = 5
LIMBS = 2
TILE_BYTES = 64 * 8
PAGE_BYTES = 4096


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A column of five blocks under a throw-away key."""
    folder = tmp_path_factory.mktemp("columns")
    public_key = native.HeSecretKey.generate("S").public_key()
    slots = [
        np.random.default_rng(b).integers(0, 2, 8192).astype("<u8").tobytes() for b in range(BLOCKS)
    ]
    seeds = [bytes([b]) * 32 for b in range(BLOCKS)]
    blocks = native.he_encrypt_many("S", public_key, slots, seeds, LIMBS)
    native.HeColumns.write(str(folder), "x", "S", LIMBS, blocks)
    return folder, blocks


@pytest.fixture
def folder(written: tuple[Path, list[bytes]], tmp_path: Path) -> Path:
    shutil.copytree(written[0], tmp_path / "columns")
    return tmp_path / "columns"


def opened(folder: Path) -> native.HeColumns:
    return native.HeColumns.open(str(folder), "S")


def test_roots_are_those_of_the_chains_merkle_tree(written: tuple[Path, list[bytes]]) -> None:
    folder, blocks = written
    roots = opened(folder).roots("x")
    for limb, found in enumerate(roots):
        leaves = []
        for polynomial in range(2):
            start = (polynomial * LIMBS + limb) * 8192 * 8
            for tile in range(128):
                at = start + tile * TILE_BYTES
                leaves.append(b"".join(block[at : at + TILE_BYTES] for block in blocks))
        assert found == merkle_root(leaves)
        assert b"".join(leaves) == (folder / f"x.{limb}.tiles").read_bytes()
    assert json.loads((folder / "x.json").read_text())["roots"] == [r.hex() for r in roots]


@pytest.mark.parametrize("place", [0, 12_345, 2 * 128 * BLOCKS * TILE_BYTES - 1])
def test_one_changed_bit_is_noticed_on_opening(folder: Path, place: int) -> None:
    path = folder / "x.1.tiles"
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(native.HeCorruptColumn, match=r"x\.1\.tiles does not have the Merkle root"):
        opened(folder)


@pytest.mark.parametrize("size", [0, 1, PAGE_BYTES, 2 * 128 * BLOCKS * TILE_BYTES - 1])
def test_a_short_file_is_noticed_on_opening(folder: Path, size: int) -> None:
    os.truncate(folder / "x.0.tiles", size)
    with pytest.raises(ValueError, match=r"x\.0\.tiles"):
        opened(folder)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b'{"format": 2}',
        b'{"format":2,"column":"x","profile":"S","limbs":2,"blocks":5,"roots":[]}',
        b'{"format":2,"column":"x","profile":"S","limbs":2,"blocks":0,"roots":["",""]}',
        b'{"format":2,"column":"x","profile":"S","limbs":2,"blocks":5,"roots":["0g","zz"]}',
    ],
)
def test_a_damaged_manifest_is_a_corrupt_column(folder: Path, manifest: bytes) -> None:
    (folder / "x.json").write_bytes(manifest)
    with pytest.raises(native.HeCorruptColumn, match=r"x\.json"):
        opened(folder)


def test_a_manifest_of_the_older_format_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "x.json").read_text())
    (folder / "x.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(ValueError, match="column x is format 1"):
        opened(folder)


@pytest.mark.parametrize("size", [0, 3 * PAGE_BYTES, 3 * PAGE_BYTES + 100])
def test_a_file_cut_short_under_a_kernel_is_an_error_and_not_the_end(
    folder: Path, size: int
) -> None:
    store = opened(folder)
    kernels = (
        lambda: store.mac_scalar(["x"], [[3]], LIMBS, 0, BLOCKS),
        lambda: store.sum(["x"], [1], LIMBS, 1, 2, threads=2),
        lambda: store.tensor_sum([(["x"], [1], 0), (["x"], [1], 1)], LIMBS, 0, BLOCKS),
        lambda: store.read_all(["x"], LIMBS),
        lambda: store.verify(["x"]),
    )
    before = hashlib.sha256(kernels[1]()).digest()
    os.truncate(folder / "x.1.tiles", size)
    for kernel in kernels:
        with pytest.raises(native.HeCorruptColumn, match=r"x\.1\.tiles"):
            kernel()
    # Another mapping of another file is not affected.
    native.HeColumns.write(
        str(folder), "x", "S", LIMBS, [bytes(2 * LIMBS * 8192 * 8) for _ in range(BLOCKS)]
    )
    again = opened(folder)
    assert again.sum(["x"], [1], LIMBS, 1, 2) == bytes(2 * LIMBS * 8192 * 8)
    assert hashlib.sha256(again.sum(["x"], [1], LIMBS, 1, 2)).digest() != before


def test_bytes_changed_after_opening_are_found_by_verify(folder: Path) -> None:
    store = opened(folder)
    store.verify(["x"])
    with (folder / "x.0.tiles").open("r+b") as file:
        file.seek(777)
        file.write(b"\xff")
    with pytest.raises(native.HeCorruptColumn, match=r"x\.0\.tiles does not have"):
        store.verify(["x"])
