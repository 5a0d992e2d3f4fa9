"""`chainnode trace replay`: what it prints, and what it says to a file that breaks a rule."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chainnode import _native
from chainnode.bench import replay
from chainnode.cli.main import app
from chainnode.node.recording import record_block
from chainnode.types.errors import ConfigError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["trace", "replay", *arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A thousand transfers of 20 us between ten thousand accounts, foretold."""
    draw, trace = random.Random(1), _native.Trace()
    for _ in range(1_000):
        keys = sorted(draw.sample(range(10_000), 2))
        reads = [(key, 2_000 + at * 3_000) for at, key in enumerate(keys)]
        trace.add(20_000, gas_used=700, reads=reads, writes=keys)
    path = tmp_path / "block.trace"
    path.write_text(trace.encode())
    return path


def test_a_trace_is_replayed_in_every_band(file: Path) -> None:
    ran = run(str(file), "--json")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert (found["transactions"], found["workers"], found["gas_used"]) == (1_000, 96, 700_000)
    assert found["work_us"] == 20_000
    assert found["parallelism"] == round(found["work_us"] / found["critical_path_us"], 2)
    bands = {row["band"]: row for row in found["bands"]}
    assert list(bands) == list(replay.BANDS)
    assert bands["best"]["speedup"] > bands["nominal"]["speedup"] > bands["worst"]["speedup"] > 10
    assert all(row["executions_per_tx"] >= 1 for row in bands.values())
    assert all(row["speedup"] <= found["parallelism"] for row in bands.values())
    one = json.loads(run(str(file), "--json", "--workers", "1", "--band", "nominal").stdout)
    assert [row["band"] for row in one["bands"]] == ["nominal"]
    assert 0.7 < one["bands"][0]["speedup"] < 1
    signed = json.loads(run(str(file), "--json", "--signature-us", "40").stdout)
    assert signed["bands"][1]["speedup"] > bands["nominal"]["speedup"]


def test_people_get_a_table(file: Path) -> None:
    ran = run(str(file))
    assert ran.exit_code == 0
    assert "parallelism" in ran.stdout and "worst" in ran.stdout and "{" not in ran.stdout


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("chainnode-trace 9\nc=1\n", 1, "version 9 is not known, this program reads version 2"),
        (
            "chainnode-trace 2\n# comment\nc=1\nc=2 r=5@3\n",
            4,
            "an offset lies within the execution",
        ),
        ("chainnode-trace 2\nc=1 z=3\n", 2, "no field is called `z`"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_by_line_and_rule(
    tmp_path: Path, text: str, line: int, rule: str
) -> None:
    path = tmp_path / "bad.trace"
    path.write_text(text)
    ran = run(str(path))
    assert ran.exit_code == 1
    assert ran.stderr.startswith("TRACE_MALFORMED: ")
    assert f"trace line {line}: " in ran.stderr and rule in ran.stderr
    assert str(path) in ran.stderr and "docs/spec/execution-trace.md" in ran.stderr


def test_other_bad_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = run(str(tmp_path / "none"))
    assert (missing.exit_code, "TRACE_NOT_FOUND" in missing.stderr) == (1, True)
    (tmp_path / "binary").write_bytes(b"chainnode-trace 2\n\xff\xfe")
    assert "it is not UTF-8" in run(str(tmp_path / "binary")).stderr
    (tmp_path / "crlf").write_bytes(b"chainnode-trace 2\r\nc=1\r\n")
    assert "trace line 1" in run(str(tmp_path / "crlf")).stderr
    monkeypatch.setattr(replay, "TRACE_SIZE_MAX_BYTES", 10)
    (tmp_path / "large").write_text("chainnode-trace 2\n")
    assert "TRACE_TOO_LARGE" in run(str(tmp_path / "large")).stderr
    assert "BAND_UNKNOWN" in run(str(tmp_path / "large"), "--band", "luck").stderr


def test_a_folder_without_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="GENESIS_NOT_FOUND"):
        record_block(tmp_path, tmp_path / "genesis", 1, 1)
