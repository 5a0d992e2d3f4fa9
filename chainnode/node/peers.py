"""The node's side of its peer links: what goes out, what comes in and where it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from chainnode import _native
from chainnode._proto import peer_pb2, types_pb2
from chainnode.consensus.interface import ConsensusMessage
from chainnode.ledger.ledger import Ledger
from chainnode.network import wire
from chainnode.network.peer_link import PeerLink
from chainnode.network.peer_service import PROTOCOL_VERSION
from chainnode.node.admission import Admission
from chainnode.types.codec import HASH_SIZE_BYTES
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.limits import BLOCK_TRANSACTIONS_MAX, MEBI, SUBMIT_BATCH_TRANSACTIONS_MAX
from chainnode.types.vote import Proposal, Vote, VoteSummary

SYNC_TIMEOUT_SECONDS = 30.0


class ConsensusInbox(Protocol):
    """Where consensus messages go."""

    async def received(self, peer: bytes, message: ConsensusMessage) -> None:
        """A decoded message of an authenticated peer; may wait."""

    def peer_height(self, peer: bytes, height: int) -> None:
        """A peer's claim about its last committed height."""

    def position(self) -> tuple[int, int]:
        """(height, round) being decided here."""


class Peers:
    """All peer links of one node.

    Args:
        links: one per other validator.
        ledger: serves committed blocks and bodies.
        pool: serves pending bodies.
        admission: takes what peers send.
        hello: this node's greeting, completed with its height at every connection.
    """

    def __init__(
        self,
        links: Sequence[PeerLink],
        ledger: Ledger,
        pool: _native.TxPool,
        admission: Admission,
    ) -> None:
        self.links = {link.peer.validator: link for link in links}
        self._ledger = ledger
        self._pool = pool
        self._admission = admission
        self._consensus: ConsensusInbox | None = None
        self._arrival = asyncio.Event()
        self._wanted: dict[bytes, int] = {}

    def connect(self, consensus: ConsensusInbox) -> None:
        """Deliver consensus messages from now on, and begin to connect."""
        self._consensus = consensus
        for link in self.links.values():
            link.start()

    def connected(self) -> list[str]:
        """Names of connected peers."""
        return sorted(link.peer.name for link in self.links.values() if link.connected)

    def connected_validators(self) -> list[bytes]:
        """Their addresses."""
        return [validator for validator, link in self.links.items() if link.connected]

    async def close(self) -> None:
        """Close all links."""
        await asyncio.gather(*(link.close() for link in self.links.values()))

    # --- outgoing ---------------------------------------------------------------------------------

    def send(self, peer: bytes, message: ConsensusMessage) -> None:
        """One consensus message to one peer."""
        link = self.links.get(peer)
        if link is not None:
            link.send(encode_consensus(message))

    def broadcast(self, message: ConsensusMessage) -> None:
        """One consensus message to all peers."""
        data = encode_consensus(message)
        for link in self.links.values():
            link.send(data)

    def gossip(self, batch: bytes) -> None:
        """Accepted transactions to all peers."""
        data = wire.encode_batch(batch, bodies=False)
        for link in self.links.values():
            link.send_bulk(data)

    def greeting(self, hello: Callable[[], peer_pb2.PeerHello]) -> list[bytes]:
        """What starts a stream: who we are, where we stand, what is pending here."""
        messages = [
            peer_pb2.PeerMessage(hello=hello()).SerializeToString(deterministic=True),
            self._status(),
        ]
        wids = self._pool.propose(SUBMIT_BATCH_TRANSACTIONS_MAX, 4 * MEBI)
        if wids:
            messages.append(wire.encode_batch(self._pool.bodies(wids), bodies=False))
        return messages

    def tell_height(self, peer: bytes | None = None) -> None:
        """Our committed height to one peer, or to all."""
        data = self._status()
        for validator, link in self.links.items():
            if peer is None or validator == peer:
                link.send(data)

    def request_bodies(self, peer: bytes, height: int, wids: Sequence[bytes]) -> None:
        """Ask one peer for the bodies of a proposal."""
        self._wanted.update(dict.fromkeys(wids, height))
        request = peer_pb2.BodyRequest(height=height, wids=wids)
        link = self.links.get(peer)
        if link is not None:
            link.send(peer_pb2.PeerMessage(body_request=request).SerializeToString())

    def forget_bodies(self, wids: Sequence[bytes]) -> None:
        """Take no more of these bodies; another proposal that needs them asks again."""
        for wid in wids:
            self._wanted.pop(wid, None)

    def other_peers(self, peer: bytes) -> list[bytes]:
        """Connected peers, those after `peer` in address order first."""
        connected = sorted(
            validator
            for validator, link in self.links.items()
            if link.connected and validator != peer
        )
        return [item for item in connected if item > peer] + [
            item for item in connected if item < peer
        ]

    async def blocks(self, peer: bytes, from_height: int, count: int) -> AsyncIterator[bytes]:
        """Committed blocks of a peer."""
        request = peer_pb2.BlockRangeRequest(from_height=from_height, count_max=count)
        async for data in self.links[peer].blocks(request, SYNC_TIMEOUT_SECONDS):
            yield data

    async def arrived(self, timeout_seconds: float) -> None:
        """Return when any transactions have arrived, or after the timeout."""
        try:
            await asyncio.wait_for(self._arrival.wait(), timeout_seconds)
        except TimeoutError:
            return

    def transactions_arrived(self) -> None:
        """Wake whoever waits for bodies."""
        waiting, self._arrival = self._arrival, asyncio.Event()
        waiting.set()

    # --- incoming ---------------------------------------------------------------------------------

    async def batch(self, peer: bytes, message: wire.BatchMessage) -> None:
        """Transactions or bodies of a peer."""
        if not message.bodies:
            self._admission.from_peer(message.batch)
            return
        # What nobody asked for would fill the memory until the next block.
        decided = self._ledger.height
        self._wanted = {wid: at for wid, at in self._wanted.items() if at > decided}
        if not self._wanted:
            return
        try:
            await self._admission.bodies(message.batch, list(self._wanted))
        except ValueError:
            raise PeerFault("BATCH_MALFORMED", "Bodies of a peer are no batch.") from None

    async def message(self, peer: bytes, message: peer_pb2.PeerMessage) -> None:
        """Everything but transactions."""
        consensus = self._consensus
        if consensus is None:
            return
        kind = message.WhichOneof("body")
        if kind == "body_request":
            self._answer_bodies(peer, message.body_request)
        elif kind == "hello":
            consensus.peer_height(peer, message.hello.height)
        elif kind == "status":
            consensus.peer_height(peer, message.status.height)
        else:
            try:
                await consensus.received(peer, _decode_consensus(message))
            except ClientFault as error:
                raise PeerFault(error.code, error.message, subject=error.subject) from error

    def committed_block(self, height: int) -> bytes | None:
        """An encoded CommittedBlock of this node."""
        logged = self._ledger.block(height)
        if logged is None:
            return None
        return peer_pb2.CommittedBlock(
            block=types_pb2.Block.FromString(logged.block),
            certificate=types_pb2.CommitCertificate.FromString(logged.certificate),
            body=types_pb2.TransactionBatch.FromString(logged.batch),
        ).SerializeToString(deterministic=True)

    def _answer_bodies(self, peer: bytes, request: peer_pb2.BodyRequest) -> None:
        link = self.links.get(peer)
        if link is None or len(request.wids) > BLOCK_TRANSACTIONS_MAX:
            return
        if any(len(wid) != HASH_SIZE_BYTES for wid in request.wids):
            raise PeerFault("PEER_MESSAGE_MALFORMED", "A peer asked for a wid that is none.")
        absent = set(self._pool.missing(request.wids))
        held = [wid for wid in request.wids if wid not in absent]
        if held:
            link.send(wire.encode_batch(self._pool.bodies(held), bodies=True))
        elif (logged := self._ledger.block(request.height)) is not None:
            link.send(wire.encode_batch(logged.batch, bodies=True))

    def _status(self) -> bytes:
        height, round_number = (0, 0) if self._consensus is None else self._consensus.position()
        status = peer_pb2.PeerStatus(
            height=self._ledger.height, consensus_height=height, round=round_number
        )
        return peer_pb2.PeerMessage(status=status).SerializeToString(deterministic=True)


