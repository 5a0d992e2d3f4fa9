"""The engine's bytes and parameters are those written down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from he_vectors import PATH, PROFILES, Vector, vector

from chainnode import _native

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from he_vectors import PROFILES, vector
from chainnode import _native
assert _native.CPU_PATH == sys.argv[2]
print(json.dumps([vector(name) for name in PROFILES]))
"""

# Homomorphic Encryption Standard (2018), table 1: ternary secret, 128 bits, classical.
STANDARD_BITS = {8_192: 218, 16_384: 438}


@pytest.mark.parametrize("name", PROFILES)
def test_every_function_gives_the_bytes_written_down(name: str) -> None:
    written: list[Vector] = json.loads(PATH.read_text())
    assert vector(name) == next(item for item in written if item["profile"] == name)


@pytest.mark.parametrize("name", PROFILES)
def test_written_parameters_are_within_the_standard(name: str) -> None:
    written = next(item for item in json.loads(PATH.read_text()) if item["profile"] == name)
    primes = [*written["moduli"], written["special_modulus"]]
    bits = sum(prime.bit_length() for prime in primes)
    assert bits <= STANDARD_BITS[written["ring_degree"]]
    assert len(set(primes)) == len(primes)
    for prime in [*primes, written["plain_modulus"]]:
        assert prime % (2 * written["ring_degree"]) == 1
        # Fermat to a few bases: the crate's own test divides.
        assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5, 7))


@pytest.mark.parametrize("path", _native.CPU_PATHS)
def test_every_kernel_path_of_this_machine_gives_the_same_bytes(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), path],
        env={**os.environ, "CHAINNODE_HE_KERNELS": path},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(PATH.read_text())
