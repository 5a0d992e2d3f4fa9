"""The parallel executor from Python: the shipped asset on every engine, its graph and its trace."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from execution_chain import (
    ADMINS,
    ALICE,
    BOB,
    CHAIN_ID,
    GENESIS_TIME_MS,
    Chain,
    Person,
    transaction,
)

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.contract.compiler import Compiled, compile_source
from chainnode.types.codec import encode

ASSET = Path(__file__).resolve().parents[2] / "contracts" / "asset" / "contract.py"
OK = types_pb2.RECEIPT_STATUS_OK
ENGINES = [(1, "stm"), (2, "stm"), (2, "dag"), (4, "dag"), (4, "blind"), (2, "gate")]


@cache
def compiled() -> Compiled:
    return compile_source(ASSET.read_text(), str(ASSET))


def install() -> bytes:
    package = types_pb2.ContractPackage(
        name="asset",
        version="1.0",
        wasm=compiled().wasm,
        abi=compiled().abi,
        init_args=len(b"euro").to_bytes(4, "big") + b"euro" + b"\2",
    )
    return transaction(
        ADMINS[0],
        "install",
        encode(package),
        0,
        kind=types_pb2.PAYLOAD_KIND_CONTRACT_ADMIN,
        endorsers=[ADMINS[1]],
    )


def call(sender: Person, method: str, to: bytes, amount: int, salt: int) -> bytes:
    # Verified is claimed for these, so that the signature may be anything.
    payload = types_pb2.Payload(
        chain_id=CHAIN_ID,
        kind=types_pb2.PAYLOAD_KIND_INVOKE,
        contract="asset",
        method=method,
        args=to + amount.to_bytes(8, "big"),
        sender=sender.public_key,
        salt=salt.to_bytes(16, "big"),
        expiry_height=50,
        gas_limit=10**6,
    )
    return encode(types_pb2.Transaction(payload=payload, signature=b"\1" * 64))


def blocks() -> list[list[bytes]]:
    issued = [call(ADMINS[0], "issue", person.address, 10**6, n) for n, person in PEOPLE]
    moved = [
        call(
            (ALICE, BOB, ADMINS[0])[salt % 3],
            "transfer",
            BOB.address if salt % 5 == 0 else salt.to_bytes(32, "big"),
            salt % 90 if salt % 7 else 10**9,
            salt,
        )
        for salt in SALTS
    ]
    return [[install()], issued, moved]


SALTS = range(1_000, 1_400)
PEOPLE = list(enumerate((ALICE, BOB, ADMINS[0]), 100))


def results(threads: int, engine: str) -> list[_native.BlockResult]:
    chain = Chain()
    chain.executor.set_engine(threads, engine)
    install_block, *others = blocks()
    return [chain.block(install_block), *(chain.block(block, verified=1) for block in others)]


def told(results: Sequence[_native.BlockResult]) -> list[object]:
    return [
        (
            result.state_root,
            result.receipts,
            result.writes,
            result.gas_used,
            result.accesses.graph(7),
        )
        for result in results
    ]


@pytest.mark.parametrize(("threads", "engine"), ENGINES)
def test_the_asset_gives_the_serial_result_on_every_engine(threads: int, engine: str) -> None:
    serial = results(1, "serial")
    statuses = [types_pb2.Receipt.FromString(item).status for item in serial[2].receipts]
    assert statuses.count(OK) > 300, "most transfers go through"
    assert types_pb2.RECEIPT_STATUS_REVERTED in statuses
    assert told(results(threads, engine)) == told(serial)


def recorded(runs: int = 3) -> tuple[Chain, _native.Trace]:
    """The chain below the block of transfers, and that block's trace."""
    chain = Chain()
    install_block, issued, moved = blocks()
    chain.block(install_block)
    chain.block(issued, verified=1)
    context = types_pb2.BlockContext(height=3, timestamp_ms=GENESIS_TIME_MS + 3)
    batch = types_pb2.TransactionBatch(transactions=moved)
    trace = chain.executor.record_block(
        encode(context), encode(batch), b"\1" * len(moved), runs=runs
    )
    return chain, trace


