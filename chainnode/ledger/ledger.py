"""The ledger: the block log is the truth, the store is what executing it gave, one batch a block.

Opening recovers: committed blocks that the store has not seen are executed again. The store can
never be ahead of the log, because a block is executed only after its commit record is synced; if
it is, the log was torn and this node must take the chain from its peers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

from chainnode._proto import types_pb2
from chainnode.ledger.block_log import BlockLog, LoggedBlock
from chainnode.ledger.results import (
    BlockOutcome,
    Engine,
    Results,
    genesis_results,
    pack,
    unpack,
)
from chainnode.ledger.store import LevelDbStore, Store, Write
from chainnode.types.codec import encode
from chainnode.types.errors import REJOIN_FIX, ConfigError, InternalError

STATE = b"s/"
RECEIPTS = b"r/"
TX_INDEX = b"t/"
WINDOW = b"w/"
RESULTS = b"h/"
EXECUTED_HEIGHT = b"m/executed"
GENESIS_HASH = b"m/genesis"
_LOAD_BATCH_ENTRIES = 10_000


def height_key(prefix: bytes, height: int) -> bytes:
    """A key that sorts by height."""
    return prefix + height.to_bytes(8, "big")


def genesis_hash(genesis: bytes) -> bytes:
    """What block 1 names as its previous hash."""
    return hashlib.sha256(b"chainnode/genesis/v1" + genesis).digest()


class Ledger:
    """Blocks, results and state of one node. Writes come from one thread, reads from any.

    Args:
        log: the block log, opened.
        store: the state store, opened.
    """

    def __init__(self, log: BlockLog, store: Store) -> None:
        self.log = log
        self.store = store
        self.genesis_hash = b""
        self._genesis_time_ms = 0
        self.executed_height = 0
        self._results: dict[int, Results] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: Path, genesis: bytes, engine: Engine, window: int) -> Ledger:
        """Open or create the ledger in `directory` and bring `engine` to its last state.

        Args:
            directory: the node's data folder.
            genesis: canonical Genesis of the chain.
            engine: an executor without state.
            window: how many heights a tx id stays a duplicate (`expiry_window`).

        Raises:
            ConfigError: GENESIS_MISMATCH when the folder belongs to another chain;
                STORE_LOCKED when another process uses it.
            InternalError: LEDGER_TORN when the store is ahead of the log; STATE_DIVERGED when
                executing again does not give what the headers say.
        """
        log = BlockLog(directory / "blocks")
        ledger = cls(log, LevelDbStore(directory / "state"))
        try:
            ledger._recover(genesis, engine, window)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @property
    def height(self) -> int:
        """The last committed height; it may be above the executed one."""
        return self.log.height

    def results(self, height: int) -> Results | None:
        """The results of an executed height."""
        kept = self._results.get(height)
        if kept is not None:
            return kept
        data = self.store.get(height_key(RESULTS, height))
        return None if data is None else Results.decode(data)

    def block(self, height: int) -> LoggedBlock | None:
        """A committed block."""
        return self.log.read(height)

    def receipts(self, height: int) -> list[bytes] | None:
        """Canonical receipts of an executed block, in block order."""
        data = self.store.get(height_key(RECEIPTS, height))
        return None if data is None else unpack(data)

    def locate(self, tx_id: bytes) -> tuple[int, int] | None:
        """(height, index) of the receipt of a tx id: of the one that used the id up, if any."""
        data = self.store.get(TX_INDEX + tx_id)
        if data is None:
            return None
        return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")

    def tx_ids(self, height: int) -> list[bytes]:
        """Ids of an executed block, in block order."""
        return [tx_id for tx_id, _ in self._window_entries(height)]

    def window(self, window: int) -> Iterator[tuple[bytes, int]]:
        """(tx id, expiry height) of used ids that could still be replayed."""
        for height in range(max(1, self.executed_height - window), self.executed_height + 1):
            for tx_id, expiry in self._window_entries(height):
                # Expiry 0: that receipt did not use its id up.
                if expiry > 0 and expiry >= self.executed_height:
                    yield tx_id, expiry

    def apply(self, height: int, outcome: BlockOutcome) -> Results:
        """Make the outcome of the next height durable, in one synced batch.

        Raises:
            InternalError: LEDGER_ORDER unless it is the next height; STORAGE_FAILED.
        """
        if height != self.executed_height + 1 or height > self.log.height:
            raise InternalError(
                "LEDGER_ORDER",
                f"Results of {height} cannot follow {self.executed_height}.",
                subject=str(height),
            )
        previous = self.results(height - 1)
        assert previous is not None
        results = previous.then(outcome.state_root, outcome.receipts_root)
        self.store.write(self._writes(height, outcome, results))
        self._remember(height, results)
        return results

    def close(self) -> None:
        """Release the files; nothing is pending."""
        self.log.close()
        self.store.close()

    def _remember(self, height: int, results: Results) -> None:
        with self._lock:
            self._results = {
                kept: value for kept, value in self._results.items() if kept > height - 64
            }
            self._results[height] = results
            self.executed_height = height

    def _writes(self, height: int, outcome: BlockOutcome, results: Results) -> list[Write]:
        writes: list[Write] = [(STATE + key, value) for key, value in outcome.writes]
        tx_ids, expiries = outcome.tx_ids, outcome.expiry_heights
        seen: set[bytes] = set()
        for index, (tx_id, expiry) in enumerate(zip(tx_ids, expiries, strict=True)):
            # A receipt that did not use the id up never hides one that did.
            if expiry == 0 and (tx_id in seen or self.store.get(TX_INDEX + tx_id) is not None):
                continue
            seen.add(tx_id)
            place = height.to_bytes(8, "big") + index.to_bytes(4, "big")
            writes.append((TX_INDEX + tx_id, place))
        window = b"".join(
            [
                tx_id + expiry.to_bytes(8, "big")
                for tx_id, expiry in zip(tx_ids, expiries, strict=True)
            ]
        )
        writes += [
            (height_key(RECEIPTS, height), pack(outcome.receipts)),
            (height_key(WINDOW, height), window),
            (height_key(RESULTS, height), results.encode()),
            (EXECUTED_HEIGHT, height.to_bytes(8, "big")),
        ]
        return writes

    def _window_entries(self, height: int) -> Iterator[tuple[bytes, int]]:
        data = self.store.get(height_key(WINDOW, height)) or b""
        for offset in range(0, len(data), 40):
            yield data[offset : offset + 32], int.from_bytes(data[offset + 32 : offset + 40], "big")

    def _recover(self, genesis: bytes, engine: Engine, window: int) -> None:
        self.genesis_hash = genesis_hash(genesis)
        self._genesis_time_ms = types_pb2.Genesis.FromString(genesis).genesis_time_ms
        stored = self.store.get(GENESIS_HASH)
        if stored is None:
            self._create(genesis, engine)
        elif stored != self.genesis_hash:
            raise ConfigError(
                "GENESIS_MISMATCH",
                "The data folder belongs to another chain than the genesis file.",
                subject=stored.hex(),
                fix="point genesis at the file this node was created with, or use a new data_dir",
            )
        else:
            self._load(engine)
        self._check_log_covers_store()
        self.log.cut_torn_tail()
        if stored is not None:
            entries = list(self.window(window))
            engine.load_window([entry[0] for entry in entries], [entry[1] for entry in entries])
        self._replay(engine)

    def _create(self, genesis: bytes, engine: Engine) -> None:
        outcome = engine.genesis(genesis)
        results = genesis_results(outcome.state_root)
        writes: list[Write] = [(STATE + key, value) for key, value in outcome.writes]
        writes += [
            (height_key(RESULTS, 0), results.encode()),
            (EXECUTED_HEIGHT, bytes(8)),
            (GENESIS_HASH, self.genesis_hash),
        ]
        self.store.write(writes)
        self._remember(0, results)

    def _load(self, engine: Engine) -> None:
        entries: list[tuple[bytes, bytes]] = []
        for key, value in self.store.scan(STATE):
            entries.append((key[len(STATE) :], value))
            if len(entries) == _LOAD_BATCH_ENTRIES:
                engine.load(entries)
                entries = []
        engine.load(entries)
        executed = self.store.get(EXECUTED_HEIGHT)
        height = int.from_bytes(executed or b"", "big")
        results = self.results(height)
        if results is None or results.state_root != engine.state_root():
            raise _diverged(height)
        self._remember(height, results)
        self._load_head(engine, height)

    def _load_head(self, engine: Engine, height: int) -> None:
        """Views see height and time of the last executed block, as before the restart."""
        logged = self.log.read(height)
        if logged is not None:
            header = types_pb2.Block.FromString(logged.block).header
            engine.load_head(height, header.timestamp_ms)
        elif height == 0:
            engine.load_head(0, self._genesis_time_ms)

    def _check_log_covers_store(self) -> None:
        if self.executed_height > self.log.height:
            raise InternalError(
                "LEDGER_TORN",
                f"The state store is at height {self.executed_height} but the block log ends at "
                f"{self.log.height}: the log has lost synced blocks.",
                subject=str(self.log.height),
                fix=REJOIN_FIX,
            )

    def _replay(self, engine: Engine) -> None:
        for height in range(self.executed_height + 1, self.log.height + 1):
            logged = self.log.read(height)
            assert logged is not None
            block = types_pb2.Block.FromString(logged.block)
            self.check_results(block.header)
            context = block_context(block.header)
            outcome = engine.execute_block(context, logged.batch, bytes(len(block.wids)))
            self.apply(height, outcome)

    def check_results(self, header: types_pb2.BlockHeader) -> None:
        """Stop unless the results that a committed header carries are this node's own.

        Raises:
            InternalError: STATE_DIVERGED.
        """
        own = self.results(header.exec_height)
        if own is None or own.accumulator != header.results_accumulator:
            raise _diverged(header.exec_height)


def block_context(header: types_pb2.BlockHeader) -> bytes:
    """What the executor is told about a block."""
    return encode(
        types_pb2.BlockContext(
            height=header.height,
            timestamp_ms=header.timestamp_ms,
            randomness=header.previous_hash,
        )
    )


def _diverged(height: int) -> InternalError:
    return InternalError(
        "STATE_DIVERGED",
        f"This node's results at height {height} differ from what the chain committed.",
        subject=str(height),
        fix=REJOIN_FIX,
    )
