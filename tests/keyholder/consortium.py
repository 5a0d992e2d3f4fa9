"""A council in one process: keyholders, workers, owners and a bank, on a local chain."""

import asyncio
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_chain import DEADLINE_MS, LocalChain, LocalLedger

from chainnode.he.encode import Cell
from chainnode.he.engine import Engine
from chainnode.he.schema import Bins, Column, OneHot, TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.keyholder import store
from chainnode.keyholder.keyholder import Keyholder
from chainnode.keyholder.store import KeyStore
from chainnode.sdk import audits, bank
from chainnode.sdk.bank import BankClient
from chainnode.sdk.bank_keys import BankKeys
from chainnode.sdk.owner_secret import OwnerSecret
from chainnode.sdk.scoring import EPOCH_ACTIVE
from chainnode.worker.worker import Worker

ROWS = 60
IDS = [f"E{row:03d}" for row in range(ROWS)]
SECTOR: list[Cell] = [("farming", "trade")[row % 2] for row in range(ROWS)]
OVERDUE: list[Cell] = [row % 5 for row in range(ROWS)]
TURNOVER: list[Cell] = [1_000 * row + 7 for row in range(ROWS)]
OWNERS = ("bank-a", "registry", "statistics")
SCHEMA = TableSchema(
    "firms",
    ROWS,
    "id",
    "registry",
    (
        Column("sector", "registry", OneHot(("farming", "trade"))),
        Column("overdue", "bank-a", Bins(0, (2, 4), 120)),
        Column("turnover", "statistics", None, 5_000_000),
    ),
)
DEEP = ("S", "S36", "M")
DEEP_SCHEMA = SCHEMA.stored_in("M")
MODEL = Scorecard(
    "m1",
    "firms",
    SCHEMA.hash().hex(),
    500,
    (FeaturePoints("sector", (12, -7)), FeaturePoints("overdue", (40, 5, -90))),
)


def plain_score(row: int) -> int:
    late = int(str(OVERDUE[row]))
    points = 40 if late < 2 else 5 if late < 4 else -90
    return 500 + (12 if SECTOR[row] == "farming" else -7) + points


@dataclass
class Consortium:
    """Every process of the organisations, running."""

    ledger: LocalLedger
    folder: Path
    keyholders: dict[str, Keyholder]
    workers: dict[str, Worker]
    bank: BankClient
    tasks: list[asyncio.Task[None]]

    def client(self, organisation: str, secret: OwnerSecret | None = None) -> BankClient:
        chain = LocalChain(self.ledger, "client", organisation, "client")
        return BankClient(chain, organisation, owner_secret=secret)

    async def active(self) -> None:
        chain = LocalChain(self.ledger, "client", "bank-a", "client")
        async for _ in chain.follow(1):
            self.check_tasks()
            if (await chain.view("epoch_info", epoch=0))[1] == EPOCH_ACTIVE:
                return

    def check_tasks(self) -> None:
        for task in self.tasks:
            if task.done():
                task.result()

    async def publish(self) -> None:
        for client in await self._published(SCHEMA):
            await client.approve_model("firms", MODEL)

    async def publish_deep(self) -> None:
        """The same rows in profile M, and consents instead of a model."""
        for client in await self._published(DEEP_SCHEMA):
            await client.set_consent("firms", "bank-a", IDS[:40])

    async def _published(self, schema: TableSchema) -> list[BankClient]:
        await self.client("registry").create_table(schema, IDS, 10, OWNERS)
        cells = {"sector": SECTOR, "overdue": OVERDUE, "turnover": TURNOVER}
        clients = [self.client(owner) for owner in OWNERS]
        for client in clients:
            await client.publish_columns("firms", cells)
            await client.grant("firms", "bank-a", 5)
        return clients

    async def took(self, step: str) -> set[tuple[str, str]]:
        """Who took a step in the bank's last query, with its detail."""
        trail = await self.bank.audit_trail(self.bank.last_query)
        return {(one.organisation, one.detail) for one in trail if one.step == step}

    async def faults(self) -> set[tuple[str, str]]:
        """Whom the chain names for the bank's last query, and for what."""
        named = await self.took("fault")
        return {(name, detail.partition(", shown by")[0]) for name, detail in named}

    async def refusers(self) -> set[str]:
        """Who found unfit what the bank's last query reads."""
        return {name for name, _ in await self.took("input refused by a member")}

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with suppress(asyncio.CancelledError):
                await task


