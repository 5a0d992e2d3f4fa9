"""Posts as long as a stored value are read one by one; all together no view can return them."""

from typing import Any, cast

import pytest
from hinted_backend import HintedBackend
from scoring_chain import (
    BACKENDS,
    ORGANISATIONS,
    QUERY,
    compute,
    keyholder,
    ready,
    submit,
)
from scoring_chain import backend as backend

from chainnode.contract.testing import Deployed
from chainnode.he.threshold import Sharing
from chainnode.sdk.scoring import POST_SIZE_MAX_BYTES, ScoringChain, read_posters, read_posts


def post(chain: Deployed, name: str, boxes: bytes) -> None:
    chain.call("post_counts", sender=keyholder(name), query=QUERY, boxes=boxes)


def checking() -> Deployed:
    chain = ready()
    submit(chain)
    compute(chain)
    return chain


class Views:
    """The views of a contract under the executor's limits, as services read them."""

    def __init__(self, chain: Deployed) -> None:
        self._chain = chain

    async def view(self, method: str, **kwargs: Any) -> Any:
        return self._chain.view(method, **kwargs)


async def test_the_longest_posts_are_read_one_by_one() -> None:
    chain = checking()
    made = {
        name: bytes([place]) * POST_SIZE_MAX_BYTES
        for place, name in enumerate(ORGANISATIONS[1:], start=1)
    }
    for name, boxes in made.items():
        post(chain, name, boxes)
    assert list(chain.view("posters_of", epoch=1, subject=QUERY, step="counts")) == list(made)
    for name in ORGANISATIONS:
        found = chain.view("post_of", subject=QUERY, step="counts", organisation=name)
        assert found == made.get(name, b"")
    views, sharing = cast(ScoringChain, Views(chain)), Sharing.of(ORGANISATIONS, 3)
    assert await read_posts(views, sharing, 1, QUERY, "counts") == made
    assert await read_posters(views, 1, QUERY, "share") == ()


def test_a_longer_post_and_all_posts_in_one_result_are_refused_by_the_machine() -> None:
    chain = checking()
    if BACKENDS[-1] is HintedBackend:
        pytest.skip("CPython has no such limits")
    with pytest.raises(RuntimeError, match="value too long"):
        post(chain, ORGANISATIONS[0], bytes(POST_SIZE_MAX_BYTES + 1))
    for name in ORGANISATIONS[:2]:
        post(chain, name, b"\x01" * (POST_SIZE_MAX_BYTES // 2))
    with pytest.raises(RuntimeError, match="result too long"):
        chain.view("posts_of", epoch=1, subject=QUERY, step="counts")