def test_a_recorded_block_runs_on_virtual_workers() -> None:
    _, trace = recorded()
    assert 0 < trace.critical_path_ns <= trace.work_ns
    again = _native.Trace.decode(trace.encode())
    found = [_native.simulate(one, 96) for one in (trace, again)]
    assert found[0].makespan_ns == found[1].makespan_ns
    assert found[0].executions >= len(trace)
    assert found[0].serial_ns == trace.work_ns


def test_recording_leaves_nothing_behind() -> None:
    chain, trace = recorded()
    serial = results(1, "serial")
    assert chain.executor.state_root() == serial[1].state_root
    assert told([chain.block(blocks()[2], verified=1)]) == told(serial[2:])
    assert trace.gas_used == serial[2].gas_used


def test_accesses_are_recorded_at_their_offsets_with_gas_and_hints() -> None:
    _, trace = recorded()
    serial = results(1, "serial")[2]
    graph = types_pb2.BlockGraph.FromString(serial.accesses.graph(3))
    receipts = [types_pb2.Receipt.FromString(item) for item in serial.receipts]
    lines = trace.encode().splitlines()[1:]
    for salt, line, receipt in zip(SALTS, lines, receipts, strict=True):
        fields = dict(field.split("=") for field in line.split())
        offsets = [int(item.partition("@")[2]) for item in fields["r"].split(",")]
        # Not at the start, and one after another: the first read comes after admission.
        assert offsets[0] > 0 and offsets == sorted(offsets)
        assert offsets[-1] <= int(fields["c"])
        assert int(fields["u"]) == receipt.gas_used
        assert ("w" in fields) == (receipt.status == OK)
        assert fields["h"] == "complete", "the asset's templates name every key"
        # A failed transfer was foretold to write, and did not; one to oneself to add, and put.
        to_oneself = salt % 3 == 1 and salt % 5 == 0
        assert ("hw" in fields) == (receipt.status != OK or to_oneself)
        assert ("d" in fields) == (receipt.status == OK and not to_oneself)
    assert len(graph.vertices) == len(trace)


def test_a_graph_names_the_contracts_keys_and_the_longest_chain() -> None:
    block = results(2, "dag")[2]
    graph = types_pb2.BlockGraph.FromString(block.accesses.graph(3))
    short = types_pb2.BlockGraph.FromString(block.accesses.graph(3, summary_only=True))
    assert not short.vertices
    del graph.vertices[:]
    assert short == graph
    hottest = graph.hot_keys[0]
    assert (hottest.contract, hottest.writers > 100) == ("asset", True)
    assert graph.work_gas == block.gas_used
    assert 1 < graph.work_gas / graph.critical_path_gas < 20
    assert 0 < block.accesses.size_bytes < 2_000 * len(block.receipts)
    assert len(block.accesses) == len(block.receipts)


def test_engine_and_threads_are_checked() -> None:
    executor = _native.Executor(CHAIN_ID)
    with pytest.raises(ValueError, match="one of gate, serial, dag, stm, blind"):
        executor.set_engine(2, "best")
    with pytest.raises(ValueError, match="1 to 1024"):
        executor.set_engine(0)


def test_the_gate_follows_what_the_hints_say() -> None:
    apart, pairs, chain = _native.Trace(), _native.Trace(), _native.Trace()
    for key in range(200):
        apart.add(20_000, reads=[(key, 0)], writes=[key])
        pairs.add(20_000, reads=[(key // 2, 0)], writes=[key // 2])
        chain.add(20_000, reads=[(0, 0)], writes=[0])
    assert _native.predict_engine(pairs, 2) == "dag"
    assert _native.predict_engine(apart, 2) == "blind"
    assert _native.predict_engine(apart.without_hints(), 2) == "stm"
    assert _native.predict_engine(apart, 1) == "serial"
    assert _native.predict_engine(chain, 96) == "serial"