DEADLINE_S = DEADLINE_MS / 1_000 + 1
HALF_DEADLINE_S = DEADLINE_MS / 2_000 + 1


class Clock:
    """The time of the chain and of every service, which a test moves on instead of waiting.

    A deadline passes when everybody who is alive has done its part, however slow the machine is."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._ahead_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        real = time.time
        patch.setattr(time, "time", lambda: real() + self._ahead_s)

    def jumps(self, consortium: Consortium, *jumps: tuple[str, int, float]) -> None:
        """Move on once so many of a step were taken from now on, by so many seconds; in order."""
        begin = len(consortium.ledger.blocks)

        def taken(wanted: str) -> int:
            blocks = consortium.ledger.blocks[begin:]
            return sum(s.fields.get("step") == wanted for _, steps in blocks for s in steps)

        async def jump() -> None:
            for wanted, count, seconds in jumps:
                while taken(wanted) < count:
                    await asyncio.sleep(0.02)
                self._ahead_s += seconds

        self._tasks.append(asyncio.create_task(jump()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def pin_workers(patch: pytest.MonkeyPatch, first: int = 0) -> None:
    """From now on draw query ids whose chunk 0 begins with this member's worker."""

    class PinnedIds:
        @staticmethod
        def token_bytes(size: int) -> bytes:
            return secrets.token_bytes(size - 1) + bytes([first])

    for module in (audits, bank):
        patch.setattr(module, "secrets", PinnedIds)


def open_store(folder: Path, passphrase: bytes) -> KeyStore:
    """A store behind a cheap key derivation; test_store.py pays the whole price."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SCRYPT_N", 2**10)
        return KeyStore(folder, passphrase)


def build(
    ledger: LocalLedger, folder: Path, engines: Mapping[str, Engine] | None = None
) -> Consortium:
    workers, keyholders = {}, {}
    for name in ledger.organisations:
        chain = LocalChain(ledger, "worker", name, "common")
        engine = (engines or {}).get(name)
        workers[name] = Worker(chain, name, folder / name / "worker", engine, tick_ms=50)
    for name in ledger.organisations:
        keyholders[name] = Keyholder(
            LocalChain(ledger, "keyholder", name, "common"),
            name,
            folder / name / "keyholder",
            open_store(folder / name / "keys", b"passphrase of " + name.encode()),
            ledger.validators,
            workers[name].recompute,
            tick_ms=50,
        )
    bank = BankClient(
        LocalChain(ledger, "client", "bank-a", "client"),
        "bank-a",
        BankKeys(folder / "bank-a" / "client", b"bank passphrase"),
        timeout_s=40,
    )
    tasks = [
        asyncio.create_task(service.run()) for service in (*keyholders.values(), *workers.values())
    ]
    return Consortium(ledger, folder, keyholders, workers, bank, tasks)


@dataclass(frozen=True)
class Prepared:
    """A consortium that has stopped after its table was published."""

    ledger: LocalLedger
    folder: Path

    def begin(self, folder: Path) -> Consortium:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return build(self.ledger.copy(), folder)


async def prepare(
    ledger: LocalLedger,
    folder: Path,
    publish: Callable[[Consortium], Awaitable[None]] = Consortium.publish,
) -> Prepared:
    made = build(ledger, folder)
    try:
        await made.active()
        await publish(made)
    finally:
        await made.stop()
    return Prepared(ledger, folder)
