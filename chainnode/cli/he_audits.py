"""`chainnode he ...`: audits of encrypted columns, and what was said about them on chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network
from chainnode.cli.he_options import Output, Table, ask_bank
from chainnode.cli.output import Format, reporting, show_rows
from chainnode.he.checks import checks_bits, indicator_groups
from chainnode.he.profiles import PROFILES
from chainnode.sdk import audits
from chainnode.sdk.bank import BankClient
from chainnode.sdk.scoring import read_table

app = typer.Typer()


@app.command("require-audits")
@reporting
def require_audits(
    table: Table,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    off: Annotated[bool, typer.Option("--off", help="Take the demand back.")] = False,
) -> None:
    """As an owner, have nothing opened of the table's columns that nobody audited."""
    ask_bank(network, member, lambda bank: bank.require_audits(table, not off))
    told = "no longer requires" if off else "requires"
    print(f"{table}: {member.partition('/')[0]} {told} audits")


@app.command("check-columns")
@reporting
def check_columns(
    table: Table,
    owner: Annotated[str, typer.Option("--owner", help="Whose columns are checked.")],
    profiles: Annotated[
        list[str], typer.Option("--profile", help="Not given: every profile the owner stores.")
    ] = [],  # noqa: B006
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """Have the council open sums over audited columns that are zero if every row is honest."""

    async def checked(bank: BankClient) -> list[dict[str, object]]:
        schema = (await read_table(bank.chain, table)).schema
        rows: list[dict[str, object]] = []
        for profile in PROFILES:
            stored = bool(indicator_groups(schema, owner, profile))
            if (profile in profiles) if profiles else stored:
                plan, found = await audits.check_columns(bank.chain, table, owner, profile)
                sums = 0 if plan.aggregate is None else len(plan.aggregate.outputs)
                bits = "checked" if checks_bits(plan) else "not checked: only in profile M"
                rows.append(
                    {
                        "owner": owner,
                        "profile": profile,
                        "check": found.check,
                        "sums": sums,
                        "zeros and ones": bits,
                    }
                )
        return rows

    show_rows(ask_bank(network, member, checked), output)


@app.command("audits")
@reporting
def show_audits(
    table: Table,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Output = Format.TABLE,
) -> None:
    """List who passed and who failed every owner's published columns."""

    async def found(bank: BankClient) -> list[audits.AuditStanding]:
        facts = await read_table(bank.chain, table)
        epoch = int(await bank.chain.view("latest_active_epoch"))
        listed = []
        for profile in PROFILES:
            roots = await audits.published_roots(bank.chain, facts, profile, epoch)
            listed += [
                await audits.standing(bank.chain, table, owner, profile, roots[owner])
                for owner in roots
            ]
        return listed

    show_rows(
        [
            {
                "owner": item.owner,
                "profile": item.profile,
                "root": item.root,
                "passed": " ".join(item.passed),
                "failed": " ".join(item.failed),
                "check": item.check,
                "audited": item.is_audited,
            }
            for item in ask_bank(network, member, found)
        ],
        output,
    )
