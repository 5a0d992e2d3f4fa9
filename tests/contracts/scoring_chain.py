"""A chain with the credit scoring contract, and what its members send."""

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from executor_backend import ExecutorBackend
from hinted_backend import HintedBackend

from chainnode.contract.testing import Deployed, deploy, load_contract, member

SOURCE = Path(__file__).resolve().parents[2] / "contracts" / "credit_scoring"
ORGANISATIONS = ["bank-a", "guarantor", "registry", "statistics"]
SEVEN = [*ORGANISATIONS, "five", "six", "seven"]
COMPUTING, CHECKING, RELEASING, RELEASED, CLOSED, REFUSED, EXPIRED = range(7)
QUERY = b"\x1c" * 32
"""Its workers are those of four and of seven members from the first on."""


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def keyholder(organisation: str) -> Any:
    return member("keyholder", organisation, "common")


def worker(organisation: str) -> Any:
    return member("worker", organisation, "common")


def client(organisation: str) -> Any:
    return member("client", organisation, "client")


def council_commitment(epoch: int, round_number: int, blob: bytes, organisation: str) -> bytes:
    return hashlib.sha256(
        b"chainnode/council-commit/v1"
        + epoch.to_bytes(8, "big")
        + round_number.to_bytes(8, "big")
        + blob
        + organisation.encode()
    ).digest()


def new_chain() -> Deployed:
    council = {
        "organisations": ORGANISATIONS,
        "threshold": 3,
        "profiles": ["S", "S36"],
        "keyholder_name": "keyholder",
        "worker_name": "worker",
        "chunk_deadline_ms": 20_000,
        "share_deadline_ms": 8_000,
        "query_deadline_ms": 600_000,
    }
    return deploy(load_contract(SOURCE).CreditScoring, backend=BACKENDS[-1], council=council)


