"""Signature checking: our Ed25519 batches against one-by-one checks of `cryptography`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from chainnode import _native
from chainnode.bench import frame
from chainnode.bench.frame import Figures, Spins
from chainnode.types.errors import InternalError

BLOCK_TRANSACTIONS = 1_000
PAYLOAD_SIZE_BYTES = 256
ROUNDS_QUICK = 7
ROUNDS_FULL = 25
# A block of the simulated size on each of these numbers of threads.
THREADS = (4, 8, 16)
LARGE_BLOCK_SIGNATURES = 10_000
P256_SIGNATURES = 200
SUITE_SIGNATURES = 200


@dataclass(frozen=True, slots=True)
class Block:
    """Signatures of one block, all by different keys."""

    keys: list[bytes]
    messages: list[bytes]
    signatures: list[bytes]
    library_keys: list[ed25519.Ed25519PublicKey]


def run(quick: bool) -> tuple[Figures, list[str]]:
    """Measure one machine, every ratio inside one interleaved run, medians.

    Args:
        quick: fewer rounds.

    Raises:
        InternalError: `BENCH_MISMATCH`, when the two verifiers disagree.
    """
    rounds = ROUNDS_QUICK if quick else ROUNDS_FULL
    block = make_block(b"warm")
    compare_verdicts(block)
    times = interleaved(block, rounds)
    per_signature = {
        name: median(values) * 1e6 / BLOCK_TRANSACTIONS for name, values in times.items()
    }
    ratio = median(
        library / batch for library, batch in zip(times["library"], times["batch"], strict=True)
    )
    suites = {name: suite_times(name, rounds) for name in ("p256", "sm2")}
    openssl, openssl_note = sm2_openssl_us()
    scaling, spin = two_threads(block, rounds)
    doubt = frame.threads_doubt(2, spin)
    honest = not doubt
    figures: Figures = {
        "ed25519_batch_us": round(per_signature["batch"], 2),
        "ed25519_library_us": round(per_signature["library"], 2),
        "ed25519_ratio": round(ratio, 2),
        "ed25519_batch_new_keys_us": round(per_signature["cold"], 2),
        "ed25519_single_us": round(per_signature["single"], 2),
        "p256_us": round(suites["p256"][0], 2),
        "p256_library_us": round(p256_library_us(rounds), 2),
        "sm2_us": round(suites["sm2"][0], 2),
        "sm2_openssl_us": openssl,
        "threads2_scaling": round(scaling, 2) if scaling is not None and honest else None,
        "p256_threads2_scaling": round(suites["p256"][1], 2) if honest else None,
        "sm2_threads2_scaling": round(suites["sm2"][1], 2) if honest else None,
        "curve_backend": _native.CURVE_BACKEND,
    }
    notes = [
        f"curve arithmetic: {_native.CURVE_BACKEND}; one thread; {BLOCK_TRANSACTIONS} different "
        f"keys a block; messages of {PAYLOAD_SIZE_BYTES} bytes; median of {rounds}",
        "ed25519_batch_us and ed25519_library_us: keys met before (parsed on both sides); "
        "ed25519_batch_new_keys_us: keys never seen",
        f"p256_us, sm2_us: blocks of {SUITE_SIGNATURES}, keys met before, one thread; "
        "p256_library_us: `cryptography` (OpenSSL's assembly) one by one",
        f"sm2_openssl_us: {openssl_note}",
    ]
    if not honest:
        for key in [key for key in figures if key.endswith("threads2_scaling")]:
            notes.append(f"{key} is null: {doubt}")
    more, told = many_threads(block, frame.spin_scalings(THREADS), rounds)
    return figures | more, notes + told


def interleaved(block: Block, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way to check a block, the ways taken in turn."""
    cold = [make_block(b"cold %d" % number) for number in range(rounds)]
    times: dict[str, list[float]] = {"batch": [], "cold": [], "single": [], "library": []}
    check_batch(block)
    for unseen in cold:
        times["batch"].append(timed(lambda: check_batch(block)))
        times["library"].append(timed(lambda: check_library(block)))
        times["single"].append(timed(lambda: check_singly(block)))
        times["cold"].append(timed(partial(check_batch, unseen)))
    return times


def many_threads(block: Block, spins: Spins, rounds: int) -> tuple[Figures, list[str]]:
    """How much faster more than two threads check a block of the simulated size."""
    figures: Figures = {}
    notes = []
    times = LARGE_BLOCK_SIGNATURES // BLOCK_TRANSACTIONS
    columns = (block.keys * times, block.messages * times, block.signatures * times)

    def check(threads: int) -> None:
        if not all(_native.verify_signatures("ed25519", *columns, threads)):
            raise InternalError("BENCH_MISMATCH", "a valid signature was refused", subject="batch")

    for threads, spin in spins.items():
        key = f"threads{threads}_scaling"
        figures[key] = None
        if spin is None:
            notes.append(f"{key} is null: {frame.threads_doubt(threads, spin)}")
            continue
        many = partial(check, threads)
        ratios = [timed(partial(check, 1)) / timed(many) for _ in range(rounds)]
        found, doubt = round(median(ratios), 2), frame.threads_doubt(threads, spin)
        figures[key] = None if doubt else found
        notes += [f"{key} is null: inconclusive, {doubt}"] if doubt else []
        notes.append(
            f"{key}: {found}, a spin kernel {spin:.2f}; {LARGE_BLOCK_SIGNATURES:,} Ed25519 "
            f"signatures of {BLOCK_TRANSACTIONS:,} keys met before, median of {rounds}"
        )
    return figures, notes


