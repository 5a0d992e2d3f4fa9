"""The keys a bank receives answers with: kept sealed on disk, used as handles."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from chainnode._native import HeSecretKey
from chainnode.he.profiles import ProfileName
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
        salt = _read_or_write(folder / "bank.salt", lambda: secrets.token_bytes(16))
        key = Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase)
        cipher, nonce = ChaCha20Poly1305(key), secrets.token_bytes(12)
        made = X25519PrivateKey.generate().private_bytes_raw()
        box = _read_or_write(
            folder / "bank.reply.key", lambda: nonce + cipher.encrypt(nonce, made, b"reply")
        )
        sealed = _read_or_write(
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


def _read_or_write(path: Path, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
    return path.read_bytes()
