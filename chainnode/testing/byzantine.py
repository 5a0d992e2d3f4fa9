"""Nodes that misbehave: equivocation and silence. Twins need no code: two honest nodes, one key."""

from __future__ import annotations

from dataclasses import replace

from chainnode.consensus.interface import ConsensusMessage, Effect
from chainnode.testing.node import SimNode
from chainnode.types.block import Block
from chainnode.types.codec import merkle_root
from chainnode.types.vote import NIL, Proposal, Vote


class EquivocatingNode(SimNode):
    """Tells different peers different things, each properly signed."""

    def broadcast(self, message: ConsensusMessage) -> None:
        """Send the honest message to some peers and a conflicting one to the others."""
        other = self._conflicting(message)
        for address in self.sim.addresses:
            if address != self.address:
                lie = other is not None and self.sim.random.random() < 0.5
                self.sim.send(self, address, other if lie and other is not None else message)

    def _conflicting(self, message: ConsensusMessage) -> ConsensusMessage | None:
        chain_id = self.sim.config.chain_id
        if isinstance(message, Vote) and message.validator == self.address:
            choices = [NIL, self.sim.random.randbytes(32), *self.sim.seen_hashes(message.height)]
            vote = replace(message, block_hash=self.sim.random.choice(choices))
            return replace(vote, signature=self.signer.sign(vote.sign_bytes(chain_id)))
        if isinstance(message, Proposal) and message.proposer == self.address:
            proposal = replace(message, block=_without_last_tx(message.block))
            return replace(proposal, signature=self.signer.sign(proposal.sign_bytes(chain_id)))
        return None


class SilentNode(SimNode):
    """Receives everything and says nothing."""

    def pump(self) -> None:
        """Drop all events."""
        self.inbox.clear()

    def perform(self, effect: Effect) -> None:
        """Do nothing."""


def _without_last_tx(block: Block) -> Block:
    wids = block.wids[:-1]
    header = replace(block.header, tx_root=merkle_root(wids), tx_count=len(wids))
    return replace(block, header=header, wids=wids)
