"""What the command line says before it asks the network about private points."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from chainnode.cli.main import app
from chainnode.he.private_points import PrivateScorecard
from chainnode.he.scorecard import FeaturePoints, Scorecard

RECORD = PrivateScorecard("hidden", "firms", "00" * 32, 1, ("sector",), 1_024, 5, ("11" * 32,))


@pytest.mark.parametrize(
    "arguments",
    [
        ["approve-model", "record.json", "--private-points", "again.json"],
        ["check-points", "record.json", "record.json"],
    ],
)
def test_a_record_is_not_taken_for_the_scorecard_it_hides(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("record.json").write_bytes(RECORD.encode())
    result = CliRunner().invoke(app, ["he", *arguments, "--table", "firms"])
    assert result.exit_code != 0
    if arguments[0] == "check-points":
        assert "MODEL_INVALID" in result.stderr and result.exit_code == 3
    assert not Path("again.json").exists()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text("{}")
    result = CliRunner().invoke(app, ["he", "approve-model", str(file), "--table", "firms"])
    assert result.exit_code == 1 and "MALFORMED" in result.stderr


def test_a_check_without_the_bank_s_secret_makes_none(tmp_path: Path) -> None:
    record, card = tmp_path / "record.json", tmp_path / "card.json"
    record.write_bytes(RECORD.encode())
    model = Scorecard("hidden", "firms", "00" * 32, 0, (FeaturePoints("sector", (1, 2)),))
    card.write_bytes(model.encode())
    arguments = ["he", "check-points", str(record), str(card), "--table", "firms"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3 and "POINTS_SECRET_MISSING" in result.stderr
    assert not record.with_suffix(".secret").exists()
