"""ECDSA P-256 and SM2 through the Python seam: vectors, threads, and two independent libraries."""

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chainnode import _native

VECTORS = Path(__file__).parents[1] / "vectors"
FILE = json.loads((VECTORS / "suites.json").read_text())
MESSAGE = bytes.fromhex(FILE["message"])
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SM2_POINT = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")


def test_the_vectors_are_those_of_the_standards() -> None:
    generator = runpy.run_path(str(VECTORS / "make_suites.py"))
    assert generator["vectors"]() == FILE["vectors"]
    # GB/T 32918.5, appendix A.2: the worked example.
    example = next(item for item in FILE["vectors"] if item["name"] == "sm2: valid")
    r, s = decode_dss_signature(bytes.fromhex(example["signature"]))
    assert f"{r:064x}" == "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    assert f"{s:064x}" == "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("suite", ["p256", "sm2"])
def test_the_vectors_get_their_verdicts(suite: str, threads: int) -> None:
    cases = [item for item in FILE["vectors"] if item["suite"] == suite] * 4
    keys = [bytes.fromhex(item["public_key"]) for item in cases]
    signatures = [bytes.fromhex(item["signature"]) for item in cases]
    messages = [MESSAGE] * len(cases)
    verdicts = _native.verify_signatures(suite, keys, messages, signatures, threads)
    wrong = [
        item["name"]
        for item, got in zip(cases, verdicts, strict=True)
        if got is not item["valid"]
    ]  # fmt: skip
    assert not wrong
    assert any(verdicts)


def test_p256_accepts_exactly_the_low_half_of_another_librarys_signatures() -> None:
    for number in range(1, 30):
        private = ec.derive_private_key(number, ec.SECP256R1())
        key = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        message = bytes([number]) * number
        r, s = decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        low, high = min(s, P256_ORDER - s), max(s, P256_ORDER - s)
        both = [encode_dss_signature(r, low), encode_dss_signature(r, high)]
        verdicts = _native.verify_signatures("p256", [key] * 2, [message] * 2, both)
        assert verdicts == [True, False]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_accepts_our_sm2_samples(tmp_path: Path) -> None:
    keys, messages, signatures = _native.sample_signatures("sm2", 3, 100)
    generator = runpy.run_path(str(VECTORS / "make_suites.py"))
    curve = generator["SM2"]
    for key, message, signature in zip(keys, messages, signatures, strict=True):
        x = int.from_bytes(key[1:], "big")
        y = pow(x**3 + curve.a * x + curve.b, (curve.p + 1) // 4, curve.p)
        y = y if y % 2 == key[0] - 2 else curve.p - y
        point = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
        (tmp_path / "key").write_bytes(SM2_POINT + point)
        (tmp_path / "message").write_bytes(message)
        (tmp_path / "signature").write_bytes(signature)
        options = ["-keyform", "DER", "-inkey", "key", "-rawin", "-in", "message"]
        options += ["-sigfile", "signature", "-digest", "sm3"]
        command = ["openssl", "pkeyutl", "-verify", "-pubin", *options]
        command += ["-pkeyopt", "distid:1234567812345678"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Verified Successfully" in done.stdout, done.stderr


@pytest.mark.parametrize("suite", ["p256", "sm2"])
def test_samples_are_valid_and_damage_is_found(suite: str) -> None:
    keys, messages, signatures = _native.sample_signatures(suite, 40, 64)
    assert len({*keys}) == 40
    assert all(_native.verify_signatures(suite, keys, messages, signatures, 2))
    messages[17] = b"another"
    verdicts = _native.verify_signatures(suite, keys, messages, signatures, 2)
    assert [number for number, good in enumerate(verdicts) if not good] == [17]


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ValueError, match="use ed25519, p256 or sm2"):
        _native.verify_signatures("rsa", [], [], [])
    with pytest.raises(ValueError, match="counts must be equal"):
        _native.verify_signatures("sm2", [b""], [], [])
    with pytest.raises(ValueError, match="sign Ed25519"):
        _native.sample_signatures("ed25519", 1, 1)
