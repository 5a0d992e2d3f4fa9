"""A data owner's secret: every encrypted block's randomness comes from it, so blocks can be opened.

Who holds it can confirm a guess of a whole block's rows: keep it as well as the data itself.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chainnode.he.opening import SEED_SIZE_BYTES, block_seed
from chainnode.he.profiles import ProfileName
from chainnode.sdk.sealed_files import read_or_write, sealing_key
from chainnode.types.errors import ConfigError

_NONCE_BYTES: Final = 12
_LABEL: Final = b"owner secret"
_FINGERPRINT: Final = b"chainnode/owner-fingerprint/v1"


class OwnerSecret:
    """An owner's kept secret, as a handle: seeds leave it, its bytes are only ever written down.

    Args:
        folder: made if missing, mode 0700; files are 0600.
        passphrase: opens the secret, or becomes its passphrase; None keeps it unsealed.

    Raises:
        ConfigError: `PASSPHRASE_WRONG` or `OWNER_SECRET_DAMAGED`.
    """

    def __init__(self, folder: Path, passphrase: bytes | None = None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "owner.secret"
        made = secrets.token_bytes(SEED_SIZE_BYTES)
        if passphrase is None:
            self._take(read_or_write(path, lambda: made), path)
        else:
            cipher = ChaCha20Poly1305(sealing_key(folder / "owner.salt", passphrase))
            nonce = secrets.token_bytes(_NONCE_BYTES)
            box = read_or_write(path, lambda: nonce + cipher.encrypt(nonce, made, _LABEL))
            try:
                kept = cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], _LABEL)
            except (InvalidTag, ValueError) as error:
                raise ConfigError(
                    "PASSPHRASE_WRONG",
                    "the owner's secret does not open with this passphrase",
                    subject=str(path),
                    fix="give the passphrase it was made with, or none if it was made without",
                ) from error
            self._take(kept, path)
        self.fingerprint = hmac.new(self._secret, _FINGERPRINT, hashlib.sha256).digest()

    def _take(self, secret: bytes, path: Path) -> None:
        if len(secret) != SEED_SIZE_BYTES:
            raise ConfigError(
                "OWNER_SECRET_DAMAGED",
                f"it has {len(secret)} bytes instead of {SEED_SIZE_BYTES}, or is sealed",
                subject=str(path),
                fix="give its passphrase, or restore the file; a new one cannot open old blocks",
            )
        self._secret = secret

    @classmethod
    def passing(cls) -> OwnerSecret:
        """A secret that nobody keeps: what is encrypted under it can never be audited later."""
        made = cls.__new__(cls)
        made._secret = secrets.token_bytes(SEED_SIZE_BYTES)
        # Empty, so that an interrupted upload without a kept secret goes on in another client.
        made.fingerprint = b""
        return made

    def seed(
        self,
        epoch: int,
        profile: ProfileName,
        column: tuple[str, str, bytes],
        block: int,
        slots: bytes,
    ) -> bytes:
        """The randomness of one block's encryption.

        Another plaintext gives another seed even in the same place: two ciphertexts under one seed
        would give away the difference of their plaintexts.

        Args:
            epoch: of the council's key.
            profile: ring of the block.
            column: table, stored name and the publication's salt.
            block: number in the column.
            slots: plaintext.
        """
        table, name, salt = column
        version = f"{salt.hex()}.{hashlib.sha256(slots).hexdigest()}"
        return block_seed(self._secret, epoch, profile, f"{table}/{name}/{version}/{block}")

    def __repr__(self) -> str:
        return "OwnerSecret(...)"
