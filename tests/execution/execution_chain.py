"""A small chain in one process: members, signed transactions, a contract in WebAssembly text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import wasmtime
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.types.codec import encode

CHAIN_ID = "execution-test"
GENESIS_TIME_MS = 1_700_000_000_000

BANK = """(module
  (import "sc1" "input" (func $input (param i32 i32) (result i32)))
  (import "sc1" "ret" (func $ret (param i32 i32)))
  (import "sc1" "revert" (func $revert (param i32 i32 i32)))
  (import "sc1" "ctx_get" (func $ctx_get (param i32 i32 i32) (result i32)))
  (import "sc1" "ctx_i64" (func $ctx_i64 (param i32) (result i64)))
  (import "sc1" "db_get" (func $db_get (param i32 i32 i32 i32) (result i32)))
  (import "sc1" "db_has" (func $db_has (param i32 i32) (result i32)))
  (import "sc1" "db_put" (func $db_put (param i32 i32 i32 i32)))
  (import "sc1" "db_del" (func $db_del (param i32 i32)))
  (import "sc1" "db_add" (func $db_add (param i32 i32 i64 i64)))
  (import "sc1" "db_add_within" (func $db_add_within
    (param i32 i32 i32 i64 i64 i64 i64 i64 i64) (result i32)))
  (import "sc1" "db_read_sum" (func $db_read_sum (param i32 i32 i32)))
  (import "sc1" "db_scan" (func $db_scan (param i32 i32 i32 i32 i32) (result i32)))
  (import "sc1" "db_next" (func $db_next (param i32 i32 i32) (result i32)))
  (import "sc1" "db_close" (func $db_close (param i32)))
  (import "sc1" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "sc1" "hash" (func $hash (param i32 i32 i32 i32)))
  (import "sc1" "fetch" (func $fetch (param i32 i32) (result i32)))
  (import "sc1" "log" (func $log (param i32 i32 i32)))
  (import "sc1" "paillier_add"
    (func $paillier_add (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "sc1" "paillier_add_plain"
    (func $paillier_add_plain (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "sc1" "paillier_scalar_multiply"
    (func $paillier_scalar_multiply (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "sc1" "call" (func $call (param i32 i32 i32 i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1 4)
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 0) "total")
  (data (i32.const 8) "moved")
  (data (i32.const 16) "too little")
  (func $load (param $key i32) (result i64)
    (if (i32.lt_s (call $db_get (local.get $key) (i32.const 32) (i32.const 400) (i32.const 8))
        (i32.const 0)) (then (return (i64.const 0))))
    (i64.load (i32.const 400)))
  (func $store (param $key i32) (param $value i64)
    (i64.store (i32.const 400) (local.get $value))
    (call $db_put (local.get $key) (i32.const 32) (i32.const 400) (i32.const 8)))
  (func $fibonacci (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
      (else (i32.add (call $fibonacci (i32.sub (local.get 0) (i32.const 1)))
        (call $fibonacci (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "i:setup")
    (drop (call $input (i32.const 100) (i32.const 40)))
    (call $store (i32.const 100) (i64.load (i32.const 132)))
    (call $db_add (i32.const 0) (i32.const 5) (i64.load (i32.const 132)) (i64.const 0)))
  (func (export "c:transfer") (local $have i64) (local $amount i64)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (drop (call $ctx_get (i32.const 0) (i32.const 200) (i32.const 32)))
    (drop (call $input (i32.const 100) (i32.const 40)))
    (local.set $amount (i64.load (i32.const 132)))
    (local.set $have (call $load (i32.const 200)))
    (if (i64.lt_u (local.get $have) (local.get $amount))
      (then (call $revert (i32.const 3) (i32.const 16) (i32.const 10))))
    (call $store (i32.const 200) (i64.sub (local.get $have) (local.get $amount)))
    (call $store (i32.const 100) (i64.add (call $load (i32.const 100)) (local.get $amount)))
    (call $emit (i32.const 8) (i32.const 5) (i32.const 100) (i32.const 40))
    (i32.store (i32.const 600) (global.get $calls))
    (call $ret (i32.const 600) (i32.const 4)))
  (func (export "c:fibonacci")
    (drop (call $input (i32.const 100) (i32.const 4)))
    (i32.store (i32.const 100) (call $fibonacci (i32.load (i32.const 100))))
    (call $ret (i32.const 100) (i32.const 4)))
  (func (export "c:memory")
    (i32.store (i32.const 0) (memory.grow (i32.const 2)))
    (i32.store (i32.const 4) (memory.grow (i32.const 2)))
    (memory.fill (i32.const 70000) (i32.const 7) (i32.const 1000))
    (memory.copy (i32.const 8) (i32.const 70990) (i32.const 20))
    (call $ret (i32.const 0) (i32.const 28)))
  (func (export "c:counters")
    (call $db_add (i32.const 0) (i32.const 5) (i64.const -3) (i64.const -1))
    (call $db_read_sum (i32.const 0) (i32.const 5) (i32.const 700))
    (i64.store (i32.const 716) (call $ctx_i64 (i32.const 0)))
    (i64.store (i32.const 724) (call $ctx_i64 (i32.const 1)))
    (call $hash (i32.const 0) (i32.const 700) (i32.const 32) (i32.const 732))
    (call $log (i32.const 1) (i32.const 0) (i32.const 5))
    (call $ret (i32.const 700) (i32.const 64)))
  ;; Steps of 32 bytes: a key's address, form (0 reads, 32 deletes, 33 puts), delta, bounds.
  (func $sign (param i64) (result i64) (i64.shr_s (local.get 0) (i64.const 63)))
  (func (export "c:bounded") (local $at i32) (local $end i32) (local $key i32) (local $form i32)
    (local.set $at (i32.const 30000))
    (local.set $end
      (i32.add (i32.const 30000) (call $input (i32.const 30000) (i32.const 4096))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $key (i32.load (local.get $at)))
      (local.set $form (i32.load offset=4 (local.get $at)))
      (i32.store (local.get $at) (i32.const 7))
      (if (i32.eqz (local.get $form))
        (then (i32.store (local.get $at) (call $db_get (local.get $key) (i32.const 5)
          (i32.add (local.get $at) (i32.const 8)) (i32.const 16))))
        (else (if (i32.eq (local.get $form) (i32.const 32))
          (then (call $db_del (local.get $key) (i32.const 5)))
          (else (if (i32.eq (local.get $form) (i32.const 33))
            (then (call $db_put (local.get $key) (i32.const 5)
              (i32.add (local.get $at) (i32.const 8)) (i32.const 8)))
            (else (i32.store (local.get $at) (call $db_add_within (local.get $key) (i32.const 5)
              (local.get $form)
              (i64.load offset=8 (local.get $at)) (call $sign (i64.load offset=8 (local.get $at)))
              (i64.load offset=16 (local.get $at)) (call $sign (i64.load offset=16 (local.get $at)))
              (i64.load offset=24 (local.get $at)) (call $sign (i64.load offset=24 (local.get $at)))
              ))))))))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br $next)))
    (call $ret (i32.const 30000) (i32.sub (local.get $end) (i32.const 30000))))
  (func (export "c:scan") (local $handle i32) (local $out i32) (local $n i32)
    (local.set $out (i32.const 1000))
    (call $db_put (i32.const 8) (i32.const 5) (i32.const 16) (i32.const 10))
    (local.set $handle (call $db_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 1)))
    (block $done (loop $again
      (local.set $n (call $db_next (local.get $handle) (local.get $out) (i32.const 30)))
      (br_if $done (i32.lt_s (local.get $n) (i32.const 0)))
      (if (i32.gt_s (local.get $n) (i32.const 30))
        (then (drop (call $fetch (local.get $out) (i32.const 500)))))
      (local.set $out (i32.add (local.get $out) (local.get $n)))
      (br $again)))
    (call $db_close (local.get $handle))
    (call $db_del (i32.const 8) (i32.const 5))
    (i32.store (local.get $out) (call $db_has (i32.const 8) (i32.const 5)))
    (call $ret (i32.const 1000) (i32.sub (i32.add (local.get $out) (i32.const 4))
      (i32.const 1000))))
  (func (export "c:paillier") (local $n i32)
    (drop (call $input (i32.const 4000) (i32.const 4096)))
    (local.set $n (i32.load (i32.const 4000)))
    (i32.store (i32.const 9000) (call $paillier_add
      (i32.const 4004) (i32.const 256) (i32.const 4260) (local.get $n)
      (i32.const 4772) (i32.const 512) (i32.const 10000)))
    (i32.store (i32.const 9004) (call $paillier_add_plain
      (i32.const 4004) (i32.const 256) (i32.const 10000) (i32.const 512)
      (i64.const -5) (i64.const -1) (i32.const 10512)))
    (i32.store (i32.const 9008) (call $paillier_scalar_multiply
      (i32.const 4004) (i32.const 256) (i32.const 10512) (i32.const 512)
      (i64.const 77) (i64.const 3) (i32.const 11024)))
    (call $ret (i32.const 9000) (i32.const 2600)))
  ;; Flags, length of a contract's name, of a method's, gas in 8 bytes, names, arguments.
  (func (export "c:ask") (local $n i32) (local $name i32) (local $method i32) (local $at i32)
    (call $db_put (i32.const 8) (i32.const 5) (i32.const 0) (i32.const 3))
    (local.set $n (call $input (i32.const 30000) (i32.const 4096)))
    (local.set $name (i32.load8_u (i32.const 30001)))
    (local.set $method (i32.load8_u (i32.const 30002)))
    (local.set $at (i32.add (i32.const 30011) (local.get $name)))
    (i32.store (i32.const 40000) (call $call (i32.const 30011) (local.get $name)
      (local.get $at) (local.get $method) (i32.add (local.get $at) (local.get $method))
      (i32.sub (local.get $n)
        (i32.add (i32.const 11) (i32.add (local.get $name) (local.get $method))))
      (i64.load (i32.const 30003)) (i32.load8_u (i32.const 30000))))
    (call $emit (i32.const 0) (i32.const 5) (i32.const 40000) (i32.const 4))
    (local.set $n (call $fetch (i32.const 40004) (i32.const 4096)))
    (call $ret (i32.const 40000) (i32.add (local.get $n) (i32.const 4))))
  (func (export "c:who") (local $at i32) (local $field i32) (local $n i32)
    (local.set $at (i32.const 50000))
    (loop $next
      (local.set $n (call $ctx_get (local.get $field) (local.get $at) (i32.const 100)))
      (local.set $at (i32.add (local.get $at) (local.get $n)))
      (local.set $field (i32.add (local.get $field) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $field) (i32.const 10))))
    (call $ret (i32.const 50000) (i32.sub (local.get $at) (i32.const 50000))))
  (func (export "c:trap") (drop (i32.div_u (i32.const 1) (i32.const 0))))
  (func (export "c:outside") (call $ret (i32.const 65530) (i32.const 7)))
  (func (export "c:spin") (loop $again (br $again)))
  (func (export "v:balance")
    (drop (call $input (i32.const 100) (i32.const 32)))
    (drop (call $load (i32.const 100)))
    (call $ret (i32.const 400) (i32.const 8))))"""


class Person:
    """A member who can sign."""

    def __init__(self, name: str, organisation: str, role: types_pb2.Role) -> None:
        seed = hashlib.sha256(f"{organisation}/{name}".encode()).digest()
        self.key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self.key.public_key().public_bytes_raw()
        self.address = _native.address(self.public_key)
        self.name, self.organisation, self.role = name, organisation, role

    def member(self) -> types_pb2.Member:
        return types_pb2.Member(
            public_key=self.public_key,
            organisation=self.organisation,
            role=self.role,
            name=self.name,
            status=types_pb2.MEMBER_STATUS_ACTIVE,
            not_after_ms=2 * GENESIS_TIME_MS,
        )


ADMINS = [Person("admin", organisation, types_pb2.ROLE_ADMIN) for organisation in "abc"]
ALICE = Person("alice", "a", types_pb2.ROLE_CLIENT)
BOB = Person("bob", "b", types_pb2.ROLE_CLIENT)


def genesis() -> bytes:
    config = types_pb2.ChainConfig(chain_id=CHAIN_ID, expiry_window=100, gas_limit_max=10**9)
    message = types_pb2.Genesis(
        config=config,
        genesis_time_ms=GENESIS_TIME_MS,
        organisations=[types_pb2.Organisation(id=name) for name in "abc"],
        members=[person.member() for person in [*ADMINS, ALICE, BOB]],
    )
    return encode(message)


def transaction(
    sender: Person,
    method: str,
    args: bytes,
    salt: int,
    *,
    kind: types_pb2.PayloadKind = types_pb2.PAYLOAD_KIND_INVOKE,
    endorsers: Sequence[Person] = (),
    gas_limit: int = 10**8,
    expiry_height: int = 50,
    forge: bool = False,
) -> bytes:
    payload = types_pb2.Payload(
        chain_id=CHAIN_ID,
        kind=kind,
        contract="bank" if kind == types_pb2.PAYLOAD_KIND_INVOKE else "",
        method=method,
        args=args,
        sender=sender.public_key,
        salt=salt.to_bytes(16, "big"),
        expiry_height=expiry_height,
        gas_limit=gas_limit,
    )
    tx_id = _native.tx_id(encode(payload))
    signer = BOB if forge else sender
    endorsements = [
        types_pb2.Endorsement(
            endorser=person.public_key,
            signature=person.key.sign(b"chainnode/endorse/v1" + tx_id),
        )
        for person in sorted(endorsers, key=lambda person: person.public_key)
    ]
    signature = signer.key.sign(b"chainnode/tx/v1" + tx_id)
    return encode(
        types_pb2.Transaction(payload=payload, signature=signature, endorsements=endorsements)
    )


def install(
    salt: int = 0, text: str = BANK, init_args: bytes | None = None, name: str = "bank"
) -> bytes:
    package = types_pb2.ContractPackage(
        name=name,
        version="1",
        wasm=bytes(wasmtime.wat2wasm(text)),
        abi=b"{}",
        init_args=transfer_args(ALICE, 1_000) if init_args is None else init_args,
    )
    return transaction(
        ADMINS[0],
        "install",
        encode(package),
        salt,
        kind=types_pb2.PAYLOAD_KIND_CONTRACT_ADMIN,
        endorsers=[ADMINS[1]],
    )


def transfer_args(to: Person, amount: int) -> bytes:
    return to.address + amount.to_bytes(8, "little")


class Chain:
    """An executor with a height."""

    def __init__(self) -> None:
        self.executor = _native.Executor(CHAIN_ID)
        self.stored: dict[bytes, bytes] = {}
        self.height = 0
        self.keep(self.executor.genesis(genesis()))

    def keep(self, result: _native.BlockResult) -> None:
        for key, value in result.writes:
            if value is None:
                del self.stored[key]
            else:
                self.stored[key] = value

    def block(self, transactions: Sequence[bytes], verified: int = 0) -> _native.BlockResult:
        self.height += 1
        context = types_pb2.BlockContext(
            height=self.height, timestamp_ms=GENESIS_TIME_MS + self.height
        )
        batch = types_pb2.TransactionBatch(transactions=transactions)
        result = self.executor.execute_block(
            encode(context), encode(batch), bytes([verified]) * len(transactions)
        )
        self.keep(result)
        return result

    def run(self, *transactions: bytes) -> list[types_pb2.Receipt]:
        return receipts(self.block(transactions))


def receipts(result: _native.BlockResult) -> list[types_pb2.Receipt]:
    return [types_pb2.Receipt.FromString(receipt) for receipt in result.receipts]
