"""A reused contract instance: what an earlier call left in its memory reaches no later one."""

from __future__ import annotations

import struct

from wasmtime import wat2wasm

from chainnode._proto import types_pb2
from chainnode.types.codec import encode
from chainnode.types.transaction import Payload, PayloadKind, Transaction
from forks.four_nodes import FourNodes

OK = types_pb2.RECEIPT_STATUS_OK
TRAPPED = types_pb2.RECEIPT_STATUS_TRAPPED

GROWER = """(module
  (import "sc1" "ret" (func $ret (param i32 i32)))
  (memory (export "memory") 1 4)
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 100) "data")
  (func $dirty
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store (i32.const 0) (memory.grow (i32.const 2)))
    (i32.store (i32.const 4) (global.get $calls))
    (i32.store (i32.const 8) (i32.load (i32.const 70000)))
    (i32.store (i32.const 12) (i32.load (i32.const 500)))
    (i32.store (i32.const 16) (i32.load (i32.const 100)))
    (i32.store (i32.const 20) (memory.grow (i32.const 2)))
    (memory.fill (i32.const 100) (i32.const 7) (i32.const 80000)))
  (func (export "i:setup"))
  (func (export "c:grow") (call $dirty) (call $ret (i32.const 0) (i32.const 24)))
  (func (export "c:grow_and_trap") (call $dirty) unreachable))"""
FRESH = struct.pack("<iiii4si", 1, 1, 0, 0, b"data", -1)
"""One page at first, first call, zeros, the module's data, no more than four pages."""


def call(four: FourNodes, method: str, salt: int) -> Transaction:
    client = four.identity("bank-a/client")
    payload = Payload(
        chain_id=four.layout.chain_id,
        kind=PayloadKind.INVOKE,
        contract="grower",
        method=method,
        args=b"",
        sender=client.public_key,
        expiry_height=500,
        salt=salt.to_bytes(16, "big"),
    )
    return payload.sign(client)


def install(four: FourNodes) -> Transaction:
    admins = [four.identity(f"{name}/admin") for name in ("bank-a", "guarantor")]
    package = types_pb2.ContractPackage(
        name="grower", version="1", wasm=bytes(wat2wasm(GROWER)), abi=b"{}", source_hash=bytes(32)
    )
    payload = Payload(
        chain_id=four.layout.chain_id,
        kind=PayloadKind.CONTRACT_ADMIN,
        contract="",
        method="install",
        args=encode(package),
        sender=admins[0].public_key,
        expiry_height=500,
        gas_limit=10**8,
    )
    return payload.sign(admins[0]).endorse(admins[1].public_key, admins[1])


async def test_a_reused_instance_after_memory_grow_gives_what_a_fresh_one_gives(
    four: FourNodes,
) -> None:
    four.submit(install(four))
    (installed,) = await four.step()
    assert installed.status == OK, installed.message
    methods = ["grow", "grow", "grow_and_trap", "grow"]
    sent = [call(four, method, salt) for salt, method in enumerate(methods)]
    four.carry(*sent)
    found = await four.step(*(item.wid() for item in sent))
    assert [receipt.status for receipt in found] == [OK, OK, TRAPPED, OK]
    assert [receipt.result for receipt in found] == [FRESH, FRESH, b"", FRESH]
    assert len({receipt.gas_used for receipt in found if receipt.status == OK}) == 1

    # Two nodes with instances that grew, two that have never made one.
    for index in (2, 3):
        await four.stop(index)
        four.start(index)
    late = call(four, "grow", 99)
    four.carry(late)
    (receipt,) = await four.step(late.wid())
    assert (receipt.status, receipt.result) == (OK, FRESH)
