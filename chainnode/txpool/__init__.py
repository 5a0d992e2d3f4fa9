"""Pool policy: which limits the native pool runs under, and how much of it a block may take."""

from chainnode.txpool.policy import ProposalLimits, create_pool, proposal_limits

__all__ = ["ProposalLimits", "create_pool", "proposal_limits"]
