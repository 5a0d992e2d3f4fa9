"""What members put on chain for a query's release is as long as was planned."""

import pytest
from consortium import Consortium

from chainnode.sdk.scoring import POST_SIZE_MAX_BYTES, make_plan, post_size_bytes, read_table


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sector, COUNT(*) FROM firms GROUP BY sector",
        "SELECT COUNT(*), SUM(turnover), AVG(turnover) FROM firms",
    ],
)
async def test_posts_are_as_long_as_was_planned(consortium: Consortium, sql: str) -> None:
    chain = consortium.bank.chain
    facts = await read_table(chain, "firms")
    await consortium.bank.query("firms", sql)
    query, lengths = consortium.bank.last_query, {}
    for step in ("counts", "share"):
        posters = await chain.view("posters_of", epoch=1, subject=query, step=step)
        posts = [
            await chain.view("post_of", subject=query, step=step, organisation=name)
            for name in posters
        ]
        assert len(posts) >= 3
        (lengths[step],) = {len(post) for post in posts}
    planned = post_size_bytes(make_plan(facts, sql), facts.sharing)
    assert max(lengths.values()) == planned <= POST_SIZE_MAX_BYTES
