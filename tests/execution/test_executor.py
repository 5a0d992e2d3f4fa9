"""The native executor as the node uses it: blocks in, receipts, roots and writes out."""

from __future__ import annotations

import threading

import pytest
from execution_chain import (
    ADMINS,
    ALICE,
    BANK,
    BOB,
    CHAIN_ID,
    GENESIS_TIME_MS,
    Chain,
    Person,
    genesis,
    install,
    receipts,
    transaction,
    transfer_args,
)
from wasmtime import wat2wasm

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.types.codec import encode

OK = types_pb2.RECEIPT_STATUS_OK


def module(text: str) -> bytes:
    return bytes(wat2wasm(text))


def statuses(result: _native.BlockResult) -> list[int]:
    return [receipt.status for receipt in receipts(result)]


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    (installed,) = chain.run(install())
    assert installed.status == OK, installed.message
    return chain


def test_a_transfer_moves_value_and_says_so(chain: Chain) -> None:
    sent = transaction(ALICE, "transfer", transfer_args(BOB, 30), 1)
    result = chain.block([sent])
    (receipt,) = receipts(result)
    assert (receipt.status, receipt.tx_id, receipt.wid) == (
        OK,
        _native.check_transaction(sent),
        _native.wid(sent),
    )
    (event,) = receipt.events
    assert (event.contract, event.name, event.data) == ("bank", "moved", transfer_args(BOB, 30))
    prefix = b"\x04\x04bank"
    assert chain.executor.get(prefix + BOB.address) == (30).to_bytes(8, "little")
    assert result.gas_used == receipt.gas_used > 0
    assert result.receipts_root == _native.merkle_root(result.receipts)
    assert result.writes == sorted(result.writes)
    assert result.state_root == chain.executor.state_root()


def test_views_read_the_last_block(chain: Chain) -> None:
    data = chain.executor.evaluate(BOB.public_key, "bank", "balance", ALICE.address, 10**6)
    receipt = types_pb2.Receipt.FromString(data)
    assert int.from_bytes(receipt.result, "little") == 1_000
    assert receipt.SerializeToString(deterministic=True) == data


def test_a_restarted_executor_continues_alike(chain: Chain) -> None:
    sent = transaction(ALICE, "transfer", transfer_args(BOB, 1), 1)
    first = chain.block([sent, transaction(ALICE, "transfer", b"", 2, forge=True)])
    assert first.expiry_heights == [50, 0]
    restarted = Chain()
    restarted.executor = _native.Executor(CHAIN_ID)
    entries = list(chain.stored.items())
    restarted.executor.load(entries[::2])
    restarted.executor.load(entries[1::2])
    restarted.executor.load_window(first.tx_ids, first.expiry_heights)
    restarted.executor.load_head(chain.height, GENESIS_TIME_MS + chain.height)
    restarted.height = chain.height
    assert restarted.executor.state_root() == chain.executor.state_root()
    again = [sent, transaction(ALICE, "transfer", transfer_args(BOB, 2), 3)]
    one, other = chain.block(again), restarted.block(again)
    assert statuses(one) == [types_pb2.RECEIPT_STATUS_DUPLICATE, OK]
    assert one.receipts == other.receipts
    assert (one.state_root, one.writes) == (other.state_root, other.writes)


def test_a_frozen_sender_is_refused_alike_with_signatures_known_or_not() -> None:
    change = encode(types_pb2.MemberChange(address=ALICE.address))
    config = types_pb2.PAYLOAD_KIND_CONFIG
    block = [
        install(),
        transaction(ADMINS[0], "member_freeze", change, 1, kind=config, endorsers=ADMINS[1:]),
        transaction(ALICE, "transfer", transfer_args(BOB, 1), 2),
        transaction(ADMINS[0], "member_unfreeze", change, 3, kind=config),
    ]
    unknown, known = Chain().block(block, 0), Chain().block(block, 1)
    assert statuses(unknown) == [
        OK,
        OK,
        types_pb2.RECEIPT_STATUS_MEMBER_FROZEN,
        types_pb2.RECEIPT_STATUS_POLICY_NOT_MET,
    ]
    assert (unknown.receipts, unknown.state_root) == (known.receipts, known.state_root)


def test_a_member_added_may_act(chain: Chain) -> None:
    carol = Person("carol", "c", types_pb2.ROLE_CLIENT)
    change = encode(types_pb2.MemberChange(member=carol.member()))
    config = types_pb2.PAYLOAD_KIND_CONFIG
    added, moved = chain.run(
        transaction(ADMINS[2], "member_add", change, 1, kind=config, endorsers=ADMINS[:1]),
        transaction(carol, "transfer", transfer_args(BOB, 0), 2),
    )
    assert (added.status, moved.status) == (OK, OK), (added.message, moved.message)
    stored = chain.executor.member(carol.address)
    assert stored == encode(carol.member())


def test_a_contract_is_found_by_name(chain: Chain) -> None:
    found = chain.executor.contract("bank")
    assert found is not None
    record = types_pb2.ContractRecord.FromString(found[0])
    assert (record.name, record.version, found[1]) == ("bank", "1", b"{}")
    assert chain.executor.contract("nothing") is None


def test_malformed_arguments_raise() -> None:
    executor = _native.Executor(CHAIN_ID)
    with pytest.raises(ValueError, match="no genesis"):
        executor.execute_block(b"", b"", b"")
    with pytest.raises(ValueError, match="genesis"):
        executor.genesis(b"\xff")
    executor.genesis(genesis())
    with pytest.raises(ValueError, match="not empty"):
        executor.genesis(genesis())
    with pytest.raises(ValueError, match="context"):
        executor.execute_block(b"\xff", b"", b"")
    with pytest.raises(ValueError, match="one byte per transaction"):
        executor.execute_block(b"", b"", b"\x01")
    with pytest.raises(ValueError, match="32 bytes"):
        executor.load_window([b"short"], [1])


def test_a_module_rule_is_named() -> None:
    with pytest.raises(ValueError, match=r"`valid`.*float"):
        _native.check_module(
            module('(module (memory (export "memory") 1) (func (drop (f32.const 1))))')
        )
    with pytest.raises(ValueError, match="`imports`"):
        _native.meter_module(module('(module (import "env" "f" (func)))'))
    _native.check_module(module(BANK))


def test_views_run_beside_blocks(chain: Chain) -> None:
    """Every answer is that of some finished block: the sum of both balances never changes."""
    stop = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not stop.is_set():
            data = chain.executor.evaluate(BOB.public_key, "bank", "balance", ALICE.address, 10**6)
            balance = int.from_bytes(types_pb2.Receipt.FromString(data).result, "little")
            if balance % 10:
                wrong.append(balance)

    reader = threading.Thread(target=read)
    reader.start()
    for height in range(20):
        sent = [
            transaction(ALICE, "transfer", transfer_args(BOB, 1), height * 10 + index)
            for index in range(10)
        ]
        assert set(statuses(chain.block(sent))) == {OK}
    stop.set()
    reader.join()
    assert wrong == []
