"""Small private files: whole or not at all, readable by their owner only."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt


def sealing_key(salt_file: Path, passphrase: bytes) -> bytes:
    """The 32-byte key a passphrase gives with the salt kept in a file; made if missing (scrypt)."""
    salt = read_or_write(salt_file, lambda: secrets.token_bytes(16))
    return Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase)


def read_or_write(path: Path, make: Callable[[], bytes]) -> bytes:
    """A file's bytes, made at first use with mode 0600; of two first users one wins."""
    if not path.exists():
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            os.link(fresh, path)
        except FileExistsError:
            # Another process made it meanwhile: its bytes are the ones in use.
            pass
        finally:
            Path(fresh).unlink()
    return path.read_bytes()


def replace_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 whole, in place of one that may be there."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
