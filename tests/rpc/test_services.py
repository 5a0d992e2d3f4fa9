"""The public services over real TLS: who may call, how failures look, what a blob store refuses."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from chainnode._proto import he_pb2, node_pb2, types_pb2
from chainnode.identity import load_identity
from chainnode.network.tls import TlsMaterial, client_channel, roots_pem, server_credentials
from chainnode.node.directory import MEMBER_PREFIX, MemberDirectory
from chainnode.node.testnet import TestnetLayout, prepare
from chainnode.rpc import authorisation
from chainnode.rpc.authorisation import Guard
from chainnode.rpc.blobs import BlobStore, HeService
from chainnode.rpc.problems import PROBLEM_KEY
from chainnode.types.codec import address_of, encode
from chainnode.types.genesis import Genesis
from chainnode.types.limits import BLOB_FRAME_SIZE_MAX_BYTES, BLOB_SIZE_MAX_BYTES
from chainnode.types.validators import Validator, ValidatorSet

SECRET = "the password is hunter2"


def state_key(member: types_pb2.Member) -> bytes:
    return MEMBER_PREFIX + address_of(member.public_key)


class Rpc:
    """One server with the blob service and a method that breaks."""

    def __init__(self, layout: TestnetLayout, blobs: Path) -> None:
        self.layout = layout
        genesis = Genesis.decode(layout.genesis.read_bytes()).to_proto()
        self.members = list(genesis.members)
        self.directory = MemberDirectory(
            ValidatorSet(Validator.from_proto(item) for item in genesis.validators)
        )
        self.directory.load((state_key(member), encode(member)) for member in self.members)
        self._roots = roots_pem(item.ca_certificate for item in genesis.organisations)
        guard = Guard(self.directory)
        self.server = grpc.aio.server()

        async def broken(request: bytes, caller: types_pb2.Member) -> bytes:
            raise RuntimeError(SECRET)

        self.release = asyncio.Event()

        async def slow(request: bytes, caller: types_pb2.Member) -> bytes:
            await self.release.wait()
            return b""

        handlers: dict[str, Any] = {
            "Genesis": grpc.unary_unary_rpc_method_handler(
                guard.unary("/chainnode.v1.Chain/Genesis", slow)
            ),
            "Status": grpc.unary_unary_rpc_method_handler(
                guard.unary("/chainnode.v1.Chain/Status", broken)
            ),
        }
        self.server.add_generic_rpc_handlers(
            [
                HeService(BlobStore(blobs)).handler(guard),
                grpc.method_handlers_generic_handler("chainnode.v1.Chain", handlers),
            ]
        )
        credentials = server_credentials(self.material("bank-a/node"))
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)

    def material(self, name: str) -> TlsMaterial:
        identity = load_identity(self.layout.identities[name])
        return TlsMaterial(identity.tls_certificate_pem, identity.tls_key_pem, self._roots)

    def channel(self, name: str) -> grpc.aio.Channel:
        return client_channel(f"127.0.0.1:{self.port}", self.material(name), "localhost")


@pytest.fixture
async def rpc(tmp_path: Path) -> AsyncIterator[Rpc]:
    made = Rpc(prepare(tmp_path / "testnet"), tmp_path / "blobs")
    await made.server.start()
    yield made
    await made.server.stop(None)


async def put(rpc: Rpc, *frames: he_pb2.BlobFrame, name: str = "bank-a/client") -> Any:
    """The receipt, or the Problem."""

    async def requests() -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame.SerializeToString()

    async with rpc.channel(name) as channel:
        method: Any = channel.stream_unary("/chainnode.v1.He/PutBlob")
        try:
            return he_pb2.BlobReceipt.FromString(await method(requests()))
        except grpc.aio.AioRpcError as error:
            return problem(error)


def problem(error: grpc.aio.AioRpcError) -> node_pb2.Problem:
    found = dict(error.trailing_metadata() or ())[PROBLEM_KEY]
    assert isinstance(found, bytes)
    return node_pb2.Problem.FromString(found)


def frame(data: bytes, *, size_bytes: int | None = None) -> he_pb2.BlobFrame:
    size = len(data) if size_bytes is None else size_bytes
    return he_pb2.BlobFrame(hash=hashlib.sha256(data).digest(), size_bytes=size, data=data)


async def test_a_breaking_handler_leaks_nothing(rpc: Rpc) -> None:
    async with rpc.channel("bank-a/client") as channel:
        method: Any = channel.unary_unary("/chainnode.v1.Chain/Status")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    told = problem(caught.value)
    assert (told.code, told.who) == ("INTERNAL", "internal")
    assert len(told.subject) == 16
    assert SECRET not in str(caught.value) + str(told)


async def test_one_member_leaves_room_for_others_and_all_of_them_for_validators(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorisation, "RPCS_PER_MEMBER_MAX", 3)
    monkeypatch.setattr(authorisation, "GRPC_CONCURRENT_RPCS_MAX", 5)
    monkeypatch.setattr(authorisation, "GRPC_RPCS_FOR_PEERS", 1)

    async def call(name: str) -> str:
        async with rpc.channel(name) as channel:
            method: Any = channel.unary_unary("/chainnode.v1.Chain/Genesis")
            try:
                await method(b"", timeout=20)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                return problem(error).code
        return "answered"

    async def calls(name: str, count: int) -> list[str]:
        """Codes of the calls that are refused at once; the others wait."""
        tasks = [asyncio.create_task(call(name)) for _ in range(count)]
        waiting.extend(tasks)
        done, _ = await asyncio.wait(tasks, timeout=1.0)
        return [task.result() for task in done]

    waiting: list[asyncio.Task[str]] = []
    assert await calls("bank-a/client", 5) == ["TOO_MANY_CALLS"] * 2
    assert await calls("registry/client", 2) == ["TOO_MANY_CALLS"]
    rpc.release.set()
    answers = [await task for task in waiting]
    assert answers.count("answered") == 4
    # What has ended is free again.
    assert await calls("bank-a/client", 3) == ["answered"] * 3


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (types_pb2.MEMBER_STATUS_FROZEN, "MEMBER_FROZEN"),
        (types_pb2.MEMBER_STATUS_REVOKED, "MEMBER_REVOKED"),
    ],
)
async def test_a_freeze_works_at_the_next_call(
    rpc: Rpc, status: types_pb2.MemberStatus.ValueType, code: str
) -> None:
    assert (await put(rpc, frame(b"x"))).hash == hashlib.sha256(b"x").digest()
    for member in rpc.members:
        if (member.organisation, member.name) == ("bank-a", "client"):
            member.status = status
            rpc.directory.update([(state_key(member), encode(member))])
    assert (await put(rpc, frame(b"x"))).code == code


async def test_a_certificate_without_a_member_is_refused(rpc: Rpc) -> None:
    for member in rpc.members:
        rpc.directory.update([(state_key(member), None)])
    assert (await put(rpc, frame(b"x"))).code == "NOT_A_MEMBER"


async def test_blobs_are_kept_once(rpc: Rpc) -> None:
    assert not (await put(rpc, frame(b"data"))).stored_before
    assert (await put(rpc, frame(b"data"))).stored_before


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([he_pb2.BlobFrame(hash=bytes(32), size_bytes=1, data=b"x")], "BLOB_HASH_WRONG"),
        ([frame(b"x", size_bytes=2)], "BLOB_SIZE_WRONG"),
        ([frame(b"xy", size_bytes=1)], "BLOB_SIZE_WRONG"),
        ([frame(b"x", size_bytes=BLOB_SIZE_MAX_BYTES + 1)], "BLOB_TOO_LARGE"),
        ([frame(bytes(BLOB_FRAME_SIZE_MAX_BYTES + 1))], "BLOB_FRAME_TOO_LARGE"),
        ([he_pb2.BlobFrame(hash=b"short", size_bytes=1, data=b"x")], "MALFORMED"),
        ([], "BLOB_SIZE_WRONG"),
    ],
)
async def test_wrong_uploads_leave_nothing_behind(
    rpc: Rpc, frames: list[he_pb2.BlobFrame], code: str, tmp_path: Path
) -> None:
    assert (await put(rpc, *frames)).code == code
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
