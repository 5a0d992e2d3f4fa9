"""A restarted or emptied node decides and answers as if it had never been away."""

from __future__ import annotations

import shutil

import wasmtime

from chainnode._proto import types_pb2
from forks.four_nodes import EVERYONE, FourNodes

HEAD = """(module
  (import "sc1" "ctx_i64" (func $ctx_i64 (param i32) (result i64)))
  (import "sc1" "ret" (func $ret (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "v:head")
    (i64.store (i32.const 0) (call $ctx_i64 (i32.const 0)))
    (i64.store (i32.const 8) (call $ctx_i64 (i32.const 1)))
    (call $ret (i32.const 0) (i32.const 16))))"""


async def test_views_see_the_same_height_and_time_after_a_restart(four: FourNodes) -> None:
    four.submit(four.install("head", bytes(wasmtime.wat2wasm(HEAD)), 1))
    await four.step()
    await four.step()
    sender = four.identity("bank-a/client").public_key

    def heads() -> list[tuple[int, int]]:
        answers = []
        for node in four.nodes:
            data = node.executor.evaluate(sender, "head", "head", b"", 1_000_000)
            receipt = types_pb2.Receipt.FromString(data)
            assert receipt.status == types_pb2.RECEIPT_STATUS_OK, receipt.message
            height, time_ms = receipt.result[:8], receipt.result[8:]
            answers.append((int.from_bytes(height, "little"), int.from_bytes(time_ms, "little")))
        return answers

    header = four.nodes[0].tip.header
    assert header is not None
    assert heads() == [(2, header.timestamp_ms)] * len(EVERYONE)
    await four.stop(1)
    four.start(1)
    await four.stop(2)
    shutil.rmtree(four.layout.nodes[2].data_dir / "state")
    four.start(2)
    assert heads() == [(2, header.timestamp_ms)] * len(EVERYONE)


async def test_a_restarted_node_skips_the_same_proposers(four: FourNodes) -> None:
    missed = set()
    for _ in range(40):
        state = four.nodes[0].tip.state()
        turn = [node.identity.address for node in four.nodes].index(state.proposer(0))
        if turn == 3:
            # Its turn passes: the next one proposes, and round 1 decides.
            missed.add(state.height)
            await four.step(proposer=0, round_number=1)
        else:
            await four.step(proposer=turn)
    assert 1 <= len(missed) <= 3
    state = four.nodes[0].tip.state()
    address = four.nodes[3].identity.address
    assert [item.validator for item in state.turns.absences] == [address]
    for index in (1, 3):
        await four.stop(index)
        four.start(index)
    assert [node.tip.state().turns for node in four.nodes] == [state.turns] * len(EVERYONE)
    proposers = [[node.tip.state().proposer(turn) for turn in range(9)] for node in four.nodes]
    assert proposers == [proposers[0]] * len(EVERYONE)
