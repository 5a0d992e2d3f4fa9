"""What the commands of `chainnode he` share: options, and the client that they ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from chainnode.cli.context import with_client
from chainnode.cli.output import Format
from chainnode.he.schema import TableSchema
from chainnode.sdk.bank import BankClient, BankKeys, OwnerSecret
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.council import key_profiles
from chainnode.sdk.query_progress import Watch
from chainnode.sdk.schema_file import load_schema
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.types.errors import ConfigError

Table = Annotated[str, typer.Option("--table", help="Name of the encrypted table.")]
Output = Annotated[Format, typer.Option("-o")]
Keys = Annotated[
    Path | None,
    typer.Option("--keys", help="Folder of the bank's keys; made at first use."),
]
Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", envvar="CHAINNODE_PASSPHRASE_FILE"),
]
Secret = Annotated[
    Path | None,
    typer.Option("--secret", help="Folder of the owner's secret; made at first use."),
]
Value = TypeVar("Value")
Schema = Annotated[Path, typer.Option("--schema", help="TOML schema file.")]
Profiles = Annotated[
    list[str],
    typer.Option(
        "--profile", help="Store every column in this profile too: M, for three and four factors."
    ),
]


def described_by(schema: Path, rows: int, profiles: list[str]) -> TableSchema:
    """A schema file's table, stored in further profiles too."""
    described = load_schema(schema, rows)
    if not profiles:
        return described
    added = [name for name in key_profiles(profiles) if name in profiles]
    every = described.stored_in(*added)
    every.validate()
    return every


def open_keys(
    network: Path, member: str, keys: Path | None, passphrase_file: Path | None
) -> BankKeys:
    """The keys that a bank receives answers with.

    Raises:
        ConfigError: `PASSPHRASE_MISSING` or `PASSPHRASE_WRONG`.
    """
    if passphrase_file is None or not passphrase_file.exists():
        raise ConfigError(
            "PASSPHRASE_MISSING",
            "The bank's keys are kept under a passphrase.",
            subject=str(passphrase_file or ""),
            fix="name a file that holds it: --passphrase-file FILE",
        )
    folder = keys or network / member.partition("/")[0] / "client"
    return BankKeys(folder, passphrase_file.read_bytes().strip())


def open_secret(
    network: Path, member: str, folder: Path | None, passphrase_file: Path | None
) -> OwnerSecret:
    """The secret of an owner's encryption."""
    passphrase = None if passphrase_file is None else passphrase_file.read_bytes().strip()
    return OwnerSecret(folder or network / member.partition("/")[0] / "client", passphrase)


def ask_bank(
    network: Path,
    member: str,
    use: Callable[[BankClient], Awaitable[Value]],
    keys: BankKeys | None = None,
    secret: OwnerSecret | None = None,
    timeout_s: float = 120.0,
    watch: Watch | None = None,
) -> Value:
    """Run one use of a member's client to its end; see `BankClient` for the rest."""

    async def with_bank(client: AsyncClient) -> Value:
        organisation = member.partition("/")[0]
        return await use(
            BankClient(SdkScoringChain(client), organisation, keys, timeout_s, secret, watch)
        )

    return with_client(network, member, with_bank)
