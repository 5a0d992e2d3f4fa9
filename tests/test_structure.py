"""The house rules that a reader relies on: size budget, generated code in step, plain words."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 800
LINE_CHARACTERS_MAX = 100
GENERATED = ("chainnode/_proto/", "crates/chain-types/src/proto/")


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        ROOT / name
        for name in listed
        if name.endswith(suffixes) and not name.startswith(GENERATED) and (ROOT / name).exists()
    ]


def test_files_and_lines_stay_within_the_readers_budget() -> None:
    too_big = []
    for path in tracked(".py", ".rs"):
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > FILE_LINES_MAX:
            too_big.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
        too_big += [
            f"{path.relative_to(ROOT)}:{number}: {len(line)} characters"
            for number, line in enumerate(lines, 1)
            if len(line) > LINE_CHARACTERS_MAX and "http" not in line
        ]
    assert not too_big, "\n".join(too_big)


def test_python_functions_stay_within_the_readers_budget() -> None:
    too_long = []
    for path in tracked(".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    too_long.append(
                        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"
                    )
    assert not too_long, "\n".join(too_long)


def test_every_module_says_what_lives_in_it() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked(".py")
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent, "\n".join(silent)


def test_no_drawers() -> None:
    drawers = re.compile(r"(^|/)(utils?|helpers?|misc|common)(\.py|\.rs|/)")
    found = [
        str(path.relative_to(ROOT))
        for path in tracked(".py", ".rs")
        if drawers.search(str(path.relative_to(ROOT)))
    ]
    assert not found


def test_test_files_have_names_of_their_own() -> None:
    """Two files of one name in folders that are no packages cannot be collected together."""
    seen: dict[str, str] = {}
    twice = []
    for path in tracked(".py"):
        name = str(path.relative_to(ROOT))
        if name.startswith("tests/") and not (path.parent / "__init__.py").exists():
            if path.name != "conftest.py" and path.name in seen:
                twice.append(f"{name} and {seen[path.name]}")
            seen[path.name] = name
    assert not twice, "\n".join(twice)


@pytest.mark.timeout(120)
def test_generated_wire_code_matches_the_protos(tmp_path: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(
        [sys.executable, str(ROOT / "protos" / "generate.py"), str(tmp_path)],
        check=True,
        capture_output=True,
        env=environment,
    )
    for made in sorted(tmp_path.iterdir()):
        kept = ROOT / "chainnode" / "_proto" / made.name
        assert kept.read_text() == made.read_text(), f"{made.name} is stale: run `make protos`"
