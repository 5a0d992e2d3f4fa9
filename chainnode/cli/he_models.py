"""`chainnode he ...`: scorecards, fitted, approved and checked."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from secrets import token_bytes
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network
from chainnode.cli.he_options import Profiles, Schema, Table, ask_bank, described_by
from chainnode.cli.output import reporting
from chainnode.he.planner.aggregate import band_labels
from chainnode.he.private_points import (
    SECRET_SIZE_BYTES,
    Model,
    PrivateScorecard,
    decode_model,
)
from chainnode.he.schema import Bins
from chainnode.he.scorecard import Scorecard
from chainnode.sdk.bank import BankClient
from chainnode.sdk.binning import fit_schema, optimal_splits
from chainnode.sdk.fitting import fit_scorecard, outcomes
from chainnode.sdk.schema_file import dump_schema, load_schema
from chainnode.sdk.sealed_files import read_or_write, replace_private
from chainnode.sdk.source_table import read_source
from chainnode.types.errors import ConfigError

app = typer.Typer()

PointsSecret = Annotated[
    Path | None,
    typer.Option(
        "--points-secret",
        help="Randomness of private points; made at first use. Not given: beside the record.",
    ),
]


class BinEngine(StrEnum):
    """What `--engine` takes."""

    SKLEARN = "sklearn"
    OPTBINNING = "optbinning"


@app.command("bin")
@reporting
def fit_edges(
    source: Annotated[Path, typer.Argument(help="History with outcomes: CSV or Parquet.")],
    schema: Schema,
    target: Annotated[str, typer.Option("--target", help="Column that is 1 where it went bad.")],
    to: Annotated[Path, typer.Option("--to", help="Receives the schema with edges.")],
    engine: Annotated[
        BinEngine, typer.Option("--engine", help="What finds the edges.")
    ] = BinEngine.SKLEARN,
    python: Annotated[
        Path, typer.Option("--python", help="Interpreter that has optbinning installed.")
    ] = Path("python3"),
) -> None:
    """Fit the edges of the schema's bins on history; minima, maxima and decimals stay."""
    history = read_source(source)
    described = load_schema(schema, history.row_count())
    splits = optimal_splits(python) if engine is BinEngine.OPTBINNING else None
    made = fit_schema(described, history, outcomes(history, target), splits)
    to.write_text(dump_schema(made), encoding="utf-8")
    for column in made.columns:
        if isinstance(column.encoding, Bins) and column.name in history.columns:
            print(f"{column.name}: {', '.join(band_labels(column.encoding))}")


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
    described = described_by(schema, rows, profiles)
    cells = {
        column.name: history.column(column.name)
        for column in described.columns
        if column.encoding is not None and column.name in history.columns
    }
    bad = outcomes(history, target)
    model = fit_scorecard(described, cells, bad, name, tuple(cells))
    to.write_bytes(model.encode())
    print(model.explain(described))


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

    approved = ask_bank(network, member, approve)
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
    ask_bank(network, member, lambda bank: bank.check_private_points(table, stated, card, secret))
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
