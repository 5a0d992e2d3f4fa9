"""The keyholder's encrypted store. Everything in it is sealed under a key from a passphrase."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from chainnode._native import HeSecretKey
from chainnode.he.council import BASE_PROFILES, PieceSecret
from chainnode.he.profiles import ProfileName
from chainnode.he.release import ReleaseCounter
from chainnode.types.errors import ConfigError
from chainnode.types.limits import RELEASE_UNITS_MAX

SCRYPT_N: Final = 2**15
_NONCE_SIZE_BYTES: Final = 12


class KeyStore:
    """Pieces of the joint key, the sealing key, and what has been opened with them.

    Args:
        folder: made if missing, mode 0700; files are 0600.
        passphrase: opens the store, or becomes its passphrase when the folder is new.

    Raises:
        ConfigError: `PASSPHRASE_WRONG`, `KEY_STORE_DAMAGED`.
    """

    def __init__(self, folder: Path, passphrase: bytes) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        salt = self._read_or_make("salt", lambda: secrets.token_bytes(16))
        self._key = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=8, p=1).derive(passphrase)
        private = self._sealed_or_made("sealing", X25519PrivateKey.generate().private_bytes_raw)
        self.sealing_key = X25519PrivateKey.from_private_bytes(private)
        opened = self._sealed_or_made("opened", lambda: b"{}")
        self._opened: dict[str, Any] = json.loads(opened)

    def __repr__(self) -> str:
        return "KeyStore(...)"

    def keep_pieces(self, epoch: int, pieces: Mapping[int, PieceSecret]) -> None:
        """Store pieces of an epoch's key, drawn here or dealt by another member."""
        for index, piece in pieces.items():
            for profile, key in piece.keys.items():
                _write(self._path(epoch, index, profile), key.seal(self._key))
            self._seal(f"epoch-{epoch}-piece-{index}-flood", piece.flood_key)

    def pieces(
        self,
        epoch: int,
        indices: Sequence[int],
        profiles: Sequence[ProfileName] = BASE_PROFILES,
    ) -> dict[int, PieceSecret] | None:
        """The stored pieces of an epoch's key; None when one of `indices` is not here.

        Args:
            epoch: of the council.
            indices: of the pieces.
            profiles: which of a piece's keys are needed; the others stay sealed.

        Raises:
            ConfigError: `KEY_STORE_DAMAGED`, `PASSPHRASE_WRONG`.
        """
        found = {}
        for index in indices:
            keys: dict[ProfileName, HeSecretKey] = {}
            for profile in profiles:
                path = self._path(epoch, index, profile)
                if not path.exists():
                    return None
                try:
                    keys[profile] = HeSecretKey.unseal(profile, path.read_bytes(), self._key)
                except ValueError as error:
                    raise _damaged(path) from error
            flood_key = self._unseal(f"epoch-{epoch}-piece-{index}-flood")
            if flood_key is None:
                return None
            found[index] = PieceSecret(keys, flood_key)
        return found

    def _path(self, epoch: int, index: int, profile: str) -> Path:
        return self._folder / f"epoch-{epoch}-piece-{index}-{profile}.key"

    # --- what has been opened ---------------------------------------------------------------------

    def count_release(self, epoch: int, what: str, count: int, spare_bits: int = 0) -> None:
        """Count an opening of an epoch's key before its share leaves; a resend is counted once.

        Args:
            epoch: whose key share is used.
            what: names the opening: result, kind and receiver.
            count: scalars or polynomials.
            spare_bits: how far their noise stays below what flooding hides.

        Raises:
            PeerFault: `RELEASES_EXHAUSTED`.
        """
        record = self._opened.setdefault(str(epoch), {"used": 0, "seen": {}})
        if what in record["seen"]:
            return
        counter = ReleaseCounter(int(record["used"]))
        counter.spend(count, spare_bits)
        record["used"] = counter.used
        record["seen"][what] = count
        self._save()

    def releases_left(self, epoch: int) -> int:
        """Release units an epoch's key share may still spend; see `release.release_units`."""
        return RELEASE_UNITS_MAX - int(self._opened.get(str(epoch), {"used": 0})["used"])

    def record_passed(self, query: bytes, counts: Sequence[int] = ()) -> None:
        """Remember that this member saw the query's groups pass: the condition of its share.

        Args:
            query: 32-byte id.
            counts: rows of its groups, which later queries' groups are compared with.
        """
        self._opened.setdefault("passed", {})[query.hex()] = list(counts)
        self._save()

    def counts_of(self, query: bytes) -> tuple[int, ...] | None:
        """The group counts of a query this member let pass; None for one it did not see."""
        found = self._opened.get("passed", {}).get(query.hex())
        return None if found is None else tuple(found)

    def passed(self) -> tuple[bytes, ...]:
        """Every query this member let pass, in order."""
        return tuple(bytes.fromhex(query) for query in self._opened.get("passed", {}))

    def has_passed(self, query: bytes) -> bool:
        """Whether this member saw the query's groups pass."""
        return query.hex() in self._opened.get("passed", {})

    def _save(self) -> None:
        self._seal("opened", json.dumps(self._opened, sort_keys=True).encode())

    # --- files ------------------------------------------------------------------------------------

    def _read_or_make(self, name: str, make: Any) -> bytes:
        path = self._folder / name
        if not path.exists():
            _write(path, make())
        return path.read_bytes()

    def _sealed_or_made(self, name: str, make: Any) -> bytes:
        found = self._unseal(name)
        if found is None:
            found = bytes(make())
            self._seal(name, found)
        return found

    def _unseal(self, name: str) -> bytes | None:
        path = self._folder / f"{name}.sealed"
        if not path.exists():
            return None
        data = path.read_bytes()
        nonce, box = data[:_NONCE_SIZE_BYTES], data[_NONCE_SIZE_BYTES:]
        try:
            return ChaCha20Poly1305(self._key).decrypt(nonce, box, name.encode())
        except (InvalidTag, ValueError) as error:
            raise ConfigError(
                "PASSPHRASE_WRONG",
                "the key store does not open",
                subject=str(path),
                fix="give the passphrase file this store was made with",
            ) from error

    def _seal(self, name: str, data: bytes) -> None:
        nonce = secrets.token_bytes(_NONCE_SIZE_BYTES)
        box = ChaCha20Poly1305(self._key).encrypt(nonce, data, name.encode())
        _write(self._folder / f"{name}.sealed", nonce + box)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        "KEY_STORE_DAMAGED",
        "a key share does not open",
        subject=str(path),
        fix="restore the file from a backup, or open a new council epoch",
    )
