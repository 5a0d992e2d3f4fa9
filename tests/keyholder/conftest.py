"""A running consortium with a published table."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from consortium import Consortium, build
from local_chain import LocalLedger


@pytest.fixture
async def consortium(tmp_path: Path) -> AsyncIterator[Consortium]:
    made = build(LocalLedger(), tmp_path)
    try:
        await made.active()
        await made.publish()
        yield made
    finally:
        await made.stop()
