"""Stored columns: their Merkle roots, and damage of every kind as a typed error."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from chainnode import _native as native
from chainnode.he.engine import pack_container
from chainnode.types.codec import merkle_root

BLOCKS = 5
LIMBS = 2
TILE_BYTES = 64 * 8
PAGE_BYTES = 4096
RESIDUE_BYTES = 6
PLANE_BYTES = PAGE_BYTES + 2 * 8192 * BLOCKS * RESIDUE_BYTES


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


def packed(tile: bytes) -> bytes:
    """A tile of one block at six bytes a residue, as docs/spec/he-queries.md says."""
    words = np.frombuffer(tile, "<u8").reshape(8, 8)
    parts = [words[6 + line // 3] >> np.uint64(16 * (line % 3)) for line in range(6)]
    high = np.stack(parts) & np.uint64(0xFFFF)
    return bytes((words[:6] | high << np.uint64(48)).astype("<u8").tobytes())


def header(limb: int, residue_bytes: int) -> bytes:
    prime = native.he_profile("S").moduli[limb]
    words = np.asarray([3, residue_bytes, 8192, prime, limb, BLOCKS], "<u8")
    return (b"HE tiles" + words.tobytes()).ljust(PAGE_BYTES, b"\0")


@pytest.mark.parametrize("residue_bytes", [6, 8])
def test_roots_are_those_of_the_chains_merkle_tree(
    written: tuple[Path, list[bytes]], tmp_path: Path, residue_bytes: int
) -> None:
    _, blocks = written
    native.HeColumns.write(str(tmp_path), "x", "S", LIMBS, blocks, residue_bytes)
    store = opened(tmp_path)
    assert store.residue_bytes("x") == residue_bytes
    for limb, found in enumerate(store.roots("x")):
        leaves = [header(limb, residue_bytes)]
        for polynomial in range(2):
            start = (polynomial * LIMBS + limb) * 8192 * 8
            for tile in range(128):
                at = start + tile * TILE_BYTES
                pieces = [block[at : at + TILE_BYTES] for block in blocks]
                leaves.append(b"".join(map(packed, pieces) if residue_bytes == 6 else pieces))
        assert found == merkle_root(leaves)
        assert b"".join(leaves) == (tmp_path / f"x.{limb}.tiles").read_bytes()
    roots = json.loads((tmp_path / "x.json").read_text())["roots"]
    assert roots == [r.hex() for r in store.roots("x")]


def test_tiles_take_six_bytes_a_residue_unless_asked_otherwise(folder: Path) -> None:
    assert opened(folder).residue_bytes("x") == RESIDUE_BYTES
    assert (folder / "x.0.tiles").stat().st_size == PLANE_BYTES
    with pytest.raises(ValueError, match="6 or 8 bytes, not 7"):
        native.HeColumns.write(str(folder), "y", "S", LIMBS, [bytes(2 * LIMBS * 8192 * 8)], 7)


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_packing_gives_the_same_bytes(
    written: tuple[Path, list[bytes]], tmp_path: Path, first: int, threads: int
) -> None:
    """Columns of eight bytes, of six, and both in one pass, for whole and partial block ranges."""
    _, blocks = written
    names = [f"c{i}" for i in range(11)]
    for kind, sizes in {"eight": [8], "six": [6], "mixed": [6, 8, 8]}.items():
        for i, name in enumerate(names):
            turned = blocks[i % BLOCKS :] + blocks[: i % BLOCKS]
            size = sizes[i % len(sizes)]
            native.HeColumns.write(str(tmp_path / kind), name, "S", LIMBS, turned, size)
    weights = [[7 * i - 30 for i in range(11)], [1 << i for i in range(11)]]
    factors: list[tuple[list[str], list[int], int]] = [
        (names[:2], [1, -1], 1),
        (names[2:9], [300] * 7, -2),
        (names[9:], [-1, 3], 0),
    ]
    span = (LIMBS, first, BLOCKS - first, threads)
    results = {
        (
            b"".join(b"".join(model) for model in store.mac_scalar(names, weights, *span)),
            store.sum(names, weights[0], *span),
            store.tensor_sum(factors[:2], *span),
            store.tensor_sum(factors, *span),
            store.sums([[factors[:1]], [factors[:2], factors]], *span),
        )
        for store in (opened(tmp_path / kind) for kind in ("eight", "six", "mixed"))
    }
    assert len(results) == 1


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("first", "count"), [(0, BLOCKS), (1, 1)])
def test_many_sums_in_one_pass_are_the_sums_one_by_one(
    written: tuple[Path, list[bytes]], tmp_path: Path, first: int, count: int, threads: int
) -> None:
    """In the order given, repeated ones too; what one of them may not do, they may not together."""
    names = [f"c{i}" for i in range(5)]
    for name in names:
        native.HeColumns.write(str(tmp_path), name, "S", LIMBS, written[1])
    store, span = opened(tmp_path), (LIMBS, first, count, threads)
    single = (names[:4], [1, -2, 1 << 40, 7], 0)
    pair = [(names[:1], [1], 1), (names[2:4], [1, -1], 0)]
    triple = [*pair, (names[4:], [-3], 2)]
    terms = [[single], pair, triple, [single], pair[::-1]]
    alone = [
        store.sum(*single[:2], *span),
        store.tensor_sum(pair, *span),
        store.tensor_sum(triple, *span),
        store.sum(*single[:2], *span),
        store.tensor_sum(pair, *span),
    ]
    assert store.sums([[term] for term in terms], *span) == pack_container(alone)
    # Several terms of one output are added, a shorter one to the first polynomials of a longer.
    together = store.sums([terms[:3], terms[3:]], *span)
    longest = [len(alone[2]), len(alone[4])]
    padded = [[item.ljust(longest[0], b"\0") for item in alone[:3]]]
    padded.append([item.ljust(longest[1], b"\0") for item in alone[3:]])
    added = [native.he_add("S", LIMBS, items) for items in padded]
    assert together == pack_container(added)
    for bad in ([], [[]], [[single], [*triple, single]], [[single], [(["other"], [1], 0)]]):
        with pytest.raises(ValueError, match=r"factors|column"):
            store.sums([[term] for term in bad], *span)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_columns_read_from_disk_give_the_same_bytes(
    written: tuple[Path, list[bytes]], tmp_path: Path, threads: int
) -> None:
    """Every kernel, over all blocks and over some, before and after the page cache is dropped."""
    names = [f"c{i}" for i in range(9)]
    for i, name in enumerate(names):
        native.HeColumns.write(str(tmp_path), name, "S", LIMBS, written[1], 6 + i % 2 * 2)
    store = opened(tmp_path)

    def results(first: int, count: int) -> list[object]:
        kernels = (
            lambda: store.mac_scalar(names, [list(range(9))], LIMBS, first, count, threads),
            lambda: store.sum(names, list(range(9)), LIMBS, first, count, threads),
            lambda: store.tensor_sum(
                [(names[:4], [1] * 4, 0), (names[4:], [9] * 5, 1)], LIMBS, first, count, threads
            ),
            lambda: store.sums(
                [[[(names[:5], [1] * 5, 0)]], [[(names[3:], [2] * 6, 0)]]],
                LIMBS,
                first,
                count,
                threads,
            ),
        )
        found: list[object] = []
        for kernel in kernels:
            found.append(kernel())
            store.evict(names)
            found.append(kernel())
            assert found[-1] == found[-2]
        return found

    assert results(0, BLOCKS) != results(1, 2)
    store.evict(names)
    store.preload(names, LIMBS)
    store.verify(names)


def test_a_plane_under_another_name_is_noticed(folder: Path) -> None:
    """Its own root is right, but its first page names another limb."""
    manifest = json.loads((folder / "x.json").read_text())
    manifest["roots"].reverse()
    (folder / "x.json").write_text(json.dumps(manifest))
    for limb in range(LIMBS):
        (folder / f"x.{limb}.tiles").rename(folder / f"moved.{limb}")
    for limb in range(LIMBS):
        (folder / f"moved.{limb}").rename(folder / f"x.{LIMBS - 1 - limb}.tiles")
    with pytest.raises(native.HeCorruptColumn, match=r"x\.0\.tiles is not the plane"):
        opened(folder)


@pytest.mark.parametrize("place", [0, 12_345, PLANE_BYTES - 1])
def test_one_changed_bit_is_noticed_on_opening(folder: Path, place: int) -> None:
    path = folder / "x.1.tiles"
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(native.HeCorruptColumn, match=r"x\.1\.tiles does not have the Merkle root"):
        opened(folder)


@pytest.mark.parametrize("size", [0, 1, PAGE_BYTES, PLANE_BYTES - 1])
def test_a_short_file_is_noticed_on_opening(folder: Path, size: int) -> None:
    os.truncate(folder / "x.0.tiles", size)
    with pytest.raises(ValueError, match=r"x\.0\.tiles"):
        opened(folder)


SOUND = {
    "format": 3,
    "column": "x",
    "profile": "S",
    "limbs": 2,
    "blocks": 5,
    "residue_bytes": 6,
    "roots": ["00" * 32, "00" * 32],
}


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b'{"format": 3}',
        json.dumps(SOUND | {"roots": []}).encode(),
        json.dumps(SOUND | {"blocks": 0}).encode(),
        json.dumps(SOUND | {"roots": ["0g", "zz"]}).encode(),
        json.dumps(SOUND | {"residue_bytes": 5}).encode(),
        json.dumps(SOUND).encode(),
    ],
)
def test_a_damaged_manifest_is_a_corrupt_column(folder: Path, manifest: bytes) -> None:
    (folder / "x.json").write_bytes(manifest)
    with pytest.raises(native.HeCorruptColumn, match=r"x\.(json|0\.tiles)"):
        opened(folder)


def test_a_proof_that_this_version_cannot_check_is_refused_by_name(folder: Path) -> None:
    manifest = json.loads((folder / "x.json").read_text())
    (folder / "x.json").write_text(json.dumps(manifest | {"proof": "AAAA"}))
    with pytest.raises(native.HeCorruptColumn, match=r"x\.json carries a proof of encryption"):
        opened(folder)


def test_a_manifest_of_the_older_format_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "x.json").read_text())
    (folder / "x.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(ValueError, match="column x is format 1"):
        opened(folder)


@pytest.mark.parametrize(
    "size", [0, 3 * PAGE_BYTES, 3 * PAGE_BYTES + 100, PLANE_BYTES - PAGE_BYTES, PLANE_BYTES - 9]
)
@pytest.mark.parametrize("cold", [False, True])
def test_a_file_cut_short_under_a_kernel_is_an_error_and_not_the_end(
    folder: Path, size: int, cold: bool
) -> None:
    store = opened(folder)
    kernels = (
        lambda: store.mac_scalar(["x"], [[3]], LIMBS, 0, BLOCKS),
        lambda: store.sum(["x"], [1], LIMBS, 1, 2, threads=2),
        lambda: store.tensor_sum([(["x"], [1], 0), (["x"], [1], 1)], LIMBS, 0, BLOCKS),
        lambda: store.read_all(["x"], LIMBS),
        lambda: store.preload(["x"], LIMBS),
        lambda: store.verify(["x"]),
    )
    before = hashlib.sha256(kernels[1]()).digest()
    if cold:
        store.evict(["x"])
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
