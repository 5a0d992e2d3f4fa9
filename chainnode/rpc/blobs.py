"""`chainnode.v1.He`: blobs beside the chain, named by their hash, kept in a folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from chainnode._proto import he_pb2, types_pb2
from chainnode.rpc.authorisation import Guard
from chainnode.types.errors import ClientFault, InternalError
from chainnode.types.limits import (
    BLOB_FRAME_SIZE_MAX_BYTES,
    BLOB_HASHES_PER_REQUEST_MAX,
    BLOB_SIZE_MAX_BYTES,
)

Member = types_pb2.Member


class BlobStore:
    """Content-addressed files. A file under its final name is whole and synced.

    Args:
        directory: created when absent; unfinished uploads of an earlier run are removed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for unfinished in directory.glob("*.part"):
            unfinished.unlink()

    def path(self, digest: bytes) -> Path:
        """Where a blob is or would be."""
        name = digest.hex()
        return self._directory / name[:2] / name

    def holds(self, digest: bytes) -> bool:
        """Whether the blob is here."""
        return len(digest) == 32 and self.path(digest).exists()

    def unfinished(self) -> Path:
        """A fresh name for an upload."""
        return self._directory / f"{secrets.token_hex(16)}.part"

    def keep(self, unfinished: Path, digest: bytes) -> None:
        """Give a finished upload its name, durably.

        Raises:
            InternalError: STORAGE_FAILED.
        """
        final = self.path(digest)
        try:
            final.parent.mkdir(exist_ok=True)
            descriptor = os.open(unfinished, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            unfinished.replace(final)
        except OSError as error:
            raise InternalError("STORAGE_FAILED", "A blob could not be stored.") from error


class HeService:
    """`chainnode.v1.He` over a `BlobStore`."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    async def put(
        self, frames: AsyncIterator[he_pb2.BlobFrame], caller: Member
    ) -> he_pb2.BlobReceipt:
        """Take an upload; it counts only if its bytes have the announced hash and size.

        Raises:
            ClientFault: BLOB_TOO_LARGE, BLOB_FRAME_TOO_LARGE, BLOB_SIZE_WRONG, BLOB_HASH_WRONG.
        """
        digest, announced, received = b"", 0, 0
        hasher = hashlib.sha256()
        unfinished = self._store.unfinished()
        try:
            with unfinished.open("xb") as file:
                async for frame in frames:
                    if not digest:
                        digest, announced = frame.hash, frame.size_bytes
                        _check_announcement(digest, announced)
                        if self._store.holds(digest):
                            return he_pb2.BlobReceipt(hash=digest, stored_before=True)
                    received += len(frame.data)
                    _check_progress(len(frame.data), received, announced)
                    hasher.update(frame.data)
                    file.write(frame.data)
            _check_whole(digest, announced, received, hasher.digest())
            await asyncio.to_thread(self._store.keep, unfinished, digest)
        finally:
            unfinished.unlink(missing_ok=True)
        return he_pb2.BlobReceipt(hash=digest)

    async def get(
        self, request: he_pb2.BlobRequest, caller: Member
    ) -> AsyncIterator[he_pb2.BlobFrame]:
        """Stream a blob.

        Raises:
            ClientFault: BLOB_NOT_FOUND.
        """
        if not self._store.holds(request.hash):
            raise ClientFault(
                "BLOB_NOT_FOUND",
                "This node does not hold the blob.",
                subject=request.hash.hex()[:64],
                fix="ask another node, or upload it again",
            )
        path = self._store.path(request.hash)
        with path.open("rb") as file:
            size_bytes = path.stat().st_size
            data = file.read(BLOB_FRAME_SIZE_MAX_BYTES)
            yield he_pb2.BlobFrame(hash=request.hash, size_bytes=size_bytes, data=data)
            while data := file.read(BLOB_FRAME_SIZE_MAX_BYTES):
                yield he_pb2.BlobFrame(data=data)

    async def present(
        self, request: he_pb2.BlobsPresentRequest, caller: Member
    ) -> he_pb2.BlobsPresentResponse:
        """Which blobs are here."""
        if len(request.hashes) > BLOB_HASHES_PER_REQUEST_MAX:
            raise ClientFault("MALFORMED", f"Ask for at most {BLOB_HASHES_PER_REQUEST_MAX} hashes.")
        return he_pb2.BlobsPresentResponse(
            present=[self._store.holds(digest) for digest in request.hashes]
        )

    def handler(self, guard: Guard) -> grpc.GenericRpcHandler:
        """The handler to add to the server."""
        return grpc.method_handlers_generic_handler(
            "chainnode.v1.He",
            {
                "PutBlob": grpc.stream_unary_rpc_method_handler(
                    guard.unary("/chainnode.v1.He/PutBlob", self.put),
                    request_deserializer=he_pb2.BlobFrame.FromString,
                    response_serializer=he_pb2.BlobReceipt.SerializeToString,
                ),
                "GetBlob": grpc.unary_stream_rpc_method_handler(
                    guard.streaming("/chainnode.v1.He/GetBlob", self.get),
                    request_deserializer=he_pb2.BlobRequest.FromString,
                    response_serializer=he_pb2.BlobFrame.SerializeToString,
                ),
                "BlobsPresent": grpc.unary_unary_rpc_method_handler(
                    guard.unary("/chainnode.v1.He/BlobsPresent", self.present),
                    request_deserializer=he_pb2.BlobsPresentRequest.FromString,
                    response_serializer=he_pb2.BlobsPresentResponse.SerializeToString,
                ),
            },
        )


def _check_announcement(digest: bytes, size_bytes: int) -> None:
    if len(digest) != 32:
        raise ClientFault("MALFORMED", "The first frame names the blob's SHA-256.")
    if size_bytes > BLOB_SIZE_MAX_BYTES:
        raise ClientFault(
            "BLOB_TOO_LARGE",
            f"A blob has at most {BLOB_SIZE_MAX_BYTES} bytes.",
            subject=f"{size_bytes} bytes",
            fix="split the column into more blocks",
        )


def _check_progress(frame_size_bytes: int, received: int, announced: int) -> None:
    if frame_size_bytes > BLOB_FRAME_SIZE_MAX_BYTES:
        raise ClientFault(
            "BLOB_FRAME_TOO_LARGE", f"A frame has at most {BLOB_FRAME_SIZE_MAX_BYTES} bytes."
        )
    if received > announced:
        raise ClientFault("BLOB_SIZE_WRONG", "More bytes came than were announced.")


def _check_whole(digest: bytes, announced: int, received: int, actual: bytes) -> None:
    if received != announced or not digest:
        raise ClientFault(
            "BLOB_SIZE_WRONG",
            f"{received} bytes came, {announced} were announced.",
            fix="upload again",
            retry="same-id",
        )
    if actual != digest:
        raise ClientFault(
            "BLOB_HASH_WRONG",
            "The bytes do not have the announced hash.",
            subject=digest.hex(),
            fix="upload again",
        )
