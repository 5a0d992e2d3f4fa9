"""Makes suites.json: ECDSA P-256 and SM2 signatures with their verdicts, from the standards alone.

Plain integer arithmetic, no library's curve code: FIPS 186-4 section 6.4 and GB/T 32918.2. The
first SM2 signature is the worked example of GB/T 32918.5, appendix A.2.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SM3, Hash

MESSAGE = b"message digest"
IDENTITY = b"1234567812345678"
Point = tuple[int, int] | None


class Curve:
    """y^2 = x^3 + ax + b over p, with a generator of prime order n."""

    def __init__(self, p: str, a: str, b: str, n: str, x: str, y: str) -> None:
        self.p, self.a, self.b, self.n = (int(item, 16) for item in (p, a, b, n))
        self.g = (int(x, 16), int(y, 16))

    def add(self, one: Point, two: Point) -> Point:
        if one is None or two is None:
            return two if one is None else one
        (x1, y1), (x2, y2) = one, two
        if x1 == x2 and (y1 + y2) % self.p == 0:
            return None
        if one == two:
            slope = (3 * x1 * x1 + self.a) * pow(2 * y1, -1, self.p)
        else:
            slope = (y2 - y1) * pow(x2 - x1, -1, self.p)
        x = (slope * slope - x1 - x2) % self.p
        return x, (slope * (x1 - x) - y1) % self.p

    def times(self, k: int, point: Point) -> Point:
        done: Point = None
        while k:
            if k & 1:
                done = self.add(done, point)
            point = self.add(point, point)
            k >>= 1
        return done

    def base(self, k: int) -> tuple[int, int]:
        point = self.times(k, self.g)
        assert point is not None
        return point


P256 = Curve(
    "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
    "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
)
SM2 = Curve(
    "fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff",
    "fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc",
    "28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93",
    "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123",
    "32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7",
    "bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0",
)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def compressed(point: tuple[int, int]) -> bytes:
    return bytes([2 + point[1] % 2]) + word(point[0])


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(data)]) + data


def der(r: int, s: int) -> bytes:
    body = integer(r) + integer(s)
    return b"\x30" + bytes([len(body)]) + body


def sm3(data: bytes) -> bytes:
    digest = Hash(SM3())
    digest.update(data)
    return digest.finalize()


def ecdsa(key: int, message: bytes, nonce: int) -> tuple[int, int]:
    """r and the low s."""
    n = P256.n
    e = int.from_bytes(hashlib.sha256(message).digest(), "big")
    r = P256.base(nonce)[0] % n
    s = pow(nonce, -1, n) * (e + r * key) % n
    return r, min(s, n - s)


def sm2_digest(public: tuple[int, int], message: bytes, identity: bytes) -> int:
    curve = word(SM2.a) + word(SM2.b) + word(SM2.g[0]) + word(SM2.g[1])
    named = (8 * len(identity)).to_bytes(2, "big") + identity
    z = sm3(named + curve + word(public[0]) + word(public[1]))
    return int.from_bytes(sm3(z + message), "big")


def sm2_sign(key: int, message: bytes, nonce: int, identity: bytes = IDENTITY) -> tuple[int, int]:
    n = SM2.n
    r = (sm2_digest(SM2.base(key), message, identity) + SM2.base(nonce)[0]) % n
    return r, pow(1 + key, -1, n) * (nonce - r * key) % n


def case(name: str, suite: str, key: bytes, signature: bytes, valid: bool) -> dict[str, Any]:
    return {
        "name": name,
        "suite": suite,
        "public_key": key.hex(),
        "signature": signature.hex(),
        "valid": valid,
    }


def both(suite: str, curve: Curve, key: bytes, r: int, s: int) -> list[dict[str, Any]]:
    """The cases every DER suite has: one valid signature, then its damage."""
    n, good = curve.n, der(r, s)
    body = good[2:]
    tail = integer(s)
    padded = b"\x02" + bytes([len(integer(r)) - 1]) + b"\0" + integer(r)[2:] + tail
    shapes = {
        "trailing byte": good + b"\0",
        "cut short": good[:-1],
        "empty": b"",
        "long form of a short length": b"\x30\x81" + good[1:],
        "indefinite length": b"\x30\x80" + body + b"\0\0",
        "padded integer": b"\x30" + bytes([len(padded)]) + padded,
        "negative integer": b"\x30" + bytes([len(tail) + 3]) + b"\x02\x01\x80" + tail,
        "set instead of sequence": b"\x31" + good[1:],
        "third integer": b"\x30" + bytes([len(body) + 3]) + body + integer(1),
        "r and s swapped": der(s, r),
        "r is 0": der(0, s),
        "s is 0": der(r, 0),
        "r is the order": der(n, s),
        "s is the order": der(r, n),
        "r plus the order": der(r + n, s),
        "s plus the order": der(r, s + n),
        "s off by one": der(r, s - 1),
        "raw 64 bytes": word(r) + word(s),
    }
    made = [case(f"{suite}: {name}", suite, key, data, False) for name, data in shapes.items()]
    keys = {
        "other half of the point": bytes([key[0] ^ 1]) + key[1:],
        "unknown tag": b"\x05" + key[1:],
        "coordinate above the field": b"\x02" + word(curve.p + 1),
        "point at infinity": b"\0",
        "empty key": b"",
    }
    made += [case(f"{suite}: {name}", suite, data, good, False) for name, data in keys.items()]
    return [case(f"{suite}: valid", suite, key, good, True), *made]


def vectors() -> list[dict[str, Any]]:
    key = int.from_bytes(hashlib.sha256(b"p256 key").digest(), "big")
    public = P256.base(key)
    # A nonce whose r has its top bit set: its DER needs the leading zero.
    nonce = next(k for k in range(2, 100) if P256.base(k)[0] % P256.n >> 255)
    r, s = ecdsa(key, MESSAGE, nonce)
    found = both("p256", P256, compressed(public), r, s)
    found.append(case("p256: high s", "p256", compressed(public), der(r, P256.n - s), False))
    whole = b"\x04" + word(public[0]) + word(public[1])
    found.append(case("p256: uncompressed key", "p256", whole, der(r, s), False))
    small = ecdsa(key, MESSAGE, next(k for k in range(2, 99) if not P256.base(k)[0] >> 255))
    found.append(case("p256: short r", "p256", compressed(public), der(*small), True))

    key = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8
    nonce = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
    public = SM2.base(key)
    r, s = sm2_sign(key, MESSAGE, nonce)
    found += both("sm2", SM2, compressed(public), r, s)
    found.append(
        case("sm2: r + s is the order", "sm2", compressed(public), der(r, SM2.n - r), False)
    )
    other = sm2_sign(key, MESSAGE, nonce, b"another identity")
    found.append(case("sm2: another identity", "sm2", compressed(public), der(*other), False))
    whole = b"\x04" + word(public[0]) + word(public[1])
    found.append(case("sm2: uncompressed key", "sm2", whole, der(r, s), False))
    return found


if __name__ == "__main__":
    path = Path(__file__).with_name("suites.json")
    document = {"message": MESSAGE.hex(), "vectors": vectors()}
    path.write_text(json.dumps(document, indent=1) + "\n")
