"""The native machine (wasmi, Rust) against wasmtime with a host ABI written once more in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from execution_chain import (
    ALICE,
    BANK,
    BOB,
    CHAIN_ID,
    GENESIS_TIME_MS,
    Chain,
    install,
    transaction,
    transfer_args,
)
from second_engine import Call, Machine, prices
from wasmtime import wat2wasm

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.contract import contract_address

PAILLIER = json.loads((Path(__file__).parents[1] / "vectors/paillier.json").read_text())[0]
CIPHERTEXTS = [bytes.fromhex(item["ciphertext"]) for item in PAILLIER["encryptions"]]


def paillier_args(length: int = 512, key: str = PAILLIER["public_key"]) -> bytes:
    """For `paillier`: how much of the first ciphertext to read, key, two ciphertexts."""
    return length.to_bytes(4, "little") + bytes.fromhex(key) + CIPHERTEXTS[3] + CIPHERTEXTS[4]


TOTAL, MOVED = 0, 8
READ, DELETE, PUT = 0, 32, 33


def bounded_args(*steps: tuple[int, int, int, int, int]) -> bytes:
    """For `bounded`: (key, form or what else to do, delta, least, most) of each step."""
    return b"".join(
        key.to_bytes(4, "little")
        + form.to_bytes(4, "little", signed=True)
        + b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
        for key, form, *numbers in steps
    )


def ask_args(flags: int, contract: str, method: str, gas: int, args: bytes) -> bytes:
    """For `ask`: whom to call, how."""
    head = bytes([flags, len(contract), len(method)]) + gas.to_bytes(8, "little")
    return head + contract.encode() + method.encode() + args


ENDS = {
    types_pb2.RECEIPT_STATUS_OK: "ok",
    types_pb2.RECEIPT_STATUS_OUT_OF_GAS: "gas",
    types_pb2.RECEIPT_STATUS_TRAPPED: "trap",
    types_pb2.RECEIPT_STATUS_REVERTED: "revert",
}
PREFIX = b"\x04\x04bank"
CALLS = [
    ("transfer", transfer_args(BOB, 30)),
    ("transfer", transfer_args(BOB, 5_000)),
    ("transfer", transfer_args(ALICE, 30)),
    ("fibonacci", (15).to_bytes(4, "little")),
    ("fibonacci", (300).to_bytes(4, "little")),
    ("memory", b""),
    ("counters", b""),
    ("scan", b""),
    ("trap", b""),
    ("outside", b""),
    ("spin", b""),
    ("transfer", b"short"),
    ("paillier", paillier_args()),
    ("paillier", paillier_args(511)),
    ("paillier", paillier_args(key="00" * 256)),
    ("paillier", paillier_args(10**6)),
    ("bounded", bounded_args((MOVED, 8, 5, 0, 9), (MOVED, 8, 5, 0, 9), (MOVED, 8, 4, 0, 9))),
    ("bounded", bounded_args((MOVED, 8, -9, 0, 9), (MOVED, 8, 1, 0, 9))),
    ("bounded", bounded_args((MOVED, 8, -3, -5, 9), (MOVED, READ, 0, 0, 0), (MOVED, 8, -9, 2, 9))),
    ("bounded", bounded_args((MOVED, -16, 1, 0, 9))),
    ("bounded", bounded_args((MOVED, 8, 1, 0, 9), (MOVED, -8, 1, 0, 9))),
    ("bounded", bounded_args((MOVED, DELETE, 0, 0, 0), (MOVED, 2, 4, 5, 9), (MOVED, 2, 5, 5, 9))),
    ("bounded", bounded_args((MOVED, 2, 60_000, 0, 2**40), (MOVED, 2, 60_000, 0, 2**40))),
    ("bounded", bounded_args((MOVED, DELETE, 0, 0, 0))),
    ("bounded", bounded_args((MOVED, -1, -128, -(2**60), 9), (MOVED, -1, -1, -(2**60), 9))),
    ("bounded", bounded_args((MOVED, PUT, 7, 0, 0), (MOVED, 8, 7, 0, 2**62), (MOVED, 1, 1, 0, 9))),
    ("bounded", bounded_args((TOTAL, -16, -2, -5, 2**62), (TOTAL, -16, 7, 5, 4))),
    ("bounded", bounded_args((TOTAL, 3, 1, 0, 9))),
    ("who", b""),
    *(
        ("ask", ask_args(flags, contract, method, gas, args))
        for contract, method, args in [
            ("clerk", "who", b""),
            ("clerk", "transfer", transfer_args(BOB, 30)),
            ("clerk", "counters", b""),
            ("clerk", "trap", b""),
            ("clerk", "spin", b""),
            ("clerk", "nothing", b""),
            ("nobody", "who", b""),
            ("bank", "who", b""),
            ("clerk", "ask", ask_args(1, "bank", "who", 0, b"")),
            ("clerk", "ask", ask_args(0, "nobody", "who", 0, b"")),
        ]
        for flags in (0, 1)
        for gas in ((0, 9_000) if method in {"transfer", "counters", "spin"} else (0,))
    ),
]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(_native.meter_module(bytes(wat2wasm(BANK))), ("bank", "clerk"))


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    clerk = install(1, name="clerk")
    assert [receipt.status for receipt in chain.run(install(), clerk)] == [1, 1]
    return chain


def compare(chain: Chain, machine: Machine, method: str, args: bytes, salt: int, gas: int) -> int:
    """Run one call in both; everything observable must be equal. Returns the gas used."""
    expiry = chain.height + 50
    sent = transaction(ALICE, method, args, salt, gas_limit=gas, expiry_height=expiry)
    call = Call(
        state=dict(chain.stored),
        prefix=PREFIX,
        fields=[
            ALICE.address,
            b"a",
            b"client",
            b"bank",
            _native.check_transaction(sent),
            CHAIN_ID.encode(),
            b"alice",
            b"",
            ALICE.address,
            bytes(contract_address("bank")),
        ],
        numbers=[chain.height + 1, GENESIS_TIME_MS + chain.height + 1],
        args=args,
    )
    end, gas_used = machine.run(f"c:{method}", call, gas)
    result = chain.block([sent])
    receipt = types_pb2.Receipt.FromString(result.receipts[0])
    ok = end == "ok"
    assert (ENDS[receipt.status], receipt.gas_used) == (end, gas_used)
    assert receipt.result == (call.result if ok else b"")
    events = [(event.name, event.data) for event in receipt.events]
    assert events == (call.events if ok else [])
    final = {key: call.value(key) for key in call.writes} if ok else {}
    net = {key: value for key, value in final.items() if call.state.get(key) != value}
    assert dict(result.writes) == net
    assert receipt.access_hash == call.access_hash(ok)
    return gas_used


def test_both_engines_agree_on_everything(chain: Chain, machine: Machine) -> None:
    for salt, (method, args) in enumerate([*CALLS, *CALLS]):
        compare(chain, machine, method, args, salt, 4_000_000 if method == "paillier" else 200_000)


@pytest.mark.parametrize("method", ["transfer", "memory", "counters", "scan", "ask", "bounded"])
def test_both_engines_stop_at_the_same_gas(chain: Chain, machine: Machine, method: str) -> None:
    args = transfer_args(BOB, 1)
    if method == "ask":
        args = ask_args(1, "clerk", "transfer", 0, args)
    if method == "bounded":
        args = bounded_args((MOVED, 8, 5, 0, 9), (MOVED, 8, 5, 0, 9))
    needed = compare(chain, machine, method, args, 1, 10**6)
    step = max(1, needed // 40)
    for salt, limit in enumerate([*range(0, needed, step), needed - 1, needed, needed + 1]):
        used = compare(chain, machine, method, args, 10 + salt, limit)
        assert used == min(limit, needed) or limit >= needed


def test_the_specification_prices_every_function() -> None:
    assert len(prices()) == 23
