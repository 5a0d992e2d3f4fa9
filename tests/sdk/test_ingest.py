"""A bank's own table: every source gives the same cells, every bad cell is named with its place."""

import json
import os
import stat
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from chainnode.cli.main import app
from chainnode.cli.output import EXIT_CONFIGURATION
from chainnode.he.schema import Bins, TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.sdk.fitting import fit_bins, fit_scorecard, outcomes
from chainnode.sdk.ingest import Journal, align
from chainnode.sdk.schema_file import dump_schema, load_schema
from chainnode.sdk.source_table import SourceTable, read_source
from chainnode.types.errors import ClientFault

SCHEMA = """
table = "firms"
id_column = "id"
presence_owner = "registry"

[[columns]]
name = "sector"
owner = "bank-a"
encoding = { type = "one_hot", categories = ["trade", "farming"], missing = true }

[[columns]]
name = "founded"
owner = "bank-a"
encoding = { type = "bins", minimum = "1990-01-01", edges = ["2010-01-01"], maximum = "2029-12-31",
  dates = true, missing = true }

[[columns]]
name = "overdue"
owner = "bank-a"
value_maximum = 999
encoding = { type = "digits", minimum = 0, maximum = 999, digit_bits = 5, missing = true }

[[columns]]
name = "price"
owner = "bank-a"
value_maximum = 10_000_000
value_decimals = 2
encoding = { type = "bins", minimum = 0, edges = [5000], maximum = 10_000_000, decimals = 2,
  missing = true }

[[columns]]
name = "region"
owner = "registry"
encoding = { type = "one_hot", categories = ["1", "2"] }
"""
IDS = ["A", "B", "C", "D"]
ROWS = {
    "id": ["B", "A", "D"],
    "sector": ["trade", None, "farming"],
    "founded": [date(2001, 5, 6), date(2015, 1, 1), None],
    "overdue": [0, 37, 999],
    "price": [Decimal("12.50"), Decimal("99999.99"), Decimal("0.01")],
}
CSV = """id,sector,founded,overdue,price
B,trade,2001-05-06,0,12.50
A,,2015-01-01,37,99999.99
D,farming,,999,0.01
"""


@pytest.fixture
def schema_file(tmp_path: Path) -> Path:
    path = tmp_path / "schema.toml"
    path.write_text(SCHEMA.replace(",\n  ", ", "))
    return path


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "firms.csv"
    path.write_text(text)
    return path


def parquet_file(folder: Path) -> Path:
    path = folder / "firms.parquet"
    pyarrow.parquet.write_table(pyarrow.table(ROWS), path)
    return path


