"""Many pay one: the shipped asset's credits are additions, so that a hot account is no chain."""

import re

import pytest

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.bench import asset_block

PAYMENTS = 400
ENGINES = [(1, "stm"), (2, "blind"), (2, "dag"), (4, "stm"), (8, "dag"), (2, "gate")]
OK, REVERTED = types_pb2.RECEIPT_STATUS_OK, types_pb2.RECEIPT_STATUS_REVERTED
OVERFLOW = 2


def merchant_of(chain: asset_block.Chain) -> bytes:
    """The state key of the balance that all pay into."""
    field = bytes([asset_block.BALANCES_FIELD])
    return b"\x04\x05asset" + field + _native.address(chain.public_keys[0])


def run(chain: asset_block.Chain, threads: int, engine: str) -> list[_native.BlockResult]:
    """Two blocks: the second meets what the first left and what the engine learnt of it."""
    executor = chain.executor()
    executor.set_engine(threads, engine)
    blocks = [chain.block(height, PAYMENTS, one_merchant=True) for height in (1, 2)]
    return [executor.execute_block(*block) for block in blocks]


def told(results: list[_native.BlockResult]) -> list[object]:
    return [
        (one.state_root, one.receipts, one.writes, one.gas_used, one.accesses.graph(1))
        for one in results
    ]


def test_payments_to_one_merchant_do_not_wait_for_one_another() -> None:
    chain = asset_block.chain(PAYMENTS + 1)
    results = run(chain, 1, "serial")
    for result in results:
        receipts = [types_pb2.Receipt.FromString(item) for item in result.receipts]
        assert [receipt.status for receipt in receipts] == [OK] * PAYMENTS
        graph = types_pb2.BlockGraph.FromString(result.accesses.graph(1))
        assert [list(vertex.neighbors) for vertex in graph.vertices] == [[]] * PAYMENTS
        assert graph.work_gas > 0.9 * PAYMENTS * graph.critical_path_gas
    paid = dict(results[1].writes)[merchant_of(chain)]
    # Stored as the plain integer that it is.
    assert paid == (asset_block.BALANCE + 2 * PAYMENTS).to_bytes(8, "big")
    # Of equal cost, all could run at once; with both balances read, none could.
    recorded = asset_block.recorded(chain, PAYMENTS, 1, one_merchant=True)
    # An offset says when in an execution a key is read.
    even = re.sub(r"c=\d+", "c=1000", re.sub(r"@\d+", "@0", recorded.encode()))
    trace = _native.Trace.decode(even)
    exact = trace.without_deltas()
    assert trace.work_ns == exact.work_ns == 1_000 * PAYMENTS
    assert trace.critical_path_ns == 1_000
    assert exact.critical_path_ns == exact.work_ns


@pytest.mark.parametrize("room", [2 * PAYMENTS, PAYMENTS + PAYMENTS // 2, 3])
@pytest.mark.parametrize(("threads", "engine"), ENGINES)
def test_every_engine_agrees_where_a_balance_fills_up(threads: int, engine: str, room: int) -> None:
    made = asset_block.chain(PAYMENTS + 1)
    full = (merchant_of(made), (2**64 - 1 - room).to_bytes(8, "big"))
    others = [entry for entry in made.entries if entry[0] != full[0]]
    chain = asset_block.Chain([*others, full], made.public_keys)
    serial = run(chain, 1, "serial")
    assert told(run(chain, threads, engine)) == told(serial)
    receipts = [types_pb2.Receipt.FromString(item) for result in serial for item in result.receipts]
    paid = [receipt for receipt in receipts if receipt.status == OK]
    refused = [receipt for receipt in receipts if receipt.status == REVERTED]
    assert (len(paid), len(refused)) == (room, 2 * PAYMENTS - room)
    assert {receipt.error_code for receipt in refused} <= {OVERFLOW}
