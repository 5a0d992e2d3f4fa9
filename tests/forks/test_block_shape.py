"""The block shape: load changes it, every validator computes it, nobody accepts another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chainnode.types.block import Block
from forks.four_nodes import EVERYONE, FourNodes

CAP_MIN = 100
REFUSED = ["header field architecture is wrong"] * len(EVERYONE)


def with_shape(block: Block, field: str, value: Any) -> Block:
    shape = replace(block.header.architecture, **{field: value})
    return replace(block, header=replace(block.header, architecture=shape))


async def test_a_load_step_changes_the_cap_and_every_validator_refuses_any_other(
    four: FourNodes,
) -> None:
    caps = []
    salt = 0
    for height in range(1, 6):
        # Heights 2 and 3 are full, then the load is gone.
        load = CAP_MIN if height in (2, 3) else 1
        sent = [four.call(salt + number) for number in range(load)]
        salt += load
        four.submit(*sent)
        block = await four.build(height % 4)
        cap = block.header.architecture.block_tx_cap
        caps.append(cap)
        # The cap before the step, the cap after it, and the ones next to it.
        for other in sorted({CAP_MIN, 2 * CAP_MIN, cap - 1, cap + 1} - {cap}):
            assert await four.verdicts(with_shape(block, "block_tx_cap", other)) == REFUSED
        assert await four.verdicts(block) == [""] * 4
        results = await four.commit(block, four.certificate(block))
        assert len(set(results)) == 1
    assert caps == [CAP_MIN] * 3 + [2 * CAP_MIN] * 2
    # A restarted validator decides the same from its log.
    await four.stop(3)
    four.start(3)
    block = await four.build()
    assert await four.verdicts(with_shape(block, "block_tx_cap", CAP_MIN)) == REFUSED
    assert await four.verdicts(block) == [""] * 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "xov-parallel"),
        ("policy_version", 2),
        ("block_interval_ms", 11),
        ("inputs_digest", bytes(32)),
    ],
)
async def test_a_header_of_another_architecture_is_refused_by_every_validator(
    four: FourNodes, field: str, value: Any
) -> None:
    four.submit(four.call(1))
    block = await four.build()
    assert getattr(block.header.architecture, field) != value
    assert await four.verdicts(with_shape(block, field, value)) == REFUSED
    assert await four.verdicts(block) == [""] * 4
