"""Every contract test runs under CPython, its access templates checked on every call, and as
compiled code on the real executor."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chainnode.contract.testing import default_backend, load_contract

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "contract"))

from executor_backend import ExecutorBackend  # noqa: E402 - found through the path above
from hinted_backend import HintedBackend  # noqa: E402


@pytest.fixture(autouse=True, params=["native", "vm"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with default_backend(HintedBackend if request.param == "native" else ExecutorBackend):
        yield request.param


@pytest.fixture
def shipped() -> Any:
    """Load a shipped contract's module by folder name."""

    def load(name: str) -> ModuleType:
        return load_contract(HERE.parents[1] / "contracts" / name)

    return load
