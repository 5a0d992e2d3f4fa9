"""The council that tests run in one process."""

from chainnode.testing.he_council import PARTIES, Council, joint_keys

__all__ = ["PARTIES", "Council", "joint_keys"]
