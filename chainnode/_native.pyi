"""The Rust core as Python sees it: batches in, batches out, interpreter lock released.

All byte strings called canonical are canonical protobuf of `protos/chainnode/v1/types.proto`.
Errors: malformed input raises `ValueError` with a one-line reason unless a docstring says otherwise.
"""

from collections.abc import Sequence
from typing import Final, final

# --- build facts -------------------------------------------------------------------------------

CPU_PATH: Final[str]
"""`"avx512ifma"` or `"portable"`: the kernels chosen on this machine."""

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

def is_torsion_free(public_key: bytes) -> bool:
    """Whether a key lies in the prime-order subgroup; asked once, at enrolment."""

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

@final
class TxPool:
    """Pending transactions, verified once, first come first served. Thread-safe."""

    def __init__(
        self,
        chain_id: str,
        *,
        expiry_window: int,
        transactions_max: int,
        size_max_bytes: int,
        transaction_size_max_bytes: int,
    ) -> None: ...
    def add(self, batch: bytes, height: int) -> Admissions:
        """Decode, check expiry against `height` (last committed), dedup, verify in one batch."""
    def propose(self, transactions_max: int, size_max_bytes: int) -> list[bytes]:
        """wids of the oldest pending transactions within both limits; they stay in the pool."""
    def missing(self, wids: Sequence[bytes]) -> list[bytes]: ...
    def add_bodies(self, batch: bytes) -> int:
        """Keep bodies a proposal needs, outside the pool's limits; returns how many were new.

        Signatures are checked and remembered by wid, but a bad one is kept: execution refuses it
        with a receipt, so that every node votes alike."""
    def bodies(self, wids: Sequence[bytes]) -> bytes:
        """TransactionBatch in the order asked. Raises `KeyError` naming the first wid not held."""
    def verified(self, wids: Sequence[bytes]) -> bytes:
        """One byte per wid: 1 when its sender and endorsement signatures are known to be valid."""
    def commit(self, wids: Sequence[bytes], tx_ids: Sequence[bytes], height: int) -> int:
        """Forget committed and expired transactions, remember committed ids for the window;
        returns how many were dropped."""
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
    def expiry_heights(self) -> list[int]: ...
    @property
    def receipts_root(self) -> bytes: ...
    @property
    def state_root(self) -> bytes: ...
    @property
    def writes(self) -> list[tuple[bytes, bytes | None]]:
        """Net writes sorted by key; None deletes."""
    @property
    def gas_used(self) -> int: ...

@final
class Executor:
    """The state in memory and the serial engine over it. One block at a time; queries beside it
    see the last finished block."""

    def __init__(self, chain_id: str) -> None: ...
    def load(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Add stored state, any order, any number of calls, before the first block."""
    def load_window(self, tx_ids: Sequence[bytes], expiry_heights: Sequence[int]) -> None:
        """Seed the ids that already have a receipt and could still be replayed."""
    def genesis(self, genesis: bytes) -> BlockResult:
        """Write a canonical Genesis into an empty state; the result has no receipts."""
    def state_root(self) -> bytes: ...
    def execute_block(self, context: bytes, batch: bytes, verified: bytes) -> BlockResult:
        """Execute a TransactionBatch in order under a canonical BlockContext.

        verified: one byte per transaction, 1 when the signatures are known to be valid (then they
        are not checked again); 0 checks them here. The outcome never depends on it."""
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

def check_module(wasm: bytes) -> None:
    """Raise `ValueError` naming the rule a contract module breaks (docs/spec/contract-vm.md)."""

def meter_module(wasm: bytes) -> bytes:
    """The module with gas counters injected, as the executor runs it."""
