"""`chainnode he ...`: the processes beside a node, and a bank's questions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_bytes
from typing import Annotated, TypeVar

import typer

from chainnode.cli.context import (
    DEFAULT_MEMBER,
    DEFAULT_NETWORK,
    Member,
    Network,
    with_client,
)
from chainnode.cli.output import Format, progress_bar, reporting, show, show_rows
from chainnode.he.answer import shown
from chainnode.he.private_points import (
    SECRET_SIZE_BYTES,
    Model,
    PrivateScorecard,
    decode_model,
)
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.he.sql import explain as explain_plan
from chainnode.sdk.bank import BankClient, BankKeys, OwnerSecret
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.council import EpochState, key_profiles, read_epoch, vote_rotation
from chainnode.sdk.fitting import fit_scorecard, outcomes
from chainnode.sdk.ingest import align
from chainnode.sdk.openings import CHOSEN_BLOCKS, OpeningsFile
from chainnode.sdk.schema_file import load_schema
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.sdk.sealed_files import read_or_write, replace_private
from chainnode.sdk.source_table import read_source
from chainnode.types.errors import ConfigError

app = typer.Typer(help="Encrypted queries: worker, keyholder, questions.")

Config = Annotated[Path, typer.Option("--config", help="The process's TOML file.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Keep the data here, not where the file says.")
]
Table = Annotated[str, typer.Option("--table", help="Name of the encrypted table.")]
Sql = Annotated[str, typer.Argument(help="One SELECT.")]
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
PointsSecret = Annotated[
    Path | None,
    typer.Option(
        "--points-secret",
        help="Randomness of private points; made at first use. Not given: beside the record.",
    ),
]
Count = Annotated[int, typer.Option("--count", min=1, help="Blocks of each profile.")]
FromHeight = Annotated[
    int, typer.Option("--from-height", min=1, help="Where to begin to look for the publication.")
]
Value = TypeVar("Value")


@app.command()
@reporting
def worker(config: Config, data_dir: DataDir = None) -> None:
    """Run an HE worker in the foreground until SIGTERM."""
    from chainnode.worker.main import run

    run(config, data_dir)


@app.command()
@reporting
def keyholder(config: Config, data_dir: DataDir = None) -> None:
    """Run a keyholder in the foreground until SIGTERM."""
    from chainnode.keyholder.main import run

    run(config, data_dir)


@app.command()
@reporting
def council(
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """Show the key council's latest epoch: its members, threshold and profiles."""
    _show_epoch(_ask(network, member, lambda bank: read_epoch(bank.chain)), output)


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
    voted = _ask(
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
def explain(
    sql: Sql,
    table: Table,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """Show a query's plan, cost and noise, or why it is refused; costs no budget."""
    print(explain_plan(_ask(network, member, lambda bank: bank.plan(table, sql))))


@app.command()
@reporting
def query(
    sql: Sql,
    table: Table,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    keys: Keys = None,
    passphrase_file: Passphrase = None,
    output: Output = Format.TABLE,
) -> None:
    """Ask for aggregates over encrypted columns."""
    opened = _keys(network, member, keys, passphrase_file)
    rows = _ask(network, member, lambda bank: bank.query(table, sql), opened)
    show_rows(
        [
            {
                **dict(zip(row.names, map(shown, row.values), strict=True)),
                **({"refused": row.refused} if row.refused else {}),
            }
            for row in rows
        ],
        output,
    )


Ids = Annotated[list[str], typer.Option("--id", help="Only these enterprises.")]


@app.command()
@reporting
def score(
    model: Annotated[str, typer.Argument(help="Scorecard.")],
    table: Table,
    ids: Ids = [],  # noqa: B006
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    keys: Keys = None,
    passphrase_file: Passphrase = None,
    output: Output = Format.TABLE,
) -> None:
    """Score the enterprises that consent to this bank."""
    opened = _keys(network, member, keys, passphrase_file)
    scores = _ask(network, member, lambda bank: bank.score(table, model, ids or None), opened)
    show(scores, output)


@app.command()
@reporting
def audit(
    query_id: Annotated[str, typer.Argument(help="64 hexadecimal digits.")],
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """List a query's recorded steps with block and transaction."""
    wanted = bytes.fromhex(query_id)
    steps = _ask(network, member, lambda bank: bank.audit_trail(wanted))
    show_rows(
        [
            {
                "height": step.height,
                "tx_id": step.tx_id,
                "step": step.step,
                "organisation": step.organisation,
                "detail": step.detail,
            }
            for step in steps
        ],
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
    own = _secret(network, member, secret, passphrase_file)
    with progress_bar("blocks") as advance:
        count = _ask(
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
    own = _secret(network, member, secret, passphrase_file)
    opened = _ask(
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
    output: Output = Format.TABLE,
) -> None:
    """Check an owner's openings: the blocks the chain chooses are encrypted again and compared."""
    opened = OpeningsFile.decode(file.read_bytes()).profiles
    passed = _ask(
        network, member, lambda bank: bank.audit_blocks(table, owner, opened, count, from_height)
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


Schema = Annotated[Path, typer.Option("--schema", help="TOML schema file.")]
Profiles = Annotated[
    list[str],
    typer.Option(
        "--profile", help="Store every column in this profile too: M, for three and four factors."
    ),
]


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
    described = _described(schema, rows.row_count(), profiles)
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
    described = _described(schema, registry.row_count(), profiles)
    names = [str(cell) for cell in registry.column(described.id_column)]
    _ask(
        network,
        member,
        lambda bank: bank.create_table(described, names, minimum_group, described.owners()),
    )
    print(f"{described.table}: {len(names)} enterprises, schema {described.hash().hex()}")


@app.command()
@reporting
def fit(
    source: Annotated[Path, typer.Argument(help="History with outcomes: CSV or Parquet.")],
    schema: Schema,
    target: Annotated[str, typer.Option("--target", help="Column that is 1 where it went bad.")],
    rows: Annotated[int, typer.Option("--rows", help="Enterprises in the encrypted table.")],
    name: Annotated[str, typer.Option("--name", help="For CREDIT_SCORE('name').")],
    to: Annotated[Path, typer.Option("--to", help="Receives the scorecard.")],
    profiles: Profiles = [],  # noqa: B006
) -> None:
    """Fit an integer scorecard on the schema's bins with scikit-learn."""
    history = read_source(source)
    described = _described(schema, rows, profiles)
    cells = {
        column.name: history.column(column.name)
        for column in described.columns
        if column.encoding is not None and column.name in history.columns
    }
    bad = outcomes(history, target)
    model = fit_scorecard(described, cells, bad, name, tuple(cells))
    to.write_bytes(model.encode())
    print(model.explain(described))


def _described(schema: Path, rows: int, profiles: list[str]) -> TableSchema:
    described = load_schema(schema, rows)
    if not profiles:
        return described
    added = [name for name in key_profiles(profiles) if name in profiles]
    every = described.stored_in(*added)
    every.validate()
    return every


@app.command("approve-model")
@reporting
def approve_model(
    model: Annotated[Path, typer.Argument(help="A scorecard, or a record of private points.")],
    table: Table,
    private_points: Annotated[
        Path | None,
        typer.Option(
            "--private-points",
            help="Encrypt the points first; the public record, for other owners, is written here.",
        ),
    ] = None,
    points_secret: PointsSecret = None,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """Register or confirm a model, as an owner of the table; `--private-points` encrypts points."""
    named = decode_model(model.read_bytes())

    async def approve(bank: BankClient) -> Model:
        approved = named
        if private_points is not None:
            card = _scorecard(model, named)
            secret = _points_secret(private_points, points_secret)
            approved = await bank.encrypt_model(table, card, secret)
            replace_private(private_points, approved.encode())
        await bank.approve_model(table, approved)
        return approved

    approved = _ask(network, member, approve)
    print(f"{table}: {approved.name} approved by {member.partition('/')[0]}")


@app.command("check-points")
@reporting
def check_points(
    record: Annotated[Path, typer.Argument(help="The public record of private points.")],
    model: Annotated[Path, typer.Argument(help="The scorecard that the bank shows.")],
    table: Table,
    points_secret: PointsSecret = None,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """Encrypt shown points again, as an auditor; fails unless every ciphertext is equal."""
    stated = PrivateScorecard.decode(record.read_bytes())
    card = _scorecard(model, decode_model(model.read_bytes()))
    secret_file = points_secret or record.with_suffix(".secret")
    if not secret_file.exists():
        raise ConfigError(
            "POINTS_SECRET_MISSING",
            "the bank's secret is needed to encrypt its points again",
            subject=str(secret_file),
            fix="name the file that the bank shows: --points-secret FILE",
        )
    secret = secret_file.read_bytes()
    _ask(network, member, lambda bank: bank.check_private_points(table, stated, card, secret))
    print(f"{stated.name}: {len(stated.points)} ciphertexts are those of the points shown")


def _scorecard(path: Path, model: Model) -> Scorecard:
    if isinstance(model, Scorecard):
        return model
    raise ConfigError(
        "MODEL_INVALID",
        "the file holds a record without points",
        subject=str(path),
        fix="name the scorecard that the record was made from",
    )


def _points_secret(record: Path, file: Path | None) -> bytes:
    path = file or record.with_suffix(".secret")
    return read_or_write(path, lambda: token_bytes(SECRET_SIZE_BYTES))


def _keys(network: Path, member: str, keys: Path | None, passphrase_file: Path | None) -> BankKeys:
    if passphrase_file is None or not passphrase_file.exists():
        raise ConfigError(
            "PASSPHRASE_MISSING",
            "The bank's keys are kept under a passphrase.",
            subject=str(passphrase_file or ""),
            fix="name a file that holds it: --passphrase-file FILE",
        )
    folder = keys or network / member.partition("/")[0] / "client"
    return BankKeys(folder, passphrase_file.read_bytes().strip())


def _secret(
    network: Path, member: str, folder: Path | None, passphrase_file: Path | None
) -> OwnerSecret:
    passphrase = None if passphrase_file is None else passphrase_file.read_bytes().strip()
    return OwnerSecret(folder or network / member.partition("/")[0] / "client", passphrase)


def _ask(
    network: Path,
    member: str,
    use: Callable[[BankClient], Awaitable[Value]],
    keys: BankKeys | None = None,
    secret: OwnerSecret | None = None,
) -> Value:
    async def with_bank(client: AsyncClient) -> Value:
        organisation = member.partition("/")[0]
        return await use(
            BankClient(SdkScoringChain(client), organisation, keys, owner_secret=secret)
        )

    return with_client(network, member, with_bank)
