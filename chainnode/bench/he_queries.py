"""Whole queries over 100,000 and 1,000,000 enterprises, releases and the bank's reading included.

Everything runs on this machine, all four members included; only consensus and transport are left
out. One query is warm: columns are in the page cache and keys are loaded.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from chainnode import _native as native
from chainnode.bench import he_cuda
from chainnode.bench.frame import Figures
from chainnode.bench.he_cold import disk
from chainnode.bench.he_seal import Exact
from chainnode.he import encode, engine, release, results
from chainnode.he.encode import Cell
from chainnode.he.plan import Plan
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.schema import Bins, Column, TableSchema
from chainnode.he.score_column import ScoreColumn
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.he.sql import Catalog, plan_query
from chainnode.testing.he_council import joint_keys

SIZES: Final = {"100k": 100_000, "1m": 1_000_000}
ROUNDS: Final = {"100k": 11, "1m": 5}
MEMBERS: Final = ("bank-a", "guarantor", "statistics", "registry")
THREADS: Final = 2
FEATURES: Final = 14
BINS: Final = 5
KEPT_MEMORY_BYTES: Final = 256 << 20
QUERY_ID: Final = bytes(32)
Cells = dict[str, list[Cell]]


class Council:
    """The joint key of four members for one profile, and their releases."""

    def __init__(self, profile: ProfileName) -> None:
        self.profile = profile
        self.keys = {name: native.HeSecretKey.generate(profile) for name in MEMBERS}
        seed = hashlib.sha256(profile.encode()).digest()
        self.public_key, self.relin_key = joint_keys(profile, seed, list(self.keys.values()))

    def store(
        self, folder: Path, columns: Iterable[tuple[str, Sequence[bytes]]]
    ) -> native.HeColumns:
        """Encrypt columns into a folder and open it."""
        limbs = PROFILES[self.profile].limbs
        for name, blocks in columns:
            seeds = [hashlib.sha256(f"{name} {b}".encode()).digest() for b in range(len(blocks))]
            data = native.he_encrypt_many(self.profile, self.public_key, blocks, seeds, limbs)
            native.HeColumns.write(str(folder), name, self.profile, limbs, data)
        return native.HeColumns.open(str(folder), self.profile)


def run(quick: bool, exact: Exact) -> tuple[Figures, list[str]]:
    """Milliseconds of both queries, every answer compared with the plaintext."""
    native.keep_freed_memory(KEPT_MEMORY_BYTES)
    figures: Figures = {}
    for label in ["100k"] if quick else list(SIZES):
        figures |= _of_size(label, 5 if quick else ROUNDS[label], exact)
    notes = [
        f"query_*: {', '.join(f'{label} = {size}' for label, size in SIZES.items())} enterprises "
        f"(the larger one not with --quick), medians, {THREADS} threads, all four members' shares "
        "computed on this machine, without consensus and transport; _processor_ is the sum over "
        "threads, half of which is the time on two idle cores; _ingest_ encodes, encrypts, stores "
        "and checks all columns of the query once"
    ]
    return figures, notes


def _of_size(label: str, rounds: int, exact: Exact) -> Figures:
    rows = SIZES[label]
    cells, schema = _cells(rows), _schema(rows)
    with tempfile.TemporaryDirectory(prefix="chainnode-he-", dir=disk()) as folder:
        total = _sum_query(Path(folder) / "sum", label, (schema, cells), (rounds, exact))
        scores = _score_query(Path(folder) / "score", label, (schema, cells), (rounds, exact))
        return total | scores


def _schema(rows: int) -> TableSchema:
    edges = tuple(range(20, 100, 20))
    features = [
        Column(f"f{i}", MEMBERS[i % 3], Bins(0, edges, 99), profiles=("S", "S36"))
        for i in range(FEATURES)
    ]
    amount = Column("amount", MEMBERS[0], None, value_maximum=65_535, value_limb_bits=16)
    return TableSchema("firms", rows, "id", MEMBERS[3], (*features, amount))


def _cells(rows: int) -> Cells:
    random = np.random.default_rng(11)
    cells: Cells = {
        f"f{i}": [int(x) for x in random.integers(0, 100, rows)] for i in range(FEATURES)
    }
    cells["amount"] = [int(x) for x in random.integers(0, 65_536, rows)]
    return cells


def _measure(name: str, query: Callable[[engine.Engine], object], rounds: int) -> Figures:
    """Median wall and processor milliseconds, the latter over all threads and members; with the
    passes on a CUDA device too, where there is one."""
    figures = _timed(name, partial(query, engine.LocalEngine(THREADS)), rounds)
    cuda = he_cuda.kernels()
    if cuda is None:
        return figures
    return figures | _timed(
        f"cuda_{name}", partial(query, engine.LocalEngine(THREADS, cuda)), rounds
    )


def _timed(name: str, action: Callable[[], object], rounds: int) -> Figures:
    action()
    wall, processor = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return {
        f"{name}_ms": 1e3 * statistics.median(wall),
        f"{name}_processor_ms": 1e3 * statistics.median(processor),
    }


def _sum_query(
    folder: Path, label: str, data: tuple[TableSchema, Cells], run: tuple[int, Exact]
) -> Figures:
    council, (schema, cells), (rounds, exact) = Council("S36"), data, run
    start = time.perf_counter()
    first = schema.columns[0]
    columns = [
        *encode.column_blocks(first, cells["f0"], schema.rows, "S36"),
        *encode.column_blocks(schema.columns[-1], cells["amount"], schema.rows, "S36"),
    ]
    store = council.store(folder, columns)
    ingest = {f"query_{label}_sum_ingest_s": time.perf_counter() - start}
    plan = plan_query("SELECT COUNT(*), SUM(amount) FROM firms WHERE f0 < 60", Catalog(schema, {}))
    table = np.asarray([cells["f0"], cells["amount"]], dtype=np.int64)
    chosen = table[1][table[0] < 60]
    expected = (len(chosen), int(chosen.sum()))

    def query(local: engine.Engine) -> None:
        chunks = [local.run_chunk(plan, i, store, [], QUERY_ID) for i in range(len(plan.chunks))]
        ciphertexts = engine.unpack_container(local.reduce(plan, chunks, council.relin_key))
        shares = {
            name: b"".join(
                key.scalar_share(item, plan.limbs, plan.hash(), len(MEMBERS))
                for item in ciphertexts
            )
            for name, key in council.keys.items()
        }
        opened = release.open_scalars("S36", plan.limbs, ciphertexts, shares, "bench")
        row = results.assemble(plan, opened)[0]
        exact.value(row.values, expected, "COUNT and SUM")

    return ingest | _measure(f"query_{label}_sum", query, rounds)


def _model(schema: TableSchema) -> Scorecard:
    features = tuple(
        FeaturePoints(f"f{i}", tuple((7 * (i + b)) % 40 - 12 for b in range(BINS)))
        for i in range(FEATURES)
    )
    return Scorecard("m1", schema.table, schema.hash().hex(), 600, features)


def _score_query(
    folder: Path, label: str, data: tuple[TableSchema, Cells], run: tuple[int, Exact]
) -> Figures:
    (schema, cells), (rounds, exact) = data, run
    council, model, start = Council("S"), _model(schema), time.perf_counter()
    columns = (
        item
        for column in schema.columns[:FEATURES]
        for item in encode.column_blocks(column, cells[column.name], schema.rows, "S")
    )
    store = council.store(folder, columns)
    ingest = {f"query_{label}_score_ingest_s": time.perf_counter() - start}
    plan = plan_query("SELECT id, CREDIT_SCORE('m1') FROM firms", Catalog(schema, {"m1": model}))
    ids = [f"E{row:07d}" for row in range(schema.rows)]
    mask = encode.mask_blocks(np.ones(schema.rows, dtype=np.bool_), schema.rows)
    bank = native.HeSecretKey.generate("S")
    target = bank.public_key()
    expected = model.score(schema, cells)

    def query(local: engine.Engine) -> None:
        chunks = [local.run_chunk(plan, i, store, mask, QUERY_ID) for i in range(len(plan.chunks))]
        ciphertexts = engine.unpack_container(local.reduce(plan, chunks, b""))
        scores = _read(plan, council, ciphertexts, (bank, target), mask, ids)
        exact.slots(scores.scores.astype("<u8").tobytes(), expected.astype("<u8"), "a score")

    return ingest | _measure(f"query_{label}_score", query, rounds)


def _read(
    plan: Plan,
    council: Council,
    ciphertexts: Sequence[bytes],
    bank: tuple[native.HeSecretKey, bytes],
    mask: Sequence[bytes],
    ids: Sequence[str],
) -> ScoreColumn:
    key, target = bank

    # As a keyholder's `switched_parts`; here all members on one machine.
    seeds = [plan.hash()] * len(ciphertexts)
    shares = {
        name: secret.key_switch_shares(
            ciphertexts, plan.limbs, target, seeds, len(MEMBERS), THREADS
        )
        for name, secret in council.keys.items()
    }
    switched = release.switch_vectors("S", plan.limbs, ciphertexts, shares, "bench")
    slots = release.open_vectors(key, plan.limbs, switched, list(shares), "bench")
    return results.open_scores(plan, slots, mask, ids, QUERY_ID)
