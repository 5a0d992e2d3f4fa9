"""`chainnode he ...`: a bank's questions, their state and their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network
from chainnode.cli.he_options import (
    Keys,
    Output,
    Passphrase,
    Table,
    ask_bank,
    open_keys,
)
from chainnode.cli.output import Format, query_line, reporting, show, show_rows
from chainnode.he.answer import Row, shown
from chainnode.he.sql import explain as explain_plan
from chainnode.sdk.bank import BankClient, Scores
from chainnode.types.errors import ClientFault

app = typer.Typer()

Sql = Annotated[str, typer.Argument(help="One SELECT.")]
QueryId = Annotated[str, typer.Argument(help="64 hexadecimal digits.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=0, help="Seconds to wait; the query goes on after them."),
]
Private = Annotated[
    list[str],
    typer.Option(
        "--private", help="name=value of PRIVATE(name): the value leaves here encrypted only."
    ),
]
TIMEOUT_S = 120.0

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Receiver:
    """A bank's client with the keys that answers are sealed to, and a line that tells progress."""

    network: Path
    member: str
    keys: Path | None
    passphrase_file: Path | None
    timeout_s: float

    def ask(self, use: Callable[[BankClient], Awaitable[Value]]) -> Value:
        """The answer of one question, or the typed error that it ended with."""
        opened = open_keys(self.network, self.member, self.keys, self.passphrase_file)
        with query_line() as watch:
            return ask_bank(
                self.network, self.member, use, opened, timeout_s=self.timeout_s, watch=watch
            )


@app.command()
@reporting
def explain(
    sql: Sql,
    table: Table,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """Show a query's plan, cost and noise, or why it is refused; costs no budget."""
    print(explain_plan(ask_bank(network, member, lambda bank: bank.plan(table, sql))))


@app.command()
@reporting
def query(
    sql: Sql,
    table: Table,
    private: Private = [],  # noqa: B006
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    keys: Keys = None,
    passphrase_file: Passphrase = None,
    timeout: Timeout = TIMEOUT_S,
    output: Output = Format.TABLE,
) -> None:
    """Ask for aggregates over encrypted columns."""
    values = read_private(private)
    receiver = Receiver(network, member, keys, passphrase_file, timeout)
    rows = receiver.ask(lambda bank: bank.query(table, sql, values))
    _show_rows(rows, output)


Ids = Annotated[list[str], typer.Option("--id", help="Only these enterprises.")]


@app.command()
@reporting
def score(
    models: Annotated[list[str], typer.Argument(help="Scorecards, at most 8 in one pass.")],
    table: Table,
    ids: Ids = [],  # noqa: B006
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    keys: Keys = None,
    passphrase_file: Passphrase = None,
    timeout: Timeout = TIMEOUT_S,
    output: Output = Format.TABLE,
) -> None:
    """Score the enterprises that consent to this bank."""
    receiver = Receiver(network, member, keys, passphrase_file, timeout)
    scores = receiver.ask(lambda bank: bank.score_models(table, models, ids or None))
    _show_scores(scores, output)


@app.command("answer")
@reporting
def collect(
    query_id: QueryId,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    keys: Keys = None,
    passphrase_file: Passphrase = None,
    timeout: Timeout = TIMEOUT_S,
    output: Output = Format.TABLE,
) -> None:
    """Collect the answer of a query asked before; its budget was spent then."""
    wanted = read_id(query_id)
    receiver = Receiver(network, member, keys, passphrase_file, timeout)
    answer = receiver.ask(lambda bank: bank.resume(wanted))
    if isinstance(answer, list):
        _show_rows(answer, output)
    else:
        _show_scores(answer, output)


@app.command()
@reporting
def status(
    query_id: QueryId,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """Show how far a query is: chunks, shares and its deadline."""
    wanted = read_id(query_id)
    now = ask_bank(network, member, lambda bank: bank.progress(wanted))
    show(
        {
            "query": now.query,
            "status": now.status,
            "chunks_done": now.chunks_done,
            "chunks": now.chunks,
            "counts": now.counts,
            "shares": now.shares,
            "shares_needed": now.shares_needed,
            "members": now.members,
            "deadline_ms": now.deadline_ms,
            "ending": now.ending,
        },
        output,
    )


@app.command()
@reporting
def audit(
    query_id: QueryId,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """List a query's recorded steps with block and transaction."""
    wanted = read_id(query_id)
    steps = ask_bank(network, member, lambda bank: bank.audit_trail(wanted))
    show_rows(
        [
            {
                "height": step.height,
                "tx_id": step.tx_id,
                "step": step.step,
                "organisation": step.organisation,
                "detail": step.detail,
            }
            for step in steps
        ],
        output,
    )


def read_private(options: list[str]) -> dict[str, str]:
    """Private constants by name, as `--private name=value` gives them.

    Raises:
        ClientFault: `PRIVATE_VALUE_MALFORMED`; it does not repeat the value.
    """
    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name or name in found:
            raise ClientFault(
                "PRIVATE_VALUE_MALFORMED",
                "a private constant is written name=value, each name once",
                subject=name if equals else "",
                fix="write --private name=value for PRIVATE(name)",
            )
        found[name] = value
    return found


def read_id(text: str) -> bytes:
    """A query's id as written.

    Raises:
        ClientFault: `QUERY_ID_MALFORMED`.
    """
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise ClientFault(
            "QUERY_ID_MALFORMED",
            "a query's id is 64 hexadecimal digits",
            subject=text,
            fix="take the id that the command said when it asked",
        )
    return found


def _show_scores(scores: Scores, output: Format) -> None:
    """One model's as pairs; several as rows with a column each."""
    first, *further = scores.values()
    if not further:
        show(dict(first.items()), output)
        return
    rows = ({"id": name, **{m: scores[m][name] for m in scores}} for name in first)
    show_rows(list(rows), output)


def _show_rows(rows: list[Row], output: Format) -> None:
    show_rows(
        [
            {
                **dict(zip(row.names, map(shown, row.values), strict=True)),
                **({"refused": row.refused} if row.refused else {}),
            }
            for row in rows
        ],
        output,
    )