SOURCES: dict[str, Callable[[Path], object]] = {
    "csv": lambda folder: csv_file(folder, CSV),
    "parquet": parquet_file,
    "arrow": lambda folder: pyarrow.table(ROWS),
    "pandas": lambda folder: pandas.DataFrame(ROWS),
    "pandas with gaps": lambda folder: pandas.DataFrame(ROWS).astype({"overdue": "Float64"}),
    "mapping": lambda folder: ROWS,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_cells(kind: str, tmp_path: Path, schema_file: Path) -> None:
    schema = load_schema(schema_file, len(IDS))
    cells = align(read_source(SOURCES[kind](tmp_path)), schema, "bank-a", IDS)
    assert {
        name: [None if c is None else str(c) for c in column] for name, column in cells.items()
    } == {
        "sector": [None, "trade", None, "farming"],
        "founded": ["2015-01-01", "2001-05-06", None, None],
        "overdue": ["37", "0", None, "999"],
        "price": ["99999.99", "12.50", None, "0.01"],
    }


BAD_CSV = {
    "B,mining,2001-05-06,0,12.50": ("line 2, column sector", "not one of its categories"),
    "B,trade,2001-15-06,0,12.50": ("line 2, column founded", "not a date"),
    "B,trade,1901-05-06,0,12.50": ("line 2, column founded", "outside"),
    "B,trade,2001-05-06,1000,12.50": ("line 2, column overdue", "outside"),
    "B,trade,2001-05-06,x,12.50": ("line 2, column overdue", "not a decimal number"),
    "B,trade,2001-05-06,0,12.505": ("line 2, column price", "at most 2 decimals"),
    "B,trade,2001-05-06,0,-1": ("line 2, column price", "outside"),
    "B,trade,2001-05-06,0,1e400": ("line 2, column price", "not a decimal number"),
    "Z,trade,2001-05-06,0,12.50": ("line 2, column id", "not in the registry"),
    "A,trade,2001-05-06,0,12.50": ("line 3, column id", "A stands also at"),
    ",trade,2001-05-06,0,12.50": ("line 2, column id", "no id"),
    "B,trade,2001-05-06,0": ("line 2 has 4 fields", "5"),
    "B,trade,2001-05-06,0,1,2": ("line 2 has 6 fields", "5"),
    'B,"trade,2001-05-06,0,1': ("unexpected end", ""),
}


@pytest.mark.parametrize("line", BAD_CSV)
def test_bad_cells_are_named_with_file_line_and_column(
    line: str, tmp_path: Path, schema_file: Path
) -> None:
    path = csv_file(tmp_path, CSV.replace("B,trade,2001-05-06,0,12.50", line))
    with pytest.raises(ClientFault) as caught:
        align(read_source(path), load_schema(schema_file, len(IDS)), "bank-a", IDS)
    assert caught.value.subject == str(path)
    for part in BAD_CSV[line]:
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("x.csv", b"", "TABLE_UNREADABLE"),
        ("x.csv", b"id,id\n1,2\n", "TABLE_UNREADABLE"),
        ("x.csv", b"\xff\xfe\x00", "TABLE_UNREADABLE"),
        ("x.csv", b"id,price\nA,1\n", "TABLE_COLUMN_MISSING"),
        ("x.csv", b"name\nA\n", "TABLE_COLUMN_MISSING"),
        ("x.parquet", b"PAR1 not parquet", "TABLE_UNREADABLE"),
        ("x.xlsx", b"", "TABLE_UNREADABLE"),
    ],
)
def test_unreadable_files_are_refused(
    name: str, data: bytes, code: str, tmp_path: Path, schema_file: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ClientFault) as caught:
        align(read_source(tmp_path / name), load_schema(schema_file, 4), "bank-a", IDS)
    assert caught.value.code == code
    assert str(tmp_path / name) in caught.value.subject


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('owner = "bank-a"', "owner = 7"),
        ('"one_hot"', '"two_hot"'),
        ("digit_bits = 5", "digit_bits = 77"),
        ("edges = [5000]", "edges = [5000, 5000]"),
        ('"2010-01-01"', '"2010-02-31"'),
        ("value_decimals = 2", "value_decimals = 9"),
        ('name = "sector"', 'name = "id"'),
        ('table = "firms"', "table = "),
        ('name = "price"', 'name = "price"\nderived = "overdue / 2"'),
        ('name = "price"', 'name = "price"\ncolour = "red"'),
        ('table = "firms"', 'table = "firms"\nrows = 5'),
    ],
)
def test_schema_files_are_checked(old: str, new: str, schema_file: Path) -> None:
    schema_file.write_text(schema_file.read_text().replace(old, new, 1))
    with pytest.raises(ClientFault) as caught:
        load_schema(schema_file, 4)
    assert caught.value.code == "SCHEMA_INVALID"
    assert caught.value.subject == str(schema_file)


def test_a_schema_is_written_and_read_back(schema_file: Path, tmp_path: Path) -> None:
    schema = load_schema(schema_file, 4)
    again = tmp_path / "again.toml"
    again.write_text(dump_schema(schema))
    assert load_schema(again, 4) == schema


def test_a_journal_survives_a_torn_line_and_forgets_another_scope(tmp_path: Path) -> None:
    path = tmp_path / "upload.journal"
    journal = Journal(path, b"epoch 1")
    label = journal.label("S", "sector.0", 0, b"slots")
    journal.record(label, b"\x01" * 32)
    with path.open("a") as file:
        file.write('{"block": "ab')
    again = Journal(path, b"epoch 1")
    assert again.label("S", "sector.0", 0, b"slots") == label
    assert again.uploaded(label) == b"\x01" * 32
    assert again.uploaded(again.label("S", "sector.0", 0, b"other slots")) is None
    assert Journal(path, b"epoch 2").uploaded(label) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"slots" not in path.read_bytes()


def history(rows: int = 600) -> SourceTable:
    random = np.random.default_rng(5)
    overdue = random.integers(0, 100, rows)
    region = random.integers(1, 3, rows)
    bad = random.random(rows) < 0.05 + 0.006 * overdue + 0.1 * (region == 2)
    return read_source(
        {
            "late": [int(value) for value in overdue],
            "region": [str(value) for value in region],
            "bad": [int(value) for value in bad],
        },
        "history",
    )