@pytest.fixture(autouse=True, params=["cpython", "executor"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every rule holds in the contract's own Python and in its WebAssembly on the real executor."""
    BACKENDS.append(HintedBackend if request.param == "cpython" else compiled)
    yield
    BACKENDS.pop()


@lru_cache(maxsize=1)
def compiled(contract: Any) -> ExecutorBackend:
    return ExecutorBackend(contract)


BACKENDS: list[Any] = []


def run_round(
    chain: Deployed, epoch: int, round_number: int, members: list[str] = ORGANISATIONS
) -> None:
    for name in members:
        blob = digest(f"{name} {round_number}")
        commitment = council_commitment(epoch, round_number, blob, name)
        chain.call(
            "commit", sender=keyholder(name), epoch=epoch, round=round_number, commitment=commitment
        )
    for name in members:
        blob = digest(f"{name} {round_number}")
        chain.call("reveal", sender=keyholder(name), epoch=epoch, round=round_number, blob=blob)


def keys(marker: str = "", deep: str = "") -> dict[str, bytes]:
    return {
        "public_key_s": digest("s" + marker),
        "public_key_s36": digest("s36"),
        "public_key_m": digest("m") if deep else b"",
        "relin_key_s36": digest("relin"),
        "relin_key_m": digest("relin " + deep) if deep else b"",
    }


def activate(
    chain: Deployed, members: list[str] = ORGANISATIONS, opened: int = 0, deep: str = ""
) -> int:
    epoch = opened or int(chain.call("open_epoch", sender=keyholder("bank-a")))
    run_round(chain, epoch, 1, members)
    run_round(chain, epoch, 2, members)
    for name in members:
        chain.call("submit_keys", sender=keyholder(name), epoch=epoch, keys=keys(deep=deep))
    for name in members:
        chain.call("post_test", sender=keyholder(name), epoch=epoch, shares=b"share")
    for name in members:
        chain.call("vote_test", sender=keyholder(name), epoch=epoch, fault="")
    return epoch


def ready(budget: int = 2) -> Deployed:
    chain = new_chain()
    activate(chain)
    chain.call(
        "create_table",
        sender=client("registry"),
        table="sme",
        schema=b"{}",
        registry=digest("registry"),
        minimum_group=10,
        owners=["registry", "statistics"],
    )
    for name in ("registry", "statistics"):
        chain.call("grant", sender=client(name), table="sme", bank="bank-a", budget=budget)
    return chain


def submit(chain: Deployed, query: bytes = QUERY, kind: int = 0, **changes: Any) -> None:
    ask = {
        "table": "sme",
        "epoch": 1,
        "profile": "S36",
        "purpose": "scoring",
        "kind": kind,
        "plan_hash": digest("plan"),
        "chunk_count": 1,
        "output_count": 2,
        "check_count": 1 if kind == 0 else 0,
        "reply_key": digest("reply"),
        "target_key": digest("target"),
    } | changes
    chain.call("submit", sender=client("bank-a"), query=query, ask=ask, sql="SELECT COUNT(*)")


def chunk_commit(
    chain: Deployed, index: int, name: str, result: bytes, query: bytes = QUERY
) -> None:
    salt = digest("salt " + name)
    commitment = hashlib.sha256(result + salt + name.encode()).digest()
    chain.call("chunk_commit", sender=worker(name), query=query, index=index, commitment=commitment)


def chunk_reveal(
    chain: Deployed, index: int, name: str, result: bytes, query: bytes = QUERY
) -> None:
    chain.call(
        "chunk_reveal",
        sender=worker(name),
        query=query,
        index=index,
        result=result,
        salt=digest("salt " + name),
    )


def compute(chain: Deployed, chunks: int = 1, query: bytes = QUERY, result: str = "result") -> None:
    for index in range(chunks + 1):
        pair = [ORGANISATIONS[(index + offset) % 4] for offset in range(2)]
        for name in pair:
            chunk_commit(chain, index, name, digest(f"{result} {index}"), query)
        for name in pair:
            chunk_reveal(chain, index, name, digest(f"{result} {index}"), query)


def digests(name: str, wrong: str = "", pieces: tuple[int, ...] = ()) -> list[bytes]:
    """Hashes of a member's shares, one place per set of two of four; `wrong` at some places."""
    held = [mask >> ORGANISATIONS.index(name) & 1 for mask in (3, 5, 6, 9, 10, 12)]
    return [
        digest(f"{wrong if place in pieces else ''}share {place}") if mine else b""
        for place, mine in enumerate(held)
    ]


def share_post(chain: Deployed, name: str, **changes: Any) -> None:
    arguments = {
        "query": QUERY,
        "epoch": 1,
        "result": digest("result 1"),
        "digests": digests(name),
        "share": b"s" + name.encode(),
    } | changes
    chain.call("share_post", sender=keyholder(name), **arguments)


def share_commit(
    chain: Deployed, name: str, as_name: str = "", stated: list[bytes] | None = None
) -> None:
    bound = b"chainnode/share-commit/v1" + QUERY + digest("result 1")
    bound += b"".join(digests(name) if stated is None else stated) + (as_name or name).encode()
    commitment = hashlib.sha256(bound).digest()
    chain.call("share_commit", sender=keyholder(name), query=QUERY, commitment=commitment)


def check_groups(chain: Deployed, query: bytes = QUERY) -> None:
    for name in ORGANISATIONS:
        chain.call("post_counts", sender=keyholder(name), query=query, boxes=b"box")
    for name in ORGANISATIONS[:3]:
        chain.call("group_check", sender=keyholder(name), query=query, passed=True)


def named(chain: Deployed) -> list[tuple[str, str]]:
    return [(fault["organisation"], fault["fault"]) for fault in events(chain, "MemberFault")]


FREELY = b"\x01" + (64).to_bytes(8, "big") + bytes(8)
"""The policy of an owner that has stated none: scores, 64 outputs, no denied columns."""


def inputs_hash(*owners: tuple[str, bytes], root: bytes = bytes(32)) -> bytes:
    """Of owners and consents, as docs/spec/he-queries.md says; with columns if there is a root."""
    bound = b"chainnode/query-inputs/v2" + hashlib.sha256(b"{}").digest() + digest("registry")
    bound += (10).to_bytes(8, "big") + (7).to_bytes(8, "big") + b"scoring"
    manifest, blocks = (digest("manifest"), 1) if any(root) else (bytes(32), 0)
    for name, word in owners:
        bound += len(name).to_bytes(8, "big") + name.encode() + root + manifest
        bound += blocks.to_bytes(8, "big") + word + FREELY + bytes(2)
    return hashlib.sha256(bound).digest()


def status(chain: Deployed) -> int:
    return int(chain.view("query_state", query=QUERY)[0])


def reason(chain: Deployed) -> str:
    return str(chain.view("query_state", query=QUERY)[2])


def events(chain: Deployed, name: str) -> list[dict[str, Any]]:
    return [fields for found, fields in chain.events if found == name]


def rotate(
    chain: Deployed,
    organisations: list[str],
    voters: list[str],
    profiles: tuple[str, ...] = ("S", "S36"),
) -> None:
    for name in voters:
        chain.call(
            "rotate",
            sender=member("admin", name, "admin"),
            organisations=organisations,
            threshold=2,
            profiles=list(profiles),
        )


def consent(
    chain: Deployed, owner: str, text: str, purpose: str = "scoring", until_height: int = 0
) -> None:
    word = {"bitmap": digest(text), "until_height": until_height}
    sender = client(owner)
    chain.call(
        "set_consent", sender=sender, table="sme", bank="bank-a", purpose=purpose, consent=word
    )


def model_record(name: str, text: str = "points") -> bytes:
    """As much of a model's record as the contract reads."""
    return json.dumps(
        {"features": text, "name": name, "offset": 0}, separators=(",", ":"), ensure_ascii=False
    ).encode()


def set_policy(chain: Deployed, owner: str, bank: str = "", **rules: Any) -> None:
    policy = {"denied_columns": [], "scores_allowed": True, "outputs_max": 64} | rules
    chain.call("set_policy", sender=client(owner), table="sme", bank=bank, policy=policy)


def publish(
    chain: Deployed, owner: str, epoch: int, root: str = "root", proof: bytes = b""
) -> None:
    columns = {
        "epoch": epoch,
        "block_count": 1,
        "root": digest(root),
        "manifest": digest("manifest"),
        "proof": proof,
    }
    chain.call("publish_columns", sender=client(owner), table="sme", profile="S36", columns=columns)


def asked() -> Deployed:
    chain = ready()
    publish(chain, "statistics", 1)
    submit(chain)
    return chain