def suite_times(suite: str, rounds: int) -> tuple[float, float]:
    """(microseconds per check on one thread, how much more two threads do)."""
    keys, messages, signatures = _native.sample_signatures(
        suite, SUITE_SIGNATURES, PAYLOAD_SIZE_BYTES
    )

    def check(threads: int) -> None:
        if not all(_native.verify_signatures(suite, keys, messages, signatures, threads)):
            raise InternalError("BENCH_MISMATCH", "a valid signature was refused", subject=suite)

    check(1)
    one, two = [], []
    for _ in range(rounds):
        one.append(timed(lambda: check(1)))
        two.append(timed(lambda: check(2)))
    scaling = median(a / b for a, b in zip(one, two, strict=True))
    return median(one) * 1e6 / SUITE_SIGNATURES, scaling


def sm2_openssl_us() -> tuple[float | None, str]:
    """Microseconds per SM2 check by the `openssl` command, and what to say about it."""
    command = ["openssl", "speed", "-seconds", "1", "sm2"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None, "null: there is no openssl command"
    for line in done.stdout.splitlines():
        fields = line.split()
        # sign and verify in seconds, then both per second.
        if "SM2" in line and len(fields) > 4 and fields[-1].replace(".", "").isdigit():
            return round(1e6 / float(fields[-1]), 2), "`openssl speed sm2`, one core"
    return None, "null: this openssl cannot measure SM2"


def make_block(label: bytes) -> Block:
    """A block's worth of signatures, the same for the same label."""
    keys, messages, signatures, library_keys = [], [], [], []
    for number in range(BLOCK_TRANSACTIONS):
        seed = hashlib.sha256(label + number.to_bytes(4, "big")).digest()
        private = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        message = seed * (PAYLOAD_SIZE_BYTES // len(seed))
        library_keys.append(private.public_key())
        keys.append(private.public_key().public_bytes_raw())
        messages.append(message)
        signatures.append(private.sign(message))
    return Block(keys, messages, signatures, library_keys)


def compare_verdicts(block: Block) -> None:
    """Both verifiers must accept the block and refuse the same damaged signatures."""
    damaged = list(block.signatures)
    for number in range(0, BLOCK_TRANSACTIONS, 97):
        damaged[number] = damaged[number][:-1] + bytes([damaged[number][-1] ^ 1])
    ours = _native.verify_ed25519_batch(block.keys, block.messages, damaged)
    theirs = [
        library_accepts(key, signature, message)
        for key, signature, message in zip(block.library_keys, damaged, block.messages, strict=True)
    ]
    if ours != theirs:
        raise InternalError(
            "BENCH_MISMATCH",
            "our batch and the library disagree",
            subject="ed25519",
            fix="do not run a node on this machine; report it",
        )


def library_accepts(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """The library's verdict as a boolean."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def check_batch(block: Block, threads: int = 1) -> None:
    """One block, our way."""
    columns = block.keys, block.messages, block.signatures
    if not all(_native.verify_signatures("ed25519", *columns, threads)):
        raise InternalError("BENCH_MISMATCH", "a valid signature was refused", subject="batch")


def check_singly(block: Block) -> None:
    """One block, our single check."""
    for key, message, signature in zip(block.keys, block.messages, block.signatures, strict=True):
        if not _native.verify_ed25519(key, message, signature):
            raise InternalError("BENCH_MISMATCH", "a valid signature was refused", subject="single")


def check_library(block: Block) -> None:
    """One block, the library's way; raises on a bad signature."""
    for key, message, signature in zip(
        block.library_keys, block.messages, block.signatures, strict=True
    ):
        key.verify(signature, message)


def p256_library_us(rounds: int) -> float:
    """Microseconds per P-256 check of the library."""
    private = ec.derive_private_key(7, ec.SECP256R1())
    public, message = private.public_key(), bytes(PAYLOAD_SIZE_BYTES)
    signature = private.sign(message, ec.ECDSA(hashes.SHA256()))

    def check() -> None:
        for _ in range(P256_SIGNATURES):
            public.verify(signature, message, ec.ECDSA(hashes.SHA256()))

    return median(timed(check) for _ in range(rounds)) * 1e6 / P256_SIGNATURES


def two_threads(block: Block, rounds: int) -> tuple[float | None, float | None]:
    """(scaling of our batch, scaling of a kernel that only computes); None on one core."""
    if (os.cpu_count() or 1) < 2:
        return None, None
    ours, pure = [], []
    for _ in range(rounds):
        one = timed(lambda: check_batch(block))
        ours.append(one / timed(lambda: check_batch(block, threads=2)))
        pure.append(frame.scaling_once(2))
    return median(ours), median(pure)


def timed(work: Callable[[], None]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
