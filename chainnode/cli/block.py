"""`chainnode block get` and `chainnode block graph`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chainnode._proto import types_pb2
from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network, with_client
from chainnode.cli.graph_rendering import dot, graph_fields, hot_key_rows, summary_fields
from chainnode.cli.output import Format, reporting, say, show, show_rows
from chainnode.cli.rendering import block_fields
from chainnode.sdk.client import AsyncClient

app = typer.Typer(help="Blocks.")


@app.callback()
def blocks() -> None:
    """Read blocks."""


@app.command()
@reporting
def get(
    height: Annotated[int, typer.Argument(min=0, help="0 for the latest.")] = 0,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Annotated[Format, typer.Option("-o")] = Format.TABLE,
) -> None:
    """Show one block: header, certificate, transactions and their outcomes."""
    show(block_fields(with_client(network, member, lambda c: c.get_block(height))), output)


@app.command()
@reporting
def graph(
    height: Annotated[int, typer.Argument(min=0, help="0 for the latest.")] = 0,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    as_json: Annotated[bool, typer.Option("--json", help="The whole graph.")] = False,
    as_dot: Annotated[bool, typer.Option("--dot", help="The whole graph for Graphviz.")] = False,
) -> None:
    """Show who waits for whom in one of the last blocks: T1, T-infinity, hottest keys.

    Weights are gas. Nodes keep the graphs of a few hundred blocks, since they last started.
    """
    if not (as_json or as_dot):
        summary = with_client(network, member, lambda c: c.block_graph(height, summary_only=True))
        show(summary_fields(summary), Format.TABLE)
        show_rows(hot_key_rows(summary), Format.TABLE)
        return

    async def read(client: AsyncClient) -> tuple[types_pb2.BlockGraph, list[bytes]]:
        whole = await client.block_graph(height)
        return whole, list((await client.get_block(whole.height)).tx_ids)

    whole, tx_ids = with_client(network, member, read)
    if whole.truncated:
        say("truncated: edges of later transactions are left out")
    if as_json:
        print(json.dumps(graph_fields(whole, tx_ids)))
    else:
        print("\n".join(dot(whole, tx_ids)))
