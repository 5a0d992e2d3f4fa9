"""The link between a keyholder and its own worker: mutual TLS, one caller, typed failures."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chainnode.identity import Identity, create_organisation, issue_member
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.member import Role
from chainnode.worker.recompute import RecomputeClient, recompute_server

QUERY = bytes(32)
PLAN = b"plan"


class Computes:
    """Stands where the worker does; what it computes is tested elsewhere."""

    async def recompute(self, query: bytes, index: int, plan: bytes) -> bytes:
        if plan != PLAN:
            raise ClientFault("PLAN_MISMATCH", "the plan differs", subject=query.hex())
        return hashlib.sha256(query + bytes([index])).digest()


@pytest.fixture(scope="module")
def identities() -> dict[str, Identity]:
    bank, other = (
        create_organisation("bank-a", "Bank A"),
        create_organisation("registry", "Registry"),
    )
    return {
        "worker": issue_member(bank, "worker", Role.COMMON),
        "keyholder": issue_member(bank, "keyholder", Role.COMMON),
        "client": issue_member(bank, "client", Role.CLIENT),
        "stranger": issue_member(
            other, "keyholder", Role.COMMON, ca_bundle_pem=bank.certificate_pem
        ),
    }


@pytest.fixture
async def endpoint(identities: dict[str, Identity], unused_tcp_port: int) -> AsyncIterator[str]:
    place = f"127.0.0.1:{unused_tcp_port}"
    worker: Any = Computes()
    server = recompute_server(worker, identities["worker"], place, "keyholder")
    await server.start()
    yield place
    await server.stop(grace=0)


async def ask(endpoint: str, identity: Identity, plan: bytes = PLAN) -> bytes:
    client = RecomputeClient(endpoint, identity)
    try:
        return await client(QUERY, 2, plan)
    finally:
        await client.close()


async def test_the_own_keyholder_is_answered(
    endpoint: str, identities: dict[str, Identity]
) -> None:
    found = await ask(endpoint, identities["keyholder"])
    assert found == hashlib.sha256(QUERY + b"\x02").digest()


@pytest.mark.parametrize("name", ["client", "stranger"])
async def test_nobody_else_is(endpoint: str, identities: dict[str, Identity], name: str) -> None:
    with pytest.raises(PeerFault, match="WORKER_FAILED"):
        await ask(endpoint, identities[name])


async def test_a_refusal_carries_its_reason(endpoint: str, identities: dict[str, Identity]) -> None:
    with pytest.raises(PeerFault, match="PLAN_MISMATCH"):
        await ask(endpoint, identities["keyholder"], b"another plan")


def test_an_identity_of_its_own_authority_only(identities: dict[str, Identity]) -> None:
    from chainnode.worker.recompute import own_authority

    assert own_authority(identities["worker"]) == own_authority(identities["keyholder"])
    assert own_authority(identities["stranger"]) != own_authority(identities["worker"])
