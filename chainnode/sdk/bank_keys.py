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

_FILES: Final[dict[ProfileName, str]] = {"S": "bank.score.key", "M": "bank.score.m.key"}
"""Of the keys that score vectors are received with: in S, or in M where points are private."""


class BankKeys:
    """A bank's keys for receiving results, as handles: their bytes are only ever sealed.

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
        self._folder, self._sealing_key = folder, key
        self._score_keys: dict[ProfileName, HeSecretKey] = {}
        self.score_key("S")
        try:
            private = cipher.decrypt(box[:12], box[12:], b"reply")
        except InvalidTag as error:
            raise self._wrong() from error
        self.reply_key = X25519PrivateKey.from_private_bytes(private)

    def score_key(self, profile: ProfileName) -> HeSecretKey:
        """The key that receives score vectors of a profile, made at first use.

        Raises:
            ConfigError: `PASSPHRASE_WRONG`.
        """
        if profile not in self._score_keys:
            sealed = read_or_write(
                self._folder / _FILES[profile],
                lambda: HeSecretKey.generate(profile).seal(self._sealing_key),
            )
            try:
                opened = HeSecretKey.unseal(profile, sealed, self._sealing_key)
            except ValueError as error:
                raise self._wrong() from error
            self._score_keys[profile] = opened
        return self._score_keys[profile]

    def _wrong(self) -> ConfigError:
        return ConfigError(
            "PASSPHRASE_WRONG",
            "the bank's keys do not open",
            subject=str(self._folder),
            fix="give the passphrase these keys were made with",
        )

    def __repr__(self) -> str:
        return "BankKeys(...)"
