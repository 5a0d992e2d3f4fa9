"""The command reference is what the commands say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_current() -> None:
    page = runpy.run_path(str(DOCS / "generate.py"))["page"]
    assert (DOCS / "reference" / "cli.md").read_text() == page(), "run: make docs"
