"""The parallel executor from Python: the shipped asset on every engine, its graph and its trace."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from execution_chain import ADMINS, ALICE, BOB, CHAIN_ID, Chain, Person, transaction

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.contract.compiler import Compiled, compile_source
from chainnode.types.codec import encode

ASSET = Path(__file__).resolve().parents[2] / "contracts" / "asset" / "contract.py"
OK = types_pb2.RECEIPT_STATUS_OK
ENGINES = [(1, "stm"), (2, "stm"), (2, "dag"), (4, "dag"), (2, "gate")]


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
    salts = range(1_000, 1_400)
    moved = [
        call(
            (ALICE, BOB, ADMINS[0])[salt % 3],
            "transfer",
            BOB.address if salt % 5 == 0 else salt.to_bytes(32, "big"),
            salt % 90 if salt % 7 else 10**9,
            salt,
        )
        for salt in salts
    ]
    return [[install()], issued, moved]


PEOPLE = list(enumerate((ALICE, BOB, ADMINS[0]), 100))


def results(threads: int, engine: str, record: bool = False) -> list[_native.BlockResult]:
    chain = Chain()
    chain.executor.set_engine(threads, engine)
    chain.executor.set_recording(record)
    install_block, *others = blocks()
    return [chain.block(install_block), *(chain.block(block, verified=1) for block in others)]


def told(results: Sequence[_native.BlockResult]) -> list[object]:
    return [
        (result.state_root, result.receipts, result.writes, result.gas_used, result.dependencies())
        for result in results
    ]


@pytest.mark.parametrize(("threads", "engine"), ENGINES)
def test_the_asset_gives_the_serial_result_on_every_engine(threads: int, engine: str) -> None:
    serial = results(1, "serial")
    statuses = [types_pb2.Receipt.FromString(item).status for item in serial[2].receipts]
    assert statuses.count(OK) > 300, "most transfers go through"
    assert types_pb2.RECEIPT_STATUS_REVERTED in statuses
    assert told(results(threads, engine)) == told(serial)


def test_a_recorded_block_runs_on_virtual_workers() -> None:
    result = results(1, "gate", record=True)[2]
    trace = result.trace()
    assert len(trace) == len(result.receipts)
    assert 0 < trace.critical_path_ns <= trace.work_ns
    again = _native.Trace.decode(trace.encode())
    found = [_native.simulate(one, 96) for one in (trace, again)]
    assert found[0].makespan_ns == found[1].makespan_ns
    assert found[0].executions >= len(trace)
    assert found[0].serial_ns == trace.work_ns


def test_a_trace_is_only_there_when_recorded() -> None:
    with pytest.raises(ValueError, match="without recording"):
        results(1, "gate")[2].trace()


def test_engine_and_threads_are_checked() -> None:
    executor = _native.Executor(CHAIN_ID)
    with pytest.raises(ValueError, match="one of gate, serial, dag, stm"):
        executor.set_engine(2, "best")
    with pytest.raises(ValueError, match="1 to 1024"):
        executor.set_engine(0)


def test_the_gate_follows_what_the_hints_say() -> None:
    apart, chain = _native.Trace(), _native.Trace()
    for key in range(200):
        apart.add(20_000, reads=[(key, 0)], writes=[key])
        chain.add(20_000, reads=[(0, 0)], writes=[0])
    assert _native.predict_engine(apart, 2) == "dag"
    assert _native.predict_engine(apart.without_hints(), 2) == "stm"
    assert _native.predict_engine(apart, 1) == "serial"
    assert _native.predict_engine(chain, 96) == "serial"
