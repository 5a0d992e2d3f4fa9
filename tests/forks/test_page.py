"""The page that lists the ways to fork names only tests that exist, and at least one for each."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "spec" / "ways-to-fork.md").read_text(encoding="utf-8")
WAYS = 14


def test_every_way_has_a_test_and_every_named_test_exists() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert [int(section.split(".")[0]) for section in sections] == list(range(1, WAYS + 1))
    for section in sections:
        named = re.findall(r"^- `([\w/.-]+)::(\w+)`$", section, flags=re.MULTILINE)
        assert named and len(named) == section.count("\n- "), section
        for path, name in named:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"\b(def|fn) {name}\(", text), f"{path}::{name}"
