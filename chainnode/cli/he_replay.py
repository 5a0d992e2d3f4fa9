"""`chainnode he replay`: a query derived again from the chain alone, for a regulator."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network, with_client
from chainnode.cli.he_options import Output
from chainnode.cli.he_questions import QueryId, read_id
from chainnode.cli.output import Format, reporting, say, show_rows
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.replay import Report, replay
from chainnode.sdk.scoring import STATUS_NAMES
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.types.errors import PeerFault

app = typer.Typer()


@app.command("replay")
@reporting
def replay_query(
    query_id: QueryId,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    columns: Annotated[
        Path | None,
        typer.Option("--columns", help="Keep the fetched ciphertexts here for further replays."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Compute a query again and prove every step; fails naming what differs and who is at fault."""
    wanted = read_id(query_id)
    with TemporaryDirectory(prefix="chainnode-replay-") as passing:
        report = _replayed(network, member, wanted, columns or Path(passing))
    show_rows(
        [
            {
                "what": check.what,
                "who": check.who,
                "outcome": check.outcome,
                "detail": check.detail,
            }
            for check in report.checks
        ],
        output,
    )
    facts, differences = report.facts, report.differences()
    taken = sum(not check.derived for check in report.checks)
    if taken:
        say(f"{taken} of {len(report.checks)} lines are not derived: no public data shows them")
    say(f"{facts.bank} asked {facts.table}: {facts.sql}")
    say(f"{STATUS_NAMES[facts.status]}{facts.ending and ': '}{facts.ending}")
    if differences:
        worst = differences[0]
        raise PeerFault(
            "REPLAY_DIFFERS",
            f"{len(differences)} of {len(report.checks)} checks differ; the first is "
            f"{worst.what}, {worst.who}: {worst.detail}",
            subject=query_id,
            fix="replay it through another node; if that differs too, take the report to "
            "whoever it names",
        )


def _replayed(network: Path, member: str, query: bytes, folder: Path) -> Report:
    # The engine is loaded only by commands that compute.
    from chainnode.worker.replay import Recomputer

    async def session(client: AsyncClient) -> Report:
        chain = SdkScoringChain(client)
        worker = Recomputer(chain, member.partition("/")[0], folder)
        return await replay(chain, client.genesis.validator_set(), query, worker)

    return with_client(network, member, session)
