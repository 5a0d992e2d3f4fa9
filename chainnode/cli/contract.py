"""`chainnode contract build|deploy|call|query|abi`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from chainnode.cli.context import (
    DEFAULT_MEMBER,
    DEFAULT_NETWORK,
    Member,
    Network,
    identity_of,
    with_client,
)
from chainnode.cli.output import Format, reporting, say, show
from chainnode.cli.rendering import plain
from chainnode.contract import abi
from chainnode.contract.package import BuiltContract, build
from chainnode.contract.values import contract_address
from chainnode.sdk.client import AsyncClient
from chainnode.types.errors import ClientFault
from chainnode.types.receipt import Receipt

app = typer.Typer(help="Contracts: build, deploy, call, query.")

Source = Annotated[Path, typer.Argument(help="Contract folder or file.")]
Arguments = Annotated[
    list[str],
    typer.Option(
        "--arg",
        help="name=value; JSON values; @org/name for a member's address, @contract:name for a "
        "contract's.",
    ),
]
Output = Annotated[Format, typer.Option("-o")]


@app.command("build")
@reporting
def build_command(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Folder for .wasm and .abi.json.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Compile a contract to WebAssembly and print its hashes."""
    built = build(source)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{built.name}.wasm").write_bytes(built.wasm)
        (out / f"{built.name}.abi.json").write_bytes(built.abi_json)
    show(_built_fields(built), output)


@app.command()
@reporting
def deploy(
    source: Source,
    arg: Arguments = [],  # noqa: B006 - typer reads the default
    endorse: Annotated[
        list[str], typer.Option("--endorse", help="An admin of another organisation: org/name.")
    ] = [],  # noqa: B006
    upgrade: Annotated[bool, typer.Option(help="Replace the installed version.")] = False,
    name: Annotated[str, typer.Option(help="Name on chain; the contract's own if empty.")] = "",
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = "bank-a/admin",
    output: Output = Format.TABLE,
) -> None:
    """Build a contract and install it under several organisations' approval."""
    built = build(source)
    package = built.package_for(parse_arguments(arg, network))
    package.name = name or built.name
    endorsers = [identity_of(network, name) for name in endorse]
    action = "upgrade" if upgrade else "install"

    async def use(client: AsyncClient) -> tuple[Receipt, int]:
        receipt = await client.deploy(package, endorsers, action=action)
        return receipt, (await client.get_tx(receipt.tx_id)).height

    receipt, height = with_client(network, member, use)
    show(
        {
            "height": height,
            "tx_id": receipt.tx_id,
            **_built_fields(built),
            "contract": package.name,
        },
        output,
    )
    say(f"next: chainnode contract call {package.name} METHOD --arg name=value")


@app.command("call")
@reporting
def call_command(
    name: Annotated[str, typer.Argument(help="Contract.")],
    method: Annotated[str, typer.Argument(help="Method.")],
    arg: Arguments = [],  # noqa: B006
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """Call a method in a transaction and wait for its receipt."""
    values = parse_arguments(arg, network)

    async def use(client: AsyncClient) -> dict[str, Any]:
        handle = client.contract(name)
        receipt = await handle.submit(method, **values)
        described = await handle.abi()
        return {
            "height": (await client.get_tx(receipt.tx_id)).height,
            "tx_id": receipt.tx_id,
            "gas_used": receipt.gas_used,
            "result": plain(abi.decode_result(described, method, receipt.result)),
            "events": await _events(client, receipt, name),
        }

    show(with_client(network, member, use), output)


@app.command()
@reporting
def query(
    name: Annotated[str, typer.Argument(help="Contract.")],
    method: Annotated[str, typer.Argument(help="A view.")],
    arg: Arguments = [],  # noqa: B006
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """Run a view on one node; nothing is written."""
    values = parse_arguments(arg, network)

    async def use(client: AsyncClient) -> Any:
        return await client.contract(name).evaluate(method, **values)

    show({"result": plain(with_client(network, member, use))}, output)


@app.command("abi")
@reporting
def abi_command(
    name: Annotated[str, typer.Argument(help="Contract.")],
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """Print a deployed contract's ABI as JSON."""
    print(with_client(network, member, lambda client: client.get_contract(name)).abi.decode())


async def _events(client: AsyncClient, receipt: Receipt, name: str) -> list[dict[str, Any]]:
    """Events with their fields; those of other contracts that were called carry their name."""
    found = []
    for event in receipt.events:
        described = await client.contract(event.contract).abi()
        fields = plain(abi.decode_event(described, event.name, event.data))
        shown = event.name if event.contract == name else f"{event.contract}.{event.name}"
        found.append({shown: fields})
    return found


def parse_arguments(pairs: list[str], network: Path) -> dict[str, Any]:
    """`name=value` pairs as argument values.

    A value is JSON where it parses as JSON, a member's or a contract's address where it starts
    with @, else text.

    Raises:
        ClientFault: ARGUMENT_MALFORMED.
        ConfigError: IDENTITY_UNKNOWN.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise ClientFault(
                "ARGUMENT_MALFORMED",
                "An argument is written name=value.",
                subject=pair,
                fix="--arg amount=100",
            )
        values[name] = _value(text, network)
    return values


def _value(text: str, network: Path) -> Any:
    if text.startswith("@contract:"):
        return contract_address(text.removeprefix("@contract:"))
    if text.startswith("@"):
        return identity_of(network, text[1:]).address
    try:
        return json.loads(text)
    except ValueError:
        return text


def _built_fields(built: BuiltContract) -> dict[str, Any]:
    return {
        "contract": built.name,
        "version": built.version,
        "wasm_bytes": len(built.wasm),
        "source_sha256": built.source_sha256,
    }
