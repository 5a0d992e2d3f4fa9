"""From a contract's folder to what is installed on chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainnode._proto import types_pb2
from chainnode.contract import abi
from chainnode.contract.compiler import compile_path
from chainnode.types.codec import encode
from chainnode.types.errors import ClientFault
from chainnode.types.limits import CONTRACT_CODE_SIZE_MAX_BYTES


@dataclass(frozen=True, slots=True)
class BuiltContract:
    """A compiled contract with everything the chain keeps about it.

    Args:
        wasm: the module the nodes run.
        abi_json: canonical JSON.
        source_sha256: of the source, hexadecimal; see docs/reference/contract-language.md.
    """

    name: str
    version: str
    wasm: bytes
    abi_json: bytes
    source_sha256: str

    def package(self, init_args: bytes = b"") -> bytes:
        """Return the canonical `ContractPackage` that an install or upgrade carries.

        Args:
            init_args: encoded arguments of the `@init` method, see `abi.encode_args`.
        """
        return encode(self._package(init_args))

    def package_for(self, arguments: Mapping[str, Any]) -> types_pb2.ContractPackage:
        """Return the package that an administrator signs, see `AsyncClient.deploy`.

        Args:
            arguments: of the `@init` method by name; not looked at if the contract has none.

        Raises:
            ClientFault: `INVALID_ARGUMENTS`.
        """
        parsed = abi.Abi.parse(self.abi_json)
        start = next((item.name for item in parsed.methods.values() if item.kind == "init"), None)
        return self._package(b"" if start is None else abi.encode_args(parsed, start, arguments))

    def _package(self, init_args: bytes) -> types_pb2.ContractPackage:
        return types_pb2.ContractPackage(
            name=self.name,
            version=self.version,
            wasm=self.wasm,
            abi=self.abi_json,
            source_hash=bytes.fromhex(self.source_sha256),
            init_args=init_args,
        )

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `<name>.wasm` and `<name>.abi.json`; return their paths."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        code, described = target / f"{self.name}.wasm", target / f"{self.name}.abi.json"
        code.write_bytes(self.wasm)
        described.write_bytes(self.abi_json)
        return code, described


def build(source: str | Path) -> BuiltContract:
    """Compile a contract.

    Args:
        source: a Python file, or a folder with `contract.py`.

    Raises:
        ClientFault: `CONTRACT_NOT_FOUND`, `CONTRACT_TOO_LARGE`; `CONTRACT_SOURCE` (CompileError)
            lists what the source does wrong, with places and hints.
    """
    compiled = compile_path(source)
    if len(compiled.wasm) > CONTRACT_CODE_SIZE_MAX_BYTES:
        raise ClientFault(
            "CONTRACT_TOO_LARGE",
            f"{len(compiled.wasm)} bytes of code exceed {CONTRACT_CODE_SIZE_MAX_BYTES}",
            subject=compiled.name,
            fix="split the contract",
        )
    return BuiltContract(
        compiled.name, compiled.version, compiled.wasm, compiled.abi, compiled.source_sha256.hex()
    )
