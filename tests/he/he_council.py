"""The council that tests run in one process."""

from chainnode.testing.he_council import PARTIES, Council

__all__ = ["PARTIES", "Council"]
