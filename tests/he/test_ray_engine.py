"""The Ray engine on two real Ray nodes: the local bytes, whatever the nodes do.

Runs where Ray is installed: `make test-system`.
"""

import fcntl
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from he_council import Council

from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.ray_engine import RayEngine, RaySettings
from chainnode.he.schema import TableSchema
from chainnode.he.sql import Catalog, plan_query
from chainnode.sdk.service_config import load_service_config
from chainnode.testing.ray_cluster import add_ray_node, two_ray_nodes
from chainnode.types.errors import ConfigError
from chainnode.worker.main import open_engine

ray = pytest.importorskip("ray", reason="Ray is not installed: `make test-system` installs it")

SUMS = "SELECT COUNT(*), SUM(staff) FROM firms WHERE overdue >= 3"
LONG_SUMS = "sums whose plan says that it reads so much that two shards pay"
SCORES = "SELECT id, CREDIT_SCORE('m1') FROM firms"
QUERY = b"\x07" * 32
pytestmark = [
    pytest.mark.timeout(180),
    # Ray's own warnings are not ours to fail on.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_ray_nodes() as made:
        yield made


class Question:
    """A plan with its columns and what this machine alone computes."""

    def __init__(self, plan: Plan, council: Council, columns: Any) -> None:
        self.plan, self.columns, self._relin_key = plan, columns, council.relin_key
        blocks = columns.block_count(plan.columns()[0])
        mask = (np.arange(8_192, dtype="<u8") & 1).tobytes()
        self.masks = [] if plan.scores is None else [mask] * blocks
        self.local = LocalEngine().run_chunk(plan, 0, columns, self.masks, QUERY)

    def chunk(self, engine: Any) -> bytes:
        return engine.run_chunk(self.plan, 0, self.columns, self.masks, QUERY)

    def result(self, engine: Any) -> bytes:
        return engine.reduce(self.plan, [self.chunk(engine)], self._relin_key)


@pytest.fixture(scope="module")
def questions(
    catalog: Catalog,
    schema: TableSchema,
    firms: dict[str, list[Cell]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Question]:
    made = {}
    for sql in (SUMS, LONG_SUMS, SCORES):
        plan = plan_query(SUMS if sql == LONG_SUMS else sql, catalog, chunk_count=1)
        if sql == LONG_SUMS:
            reads = msgspec.structs.replace(plan.cost, bytes_read=1_000 * plan.cost.bytes_read)
            plan = msgspec.structs.replace(plan, cost=reads)
        council, folder = Council(plan.profile), tmp_path_factory.mktemp(plan.profile)
        columns = council.encrypt_table(folder, schema, firms, plan.columns())
        made[sql] = Question(plan, council, columns)
    return made


@pytest.fixture
def settings(cluster: Any, tmp_path: Path) -> RaySettings:
    return RaySettings(cluster.address, shards=2, folder=str(tmp_path / "shards"), timeout_s=150)


def codes(engine: RayEngine) -> list[str]:
    return [fault.code for fault in engine.faults]


def wait_until_free(folder: Path) -> None:
    """Until no process holds a part of the folder."""
    for path in folder.glob("*.lock"):
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


def tiles(folder: str | Path) -> Sequence[Path]:
    return sorted(Path(folder).rglob("*.0.tiles"))


def end(process: int) -> None:
    """A stopped process does not notice that its node is gone."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def change_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(10_000)
        old = file.read(1)
        file.seek(10_000)
        file.write(bytes([old[0] ^ 1]))


@pytest.mark.parametrize("sql", [SUMS, LONG_SUMS, SCORES])
@pytest.mark.parametrize("shards", [1, 2])
def test_same_bytes_as_on_this_machine(
    questions: dict[str, Question], settings: RaySettings, sql: str, shards: int
) -> None:
    with closing(RayEngine(replace(settings, shards=shards))) as engine:
        for _ in range(2):
            assert questions[sql].chunk(engine) == questions[sql].local
        assert questions[sql].result(engine) == questions[sql].result(LocalEngine(2))
        assert len(engine.actors()) == 2
        assert engine.faults == []


def test_sums_that_no_second_shard_would_pay_for_are_one_shard(
    questions: dict[str, Question], settings: RaySettings
) -> None:
    for sql, shards in ((SUMS, 1), (LONG_SUMS, 2), (SCORES, 2)):
        with closing(Watched(settings)) as engine:
            assert questions[sql].chunk(engine) == questions[sql].local
            assert engine.asked.qsize() == shards


class Watched(RayEngine):
    """Says when it waits for a node."""

    def __init__(self, settings: RaySettings) -> None:
        self.asked: queue.Queue[str] = queue.Queue()
        super().__init__(settings)

    def _wait(self, node_id: str, node: Any, call: Any, order: Any) -> Any:
        self.asked.put(node.name)
        return super()._wait(node_id, node, call, order)


def test_a_node_killed_in_the_middle_of_a_query_is_named_and_replaced(
    cluster: Any, questions: dict[str, Question], settings: RaySettings
) -> None:
    question, (lost, *_) = questions[LONG_SUMS], cluster.worker_nodes
    with closing(Watched(settings)) as engine:
        # Two shards on two nodes: each is asked for one.
        assert question.chunk(engine) == question.local
        name = next(item for item in engine.actors() if item.endswith(lost.node_id[:8]))
        process, _ = ray.get(engine.actors()[name].where.remote())
        os.kill(process, signal.SIGSTOP)
        try:
            engine.asked = queue.Queue()
            found: list[bytes] = []
            thread = threading.Thread(target=lambda: found.append(question.chunk(engine)))
            thread.start()
            assert name in {engine.asked.get(timeout=60), engine.asked.get(timeout=60)}
            cluster.remove_node(lost, allow_graceful=False)
            thread.join(timeout=120)
        finally:
            end(process)
        assert found == [question.local]
        assert {(fault.node, fault.code) for fault in engine.faults} == {(name, "RAY_NODE_LOST")}
        assert question.chunk(engine) == question.local
        assert list(engine.actors()) != [] and name not in engine.actors()
        add_ray_node(cluster)
        assert question.chunk(engine) == question.local
        assert len(engine.actors()) == 2


def test_wrong_tiles_are_named_and_fetched_again(
    questions: dict[str, Question], settings: RaySettings
) -> None:
    question = questions[SCORES]
    with closing(RayEngine(settings)) as engine:
        assert question.chunk(engine) == question.local
        folders = {ray.get(actor.where.remote())[1] for actor in engine.actors().values()}
    wait_until_free(Path(settings.folder))
    for folder in folders:
        change_in_place(tiles(folder)[0])
    with closing(RayEngine(settings)) as engine:
        assert question.chunk(engine) == question.local
        assert set(codes(engine)) == {"CHUNK_MISMATCH"}
        assert {fault.node for fault in engine.faults} <= set(engine.actors())
        before = list(engine.faults)
        assert question.chunk(engine) == question.local
        assert engine.faults == before


def test_a_node_that_computes_wrong_bytes_is_outvoted_and_named(
    questions: dict[str, Question], settings: RaySettings
) -> None:
    question = questions[SUMS]
    with closing(RayEngine(replace(settings, shards=1, agreement=2))) as engine:
        assert question.chunk(engine) == question.local
        liar, actor = sorted(engine.actors().items())[0]
        folder = ray.get(actor.where.remote())[1]
        # Under the mapping of tiles that were checked: as a broken memory would.
        for path in tiles(folder):
            change_in_place(path)
        assert question.chunk(engine) == question.local
        assert [(fault.node, fault.code) for fault in engine.faults] == [(liar, "WRONG_RESULT")]
        assert question.chunk(engine) == question.local
        assert len(engine.faults) == 1


def test_a_node_that_hangs_is_named_and_its_shards_go_elsewhere(
    questions: dict[str, Question], settings: RaySettings
) -> None:
    question = questions[LONG_SUMS]
    with closing(RayEngine(settings)) as engine:
        assert question.chunk(engine) == question.local
        stopped = [ray.get(actor.where.remote())[0] for actor in engine.actors().values()]
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        engine._settings = replace(settings, timeout_s=2)
        try:
            assert question.chunk(engine) == question.local
        finally:
            for process in stopped:
                end(process)
        assert set(codes(engine)) == {"RAY_NODE_SLOW"}
        assert len({fault.node for fault in engine.faults}) == 2


def test_a_worker_takes_the_engine_from_its_configuration(
    questions: dict[str, Question], settings: RaySettings, tmp_path: Path
) -> None:
    text = (
        'genesis = "g"\nidentity = "i"\ndata_dir = "d"\nnode = "n:1"\nengine = "ray"\n'
        f'[ray]\naddress = "{settings.address}"\nfolder = "{settings.folder}"\nshards = 2\n'
    )
    path = tmp_path / "worker.toml"
    path.write_text(text, encoding="utf-8")
    engine = open_engine(load_service_config(path))
    assert isinstance(engine, RayEngine)
    with closing(engine):
        assert questions[SUMS].chunk(engine) == questions[SUMS].local


def test_a_cluster_that_is_not_there_is_named() -> None:
    ray.shutdown()
    with pytest.raises(ConfigError, match=r"RAY_UNREACHABLE.*127\.0\.0\.1:9"):
        RayEngine(RaySettings(address="127.0.0.1:9"))
