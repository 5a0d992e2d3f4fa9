"""Peer messages: batches pass through as bytes, everything else decodes, junk is a PeerFault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainnode._proto import peer_pb2, types_pb2
from chainnode.network import wire
from chainnode.types.codec import encode
from chainnode.types.errors import PeerFault


@given(st.lists(st.binary(max_size=300), max_size=20), st.booleans())
def test_a_batch_is_framed_as_protobuf_would(transactions: list[bytes], bodies: bool) -> None:
    batch = types_pb2.TransactionBatch(transactions=transactions)
    framed = wire.encode_batch(encode(batch), bodies=bodies)
    message = (
        peer_pb2.PeerMessage(bodies=batch) if bodies else peer_pb2.PeerMessage(transactions=batch)
    )
    assert framed == encode(message)
    assert wire.decode(framed) == wire.BatchMessage(encode(batch), bodies)


def test_other_messages_decode() -> None:
    message = peer_pb2.PeerMessage(status=peer_pb2.PeerStatus(height=7))
    assert wire.decode(encode(message)) == message


@given(st.binary(max_size=64))
def test_junk_is_a_peer_fault_or_a_message(data: bytes) -> None:
    try:
        decoded = wire.decode(data)
    except PeerFault as fault:
        assert fault.code == "PEER_MESSAGE_MALFORMED"
    else:
        assert isinstance(decoded, wire.BatchMessage) or decoded.WhichOneof("body")


@pytest.mark.parametrize("data", [b"", b"\x32", b"\x32\x05ab", b"\x32\x00x", b"\x32" + b"\xff" * 9])
def test_wrong_lengths_are_refused(data: bytes) -> None:
    with pytest.raises(PeerFault):
        wire.decode(data)
