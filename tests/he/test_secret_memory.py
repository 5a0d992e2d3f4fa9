"""Dropping a secret key wipes it: another process's memory is searched before and after."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from process_memory import holds_any

from chainnode._native import HeSecretKey
from chainnode.he.profiles import PROFILES, ProfileName

SEAL_KEY = bytes(range(32))
NONCE_SIZE_BYTES = 12
RUN_COEFFICIENTS = 40
HOLDER = """
import sys
from chainnode import _native
profile, sealed, seal_key = sys.argv[1], bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
def say(text):
    print(text, flush=True)
    return sys.stdin.readline()
say("empty")
key = _native.HeSecretKey.unseal(profile, sealed, seal_key)
say("held")
box = key.seal(seal_key)
public = key.public_key()
slots = bytes(8 * _native.he_profile(profile).ring_degree)
limbs = int(sys.argv[4])
ciphertext = _native.he_encrypt(profile, public, slots, bytes(32), limbs)
key.decrypt(ciphertext, limbs)
key.scalar_share(ciphertext, limbs, bytes(32), 6)
say("used")
del key
say("dropped")
"""


class Holder:
    """A process that holds a key until it is told to drop it."""

    def __init__(self, profile: ProfileName, sealed: bytes) -> None:
        limbs = str(PROFILES[profile].limbs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, profile, sealed.hex(), SEAL_KEY.hex(), limbs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stage(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()


@pytest.fixture(params=["S", "S36", "M"])
def stages(request: pytest.FixtureRequest) -> Iterator[dict[str, tuple[bool, bool]]]:
    """Stage of the process to whether the engine's form and the sealed file's form were found."""
    sealed = HeSecretKey.generate(request.param).seal(SEAL_KEY)
    domain = b"chainnode/he-secret-key/v1/" + request.param.encode()
    nonce, box = sealed[:NONCE_SIZE_BYTES], sealed[NONCE_SIZE_BYTES:]
    share = ChaCha20Poly1305(SEAL_KEY).decrypt(nonce, box, domain)
    starts = (64, len(share) // 2, len(share) - RUN_COEFFICIENTS - 64)
    runs = [share[start : start + RUN_COEFFICIENTS] for start in starts]
    words = [struct.pack(f"<{len(run)}q", *(item - 1 for item in run)) for run in runs]
    holder = Holder(request.param, sealed)
    found = {}
    while stage := holder.stage():
        pid = holder.process.pid
        found[stage] = (holds_any(pid, words), holds_any(pid, runs))
        holder.go_on()
    holder.process.communicate()
    yield found


def test_a_key_is_in_memory_while_it_is_held_and_in_no_form_after(
    stages: dict[str, tuple[bool, bool]],
) -> None:
    assert stages == {
        "empty": (False, False),
        # The plaintext of the sealed file is wiped as soon as it is read.
        "held": (True, False),
        "used": (True, False),
        "dropped": (False, False),
    }
