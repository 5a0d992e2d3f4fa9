"""Write the first inputs of every fuzz target into `fuzz/corpus`, from what the tree holds.

Messages with every field filled and with each one missing, the genesis of a testnet, the shipped
contracts and the hand-made modules of the rules' tests. The targets that take structured input
start from pseudo-random bytes, the same ones each time.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wasmtime

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chainnode._proto import types_pb2  # noqa: E402
from chainnode.contract.package import build  # noqa: E402
from chainnode.node.testnet import prepare  # noqa: E402

CORPUS = ROOT / "fuzz" / "corpus"
# In the order of fuzz_targets/messages.rs.
MESSAGES = (
    "Transaction",
    "Block",
    "BlockHeader",
    "Proposal",
    "Vote",
    "CommitCertificate",
    "Evidence",
    "TransactionBatch",
    "Receipt",
    "ReceiptProof",
    "Genesis",
    "ChainConfig",
    "Member",
    "MemberChange",
    "ContractPackage",
    "ContractRecord",
    "BlockContext",
    "ResultStep",
    "Payload",
    "Organisation",
)
MEMORY = '(memory (export "memory") 1)'
STRUCTURED = ("proofs", "he_bytes", "he_columns", "paillier", "ceremony")
SIZES_BYTES = (16, 64, 300, 1_000)


def sample(descriptor: Any, number: int, depth: int = 0) -> Any:
    """A message with every field set; keys and signatures have their true lengths."""
    message = getattr(types_pb2, descriptor.name)()
    for field in descriptor.fields:
        many = field.is_repeated
        if field.message_type is not None:
            if depth < 4:
                inner = sample(field.message_type, number + 1, depth + 1)
                target = getattr(message, field.name)
                target.append(inner) if many else target.CopyFrom(inner)
            continue
        value: Any
        if field.type == field.TYPE_BYTES:
            size = 64 if "signature" in field.name else 16 if field.name == "salt" else 32
            value = bytes([number + field.number]) * size
        elif field.type == field.TYPE_STRING:
            value = f"name-{number}"
        else:
            value = 1
        if field.name == "payer":
            continue
        if many:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def messages() -> Iterator[bytes]:
    """Each message whole, and without each of its fields."""
    for choice, name in enumerate(MESSAGES):
        descriptor = types_pb2.DESCRIPTOR.message_types_by_name[name]
        whole = sample(descriptor, choice)
        yield bytes([choice]) + whole.SerializeToString(deterministic=True)
        for field in descriptor.fields:
            less = type(whole)()
            less.CopyFrom(whole)
            less.ClearField(field.name)
            yield bytes([choice]) + less.SerializeToString(deterministic=True)
    with tempfile.TemporaryDirectory() as folder:
        genesis = prepare(Path(folder), 1, 4, 20_000).genesis
        yield bytes([MESSAGES.index("Genesis")]) + genesis.read_bytes()


def modules() -> Iterator[bytes]:
    """The shipped contracts, and what the rules' own tests refuse and admit."""
    for source in sorted((ROOT / "contracts").iterdir()):
        if (source / "contract.py").exists():
            yield build(source).wasm
    for path in sorted((ROOT / "crates" / "chain-vm" / "tests").glob("*.rs")):
        for text in re.findall(r'r#"(\(.*?)"#', path.read_text("utf-8"), re.DOTALL):
            whole = text if text.startswith("(module") else f"(module {MEMORY} {text})"
            try:
                yield bytes(wasmtime.wat2wasm(whole.replace("{memory}", MEMORY)))
            except wasmtime.WasmtimeError:
                # A fragment that the test completes in another way.
                continue


def random_bytes(name: str) -> Iterator[bytes]:
    """Inputs of several sizes for a target that takes structured input."""
    for size in SIZES_BYTES:
        for number in range(8):
            seed = f"{name}/{size}/{number}".encode()
            yield hashlib.shake_256(seed).digest(size)


def main() -> None:
    """Write every corpus; what a run has found stays."""
    made = {"messages": list(messages()), "module": list(modules())}
    made |= {name: list(random_bytes(name)) for name in STRUCTURED}
    for name, inputs in made.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for data in inputs:
            (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
        print(f"{name}: {len(inputs)} seeds")


if __name__ == "__main__":
    main()
