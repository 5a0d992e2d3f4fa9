"""Writes zip215.json: the 196 small-order signatures of ZIP-215 and the refusals beside them.

Rule: https://zips.z.cash/zip-0215. A and R run over the 14 encodings of the eight small-order
points (8 canonical, 6 not), S is zero; every one is valid, because the equation is cofactored. Run:
`python tests/vectors/make_zip215.py`.
"""

import json
from pathlib import Path

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
MESSAGE = b"Zcash"


def encode(y: int, sign: int) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def x_of(y: int) -> int | None:
    """A square root of (y^2 - 1) / (d y^2 + 1) modulo p."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == square else None


def order_eight_y() -> int:
    """The y of an order-8 point: doubling it gives y = 0, so x^2 = -y^2."""
    # -x^2 + y^2 = 1 + d x^2 y^2 with x^2 = -y^2 gives d y^4 + 2 y^2 - 1 = 0.
    root = pow(1 + D, (P + 3) // 8, P)
    if root * root % P != (1 + D) % P:
        root = root * pow(2, (P - 1) // 4, P) % P
    for sign in (root, -root):
        square = (sign - 1) * pow(D, P - 2, P) % P
        y = pow(square, (P + 3) // 8, P)
        for candidate in (y, y * pow(2, (P - 1) // 4, P) % P):
            if candidate * candidate % P == square and x_of(candidate) is not None:
                return min(candidate, P - candidate)
    raise AssertionError("no order-8 point")


def small_order_encodings() -> list[bytes]:
    y8 = order_eight_y()
    canonical = [(1, 0), (P - 1, 0), (0, 0), (0, 1), (y8, 0), (y8, 1), (P - y8, 0), (P - y8, 1)]
    others = [(1, 1), (P - 1, 1), (P, 0), (P, 1), (P + 1, 0), (P + 1, 1)]
    return [encode(y, sign) for y, sign in canonical + others]


def not_on_the_curve() -> bytes:
    return next(encode(y, 0) for y in range(2, 100) if x_of(y) is None)


def vector(key: bytes, r: bytes, s: int, valid: bool, why: str) -> dict[str, object]:
    return {
        "public_key": key.hex(),
        "signature": (r + s.to_bytes(32, "little")).hex(),
        "valid": valid,
        "why": why,
    }


def vectors() -> list[dict[str, object]]:
    points = small_order_encodings()
    made = [vector(a, r, 0, True, "small order, S = 0") for a in points for r in points]
    made += [vector(a, points[0], L, False, "S is not below the group order") for a in points]
    made += [vector(a, points[0], 1, False, "[S]B is not of small order") for a in points]
    bad = not_on_the_curve()
    made.append(vector(bad, points[0], 0, False, "A is not on the curve"))
    made.append(vector(points[0], bad, 0, False, "R is not on the curve"))
    return made


if __name__ == "__main__":
    target = Path(__file__).with_name("zip215.json")
    lines = ",\n".join(f"  {json.dumps(item)}" for item in vectors())
    target.write_text(f'{{"message": "{MESSAGE.hex()}", "vectors": [\n{lines}\n]}}\n')
