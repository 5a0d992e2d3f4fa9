"""Every contract test runs under CPython, its access templates checked on every call, and as
compiled code on the real executor."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chainnode.contract.testing import default_backend

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "contract"))

from executor_backend import ExecutorBackend  # noqa: E402 - found through the path above
from hinted_backend import HintedBackend  # noqa: E402


def load_module(name: str, path: Path) -> ModuleType:
    """Import a file once under a name of its own."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(autouse=True, params=["native", "vm"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with default_backend(HintedBackend if request.param == "native" else ExecutorBackend):
        yield request.param


@pytest.fixture
def shipped() -> Any:
    """Load a shipped contract's module by folder name."""

    def load(name: str) -> ModuleType:
        source = HERE.parents[1] / "contracts" / name / "contract.py"
        return load_module(f"shipped_{name}", source)

    return load
