"""Four key holders in one process: key generation and release as the council runs them.

For tests and examples only: a real council never meets in one process, and seeds are random.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from chainnode._native import (
    HeColumns,
    HeSecretKey,
    he_aggregate_public_key,
    he_aggregate_relin_round1,
    he_combine_key_switch,
    he_combine_scalar,
    he_encrypt_many,
    he_relin_key,
)
from chainnode.he import encode
from chainnode.he.encode import Cell
from chainnode.he.plan import Plan
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.schema import TableSchema

PARTIES = 4


def joint_keys(
    profile: ProfileName, seed: bytes, members: Sequence[HeSecretKey]
) -> tuple[bytes, bytes]:
    """The public and the relinearisation key of the sum of some secrets."""
    made = [member.first_shares((seed, seed, b"")) for member in members]
    public_key = he_aggregate_public_key(profile, seed, [share for share, _, _ in made])
    firsts = [relin for _, relin, _ in made if relin is not None]
    joint = he_aggregate_relin_round1(profile, [share for share, _ in firsts])
    seconds = [
        member.relin_round2(kept, joint) for member, (_, kept) in zip(members, firsts, strict=True)
    ]
    return public_key, he_relin_key(profile, joint, seconds)


class Council:
    """Keys of every member for one profile, and what they publish."""

    def __init__(self, profile: ProfileName) -> None:
        seed = hashlib.sha256(profile.encode()).digest()
        self.profile = profile
        self.keys = [HeSecretKey.generate(profile) for _ in range(PARTIES)]
        self.public_key, self.relin_key = joint_keys(profile, seed, self.keys)

    def encrypt_table(
        self,
        directory: Path,
        schema: TableSchema,
        cells: Mapping[str, Sequence[Cell]],
        only: Collection[str] | None = None,
    ) -> HeColumns:
        """Every owner encrypts its columns, or some of the stored ones, into one directory."""
        limbs = PROFILES[self.profile].limbs
        for owner in schema.owners():
            for name, blocks in encode.owner_blocks(schema, owner, cells, self.profile):
                if only is not None and name not in only:
                    continue
                seeds = [
                    hashlib.sha256(f"{owner} {name} {block}".encode()).digest()
                    for block in range(len(blocks))
                ]
                encrypted = he_encrypt_many(self.profile, self.public_key, blocks, seeds, limbs)
                HeColumns.write(str(directory), name, self.profile, limbs, encrypted)
        return HeColumns.open(str(directory), self.profile)

    def open_scalars(self, plan: Plan, ciphertexts: Sequence[bytes]) -> list[int]:
        """Every member's scalar share of every output, combined."""
        opened = []
        for index, ciphertext in enumerate(ciphertexts):
            flood = plan.hash() + index.to_bytes(4, "big")
            shares = [key.scalar_share(ciphertext, plan.limbs, flood, PARTIES) for key in self.keys]
            value, margin = he_combine_scalar(self.profile, plan.limbs, ciphertext, shares)
            assert margin >= 12
            opened.append(value)
        return opened

    def switch(self, plan: Plan, ciphertext: bytes, target: bytes) -> bytes:
        """The ciphertext under the bank's key."""
        flood = plan.hash()
        shares = [
            key.key_switch_share(ciphertext, plan.limbs, target, flood, PARTIES)
            for key in self.keys
        ]
        return he_combine_key_switch(self.profile, plan.limbs, ciphertext, shares)
