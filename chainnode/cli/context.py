"""Which network and whose identity a command uses: `--network DIR` and `--as ORG/NAME`.

`testnet up` writes `testnet.json` into the network's folder; with several machines an operator
writes the same file by hand (endpoints, genesis, identity folders).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from chainnode.identity import Identity, load_identity
from chainnode.sdk.client import AsyncClient
from chainnode.types.errors import ConfigError

DEFAULT_NETWORK = ".chainnode/testnet"
DEFAULT_MEMBER = "bank-a/client"

Network = Annotated[
    Path,
    typer.Option(
        "--network", "-n", envvar="CHAINNODE_NETWORK", help="Folder that holds testnet.json."
    ),
]
Member = Annotated[
    str, typer.Option("--as", envvar="CHAINNODE_MEMBER", help="Identity: organisation/name.")
]

Value = TypeVar("Value")


def description(network: Path) -> dict[str, Any]:
    """The network's machine-readable description.

    Raises:
        ConfigError: NETWORK_UNKNOWN when the folder holds none.
    """
    path = network / "testnet.json"
    try:
        loaded: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            "NETWORK_UNKNOWN",
            "There is no network description here.",
            subject=str(path),
            fix="chainnode testnet up, or name the folder with --network",
        ) from None
    return loaded


def identity_of(network: Path, member: str) -> Identity:
    """The identity called `member` in a network.

    Raises:
        ConfigError: IDENTITY_UNKNOWN naming the identities there are.
    """
    known: dict[str, str] = description(network)["identities"]
    if member not in known:
        raise ConfigError(
            "IDENTITY_UNKNOWN",
            f"There is no identity {member} in this network.",
            subject=str(network),
            fix=f"use one of: {', '.join(sorted(known))}",
        )
    return load_identity(Path(known[member]))


def with_client(
    network: Path, member: str, use: Callable[[AsyncClient], Awaitable[Value]]
) -> Value:
    """Run one asynchronous use of a client to its end."""

    async def session() -> Value:
        described = description(network)
        connected = AsyncClient(
            [node["grpc"] for node in described["nodes"]],
            identity_of(network, member),
            Path(described["genesis"]),
        )
        async with connected:
            return await use(connected)

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return asyncio.run(session())
