"""The Rust core as Python sees it: batches in, batches out, interpreter lock released.

All byte strings called canonical are canonical protobuf of `protos/chainnode/v1/types.proto`.
Malformed input raises `ValueError` with a one-line reason unless a docstring says otherwise.
"""

from collections.abc import Sequence
from typing import Final, final

# --- build facts -------------------------------------------------------------------------------

CPU_PATH: Final[str]
"""`"avx512ifma"`, `"avx2"` or `"portable"`: the homomorphic kernels chosen on this machine. The
environment variable `CHAINNODE_HE_KERNELS` asks for one of `CPU_PATHS`; the bytes are the same."""

CPU_PATHS: Final[tuple[str, ...]]
"""The kernels this machine can run, the best first; the last is `"portable"`."""

# --- formats (chain-types) ---------------------------------------------------------------------

def tx_id(payload: bytes) -> bytes: ...
def wid(transaction: bytes) -> bytes: ...
def address(public_key: bytes) -> bytes: ...
def check_transaction(transaction: bytes) -> bytes:
    """Return the tx id of a canonical, well-formed transaction (signatures not checked)."""

def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Domain-tagged Merkle root (RFC 6962 shape); of no leaves: SHA-256 of the empty string."""

def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]: ...
def verify_merkle_path(
    root: bytes, leaf: bytes, index: int, leaf_count: int, path: Sequence[bytes]
) -> bool: ...

# --- signatures (chain-crypto) -----------------------------------------------------------------

def verify_ed25519(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """ZIP-215: cofactored, S < L, non-canonical points allowed. The one rule of the chain."""

def verify_ed25519_batch(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    """The same verdict as `verify_ed25519` for each, decided in batches."""

def verify_signatures(
    suite: str,
    public_keys: Sequence[bytes],
    messages: Sequence[bytes],
    signatures: Sequence[bytes],
    threads: int = 1,
) -> list[bool]:
    """The verdict on each, on up to `threads` threads; the same for every number of threads.

    suite: "ed25519" as `verify_ed25519_batch`; "p256" (ECDSA, SHA-256, low s) and "sm2" (SM3,
    identity 1234567812345678): keys are compressed points, signatures strict DER."""

def sample_signatures(suite: str, count: int, message_size_bytes: int) -> list[list[bytes]]:
    """Keys, messages and valid signatures of "p256" or "sm2", to measure and test with."""

def signatures_checked() -> int:
    """Signatures this process has checked since it started, whatever the verdict."""

def is_torsion_free(public_key: bytes) -> bool:
    """Whether a key lies in the prime-order subgroup; asked once, at enrolment."""

CURVE_BACKEND: Final[str]
"""Curve arithmetic on this machine: `"avx512ifma"`, `"avx2"` or `"serial"`."""

# --- pool (chain-types + chain-crypto) -----------------------------------------------------------

@final
class Admissions:
    """Verdicts of one batch, in its order."""

    @property
    def codes(self) -> bytes:
        """One `Admission` value of node.proto per transaction."""
    @property
    def tx_ids(self) -> list[bytes]: ...
    @property
    def fresh(self) -> bytes:
        """TransactionBatch of those accepted now, for gossip; empty when none."""
    def response(self, start: int, count: int) -> bytes:
        """An encoded SubmitResponse for `count` transactions of the batch from `start` on."""

def count_transactions(batch: bytes) -> int:
    """How many transactions an encoded TransactionBatch holds; raises `ValueError` unless it is
    one. The bytes of such batches behind one another are a batch of all."""

@final
class TxPool:
    """Pending transactions, verified once, first come first served. Thread-safe.

    One sender has at most half of the places and bytes."""

    def __new__(
        cls,
        chain_id: str,
        *,
        expiry_window: int,
        transactions_max: int,
        size_max_bytes: int,
        transaction_size_max_bytes: int,
        threads: int = 1,
    ) -> TxPool:
        """threads: up to so many decode and check signatures of one batch."""
    def add(self, batch: bytes, height: int, submitted: int | None = None) -> Admissions:
        """Decode, check expiry against `height` (last committed), dedup, verify in batches.

        submitted: so many at the batch's start come from clients: their senders must be members,
        and they alone are `fresh`. None takes all as fresh, whoever sent them."""
    def set_member(self, public_key: bytes, member: bool) -> None:
        """Whether transactions of this sender are taken from clients."""
    def propose(self, transactions_max: int, size_max_bytes: int) -> list[bytes]:
        """wids of the oldest pending transactions within both limits; they stay in the pool."""
    def missing(self, wids: Sequence[bytes]) -> list[bytes]: ...
    def add_bodies(self, batch: bytes, wanted: Sequence[bytes] | None = None) -> int:
        """Keep bodies a proposal needs, outside the pool's limits; returns how many were new.

        wanted: wids that were asked for; others are dropped unread. None takes all.
        Signatures are checked and remembered by wid, but a bad one is kept: execution refuses it
        with a receipt, so that every node votes alike."""
    def bodies(self, wids: Sequence[bytes]) -> bytes:
        """TransactionBatch in the order asked. Raises `KeyError` naming the first wid not held."""
    def pending(self, tx_ids: Sequence[bytes]) -> list[bytes]:
        """Those of the ids of which a transaction waits here."""
    def held_size_bytes(self, wids: Sequence[bytes]) -> int:
        """Bytes of those bodies that are held."""
    def verified(self, wids: Sequence[bytes]) -> bytes:
        """One byte per wid: 1 when its sender and endorsement signatures are known to be valid."""
    def commit(self, wids: Sequence[bytes], height: int) -> int:
        """Forget committed and expired transactions; their ids stay known until `executed`.
        Returns how many were dropped."""
    def executed(self, tx_ids: Sequence[bytes], expiry_heights: Sequence[int], height: int) -> int:
        """Take a block's outcome (`BlockResult`): ids with an expiry above 0 are used up and stay
        known until then, the others may come again. Returns how many were dropped."""
    def restore(self, tx_ids: Sequence[bytes], expiry_heights: Sequence[int]) -> None:
        """Seed the committed ids of the window after a restart."""
    def __len__(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...

# --- execution (chain-state, chain-vm, chain-exec) ------------------------------------------------

@final
class BlockResult:
    @property
    def receipts(self) -> list[bytes]:
        """Canonical Receipt per transaction, in block order."""
    @property
    def tx_ids(self) -> list[bytes]: ...
    @property
    def expiry_heights(self) -> list[int]:
        """Per transaction; 0 where the receipt does not use the id up (a duplicate, one outside its
        window, a sender, signature or policy refused). Only ids with a height above 0 go to
        `load_window` after a restart."""
    @property
    def receipts_root(self) -> bytes: ...
    @property
    def state_root(self) -> bytes: ...
    @property
    def writes(self) -> list[tuple[bytes, bytes | None]]:
        """Net writes sorted by key; None deletes."""
    @property
    def gas_used(self) -> int: ...
    @property
    def accesses(self) -> BlockAccesses:
        """What the transactions read and wrote; kept apart, it frees the rest of the result."""

@final
class BlockAccesses:
    """What each transaction of a block read and wrote, equal on every engine."""

    def __len__(self) -> int:
        """Transactions."""
    @property
    def size_bytes(self) -> int:
        """Memory it takes, about."""
    def graph(self, height: int, *, summary_only: bool = False) -> bytes:
        """The block's dependency graph, an encoded BlockGraph with at most 1,000,000 edges;
        summary_only: without its vertices. Additions to a counter do not depend on each other."""

@final
class BlockTiming:
    """A block timed phase by phase, on one thread, as it divides among workers."""

    def least(self, other: BlockTiming) -> None:
        """Keep of each part the quicker run; `ValueError` unless both are of one block."""
    def phases(self, band_name: str = "nominal") -> list[tuple[str, int, int, int]]:
        """(name, ns on one thread, ns of it in no worker's part, ns on all workers) in order.

        The last is the parts' makespan, slowed, started and woken at the band's costs."""

@final
class Executor:
    """The state in memory and the engines over it. One block at a time; queries beside it see the
    last finished block."""

    def __new__(cls, chain_id: str) -> Executor: ...
    def set_engine(self, threads: int, engine: str = "gate", *, pinned: bool = False) -> None:
        """How blocks are executed from now on; results never depend on it.

        threads: 1 to 1024, by default one per core; 1 is the plain serial engine. engine: `gate`
        chooses per block; `serial`, `dag` (wait for the producers hints name), `stm` (speculate)
        and `blind` (speculate, nothing prepared) fix it. pinned: each thread but the caller keeps
        to one core, where the system lets it."""
    def load(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Add stored state, any order, any number of calls, before the first block."""
    def load_window(self, tx_ids: Sequence[bytes], expiry_heights: Sequence[int]) -> None:
        """Seed the ids that already have a receipt and could still be replayed."""
    def load_head(self, height: int, timestamp_ms: int) -> None:
        """Tell views which block was the last one finished before a restart."""
    def genesis(self, genesis: bytes) -> BlockResult:
        """Write a canonical Genesis into an empty state; the result has no receipts."""
    def state_root(self) -> bytes: ...
    def execute_block(self, context: bytes, batch: bytes, verified: bytes) -> BlockResult:
        """Execute a TransactionBatch in order under a canonical BlockContext.

        verified: one byte per transaction, 1 when the signatures are known to be valid (then they
        are not checked again); 0 checks them here. The outcome never depends on it."""
    def record_block(
        self, context: bytes, batch: bytes, verified: bytes, *, runs: int = 1
    ) -> Trace:
        """Execute a block serially without keeping what it does, as a trace for `simulate`.

        Of each transaction the quickest of `runs` counts: its cost, when it first read each key and
        range, its gas, and what would have been foretold of it."""
    def time_block(
        self, context: bytes, batch: bytes, verified: bytes, workers: int
    ) -> tuple[BlockResult, BlockTiming]:
        """Execute a block as `execute_block` does and time it as it divides among workers.

        workers: 1 to 1024; 1 is the plain serial engine, for more the gate chooses. This thread
        alone does all parts, one after another."""
    def evaluate(
        self, sender: bytes, contract: str, method: str, args: bytes, gas_limit: int
    ) -> bytes:
        """Run a view against the last finished block; returns a canonical Receipt."""
    def get(self, key: bytes) -> bytes | None:
        """A raw state value; key layout in chain-state."""
    def member(self, address: bytes) -> bytes | None:
        """Canonical Member."""
    def contract(self, name: str) -> tuple[bytes, bytes] | None:
        """Canonical ContractRecord and the ABI."""

@final
class AccessTemplates:
    """What each method of a contract touches, as its ABI says (docs/spec/access-templates.md)."""

    def __new__(cls, abi: bytes) -> AccessTemplates:
        """An ABI without templates, or one that is not understood, has none: hints are advisory."""
    def predict(
        self,
        contract: str,
        method: str,
        args: bytes,
        *,
        sender: bytes,
        sender_org: str = "",
        sender_role: str = "",
        sender_name: str = "",
        tx_id: bytes | None = None,
        chain_id: str = "",
        height: int = 0,
        time_ms: int = 0,
    ) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes], list[bytes]] | None:
        """(keys read, written, added to; beginnings of keys read, of keys written), full state
        keys; None where there is no template or the arguments do not fit it.

        sender: address."""

