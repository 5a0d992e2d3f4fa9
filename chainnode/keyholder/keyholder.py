"""A member's part in the council: the key ceremony, group checks, and shares of proven results."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chainnode._native import HeSecretKey
from chainnode.he import council, release
from chainnode.he.engine import (
    gate_outputs,
    lift,
    pack_container,
    passes_gate,
    validate_result,
)
from chainnode.he.plan import Plan
from chainnode.keyholder.proofs import proven_result
from chainnode.keyholder.store import KeyStore
from chainnode.sdk.scoring import (
    CHECKING,
    COMPUTING,
    EPOCH_ACTIVE,
    EPOCH_FAILED,
    EPOCH_OPEN,
    EPOCH_TESTING,
    RELEASING,
    QueryFacts,
    ScoringChain,
    confirm_plan,
    read_members,
    read_query,
    read_table,
)
from chainnode.sdk.scoring_service import ScoringService
from chainnode.types.errors import PeerFault
from chainnode.types.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Case:
    """A query whose result this member has proven, and its worker reproduced."""

    facts: QueryFacts
    plan: Plan
    ciphertexts: tuple[bytes, ...]
    result_hash: bytes

    def context(self, organisation: str, purpose: str) -> bytes:
        """What a sealed share of this case is bound to."""
        return release.share_context(self.facts.query, self.result_hash, organisation, purpose)


class Recompute(Protocol):
    """Asks the organisation's own worker to compute a result again."""

    async def __call__(self, query: bytes, index: int, plan: bytes) -> bytes:
        """The result hash."""
        ...


