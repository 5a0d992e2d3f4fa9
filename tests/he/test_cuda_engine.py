"""Whole questions with the CUDA kernels, compiled for this machine: the local engine's bytes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from he_council import Council
from no_fallback import NoFallback

from chainnode.he.cuda.device import CupyDevice
from chainnode.he.cuda.kernels import CudaKernels
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine
from chainnode.he.schema import TableSchema
from chainnode.he.sql import Catalog, plan_query
from chainnode.testing.cuda_on_host import HostDevice
from chainnode.types.errors import ConfigError

QUERY = b"\x07" * 32


@pytest.mark.parametrize(
    ("sql", "chunks"),
    [
        ("SELECT COUNT(*), SUM(staff) FROM firms WHERE overdue >= 3", 1),
        ("SELECT COUNT(*), SUM(debt), AVG(turnover) FROM firms WHERE sector = 'trade'", 2),
        ("SELECT sector, COUNT(*), SUM(turnover) FROM firms GROUP BY sector", 1),
        ("SELECT COUNT(*) FROM firms WHERE lenders >= 2 AND courts = 1", 1),
        ("SELECT id, CREDIT_SCORE('m1') FROM firms", 1),
    ],
)
def test_a_question_gives_the_local_bytes(
    catalog: Catalog,
    schema: TableSchema,
    firms: dict[str, list[Cell]],
    tmp_path: Path,
    sql: str,
    chunks: int,
) -> None:
    plan = plan_query(sql, catalog, chunk_count=chunks)
    council = Council(plan.profile)
    columns = council.encrypt_table(tmp_path / "columns", schema, firms, plan.columns())
    mask = (np.arange(8_192, dtype="<u8") & 1).tobytes()
    blocks = columns.block_count(plan.columns()[0])
    masks = [] if plan.scores is None else [mask] * blocks
    cuda = LocalEngine(2, CudaKernels(HostDevice(tmp_path), NoFallback(), 4_096))
    results = []
    for engine in (cuda, LocalEngine(2)):
        parts = [engine.run_chunk(plan, i, columns, masks, QUERY) for i in range(len(plan.chunks))]
        results.append((parts, engine.reduce(plan, parts, council.relin_key)))
    assert results[0] == results[1]


def test_without_cupy_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigError) as refused:
        CupyDevice()
    assert refused.value.code == "CUDA_MISSING"