def check_module(wasm: bytes) -> None:
    """Raise `ValueError` naming the rule a contract module breaks (docs/spec/contract-vm.md)."""

def meter_module(wasm: bytes) -> bytes:
    """The module with gas counters injected, as the executor runs it."""

def time_contract_calls(
    wasm: bytes,
    entry: str,
    args: bytes,
    sender: bytes,
    contract: str,
    entries: Sequence[tuple[bytes, bytes]],
    *,
    calls: int,
    reuse: bool,
    metered: bool,
    threads: int,
) -> int:
    """Nanoseconds for `calls` calls of an export in each thread, writes dropped: for benchmarks.

    entries: state below the calls, full keys. Raises `ValueError` when a call does not return."""

# --- parallel scheduler (chain-exec) --------------------------------------------------------------
#
# One scheduler, two drivers: threads (bench_blocks) and virtual time (simulate). Keys of a trace
# are numbers; the same number is the same contract-qualified key.

@final
class Trace:
    """What the transactions of a block cost and touch, in block order."""

    def __new__(cls) -> Trace: ...
    @staticmethod
    def decode(text: str) -> Trace:
        """A trace from text (docs/spec/execution-trace.md); `ValueError` names line and rule."""
    def encode(self) -> str: ...
    def add(
        self,
        cost_ns: int,
        *,
        gas_used: int = 0,
        reads: Sequence[tuple[int, int]] = ...,
        writes: Sequence[int] = ...,
        deltas: Sequence[int] = ...,
        ranges: Sequence[tuple[int, int, int]] = ...,
        verify_ns: int = 0,
        hint: str = "complete",
        hint_keys: tuple[Sequence[int], Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        """Append a transaction.

        reads: (key, offset into the execution in ns), by offset. deltas: counters added to without
        a read. ranges: (start, end exclusive, offset in ns), by offset. verify_ns: signature check,
        once however often it executes. hint: complete, superset, predicted or none; hint_keys:
        (reads, writes, deltas) it names instead of the true ones."""
    def __len__(self) -> int: ...
    @property
    def work_ns(self) -> int:
        """T1, signature checks apart."""
    @property
    def critical_path_ns(self) -> int:
        """T-infinity: cost-weighted read-after-write path in block order."""
    @property
    def gas_used(self) -> int:
        """Of all receipts; 0 where the trace was made up."""
    def with_verify(self, verify_ns: int) -> Trace:
        """The same with a signature check of so long before each transaction."""
    def without_deltas(self) -> Trace:
        """The same with each delta as a read and a write."""
    def without_hints(self) -> Trace: ...

@final
class Makespan:
    makespan_ns: int
    around_ns: int
    """Of it, setting up before the workers begin, and what follows the last final transaction."""
    serial_part_ns: int
    """Of it, what one worker does while the others wait."""
    serial_ns: int
    """Plain serial, signature checks included: the baseline of `speedup`."""
    speedup: float
    busy_ns: int
    executions: int
    """Executions that ran to their end; more than the transactions means repeats."""
    blocked: int
    """Attempts cut short at a value not yet written."""
    invalidated: int
    exact: int
    """Executions on the commit lane."""

def scheduler_costs(band_name: str = "nominal") -> dict[str, float]:
    """What the scheduler's operations cost in the band `best`, `nominal` or `worst`."""

def measured_costs(transactions: int, workers: int) -> dict[str, float]:
    """What they cost on this machine: the real scheduler and memory, operation by operation on one
    thread, a block of so many transactions as it divides among so many workers. Lines, waking and
    inflation, which need other threads, are nominal."""

def simulate(
    trace: Trace,
    workers: int,
    *,
    band_name: str = "nominal",
    costs: dict[str, float] = ...,
    engine: str = "auto",
    window: int | None = None,
    batch: int | None = None,
    push: bool = True,
) -> Makespan:
    """Run a trace on virtual workers with the scheduler's own code in virtual time.

    costs: overrides by the names of `scheduler_costs`. engine: `dag` waits for the producers that
    complete hints name, `stm` speculates, `blind` does so with nothing prepared, `auto` is the one
    of them that the gate takes, and charges for the choice. window, batch, push: for ablations
    (window 1_000_000 is none, batch 1 is none, without push a wrong guess is found when it comes
    up to be final). Deterministic."""

def predict_engine(trace: Trace, threads: int) -> str:
    """`serial`, `dag`, `stm` or `blind`: what the gate picks, the trace's hints taken as given."""

@final
class BlockTimes:
    engine: str
    """As asked for."""
    ran: list[str]
    """What ran each time, the gate's choice resolved."""
    times_ns: list[int]
    executions: int
    blocked: int
    invalidated: int
    exact: int

def bench_blocks(
    trace: Trace, engines: Sequence[str], *, threads: int, repeats: int = 1
) -> list[BlockTimes]:
    """Really execute a trace as spinning transactions, engines in turn, `repeats` times.

    engines: any of `serial`, `dag`, `stm`, `blind`, `gate`. Costs are spun as a calibrated number
    of instructions. Values written depend on all that was read; `RuntimeError` when two runs or two
    engines differ."""

def compare_random_blocks(first_seed: int, count: int, threads: int) -> list[str]:
    """Execute random blocks serially and in parallel on every engine; names those that differ."""

# --- Paillier (chain-paillier) --------------------------------------------------------------------

# Big-endian, fixed width: n and plaintexts 256 or 384 bytes, ciphertexts twice that, a secret key
# p then q of half n each. `ValueError` for anything else.

def paillier_generate(bits: int) -> tuple[bytes, bytes]:
    """Public and secret key of 2048 or 3072 bits."""

def paillier_public_key(secret_key: bytes) -> bytes: ...
def paillier_encrypt(public_key: bytes, plaintext: bytes) -> bytes: ...
def paillier_decrypt(secret_key: bytes, ciphertext: bytes) -> bytes: ...
def paillier_add(public_key: bytes, left: bytes, right: bytes) -> bytes: ...
def paillier_add_plain(public_key: bytes, ciphertext: bytes, value: int) -> bytes: ...
def paillier_scalar_multiply(public_key: bytes, ciphertext: bytes, factor: int) -> bytes: ...

# --- homomorphic engine (chain-he) ----------------------------------------------------------------
#
# A ciphertext is raw little-endian u64 residues [polynomial][limb][coefficient], NTT form, SEAL's
# order and primes; no header. Slots are u64 little-endian, values modulo t. A block is one
# ciphertext of `slots` values. "limbs" is how many leading limbs of Q a byte string carries or a
# call reads: a shallow result needs few, and the others are simply not stored.

@final
class HeProfile:
    name: str
    ring_degree: int
    slots: int
    plain_modulus: int
    moduli: list[int]
    special_modulus: int
    factors_max: int
    """Factors of the deepest product: 3 (S), 2 (S36), 4 (M); refused beyond, with a reason."""
    noise_bits: list[int]
    """Noise of a relinearised product of 1, 2, .. `factors_max` factors: measured bits of the
    largest coefficient for uniform slots, one key, one block, weights of one. With p parties, k
    blocks and squared weights w_i the variance grows by p^factors x k x w_1 x w_2 ..."""

def keep_freed_memory(size_bytes: int) -> None:
    """Let the allocator keep so much freed memory instead of returning it to the system.

    For worker and keyholder processes and benchmarks: ciphertexts of some hundred KiB come and go
    for every block, and their pages cost more than the arithmetic. Does nothing without glibc."""

def he_profile(name: str) -> HeProfile:
    """A named 128-bit profile. S (t = 65537) and S36 (36-bit t): N = 8192, limbs of 42,42,42,43
    bits + special 43. M (36-bit t = 68718428161): N = 16384, seven limbs of 43 bits + special 43.

    A block holds N slots: 16,384 rows in M. Key shares, keys and ciphertexts of M go through the
    same calls as those of S; the ceremony needs s^2 only, whatever the degree."""

def he_transform_roots(profile: str) -> list[tuple[bytes, bytes]]:
    """For each data prime of a profile, then the special one: the powers of psi and those of
    psi^-1, bit-reversed (SEAL's order), each a little-endian u64 and its Shoup quotient."""

@final
class HeRelinEphemeral:
    """A member's secret of relinearisation round 1, needed in round 2. Never leaves the process."""

@final
class HeSecretKey:
    """A secret key by handle: its bytes can be sealed, never read."""

    @staticmethod
    def generate(profile: str) -> HeSecretKey: ...
    @staticmethod
    def unseal(profile: str, sealed: bytes, key: bytes) -> HeSecretKey: ...
    def seal(self, key: bytes) -> bytes:
        """Encrypt under a 32-byte key (ChaCha20-Poly1305, random nonce)."""
    def public_key(self) -> bytes:
        """A fresh ordinary public key (b, a), all data limbs: a bank receives results under it."""
    def decrypt(self, ciphertext: bytes, limbs: int) -> bytes:
        """Slots of a two-polynomial ciphertext."""
    def noise_budget_bits(self, ciphertext: bytes, limbs: int) -> int: ...
    def open(self, ciphertext: bytes, limbs: int) -> tuple[bytes, int]:
        """`decrypt` and `noise_budget_bits` in one pass."""
    def first_shares(
        self, claim: tuple[bytes, bytes | None, bytes]
    ) -> tuple[bytes, tuple[bytes, HeRelinEphemeral] | None, bytes]:
        """The key share b_i = -(a s_i + t e_i) over data limbs and special prime, a from SHAKE of
        the key's seed, round 1 of relinearisation if it has a seed, and the proof that their dealer
        knows the short secrets behind them. A claim is the key's seed, that of relinearisation or
        None, and the place it is bound to."""
    def relin_round2(self, ephemeral: HeRelinEphemeral, round1: bytes) -> bytes: ...
    def scalar_share(self, ciphertext: bytes, limbs: int, flood_seed: bytes, parties: int) -> bytes:
        """This member's share of the constant coefficient of a two-polynomial ciphertext: 8 bytes a
        limb, times N^-1 before flooding (he.md 6.2); flooding noise drawn from `flood_seed`."""
    def key_switch_share(
        self,
        ciphertext: bytes,
        limbs: int,
        target_public_key: bytes,
        flood_seed: bytes,
        parties: int,
    ) -> bytes:
        """Collective public-key switch share: two polynomials of `limbs` limbs, flooded."""
    def key_switch_shares(
        self,
        ciphertexts: Sequence[bytes],
        limbs: int,
        target_public_key: bytes,
        flood_seeds: Sequence[bytes],
        parties: int,
        threads: int,
    ) -> list[bytes]:
        """`key_switch_share` of every ciphertext with its own seed: equal bytes, the target checked
        once, the ciphertexts on so many threads."""

def he_verify_first_shares(
    profile: str,
    claim: tuple[bytes, bytes | None, bytes],
    key_share: bytes,
    relin_share: bytes | None,
    proof: bytes,
) -> None:
    """Raise `ValueError` unless the proof of `HeSecretKey.first_shares` holds."""

def he_aggregate_public_key(profile: str, common_seed: bytes, shares: Sequence[bytes]) -> bytes: ...
def he_aggregate_relin_round1(profile: str, shares: Sequence[bytes]) -> bytes: ...
def he_relin_key(profile: str, round1: bytes, round2_shares: Sequence[bytes]) -> bytes: ...
def he_encrypt(profile: str, public_key: bytes, slots: bytes, seed: bytes, limbs: int) -> bytes:
    """Encrypt up to `slots` values; all randomness from the 32-byte seed, so that an auditor can
    encrypt again byte for byte. Only the first `limbs` limbs are returned."""

def he_encrypt_many(
    profile: str, public_key: bytes, blocks: Sequence[bytes], seeds: Sequence[bytes], limbs: int
) -> list[bytes]: ...
def he_combine_scalar(
    profile: str, limbs: int, ciphertext: bytes, shares: Sequence[bytes]
) -> tuple[int, int]:
    """(slot sum modulo t as 0..t-1, remaining noise bits). Slot sum = N x constant coefficient.

    A wrong share leaves a phase that fills the modulus: the caller refuses below a margin."""

HE_SCALAR_MARGIN_BITS: Final[int]
"""`he_combine_scalar` leaves at least this many bits when every share is right; a wrong share
keeps them with probability 2^-this."""

def he_flood_bits(profile: str, limbs: int, parties: int, scalar: bool) -> int:
    """log2 of the standard deviation of one member's flooding noise, multiples of t included.

    Flooding fills the modulus: it needs noise_bits + 32 + (4.6 + log2(queries x coefficients)) / 2
    to hide the phase (he.md 6.2). Raises ValueError when the limbs leave no room at all."""

def he_combine_key_switch(
    profile: str, limbs: int, ciphertext: bytes, shares: Sequence[bytes]
) -> bytes:
    """The same plaintext under the target key, two polynomials."""

def he_validate_ciphertext(profile: str, ciphertext: bytes, polynomials: int, limbs: int) -> None:
    """Raise ValueError unless the length is exact and every residue is below its prime."""

def he_add(profile: str, limbs: int, ciphertexts: Sequence[bytes]) -> bytes:
    """Sum of equal-shaped ciphertexts (2 to 5 polynomials)."""

def he_multiply(profile: str, limbs: int, left: bytes, right: bytes) -> bytes:
    """Point-wise product of two two-polynomial ciphertexts: three polynomials."""

def he_add_plain(profile: str, limbs: int, ciphertext: bytes, slots: bytes) -> bytes: ...
def he_multiply_plain(profile: str, limbs: int, ciphertext: bytes, slots: bytes) -> bytes: ...
def he_mask_add(
    profile: str,
    limbs: int,
    ciphertexts: Sequence[bytes],
    masks: Sequence[bytes],
    addends: Sequence[bytes],
    threads: int,
) -> list[bytes]:
    """Every ciphertext times its mask plus its addend, slot by slot: the bytes of
    `he_multiply_plain` and then `he_add_plain`, in one pass on so many threads."""

def he_relinearise(profile: str, limbs: int, ciphertext: bytes, relin_key: bytes) -> bytes:
    """Two polynomials with the slots of a ciphertext of 3 to 5: from the top down, c_d s^d =
    (c_d s^2) s^(d-2), so that the one key for s^2 serves products of up to four factors."""

def he_stepwise_sum(
    profile: str, limbs: int, factors: Sequence[Sequence[tuple[int, Sequence[bytes]]]]
) -> bytes:
    """Sum over blocks of the product of 1 to 4 factors, each a list of (weight, column's blocks):
    the bytes of `HeColumns.sum` or `tensor_sum`, computed one operation after another, each a pass
    over memory. For tests, and as the ideal op-by-op loop of benchmarks; residues go unchecked."""

class HeCorruptColumn(ValueError):
    """A stored column is not what was written (damaged, cut short, also under a running kernel):
    fetch it again. Opening, `verify` and every kernel raise it; the process goes on."""

@final
class HeColumns:
    """Ciphertext columns in memory-mapped tiles [64 coefficients][block][64], a file per (column,
    limb plane). Kernels read each tile once and keep sums in registers."""

    @staticmethod
    def write(
        directory: str,
        column: str,
        profile: str,
        limbs: int,
        blocks: Sequence[bytes],
        residue_bytes: int | None = None,
    ) -> None:
        """Write a column; 6 or 8 bytes a residue, 6 unless given. Results are the same bytes for
        every packing."""
    @staticmethod
    def open(directory: str, profile: str) -> HeColumns:
        """Map every column of a folder and compare each limb plane with its Merkle root.

        Raises HeCorruptColumn for damaged or short files, ValueError for another profile."""
    @property
    def columns(self) -> list[str]: ...
    def block_count(self, column: str) -> int: ...
    def roots(self, column: str) -> list[bytes]:
        """Merkle root of each limb plane (RFC 6962, SHA-256); the first leaf is the file's first
        page, which says how it is packed, every other one tile of one polynomial, all blocks: 384
        or 512 bytes a block, in file order."""
    def residue_bytes(self, column: str) -> int:
        """Bytes a residue of the column takes in its files."""
    def stored(self, column: str, limb: int) -> bytes:
        """A copy of a limb plane as it is stored, but for its first page. Raises
        HeCorruptColumn."""
    def check_pass(
        self, columns: Sequence[str], limbs: int, first_block: int, block_count: int
    ) -> int:
        """The columns' common number of blocks. Raises ValueError where no pass could read that."""
    def verify(self, columns: Sequence[str]) -> None:
        """Read columns again and compare their roots. Raises HeCorruptColumn."""
    def evict(self, columns: Sequence[str]) -> None:
        """Drop columns from the page cache, as far as nobody else holds them: for benchmarks.

        A pass over columns that are not in memory reads them ahead of its kernels."""
    def preload(self, columns: Sequence[str], limbs: int) -> None:
        """Read the leading limbs of columns into the page cache, without computing."""
    def read_all(self, columns: Sequence[str], limbs: int) -> int:
        """Exclusive or of all their words: the pure read loop benchmarks compare with."""
    def mac_scalar(
        self,
        columns: Sequence[str],
        weights: Sequence[Sequence[int]],
        limbs: int,
        first_block: int,
        block_count: int,
        threads: int = 1,
    ) -> list[list[bytes]]:
        """Per model (row of signed weights): one ciphertext per block, sum of weight x column."""
    def sum(
        self,
        columns: Sequence[str],
        weights: Sequence[int],
        limbs: int,
        first_block: int,
        block_count: int,
        threads: int = 1,
    ) -> bytes:
        """Sum over blocks of the weighted columns: one two-polynomial ciphertext."""
    def sums(
        self,
        outputs: Sequence[Sequence[Sequence[tuple[Sequence[str], Sequence[int], int]]]],
        limbs: int,
        first_block: int,
        block_count: int,
        threads: int = 1,
    ) -> bytes:
        """The result container (`chainnode.he.engine.pack_container`) of each output's sum of
        terms: of one factor what `sum` gives, of two to four what `tensor_sum` gives. Tiles that
        many terms read come from memory once."""
    def tensor_sum(
        self,
        factors: Sequence[tuple[Sequence[str], Sequence[int], int]],
        limbs: int,
        first_block: int,
        block_count: int,
        threads: int = 1,
    ) -> bytes:
        """Sum over blocks of the product of 2 to `HeProfile.factors_max` factors, each (columns,
        weights, constant): one ciphertext of factors + 1 polynomials, one relinearisation for all.

        Read all limbs of the profile: a deeper product fills them. Raises ValueError for more
        factors than the profile carries."""
