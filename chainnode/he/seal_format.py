"""Ciphertexts in Microsoft SEAL's file format, both ways, without SEAL.

The residues are the same bytes; SEAL 4.x puts 113 bytes before them, all little endian: its general
header (magic 0xA15E, header size, version, compression, total size), the hash of the encryption
parameters, the NTT flag, the three sizes, the scale and the correction factor, and a second header
with the number of words (native/src/seal/ciphertext.cpp and serialization.h, SEAL 4.1). The hash is
BLAKE2b-256 of scheme, ring degree, primes and plain modulus as words (encryptionparams.cpp).

Only uncompressed BGV ciphertexts with the correction factor 1: the engine switches no modulus.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from chainnode import _native
from chainnode.he.profiles import ProfileName
from chainnode.types.errors import ClientFault

_FILE: Final = struct.Struct("<HBBBBHQ")
_BODY: Final = struct.Struct("<32sBQQQdQ")
_ARRAY: Final = struct.Struct("<Q")
_MAGIC: Final = 0xA15E
_MAJOR_VERSION: Final = 4
_SCHEME_BGV: Final = 3
_WORD_BYTES: Final = 8
HEADER_BYTES: Final = _FILE.size + _BODY.size + _FILE.size + _ARRAY.size


def wrap(profile: ProfileName, limbs: int, ciphertext: bytes, minor_version: int = 1) -> bytes:
    """A file that SEAL loads as the same ciphertext.

    Args:
        profile: of the ciphertext; the SEAL context has its ring, its primes and its plain modulus.
        limbs: leading limbs; fewer than the profile has are a lower level of SEAL's chain.
        ciphertext: two to five polynomials as the engine gives them.
        minor_version: of the SEAL 4 that shall load it: it refuses files newer than itself.

    Raises:
        ValueError: not a ciphertext of the profile.
    """
    degree = _native.he_profile(profile).ring_degree
    polynomials = len(ciphertext) // (limbs * degree * _WORD_BYTES) if limbs > 0 else 0
    _native.he_validate_ciphertext(profile, ciphertext, polynomials, limbs)
    words = len(ciphertext) // _WORD_BYTES
    array_bytes = _FILE.size + _ARRAY.size + len(ciphertext)
    return b"".join(
        [
            _file_header(minor_version, _FILE.size + _BODY.size + array_bytes),
            _BODY.pack(_parameters(profile, limbs), 1, polynomials, degree, limbs, 1.0, 1),
            _file_header(minor_version, array_bytes),
            _ARRAY.pack(words),
            ciphertext,
        ]
    )


def unwrap(profile: ProfileName, data: bytes) -> tuple[bytes, int]:
    """The ciphertext of a SEAL file and its number of limbs, every residue checked.

    Args:
        profile: that the file must belong to.
        data: as SEAL saves a ciphertext with compression `none`.

    Raises:
        ClientFault: `SEAL_MALFORMED`, saying what is wrong with the file.
    """
    if len(data) < HEADER_BYTES:
        raise _malformed("it ends before the residues")
    _check_header(data, 0)
    parameters, is_ntt, polynomials, degree, limbs, _, correction = _BODY.unpack_from(
        data, _FILE.size
    )
    _check_header(data, _FILE.size + _BODY.size)
    facts = _native.he_profile(profile)
    if not 1 <= limbs <= len(facts.moduli) or parameters != _parameters(profile, limbs):
        raise _malformed(f"its encryption parameters are not those of profile {profile}")
    if is_ntt != 1 or correction != 1:
        raise _malformed("not in NTT form, or its modulus was switched")
    ciphertext = data[HEADER_BYTES:]
    (words,) = _ARRAY.unpack_from(data, HEADER_BYTES - _ARRAY.size)
    if degree != facts.ring_degree or words * _WORD_BYTES != len(ciphertext):
        raise _malformed("its sizes do not add up")
    try:
        _native.he_validate_ciphertext(profile, ciphertext, polynomials, limbs)
    except (ValueError, OverflowError) as error:
        raise _malformed(str(error)) from error
    return ciphertext, limbs


def _file_header(minor_version: int, size_bytes: int) -> bytes:
    return _FILE.pack(_MAGIC, _FILE.size, _MAJOR_VERSION, minor_version, 0, 0, size_bytes)


def _check_header(data: bytes, at: int) -> None:
    magic, header, version, _, compression, _, size_bytes = _FILE.unpack_from(data, at)
    if (magic, header, version) != (_MAGIC, _FILE.size, _MAJOR_VERSION):
        raise _malformed("not a file of SEAL 4")
    if compression != 0:
        raise _malformed("it is compressed")
    if size_bytes != len(data) - at:
        raise _malformed(f"{len(data) - at} bytes where its header says {size_bytes}")


def _parameters(profile: ProfileName, limbs: int) -> bytes:
    """SEAL's `parms_id` of the level with so many leading limbs."""
    facts = _native.he_profile(profile)
    words = [_SCHEME_BGV, facts.ring_degree, *facts.moduli[:limbs], facts.plain_modulus]
    return hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=32).digest()


def _malformed(reason: str) -> ClientFault:
    return ClientFault(
        "SEAL_MALFORMED",
        f"not a SEAL ciphertext that the engine takes: {reason}",
        fix="save an unswitched BGV ciphertext of the profile's parameters without compression",
    )
