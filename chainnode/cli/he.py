"""`chainnode he ...`: the processes beside a node, and a bank's questions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli import he_access, he_audits, he_models, he_questions, he_replay
from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network
from chainnode.cli.he_options import (
    Output,
    Passphrase,
    Profiles,
    Schema,
    Secret,
    Table,
    ask_bank,
    described_by,
    open_secret,
)
from chainnode.cli.output import Format, progress_bar, reporting, show, show_rows
from chainnode.sdk.council import EpochState, read_epoch, vote_rotation
from chainnode.sdk.ingest import align
from chainnode.sdk.openings import CHOSEN_BLOCKS, OpeningsFile
from chainnode.sdk.sealed_files import replace_private
from chainnode.sdk.source_table import read_source
from chainnode.sdk.supervisor import supervise

app = typer.Typer(help="Encrypted queries: worker, keyholder, questions.")
app.add_typer(he_questions.app)
app.add_typer(he_models.app)
app.add_typer(he_access.app)
app.add_typer(he_replay.app)
app.add_typer(he_audits.app)

Config = Annotated[Path, typer.Option("--config", help="The process's TOML file.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Keep the data here, not where the file says.")
]
Count = Annotated[int, typer.Option("--count", min=1, help="Blocks of each profile.")]
FromHeight = Annotated[
    int, typer.Option("--from-height", min=1, help="Where to begin to look for the publication.")
]


@app.command()
@reporting
def worker(config: Config, data_dir: DataDir = None) -> None:
    """Run an HE worker until SIGTERM; one that ends or hangs is started again."""
    sys.exit(supervise("chainnode.worker.main", config, data_dir))


@app.command()
@reporting
def keyholder(config: Config, data_dir: DataDir = None) -> None:
    """Run a keyholder until SIGTERM; one that ends or hangs is started again."""
    sys.exit(supervise("chainnode.keyholder.main", config, data_dir))


@app.command()
@reporting
def council(
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """Show the key council's latest epoch: its members, threshold and profiles."""
    _show_epoch(ask_bank(network, member, lambda bank: read_epoch(bank.chain)), output)


@app.command()
@reporting
def rotate(
    profiles: Annotated[
        list[str],
        typer.Option("--profile", help="Beside S and S36: M. Not given: those there are."),
    ] = [],  # noqa: B006
    organisations: Annotated[
        list[str], typer.Option("--organisation", help="Of the new council. Not given: as it is.")
    ] = [],  # noqa: B006
    threshold: Annotated[
        int, typer.Option("--threshold", min=0, help="How many open. 0: as it is.")
    ] = 0,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = "bank-a/admin",
    output: Output = Format.TABLE,
) -> None:
    """Vote, as an admin, for a new key epoch; a majority of the council's admins begins it."""
    voted = ask_bank(
        network, member, lambda bank: vote_rotation(bank.chain, profiles, organisations, threshold)
    )
    _show_epoch(voted, output)


def _show_epoch(state: EpochState, output: Format) -> None:
    show(
        {
            "epoch": state.epoch,
            "status": state.status,
            "organisations": " ".join(state.organisations),
            "threshold": state.threshold,
            "profiles": " ".join(state.profiles),
        },
        output,
    )


@app.command()
@reporting
def ingest(
    source: Annotated[Path, typer.Argument(help="CSV or Parquet file with the id column.")],
    table: Table,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Progress file; SOURCE.journal if not given.")
    ] = None,
    secret: Secret = None,
    passphrase_file: Passphrase = None,
) -> None:
    """Encrypt and publish this organisation's columns; run again to go on after an interruption."""
    rows = read_source(source)
    kept = journal or source.with_name(source.name + ".journal")
    own = open_secret(network, member, secret, passphrase_file)
    with progress_bar("blocks") as advance:
        count = ask_bank(
            network, member, lambda bank: bank.ingest(table, rows, advance, kept), secret=own
        )
    print(f"{count} rows of {source} are published in {table}")


@app.command("open")
@reporting
def open_chosen(
    source: Annotated[Path, typer.Argument(help="The file that was ingested.")],
    table: Table,
    to: Annotated[Path, typer.Option("--to", help="Receives the openings: plaintext, mode 0600.")],
    count: Count = CHOSEN_BLOCKS,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    secret: Secret = None,
    passphrase_file: Passphrase = None,
    from_height: FromHeight = 1,
) -> None:
    """Open the blocks of this organisation's columns that the chain chooses, for an auditor."""
    rows = read_source(source)
    own = open_secret(network, member, secret, passphrase_file)
    opened = ask_bank(
        network, member, lambda bank: bank.open_chosen(table, rows, count, from_height), secret=own
    )
    replace_private(to, OpeningsFile(opened).encode())
    blocks = sum(map(len, opened.values()))
    print(f"{blocks} blocks of {table} are open in {to}; it holds plaintext rows")


@app.command("verify-openings")
@reporting
def verify_openings(
    file: Annotated[Path, typer.Argument(help="From `chainnode he open`.")],
    table: Table,
    owner: Annotated[str, typer.Option("--owner", help="Organisation that is audited.")],
    count: Count = CHOSEN_BLOCKS,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    from_height: FromHeight = 1,
    record: Annotated[bool, typer.Option("--record", help="Say on chain what was found.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Check an owner's openings: the blocks the chain chooses are encrypted again and compared."""
    opened = OpeningsFile.decode(file.read_bytes()).profiles
    passed = ask_bank(
        network,
        member,
        lambda bank: bank.audit_blocks(table, owner, opened, count, from_height, record),
    )
    show_rows(
        [
            {
                "owner": owner,
                "profile": profile,
                "column": name,
                "block": block,
                "outcome": "honest",
            }
            for profile, places in passed.items()
            for name, block in places
        ],
        output,
    )


@app.command()
@reporting
def check(
    source: Annotated[Path, typer.Argument(help="CSV or Parquet file with the id column.")],
    schema: Schema,
    owner: Annotated[str, typer.Option("--owner", help="Organisation whose columns to check.")],
    profiles: Profiles = [],  # noqa: B006
) -> None:
    """Check a table against a schema file without a network; names every bad cell."""
    rows = read_source(source)
    described = described_by(schema, rows.row_count(), profiles)
    ids = [str(cell) for cell in rows.column(described.id_column)]
    align(rows, described, owner, ids)
    print(f"{source}: {rows.row_count()} rows fit {schema}")


@app.command("create-table")
@reporting
def create_table(
    schema: Annotated[Path, typer.Argument(help="TOML schema file.")],
    ids: Annotated[Path, typer.Option("--ids", help="CSV or Parquet file with the id column.")],
    minimum_group: Annotated[int, typer.Option("--minimum-group", min=1)] = 10,
    profiles: Profiles = [],  # noqa: B006
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """Publish a table's schema and the registry of its enterprises."""
    registry = read_source(ids)
    described = described_by(schema, registry.row_count(), profiles)
    names = [str(cell) for cell in registry.column(described.id_column)]
    ask_bank(
        network,
        member,
        lambda bank: bank.create_table(described, names, minimum_group, described.owners()),
    )
    print(f"{described.table}: {len(names)} enterprises, schema {described.hash().hex()}")
