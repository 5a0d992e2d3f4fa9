"""An owner looks at private points before it approves them: what nobody can use is not approved."""

from typing import Any

import msgspec
import pytest
from consortium import OWNERS, Consortium
from test_refused_points import (
    BANK,
    PLACE,
    Lie,
    approve,
    empty,
    of_another_profile,
    outside_the_ring,
    spoilt,
    too_long,
    truncated,
)

from chainnode.he.private_points import PrivateScorecard
from chainnode.types.errors import ChainnodeError, ClientFault, PeerFault


async def unapproved(made: Consortium, record: PrivateScorecard, *after: str) -> ChainnodeError:
    """The refusal of an owner's approval, after others approved without looking."""
    for owner in after:
        await approve(made, owner, record)
    begin = len(made.ledger.blocks)
    with pytest.raises(ChainnodeError) as raised:
        await made.client("registry").approve_model("firms", record)
    steps = [step for _, found in made.ledger.blocks[begin:] for step in found]
    assert not [step for step in steps if step.fields.get("step") == "model"]
    assert raised.value.fix
    return raised.value


@pytest.mark.timeout(120)
@pytest.mark.parametrize("lie", [truncated, too_long, empty, outside_the_ring, of_another_profile])
async def test_malformed_points_are_not_approved(deep: Consortium, lie: Lie) -> None:
    found = await unapproved(deep, await spoilt(deep, lie))
    assert isinstance(found, PeerFault) and found.code == "PRIVATE_POINTS_MALFORMED"
    assert f"ciphertext {PLACE} of model hidden, for which the bank" in found.message


@pytest.mark.timeout(120)
async def test_missing_points_are_not_approved_until_they_are_uploaded(deep: Consortium) -> None:
    record = await spoilt(deep)
    gone = bytes.fromhex(record.points[PLACE])
    kept = deep.ledger.blobs.pop(gone)
    found = await unapproved(deep, record, BANK)
    assert isinstance(found, PeerFault) and found.code == "PRIVATE_POINTS_MISSING"
    assert f"ciphertext {PLACE} of model hidden, for which {BANK} answers" in found.message
    deep.ledger.blobs[gone] = kept
    for owner in OWNERS[1:]:
        await deep.client(owner).approve_model("firms", record)
    assert len(await deep.bank.score("firms", "hidden")) == 40


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"points": slice(0, -1)}, "MODEL_INVALID"),
        ({"points": slice(1, None)}, "MODEL_INVALID"),
        ({"schema_hash": "00" * 32}, "MODEL_INVALID"),
        ({"table": "others"}, "MODEL_INVALID"),
        ({"limbs": 4}, "MODEL_STALE"),
        ({"epoch": 0}, "MODEL_STALE"),
        ({"epoch": 2}, "MODEL_STALE"),
    ],
)
async def test_a_record_that_fits_no_question_is_not_approved(
    deep: Consortium, changes: dict[str, Any], code: str
) -> None:
    record = await spoilt(deep)
    if "points" in changes:
        changes = {"points": record.points[changes["points"]]}
    found = await unapproved(deep, msgspec.structs.replace(record, **changes))
    assert isinstance(found, ClientFault) and found.code == code