def encode_consensus(message: ConsensusMessage) -> bytes:
    """A consensus message as it travels."""
    match message:
        case Proposal():
            wrapped = peer_pb2.PeerMessage(proposal=message.to_proto())
        case Vote():
            wrapped = peer_pb2.PeerMessage(vote=message.to_proto())
        case VoteSummary():
            wrapped = peer_pb2.PeerMessage(vote_summary=message.to_proto())
    return wrapped.SerializeToString(deterministic=True)


def _decode_consensus(message: peer_pb2.PeerMessage) -> ConsensusMessage:
    match message.WhichOneof("body"):
        case "proposal":
            return Proposal.from_proto(message.proposal)
        case "vote":
            return Vote.from_proto(message.vote)
        case "vote_summary":
            return VoteSummary.from_proto(message.vote_summary)
    raise PeerFault("PEER_MESSAGE_MALFORMED", "A peer sent an unknown kind of message.")


def hello_of(
    chain_id: str, genesis_hash: bytes, validator: bytes, ledger: Ledger
) -> Callable[[], peer_pb2.PeerHello]:
    """This node's hello, with its height at the moment of asking."""

    def hello() -> peer_pb2.PeerHello:
        return peer_pb2.PeerHello(
            chain_id=chain_id,
            genesis_hash=genesis_hash,
            validator=validator,
            height=ledger.height,
            protocol_version=PROTOCOL_VERSION,
        )

    return hello