def test_fitted_bins_and_scorecard_tell_good_from_bad(tmp_path: Path) -> None:
    table = history()
    bad = outcomes(table, "bad")
    bins = fit_bins("late", table.column("late"), bad, 0, 100)
    assert bins.edges and set(bins.edges) <= set(range(1, 101))
    path = tmp_path / "schema.toml"
    path.write_text(
        f"""table = "t"\nid_column = "id"\npresence_owner = "a"
[[columns]]\nname = "late"\nowner = "a"
encoding = {{ type = "bins", minimum = 0, edges = {list(bins.edges)}, maximum = 100 }}
[[columns]]\nname = "region"\nowner = "a"
encoding = {{ type = "one_hot", categories = ["1", "2"] }}
"""
    )
    schema = load_schema(path, 600)
    card = fit_scorecard(schema, table.columns, bad, "m")
    scores = card.score(schema, table.columns)
    assert scores[~bad].mean() > scores[bad].mean() + 20
    with pytest.raises(ClientFault) as caught:
        outcomes(table, "late")
    assert "row 1, column late" in caught.value.message


def test_the_commands_check_and_fit(tmp_path: Path, schema_file: Path) -> None:
    lines = ["id,sector,founded,overdue,price,region,bad"]
    for row in range(200):
        late = row % 2
        lines.append(f"E{row},{'trade' if late else 'farming'},2015-01-01,3,{60 * late},1,{late}")
    source = csv_file(tmp_path, "\n".join(lines))
    card = tmp_path / "card.json"
    runner = CliRunner()
    given = ["he", "check", str(source), "--schema", str(schema_file), "--owner", "bank-a"]
    done = runner.invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "200 rows fit" in done.output
    given = ["he", "fit", str(source), "--schema", str(schema_file), "--target", "bad"]
    done = runner.invoke(app, [*given, "--rows", "200", "--name", "m", "--to", str(card)])
    assert done.exit_code == 0, done.output
    assert Scorecard.decode(card.read_bytes()).name == "m"
    assert json.loads(card.read_bytes())["table"] == "firms"
    source.write_text(source.read_text().replace("E7,trade", "E7,tradde"))
    failed = runner.invoke(
        app, ["he", "check", str(source), "--schema", str(schema_file), "--owner", "bank-a"]
    )
    assert failed.exit_code == 1
    assert "line 9, column sector" in failed.output


SCHEMA_TO_BIN = """table = "t"
id_column = "id"
presence_owner = "a"
[[columns]]
name = "late"
owner = "a"
encoding = { type = "bins", minimum = 0, edges = [], maximum = 100 }
[[columns]]
name = "region"
owner = "a"
encoding = { type = "one_hot", categories = ["1", "2"] }
"""


def bin_history(tmp_path: Path, *options: str) -> tuple[int, str, TableSchema | None]:
    table, schema, to = history(), tmp_path / "in.toml", tmp_path / "out.toml"
    names = list(table.columns)
    rows = zip(*(table.column(name) for name in names), strict=True)
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    source = csv_file(tmp_path, "\n".join(lines))
    schema.write_text(SCHEMA_TO_BIN)
    given = ["he", "bin", str(source), "--schema", str(schema), "--target", "bad", "--to", str(to)]
    ran = CliRunner().invoke(app, [*given, *options])
    return ran.exit_code, ran.output, load_schema(to, 600) if to.exists() else None


def test_the_bin_command_writes_edges_that_fit_can_use(tmp_path: Path) -> None:
    code, output, made = bin_history(tmp_path)
    assert code == 0, output
    table = history()
    bad = outcomes(table, "bad")
    assert made is not None
    column = made.column("late")
    assert column is not None and column.encoding == fit_bins(
        "late", table.column("late"), bad, 0, 100
    )
    assert output.startswith("late: 0..")
    assert fit_scorecard(made, table.columns, bad, "m").features


def test_optbinning_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    code, output, made = bin_history(tmp_path, "--engine", "optbinning", "--python", "no-python")
    assert code == EXIT_CONFIGURATION and made is None
    assert "EXTRA_MISSING" in output and "pip install optbinning" in output


@pytest.mark.timeout(180)
def test_optbinning_finds_edges_that_separate(tmp_path: Path) -> None:
    python = os.environ.get("CHAINNODE_OPTBINNING_PYTHON")
    if python is None:
        pytest.skip("CHAINNODE_OPTBINNING_PYTHON names no interpreter with optbinning")
    code, output, made = bin_history(tmp_path, "--engine", "optbinning", "--python", python)
    assert code == 0, output
    table = history()
    assert made is not None
    column = made.column("late")
    assert column is not None and isinstance(column.encoding, Bins) and column.encoding.edges
    bad = outcomes(table, "bad")
    card = fit_scorecard(made, table.columns, bad, "m")
    scores = card.score(made, table.columns)
    assert scores[~bad].mean() > scores[bad].mean() + 20
