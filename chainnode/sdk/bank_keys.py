"""The keys a bank receives answers with: kept sealed on disk, used as handles."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chainnode._native import HeSecretKey
from chainnode.he.profiles import ProfileName
from chainnode.sdk.sealed_files import read_or_write, sealing_key
from chainnode.types.errors import ConfigError

SCORE_PROFILE: Final[ProfileName] = "S"


class BankKeys:
    """A bank's two keys for receiving results, as handles: their bytes are only ever sealed.

    Args:
        folder: made if missing, mode 0700; files are 0600.
        passphrase: opens the folder's keys, or becomes their passphrase.

    Raises:
        ConfigError: `PASSPHRASE_WRONG`.
    """

    def __init__(self, folder: Path, passphrase: bytes) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = sealing_key(folder / "bank.salt", passphrase)
        cipher, nonce = ChaCha20Poly1305(key), secrets.token_bytes(12)
        made = X25519PrivateKey.generate().private_bytes_raw()
        box = read_or_write(
            folder / "bank.reply.key", lambda: nonce + cipher.encrypt(nonce, made, b"reply")
        )
        sealed = read_or_write(
            folder / "bank.score.key", lambda: HeSecretKey.generate(SCORE_PROFILE).seal(key)
        )
        try:
            private = cipher.decrypt(box[:12], box[12:], b"reply")
            self.score_key = HeSecretKey.unseal(SCORE_PROFILE, sealed, key)
        except (InvalidTag, ValueError) as error:
            raise ConfigError(
                "PASSPHRASE_WRONG",
                "the bank's keys do not open",
                subject=str(folder),
                fix="give the passphrase these keys were made with",
            ) from error
        self.reply_key = X25519PrivateKey.from_private_bytes(private)

    def __repr__(self) -> str:
        return "BankKeys(...)"
