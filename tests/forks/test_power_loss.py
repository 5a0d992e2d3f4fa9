"""All nodes lose power right after their vote: what was not synced is gone, every body is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from chainnode._proto import types_pb2
from chainnode.consensus.interface import BuildProposal, ConsensusMessage, Effect, ValidateBlock
from chainnode.testing import Setup, Simulation
from chainnode.testing.faults import FaultPlan
from chainnode.testing.invariants import Violation
from chainnode.testing.node import SimNode
from chainnode.types.block import Block
from chainnode.types.errors import InternalError
from chainnode.types.vote import Vote, VoteType
from forks.four_nodes import EVERYONE, FourNodes, batch

EXECUTED = types_pb2.RECEIPT_STATUS_UNKNOWN_CONTRACT


class Platter:
    """What of each file and folder is known to be on the disk: every sync call passes here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sizes: dict[Path, int] = {}
        self._entries: dict[Path, set[Path]] = {}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._recording(getattr(os, name)))

    def _recording(self, sync: object) -> object:
        def recorded(descriptor: int) -> None:
            assert callable(sync)
            sync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                self._entries[path] = set(path.iterdir())
            else:
                self._sizes[path] = path.stat().st_size

        return recorded

    def survivors(self, data_dir: Path, copy: Path) -> None:
        """Copy what a power loss now would leave of a node: its synced bytes, and no state."""
        for path, size_bytes in self._sizes.items():
            if path.is_relative_to(data_dir) and self._reachable(path, data_dir):
                target = copy / path.relative_to(data_dir)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes()[:size_bytes])

    def _reachable(self, path: Path, data_dir: Path) -> bool:
        """Whether every folder on the way was synced after the name in it was made."""
        if path == data_dir:
            return True
        synced = path in self._entries.get(path.parent, ())
        return synced and self._reachable(path.parent, data_dir)


async def test_all_nodes_lose_power_right_after_the_vote_and_have_every_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platter = Platter(monkeypatch)
    four = FourNodes(tmp_path / "testnet")
    sent = [four.call(salt) for salt in range(20)]
    four.submit(*sent)
    block = await four.build()
    assert len(block.wids) == len(sent)
    assert await four.verdicts(block) == [""] * 4

    places = [place.data_dir for place in four.layout.nodes]
    for index, place in enumerate(places):
        platter.survivors(place, tmp_path / "left" / str(index))
    certificate = four.certificate(block)
    await four.close()
    for index, place in enumerate(places):
        shutil.rmtree(place)
        shutil.move(tmp_path / "left" / str(index), place)
        four.start(index)

    for node in four.nodes:
        assert (node.tip.height, len(node.pool)) == (0, 0)
        assert node.ledger.log.read_body(1, block.hash()) == (block.encode(), batch(*sent))
    # The block was decided: the votes were out. Every node can commit and execute it.
    assert len(set(await four.commit(block, certificate))) == 1
    assert [receipt.status for receipt in four.receipts(1)] == [EXECUTED] * len(sent)
    await four.close()


class PowerCut(SimNode):
    """Its first precommit at each height is the last thing all nodes do before the lights go."""

    def __init__(self, sim: Simulation, index: int, key: int) -> None:
        self.blocks: dict[bytes, Block] = {}
        self.voted: dict[int, set[bytes]] = {}
        self.cut_heights: set[int] = set()
        super().__init__(sim, index, key)

    def perform(self, effect: Effect) -> None:
        if isinstance(effect, ValidateBlock):
            self.blocks[effect.block.hash()] = effect.block
        super().perform(effect)

    def assemble(self, request: BuildProposal, wids: tuple[bytes, ...]) -> Block:
        block = super().assemble(request, wids)
        self.blocks[block.hash()] = block
        return block

    def broadcast(self, message: ConsensusMessage) -> None:
        super().broadcast(message)
        if not isinstance(message, Vote) or not message.block_hash:
            return
        self.voted.setdefault(message.height, set()).add(message.block_hash)
        if message.type is VoteType.PRECOMMIT and message.height not in self.cut_heights:
            self.cut_power(message.height)

    def cut_power(self, height: int) -> None:
        if not self.sim._in_fault_phase:
            return
        self.cut_heights.add(height)
        for node in self.sim.nodes:
            if node.alive:
                self.sim._crash(node)
        for node in self.sim.nodes:
            assert isinstance(node, PowerCut)
            node.check_bodies()

    def check_bodies(self) -> None:
        for block_hash in sorted(set().union(*self.voted.values())):
            if any(wid not in self.disk.bodies for wid in self.blocks[block_hash].wids):
                raise Violation(f"durability: node {self.index} voted and has no body")


class PowerCutWithoutBodies(PowerCut):
    def store_bodies(self, block: Block) -> None:
        return


PLAN = FaultPlan(restart_ms_max=200, delay_ms_max=50)


@pytest.mark.parametrize("seed", range(10))
def test_power_cuts_after_every_precommit_lose_no_body_and_fork_nothing(seed: int) -> None:
    simulation = Simulation(seed, Setup(node_class=PowerCut, plan=PLAN))
    report = simulation.run()
    assert report.violation == ""
    cuts = [len(node.cut_heights) for node in simulation.nodes if isinstance(node, PowerCut)]
    assert sum(cuts) > 10
    assert report.height > 5


def test_the_power_cut_check_bites() -> None:
    report = Simulation(0, Setup(node_class=PowerCutWithoutBodies, plan=PLAN)).run()
    assert "has no body" in report.violation


async def test_leveldb_ahead_of_a_torn_block_log_stops_the_node_before_it_can_vote(
    four: FourNodes,
) -> None:
    for salt in range(3):
        four.submit(four.call(salt))
        await four.step(proposer=salt)
    await four.stop(3)
    segment = next((four.layout.nodes[3].data_dir / "blocks").glob("*.log"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-1])
    with pytest.raises(InternalError) as caught:
        four.start(3)
    assert caught.value.code == "LEDGER_TORN"
    assert segment.read_bytes() == whole[:-1], "the evidence stays as it was"
    # Nothing was lost but this node's copy: with the bytes back it is where the others are.
    segment.write_bytes(whole)
    four.start(3)
    four.submit(four.call(9))
    assert [receipt.status for receipt in await four.step()] == [EXECUTED]
    assert {node.tip.height for node in four.nodes} == {4}
    assert len(EVERYONE) == 4
