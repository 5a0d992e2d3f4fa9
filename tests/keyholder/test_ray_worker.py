"""A worker on a Ray cluster among three on their own threads: one query, one hash.

Runs where Ray is installed: `make test-system`.
"""

from contextlib import closing
from pathlib import Path

import pytest
from consortium import ROWS, TURNOVER, build
from local_chain import ORGANISATIONS, LocalLedger

from chainnode.he.ray_engine import RayEngine, RaySettings
from chainnode.sdk.scoring import make_plan, read_query, read_table
from chainnode.testing.ray_cluster import two_ray_nodes

pytest.importorskip("ray", reason="Ray is not installed: `make test-system` installs it")
pytestmark = [pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]


async def test_every_worker_answers_the_same_hash(tmp_path: Path) -> None:
    with two_ray_nodes() as cluster:
        settings = RaySettings(cluster.address, agreement=2, folder=str(tmp_path / "shards"))
        with closing(RayEngine(settings)) as engine:
            consortium = build(LocalLedger(), tmp_path, {"bank-a": engine})
            try:
                await consortium.active()
                await consortium.publish()
                sql = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE overdue < 4"
                rows = await consortium.bank.query("firms", sql)
                kept = [int(str(TURNOVER[row])) for row in range(ROWS) if row % 5 < 4]
                assert [row.values for row in rows] == [(len(kept), sum(kept))]
                query = consortium.bank.last_query
                chain = consortium.bank.chain
                facts = await read_query(chain, query)
                plan = make_plan(await read_table(chain, "firms", facts.epoch), sql).encode()
                for index in range(facts.chunk_count + 1):
                    hashes = {
                        await consortium.workers[name].recompute(query, index, plan)
                        for name in ORGANISATIONS
                    }
                    _, final = await chain.view("chunk_info", query=query, index=index)
                    assert hashes == {final}
                assert len(engine.actors()) == 2
                assert engine.faults == []
            finally:
                await consortium.stop()
