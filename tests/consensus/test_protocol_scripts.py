"""Protocol scripts: one file per situation, readable by anyone who knows the paper."""

from pathlib import Path

import pytest

from tests.consensus.script_runner import ScriptRunner

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(script: Path) -> None:
    ScriptRunner().run(script.read_text())


def test_an_unexpected_effect_fails_a_script() -> None:
    with pytest.raises(AssertionError, match="not expected before"):
        ScriptRunner().run("start\nwork\ntimeout propose 0\nwork")


def test_a_missing_effect_fails_a_script() -> None:
    with pytest.raises(AssertionError, match="saw"):
        ScriptRunner().run("start\nexpect prevote 0 nil")
