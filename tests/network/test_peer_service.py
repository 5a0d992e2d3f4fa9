"""The receiving side of a peer's stream: whose fault a failure is, and who may go on speaking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from chainnode._proto import peer_pb2, types_pb2
from chainnode.identity import load_identity
from chainnode.network import wire
from chainnode.network.peer_service import PROTOCOL_VERSION, PeerService
from chainnode.network.tls import TlsMaterial, client_channel, roots_pem, server_credentials
from chainnode.node.directory import MEMBER_PREFIX, MemberDirectory
from chainnode.node.testnet import SERVER_NAME, prepare
from chainnode.types.codec import address_of, encode
from chainnode.types.errors import ChainnodeError, InternalError, PeerFault
from chainnode.types.genesis import Genesis
from chainnode.types.validators import Validator, ValidatorSet

GENESIS_HASH = bytes(32)


class Inbox:
    """Keeps what came; fails when told to."""

    def __init__(self) -> None:
        self.heights: list[int] = []
        self.arrived = asyncio.Event()
        self.error: ChainnodeError | None = None

    async def batch(self, peer: bytes, message: wire.BatchMessage) -> None:
        raise AssertionError("no test sends a batch")

    async def message(self, peer: bytes, message: peer_pb2.PeerMessage) -> None:
        if message.WhichOneof("body") == "status":
            self.heights.append(message.status.height)
            self.arrived.set()
            if self.error is not None:
                raise self.error

    def committed_block(self, height: int) -> bytes | None:
        if self.error is not None:
            raise self.error
        return None


class Rig:
    """A server with the peer service, and one validator's channel to it."""

    def __init__(self, directory: Path) -> None:
        layout = prepare(directory)
        genesis = Genesis.decode(layout.genesis.read_bytes()).to_proto()
        roots = roots_pem(item.ca_certificate for item in genesis.organisations)
        self.directory = MemberDirectory(
            ValidatorSet(Validator.from_proto(item) for item in genesis.validators)
        )
        for member in genesis.members:
            self.write(member)
        self.inbox = Inbox()
        service = PeerService(self.directory, self.inbox, layout.chain_id, GENESIS_HASH)
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers([service.handler()])

        def material(name: str) -> TlsMaterial:
            identity = load_identity(layout.identities[name])
            return TlsMaterial(identity.tls_certificate_pem, identity.tls_key_pem, roots)

        credentials = server_credentials(material("bank-a/node"))
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.material = material("guarantor/node")
        self.channel = self.connect(self.port)
        self.key = load_identity(layout.identities["guarantor/node"]).public_key
        self.member = next(item for item in genesis.members if item.public_key == self.key)
        self.hello = peer_pb2.PeerHello(
            chain_id=layout.chain_id,
            genesis_hash=GENESIS_HASH,
            validator=address_of(self.key),
            protocol_version=PROTOCOL_VERSION,
        )

    def connect(self, port: int) -> grpc.aio.Channel:
        """A channel of the validator to a port."""
        return client_channel(f"127.0.0.1:{port}", self.material, SERVER_NAME)

    def write(self, member: types_pb2.Member) -> None:
        """What a block does that writes this member record."""
        self.directory.update([(MEMBER_PREFIX + address_of(member.public_key), encode(member))])

    async def stream(self) -> Any:
        """A stream that has said hello."""
        call: Any = self.channel.stream_unary("/chainnode.v1.Peer/Messages")()
        await call.write(encode(peer_pb2.PeerMessage(hello=self.hello)))
        return call


def status(height: int) -> bytes:
    return encode(peer_pb2.PeerMessage(status=peer_pb2.PeerStatus(height=height)))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "testnet")
    await made.server.start()
    yield made
    await made.channel.close()
    await made.server.stop(None)


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    return await call.code(), await call.details()


async def test_this_nodes_own_fault_is_not_blamed_on_the_peer(rig: Rig) -> None:
    rig.inbox.error = InternalError("BLOCK_LOG_DAMAGED", "The block log is damaged.")
    with capture_logs() as logs:
        call = await rig.stream()
        await call.write(status(1))
        assert await ended(call) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    events = [(entry["event"], entry["log_level"], entry["code"]) for entry in logs]
    assert events == [("peer_service_failed", "error", "BLOCK_LOG_DAMAGED")]


async def test_a_peers_fault_is_its_own(rig: Rig) -> None:
    rig.inbox.error = PeerFault("PEER_MESSAGE_MALFORMED", "A peer sent junk.")
    with capture_logs() as logs:
        call = await rig.stream()
        await call.write(status(1))
        code = grpc.StatusCode.FAILED_PRECONDITION
        assert await ended(call) == (code, "PEER_MESSAGE_MALFORMED")
    assert [entry["event"] for entry in logs] == ["peer_refused"]


async def test_a_block_that_cannot_be_read_here_is_this_nodes_fault(rig: Rig) -> None:
    rig.inbox.error = InternalError("BLOCK_LOG_DAMAGED", "The block log is damaged.")
    method: Any = rig.channel.unary_stream(
        "/chainnode.v1.Peer/Blocks",
        request_serializer=peer_pb2.BlockRangeRequest.SerializeToString,
    )
    with capture_logs() as logs:
        call = method(peer_pb2.BlockRangeRequest(from_height=1, count_max=2))
        assert await ended(call) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert [entry["code"] for entry in logs] == ["BLOCK_LOG_DAMAGED"]


@pytest.mark.parametrize("gone", [types_pb2.MEMBER_STATUS_REVOKED, types_pb2.MEMBER_STATUS_FROZEN])
async def test_an_open_stream_ends_with_the_rights_of_who_speaks(
    rig: Rig, gone: types_pb2.MemberStatus
) -> None:
    call = await rig.stream()
    await call.write(status(1))
    await rig.inbox.arrived.wait()
    record = types_pb2.Member()
    record.CopyFrom(rig.member)
    record.status = gone
    rig.write(record)
    await call.write(status(2))
    assert await ended(call) == (grpc.StatusCode.FAILED_PRECONDITION, "PEER_NOT_A_VALIDATOR")
    assert rig.inbox.heights == [1]


async def test_a_slow_handshake_is_waited_for(rig: Rig) -> None:
    """On a loaded machine a TLS handshake takes longer than the pause between two attempts."""
    tasks: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        finally:
            writer.close()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        theirs = await asyncio.open_connection("127.0.0.1", rig.port)
        tasks.add(asyncio.create_task(forward(reader, theirs[1])))
        tasks.add(asyncio.create_task(forward(theirs[0], writer)))

    proxy = await asyncio.start_server(slow, "127.0.0.1", 0)
    channel = rig.connect(proxy.sockets[0].getsockname()[1])
    try:
        method: Any = channel.unary_stream(
            "/chainnode.v1.Peer/Blocks",
            request_serializer=peer_pb2.BlockRangeRequest.SerializeToString,
        )
        call = method(peer_pb2.BlockRangeRequest(from_height=1, count_max=1))
        assert await call.code() is grpc.StatusCode.OK
    finally:
        await channel.close()
        proxy.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
