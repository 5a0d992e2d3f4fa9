"""Paillier keys in the SDK: numbers come back; what is no key or ciphertext has a typed error."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chainnode import contract
from chainnode.cli.main import app
from chainnode.contract.paillier import PaillierCiphertextInvalid, PaillierKeyInvalid
from chainnode.sdk.paillier import PaillierPublicKey, PaillierSecretKey
from chainnode.types.errors import ChainnodeError

SETS = json.loads((Path(__file__).parents[1] / "vectors/paillier.json").read_text())


@pytest.fixture(scope="module", params=SETS, ids=["2048", "3072"])
def secret(request: pytest.FixtureRequest) -> PaillierSecretKey:
    return PaillierSecretKey(bytes.fromhex(request.param["secret_key"]))


def test_signed_numbers_come_back(secret: PaillierSecretKey) -> None:
    public = secret.public
    for value in (0, 1, -1, 10**30, public.limit, -public.limit):
        ciphertext = public.encrypt(value)
        assert len(ciphertext) == 2 * len(public.data)
        assert ciphertext != public.encrypt(value)
        assert secret.decrypt(ciphertext) == value


def test_the_five_operations_compute_on_the_hidden_numbers(secret: PaillierSecretKey) -> None:
    public = secret.public
    a, b = public.encrypt(1_000), public.encrypt(-7)
    results = {
        public.add(a, b): 993,
        public.subtract(a, b): 1_007,
        public.add_plain(a, -3): 997,
        public.subtract_plain(a, -3): 1_003,
        public.scalar_multiply(b, -600): 4_200,
        public.scalar_multiply(a, 0): 0,
        public.scalar_multiply(b, 2**127 - 1): -7 * (2**127 - 1),
    }
    for ciphertext, value in results.items():
        assert secret.decrypt(ciphertext) == value


@pytest.mark.parametrize("made", SETS, ids=["2048", "3072"])
def test_plain_python_has_the_bytes_of_an_independent_library(made: dict[str, object]) -> None:
    key = bytes.fromhex(str(made["public_key"]))
    items = {name: made[name] for name in ("encryptions", "add", "add_plain", "scalar_multiply")}
    assert all(isinstance(item, list) and len(item) >= 5 for item in items.values())
    vectors: dict[str, list[dict[str, str]]] = items  # type: ignore[assignment]
    held = [bytes.fromhex(item["ciphertext"]) for item in vectors["encryptions"]]
    for item in vectors["add"]:
        found = contract.paillier_add(key, held[int(item["left"])], held[int(item["right"])])
        assert found.hex() == item["result"]
    for name, function in (
        ("add_plain", contract.paillier_add_plain),
        ("scalar_multiply", contract.paillier_scalar_multiply),
    ):
        for item in vectors[name]:
            found = function(key, held[int(item["left"])], int(item["value"]))
            assert found.hex() == item["result"], (name, item["value"])


def test_what_is_no_key_or_ciphertext_has_its_own_error(secret: PaillierSecretKey) -> None:
    public = secret.public
    good = public.encrypt(5)
    for bad in (b"", bytes(len(good)), b"\xff" * len(good), good[1:], bytes(len(good) // 2)):
        for call in (
            lambda bad=bad: public.add(good, bad),
            lambda bad=bad: public.add_plain(bad, 1),
            lambda bad=bad: public.scalar_multiply(bad, 1),
            lambda bad=bad: secret.decrypt(bad),
        ):
            with pytest.raises(ChainnodeError) as caught:
                call()
            assert caught.value.code == "PAILLIER_CIPHERTEXT_INVALID"
        with pytest.raises(PaillierCiphertextInvalid):
            contract.paillier_add(public.data, good, bad)
    even = public.data[:-1] + bytes([public.data[-1] & 0xFE])
    for key in (b"", public.data[1:], bytes(256), even):
        with pytest.raises(ChainnodeError) as caught:
            PaillierPublicKey(key)
        assert caught.value.code == "PAILLIER_KEY_INVALID"
        with pytest.raises(PaillierKeyInvalid):
            contract.paillier_add(key, good, good)
    with pytest.raises(ChainnodeError) as caught:
        PaillierSecretKey(public.data)
    assert caught.value.code == "PAILLIER_SECRET_INVALID"
    for call in (
        lambda: public.encrypt(public.limit + 1),
        lambda: public.add_plain(good, 2**127),
        lambda: public.scalar_multiply(good, -(2**127) - 1),
    ):
        with pytest.raises(ChainnodeError) as caught:
            call()
        assert caught.value.code == "PAILLIER_RANGE"


def test_the_command_line_makes_a_key_encrypts_and_decrypts(tmp_path: Path) -> None:
    runner, secret = CliRunner(), str(tmp_path / "owner.paillier")

    def run(*arguments: str) -> dict[str, str]:
        result = runner.invoke(app, ["paillier", arguments[0], "-o", "json", *arguments[1:]])
        assert result.exit_code == 0, result.output
        found: dict[str, str] = json.loads(result.stdout)
        return found

    key = run("key", secret, "--bits", "2048")["public_key"]
    assert run("key", secret)["public_key"] == key
    assert (Path(secret).stat().st_mode & 0o777) == 0o600
    ciphertext = run("encrypt", key, "--", "-42")["ciphertext"]
    assert run("decrypt", secret, ciphertext)["value"] == -42
    missing = runner.invoke(app, ["paillier", "decrypt", secret + "x", ciphertext])
    assert missing.exit_code == 3