class Keyholder(ScoringService):
    """One organisation's keyholder.

    Args:
        chain: this process's view of the chain; believed only with a proof.
        organisation: whose keyholder it is.
        folder: data folder beside the key store.
        store: the encrypted key store.
        validators: of the genesis block, as this organisation knows it.
        recompute: the own worker.
    """

    def __init__(
        self,
        chain: ScoringChain,
        organisation: str,
        folder: Path,
        store: KeyStore,
        validators: ValidatorSet,
        recompute: Recompute,
        tick_ms: int = 2_000,
    ) -> None:
        super().__init__(chain, organisation, folder, tick_ms)
        self._store = store
        self._validators = validators
        self._recompute = recompute
        self._ceremonies: dict[int, tuple[council.Ceremony, dict[int, bytes]]] = {}
        self._confirmed: dict[bytes, Case] = {}
        self._members: tuple[str, ...] = ()
        self._settled = 0

    # --- ceremony ---------------------------------------------------------------------------------

    async def advance_epoch(self) -> None:
        """See `ScoringService.advance_epoch`."""
        self._members = self._members or await read_members(self.chain)
        mine = self._members.index(self.organisation)
        keys = await self.chain.view("sealing_key_list")
        if keys[mine] != release.public_bytes(self._store.sealing_key):
            sealing_key = release.public_bytes(self._store.sealing_key)
            await self.attempt("enrol_keyholder", sealing_key=sealing_key)
            return
        epoch, status, seed, test_seed = await self.chain.view("epoch_info", epoch=0)
        if epoch == 0:
            # One member opens the first epoch, or four would give up each other's.
            if mine == 0 and all(keys):
                await self.attempt("open_epoch")
        elif status == EPOCH_OPEN:
            await self._advance_ceremony(epoch, seed)
        elif status == EPOCH_TESTING:
            await self._advance_test(epoch, test_seed)
        elif status in (EPOCH_ACTIVE, EPOCH_FAILED) and self._settled != epoch:
            self._settled = epoch
            self._ceremonies.clear()

    async def _advance_ceremony(self, epoch: int, seed: bytes) -> None:
        first = await self._round(epoch, 1)
        mine = self._members.index(self.organisation)
        if epoch not in self._ceremonies:
            if first[0][mine]:
                # Round 1's secret died with an earlier process: only a new epoch helps.
                await self.attempt("open_epoch")
                return
            ceremony = council.Ceremony(seed, self._store.new_secrets(epoch))
            message = await asyncio.to_thread(ceremony.round1)
            self._ceremonies[epoch] = (ceremony, {1: message})
        ceremony, messages = self._ceremonies[epoch]
        if not await self._exchange(epoch, 1, messages[1]):
            return
        opened = await self._messages(epoch, 1)
        if 2 not in messages:
            messages[2] = await asyncio.to_thread(ceremony.round2, opened)
        if not await self._exchange(epoch, 2, messages[2]):
            return
        if await self._done(epoch, "keys"):
            return
        second = await self._messages(epoch, 2)
        keys = await asyncio.to_thread(council.aggregate, seed, opened, second)
        for blob in (*keys.public_keys.values(), keys.relin_key):
            await self.chain.put_blob(blob)
        await self.attempt("submit_keys", epoch=epoch, keys=keys.hashes())

    async def _exchange(self, epoch: int, number: int, message: bytes) -> bool:
        """Commit, then reveal when all have committed; True when all have revealed."""
        mine = self._members.index(self.organisation)
        commits, reveals = await self._round(epoch, number)
        digest = hashlib.sha256(message).digest()
        if not commits[mine]:
            await self.chain.put_blob(message)
            commitment = council.commitment(epoch, number, digest, self.organisation)
            await self.attempt("commit", epoch=epoch, round=number, commitment=commitment)
            commits, reveals = await self._round(epoch, number)
        if all(commits) and not reveals[mine]:
            await self.attempt("reveal", epoch=epoch, round=number, blob=digest)
            commits, reveals = await self._round(epoch, number)
        return all(reveals)

    async def _round(self, epoch: int, number: int) -> tuple[list[bytes], list[bytes]]:
        commits, reveals = await self.chain.view("round_info", epoch=epoch, round=number)
        return list(commits), list(reveals)

    async def _messages(self, epoch: int, number: int) -> dict[str, bytes]:
        _, reveals = await self._round(epoch, number)
        return {
            name: await self.chain.get_blob(digest)
            for name, digest in zip(self._members, reveals, strict=True)
        }

    async def _done(self, epoch: int, step: str) -> bool:
        return bool(
            await self.chain.view(
                "epoch_step_done", epoch=epoch, step=step, organisation=self.organisation
            )
        )

    async def _advance_test(self, epoch: int, test_seed: bytes) -> None:
        if await self._done(epoch, "verdict"):
            return
        secrets = self._store.secrets(epoch)
        if secrets is None:
            await self.attempt("vote_test", epoch=epoch, correct=False)
            return
        keys = await self._keys(epoch)
        vectors = await asyncio.to_thread(council.test_vectors, keys, test_seed)
        if not await self._done(epoch, "test shares"):
            self._store.count_release(epoch, f"test/{test_seed.hex()}", len(vectors))
            shares = council.share_of_vectors(
                vectors, secrets, self._store.flood_key, epoch, self._members
            )
            await self.attempt("post_test", epoch=epoch, shares=shares)
        posted = await self.chain.view("test_share_list", epoch=epoch)
        if all(posted):
            try:
                council.check_vectors(vectors, dict(zip(self._members, posted, strict=True)))
                correct = True
            except PeerFault as error:
                self._complain(f"epoch {epoch}", error)
                correct = False
            await self.attempt("vote_test", epoch=epoch, correct=correct)

    async def _keys(self, epoch: int) -> council.KeySet:
        hashes = await self.chain.view("keys_of", epoch=epoch)
        return council.KeySet(
            {
                "S": await self.chain.get_blob(hashes["public_key_s"]),
                "S36": await self.chain.get_blob(hashes["public_key_s36"]),
            },
            await self.chain.get_blob(hashes["relin_key_s36"]),
        )

    # --- queries ----------------------------------------------------------------------------------

    async def advance_query(self, query: bytes) -> bool:
        """See `ScoringService.advance_query`."""
        self._members = self._members or await read_members(self.chain)
        facts = await read_query(self.chain, query)
        if facts.status not in (COMPUTING, CHECKING, RELEASING):
            self._confirmed.pop(query, None)
            return True
        tx_id = self.finalised.get(query)
        if facts.status == COMPUTING or tx_id is None:
            return False
        if query not in self._confirmed:
            confirmed = await self._confirm(facts, tx_id)
            if confirmed is None:
                return True
            self._confirmed[query] = confirmed
        case = self._confirmed[query]
        if facts.status == CHECKING:
            return await self._check_groups(case)
        if case.plan.aggregate is not None and not self._store.has_passed(query):
            # The node says all members passed the groups; this one did not.
            return False
        await self._share(case)
        return True

    async def _confirm(self, facts: QueryFacts, tx_id: bytes) -> Case | None:
        """Everything this member checks before it touches its key; None when it refuses."""
        proof = await self.chain.receipt_proof(tx_id)
        result_hash = proven_result(
            proof, self.chain.chain_id, self._validators, facts.query, facts.terms()
        )
        table = await read_table(self.chain, facts.table)
        try:
            plan = confirm_plan(table, facts)
        except PeerFault as error:
            await self._refuse(facts, error.message)
            return None
        own = await self._recompute(facts.query, facts.chunk_count, plan.encode())
        if own != result_hash:
            await self._refuse(facts, f"{self.organisation}'s worker computed another result")
            return None
        result = await self.chain.get_blob(result_hash)
        return Case(facts, plan, tuple(validate_result(plan, result)), result_hash)

    async def _refuse(self, facts: QueryFacts, reason: str) -> None:
        await self.attempt("refuse", query=facts.query, reason=reason)

    async def _check_groups(self, case: Case) -> bool:
        """Exchange count shares sealed to each member, then pass or fail on chain."""
        query, mine = case.facts.query, self._members.index(self.organisation)
        if self._store.has_passed(query) and await self._voted(query):
            return False
        gates = gate_outputs(case.plan)
        posted = await self.chain.view("counts_of", query=query)
        if not posted[mine]:
            own = self._scalar_shares(case, gates, "counts")
            keys = await self.chain.view("sealing_key_list")
            context = case.context(self.organisation, "counts")
            boxes = [release.seal(key, own, context) for key in keys]
            await self.attempt("post_counts", query=query, boxes=boxes)
            posted = await self.chain.view("counts_of", query=query)
        if not all(posted):
            return False
        try:
            passed = self._judge(case, gates, [boxes[mine] for boxes in posted])
        except PeerFault as error:
            await self._refuse(case.facts, error.message)
            return True
        if passed:
            self._store.record_passed(query)
        await self.attempt("group_check", query=query, passed=passed)
        return not passed

    async def _voted(self, query: bytes) -> bool:
        return bool(
            await self.chain.view(
                "query_step_done", query=query, step="group check", organisation=self.organisation
            )
        )

    def _judge(self, case: Case, gates: Sequence[int], boxes: Sequence[bytes]) -> bool:
        shares = {
            name: release.open_sealed(self._store.sealing_key, box, case.context(name, "counts"))
            for name, box in zip(self._members, boxes, strict=True)
        }
        plan = case.plan
        residues = release.open_scalars(
            plan.profile,
            plan.limbs,
            [case.ciphertexts[gate] for gate in gates],
            shares,
            case.facts.query.hex(),
        )
        counts = [lift(plan, gate, value) for gate, value in zip(gates, residues, strict=True)]
        return all(passes_gate(plan, count) for count in counts)

    async def _share(self, case: Case) -> None:
        if case.plan.aggregate is not None:
            shares = self._scalar_shares(case, range(len(case.ciphertexts)), "sums")
            context = case.context(self.organisation, "sums")
            share = release.seal(case.facts.reply_key, shares, context)
        else:
            share = await self._switched(case)
        await self.attempt("share_post", query=case.facts.query, share=share)

    def _scalar_shares(self, case: Case, indices: Sequence[int], purpose: str) -> bytes:
        epoch, plan = case.facts.epoch, case.plan
        self._store.count_release(epoch, f"{case.result_hash.hex()}/{purpose}", len(indices))
        secret = self._secrets(epoch)[plan.profile]
        shares = []
        for index in indices:
            seed = self._flood_seed(case, index)
            ciphertext = case.ciphertexts[index]
            share = secret.scalar_share(ciphertext, plan.limbs, seed, len(self._members))
            shares.append(share)
        return b"".join(shares)

    async def _switched(self, case: Case) -> bytes:
        epoch, plan, count = case.facts.epoch, case.plan, len(case.ciphertexts)
        target = await self.chain.get_blob(case.facts.target_key)
        what = f"{case.result_hash.hex()}/{case.facts.target_key.hex()}"
        self._store.count_release(epoch, what, count)
        secret = self._secrets(epoch)[plan.profile]

        def switch() -> bytes:
            return pack_container(
                [
                    secret.key_switch_share(
                        ciphertext,
                        plan.limbs,
                        target,
                        self._flood_seed(case, index, target),
                        len(self._members),
                    )
                    for index, ciphertext in enumerate(case.ciphertexts)
                ]
            )

        return await self.chain.put_blob(await asyncio.to_thread(switch))

    def _flood_seed(self, case: Case, index: int, target: bytes = b"") -> bytes:
        return release.flood_seed(
            self._store.flood_key,
            case.facts.epoch,
            case.result_hash,
            self._members,
            str(index),
            target,
        )

    def _secrets(self, epoch: int) -> dict[str, HeSecretKey]:
        found = self._store.secrets(epoch)
        if found is None:
            raise PeerFault(
                "KEY_SHARE_MISSING",
                f"this store has no key share of epoch {epoch}",
                subject=self.organisation,
                fix="restore the key store, or open a new council epoch",
            )
        return dict(found)
