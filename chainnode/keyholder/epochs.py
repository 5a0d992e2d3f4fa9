"""A member's part in key ceremonies: enrol, deal and receive pieces, test them, vote."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from chainnode.he import council, key_vectors, release
from chainnode.he.profiles import ProfileName
from chainnode.he.threshold import Sharing
from chainnode.keyholder.store import KeyStore
from chainnode.sdk.scoring import (
    EPOCH_ACTIVE,
    EPOCH_FAILED,
    EPOCH_OPEN,
    EPOCH_TESTING,
    epoch_subject,
    read_posts,
    read_profiles,
    read_sharing,
)
from chainnode.sdk.scoring_service import ScoringService
from chainnode.types.errors import PeerFault


@dataclass(frozen=True, slots=True)
class _Part:
    """This member's part in a running ceremony; `messages`: index of its message by round."""

    ceremony: council.Ceremony
    first: council.FirstRound
    messages: dict[int, bytes]


class EpochKeeper:
    """Brings the council's latest epoch forward.

    Args:
        service: the keyholder, for its chain and its organisation.
        store: where pieces of the key are kept.
    """

    def __init__(self, service: ScoringService, store: KeyStore) -> None:
        self._service = service
        self._chain = service.chain
        self._organisation = service.organisation
        self._store = store
        self._parts: dict[int, _Part] = {}
        self._settled = -1

    async def advance(self) -> None:
        """Do what can be done now for the latest epoch."""
        epoch, status, seed, test_seed = await self._chain.view("epoch_info", epoch=0)
        if self._settled == epoch and status in (EPOCH_ACTIVE, EPOCH_FAILED):
            return
        sharing = await read_sharing(self._chain, epoch)
        if self._organisation not in sharing.members:
            return
        seat = sharing.members.index(self._organisation)
        keys = await self._chain.view("sealing_key_list", epoch=epoch)
        if keys[seat] != release.public_bytes(self._store.sealing_key):
            sealing_key = release.public_bytes(self._store.sealing_key)
            await self._service.attempt("enrol_keyholder", sealing_key=sealing_key)
            return
        if epoch == 0:
            # One member opens the first epoch, or four would give up each other's.
            if seat == 0 and all(keys):
                await self._service.attempt("open_epoch")
        elif status == EPOCH_OPEN and all(keys):
            try:
                await self._exchange_messages(epoch, seed, sharing, keys)
            except PeerFault as error:
                await self._fail(epoch, sharing, error)
        elif status == EPOCH_TESTING:
            await self._test(epoch, test_seed, sharing)
        elif status in (EPOCH_ACTIVE, EPOCH_FAILED):
            self._settled = epoch
            self._parts.clear()

    async def _exchange_messages(
        self, epoch: int, seed: bytes, sharing: Sharing, keys: list[bytes]
    ) -> None:
        if epoch not in self._parts:
            if self._organisation in await self._posts(epoch, sharing, "commit 1"):
                # Round 1's secret died with an earlier process: only a new epoch helps.
                await self._service.attempt("open_epoch")
                return
            self._parts = {epoch: await self._begin(epoch, seed, sharing, keys)}
        part = self._parts[epoch]
        if not await self._exchange(epoch, sharing, 1, part.messages[1]):
            return
        if 2 not in part.messages:
            await self._collect_first(epoch, sharing, part)
            dealt = await asyncio.to_thread(
                part.ceremony.receive, part.first, self._store.sealing_key
            )
            self._store.keep_pieces(epoch, dealt)
            part.messages[2] = await self._stored(
                await asyncio.to_thread(part.ceremony.round2, part.first)
            )
        if not await self._exchange(epoch, sharing, 2, part.messages[2]):
            return
        if self._organisation in await self._posts(epoch, sharing, "keys"):
            return
        second = {
            index: await self._chain.get_blob(digest)
            for index, digest in (await self._hashes(epoch, sharing, 2)).items()
        }
        made = await asyncio.to_thread(council.aggregate, part.first, second)
        for blob in (*made.public_keys.values(), *made.relin_keys.values()):
            await self._chain.put_blob(blob)
        await self._service.attempt("submit_keys", epoch=epoch, keys=made.hashes())

    async def _fail(self, epoch: int, sharing: Sharing, error: PeerFault) -> None:
        """Say on chain whose message is wrong; the epoch ends by it."""
        if error.code not in council.MESSAGE_FAULTS or error.subject not in sharing.members:
            raise error
        self._service.complain(f"epoch {epoch}", error)
        await self._service.attempt(
            "fail_epoch", epoch=epoch, organisation=error.subject, fault=error.message
        )

    async def _begin(self, epoch: int, seed: bytes, sharing: Sharing, keys: list[bytes]) -> _Part:
        """Draw the pieces this member leads, keep them, and store its first message's parts."""
        profiles = await read_profiles(self._chain, epoch)
        led = {
            index: council.PieceSecret.draw(profiles)
            for index in sharing.led_by(self._organisation)
        }
        self._store.keep_pieces(epoch, led)
        ceremony = council.Ceremony(seed, sharing, self._organisation, led, profiles)
        by_name = dict(zip(sharing.members, keys, strict=True))
        parts = await asyncio.to_thread(ceremony.round1, by_name)
        first = council.FirstRound(seed, sharing, profiles)
        return _Part(ceremony, first, {1: await self._stored(parts)})

    async def _collect_first(self, epoch: int, sharing: Sharing, part: _Part) -> None:
        """Add up everyone's first parts, one at a time."""
        for index, digest in (await self._hashes(epoch, sharing, 1)).items():
            if index not in part.first.deals:
                blob = await self._chain.get_blob(digest)
                await asyncio.to_thread(part.first.add, index, blob)

    async def _stored(self, parts: list[bytes]) -> bytes:
        """A message's index, its parts stored as blobs."""
        for blob in parts:
            await self._chain.put_blob(blob)
        return council.message_index(parts)

    async def _exchange(self, epoch: int, sharing: Sharing, number: int, message: bytes) -> bool:
        """Commit, then reveal when all have committed; True when all have revealed."""
        me, size = self._organisation, len(sharing.members)
        commits = await self._posts(epoch, sharing, f"commit {number}")
        digest = hashlib.sha256(message).digest()
        if me not in commits:
            await self._chain.put_blob(message)
            commitment = council.commitment(epoch, number, digest, me)
            await self._service.attempt("commit", epoch=epoch, round=number, commitment=commitment)
            commits = await self._posts(epoch, sharing, f"commit {number}")
        reveals = await self._posts(epoch, sharing, f"reveal {number}")
        if len(commits) == size and me not in reveals:
            await self._service.attempt("reveal", epoch=epoch, round=number, blob=digest)
            reveals = await self._posts(epoch, sharing, f"reveal {number}")
        return len(reveals) == size

    async def _posts(self, epoch: int, sharing: Sharing, step: str) -> dict[str, bytes]:
        return await read_posts(self._chain, sharing, epoch, epoch_subject(epoch), step)

    async def _hashes(self, epoch: int, sharing: Sharing, number: int) -> dict[int, bytes]:
        """The hash of every piece's part of a round."""
        found: dict[int, bytes] = {}
        for name, digest in (await self._posts(epoch, sharing, f"reveal {number}")).items():
            message = await self._chain.get_blob(digest)
            found |= council.part_hashes(sharing, name, message)
        return found

    async def _test(self, epoch: int, test_seed: bytes, sharing: Sharing) -> None:
        if self._organisation in await self._posts(epoch, sharing, "verdict"):
            return
        profiles = await read_profiles(self._chain, epoch)
        held = self._store.pieces(epoch, sharing.held_by(self._organisation), profiles)
        if held is None:
            fault = f"{self._organisation} has lost its pieces"
            await self._service.attempt("vote_test", epoch=epoch, fault=fault)
            return
        keys = await self._keys(epoch, profiles)
        vectors = await asyncio.to_thread(key_vectors.test_vectors, keys, test_seed)
        posted = await self._posts(epoch, sharing, "test shares")
        if self._organisation not in posted:
            self._store.count_release(epoch, f"test/{test_seed.hex()}", len(vectors))
            shares = key_vectors.share_of_vectors(vectors, held, epoch, sharing)
            await self._service.attempt("post_test", epoch=epoch, shares=shares)
            posted = await self._posts(epoch, sharing, "test shares")
        if len(posted) == len(sharing.members):
            fault = ""
            try:
                key_vectors.check_vectors(vectors, sharing, posted)
            except PeerFault as error:
                self._service.complain(f"epoch {epoch}", error)
                fault = error.message
            await self._service.attempt("vote_test", epoch=epoch, fault=fault)

    async def _keys(self, epoch: int, profiles: tuple[ProfileName, ...]) -> council.KeySet:
        hashes = await self._chain.view("keys_of", epoch=epoch)
        public_keys: dict[ProfileName, bytes] = {}
        relin_keys: dict[ProfileName, bytes] = {}
        for name in profiles:
            public_keys[name] = await self._chain.get_blob(hashes[f"public_key_{name.lower()}"])
        for name in council.relin_profiles(profiles):
            relin_keys[name] = await self._chain.get_blob(hashes[f"relin_key_{name.lower()}"])
        return council.KeySet(public_keys, relin_keys)
