"""What must hold in every run (INVARIANTS.md): checked after every event that could break it."""

from __future__ import annotations

from chainnode.consensus.interface import HeightState
from chainnode.consensus.turns import Turns
from chainnode.testing.disk import SimDisk
from chainnode.types.block import Block
from chainnode.types.errors import ChainnodeError
from chainnode.types.validators import ValidatorSet, VerifyBatch
from chainnode.types.vote import CommitCertificate, Evidence, Proposal, Vote, VoteType


class Violation(Exception):
    """An invariant does not hold."""


class Invariants:
    """The omniscient checker of one run.

    Args:
        chain_id: the chain.
        validators: the set of all heights.
        correct: addresses of keys that never misbehave.
        verify_batch: the run's signature check.
    """

    def __init__(
        self,
        chain_id: str,
        validators: ValidatorSet,
        correct: frozenset[bytes],
        verify_batch: VerifyBatch,
    ) -> None:
        self._chain_id = chain_id
        self._validators = validators
        self._correct = correct
        self._verify_batch = verify_batch
        self._decided: dict[int, bytes] = {}
        self._signed: dict[tuple[bytes, int, int, int], bytes] = {}
        self._prevoters: dict[tuple[int, int, bytes], set[bytes]] = {}
        self._precommitted: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self._told: dict[int, int] = {}
        self._tx_heights: dict[bytes, int] = {}
        self._turns: dict[int, Turns] = {1: Turns()}
        self.known_wids: dict[bytes, bytes] = {}

    @property
    def height(self) -> int:
        """The highest height any correct node has decided."""
        return max(self._decided, default=0)

    def sent(self, message: object) -> None:
        """No double sign: a correct key says one thing per height, round and step (I4)."""
        if isinstance(message, Vote):
            place = (message.validator, message.height, message.round, int(message.type))
            value = message.block_hash
        elif isinstance(message, Proposal):
            place = (message.proposer, message.height, message.round, 0)
            value = message.block.hash()
        else:
            return
        correct = place[0] in self._correct
        if correct and self._signed.setdefault(place, value) != value:
            raise Violation(f"no double sign: {_name(place[0])} signed twice at {place[1:]}")
        if isinstance(message, Vote) and message.block_hash:
            self._check_lock(message, correct=correct)

    def _check_lock(self, vote: Vote, *, correct: bool) -> None:
        """A correct key that precommitted a block prevotes another one only after 2f+1 did."""
        locked = (vote.validator, vote.height)
        if vote.type is VoteType.PRECOMMIT:
            place = (vote.round, vote.block_hash)
            self._precommitted[locked] = max(self._precommitted.get(locked, place), place)
            return
        key = (vote.height, vote.round, vote.block_hash)
        self._prevoters.setdefault(key, set()).add(vote.validator)
        round_number, block_hash = self._precommitted.get(locked, (-1, vote.block_hash))
        if not correct or block_hash == vote.block_hash or vote.round <= round_number:
            return
        for later in range(round_number, vote.round):
            voters = self._prevoters.get((vote.height, later, vote.block_hash), set())
            power = sum(self._validators.power(address) for address in voters)
            if self._validators.is_quorum(power):
                return
        raise Violation(f"lock: {_name(vote.validator)} left its lock at height {vote.height}")

    def committed(
        self, node: int, block: Block, certificate: CommitCertificate, disk: SimDisk
    ) -> None:
        """Agreement (I1), validity (I2), no repeat (I6), durable bodies (I5)."""
        block_hash = block.hash()
        decided = self._decided.setdefault(block.height, block_hash)
        if decided != block_hash:
            raise Violation(f"agreement: two blocks at height {block.height}")
        if block.height > 1 and self._decided.get(block.height - 1) != block.header.previous_hash:
            raise Violation(f"prefix: block {block.height} extends another chain")
        try:
            block.validate()
            self._validators.verify_certificate(self._chain_id, certificate, self._verify_batch)
        except ChainnodeError as error:
            raise Violation(f"validity: height {block.height}: {error.message}") from error
        if (certificate.height, certificate.block_hash) != (block.height, block_hash):
            raise Violation(f"validity: certificate of another block at {block.height}")
        turns = self._turns[block.height]
        skipped = turns.skipped(block.height)
        if 3 * len(skipped) >= len(self._validators):
            raise Violation(f"turns: more than f are skipped at height {block.height}")
        turn = self._validators.proposers(block.height, certificate.round + 1, skipped)
        if block.header.proposer not in turn:
            raise Violation(f"validity: height {block.height} by a proposer whose turn it was not")
        self._turns[block.height + 1] = turns.after(
            self._validators, block.height, block.header.proposer, block.last_commit.round
        )
        for wid in block.wids:
            if wid not in self.known_wids:
                raise Violation(f"validity: height {block.height} has an unknown transaction")
            if self._tx_heights.setdefault(wid, block.height) != block.height:
                raise Violation(f"no repeat: a transaction is in height {block.height} again")
        self.durable(node, disk)
        self._told[node] = max(self._told.get(node, 0), block.height)

    def same_turns(self, node: int, state: HeightState) -> None:
        """Every node, also a restarted or synced one, skips the same proposers."""
        if self._turns[state.height] != state.turns:
            raise Violation(f"turns: node {node} skips others at height {state.height}")

    def durable(self, node: int, disk: SimDisk) -> None:
        """Durability (I3, I5): what was told is on disk, with every body."""
        if len(disk.blocks) < self._told.get(node, 0):
            raise Violation(f"durability: node {node} lost a committed block")
        for block, _ in disk.blocks[-2:]:
            if any(wid not in disk.bodies for wid in block.wids):
                raise Violation(f"durability: node {node} lost a body of height {block.height}")
            if self._decided.get(block.height, block.hash()) != block.hash():
                raise Violation(f"durability: node {node} holds another block {block.height}")

    def disk_lost(self, node: int) -> None:
        """A node has lost its data folder: what it was told is with the others."""
        self._told[node] = 0

    def accused(self, evidence: Evidence) -> None:
        """Accountability (I12): evidence names only the guilty."""
        validator = evidence.first.validator
        signed = self._validators.verify_evidence(self._chain_id, evidence, self._verify_batch)
        if not signed or validator in self._correct:
            raise Violation(f"accountability: evidence against correct {_name(validator)}")


def _name(address: bytes) -> str:
    return address.hex()[:8]
