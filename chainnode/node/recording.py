"""A committed block as an execution trace, from a node's data folder alone.

The state below a block is not kept, so the chain is executed again up to it, from the genesis; what
comes out is checked against the results that later headers carry. The node may be running: the log
is only read.
"""

from __future__ import annotations

from pathlib import Path

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.ledger.block_log import BlockLog, LoggedBlock
from chainnode.ledger.ledger import block_context
from chainnode.ledger.results import Results, genesis_results
from chainnode.types.codec import encode
from chainnode.types.errors import REJOIN_FIX, ClientFault, ConfigError, InternalError
from chainnode.types.genesis import Genesis


def record_block(data_dir: Path, genesis: Path, height: int, runs: int) -> _native.Trace:
    """The block at `height` as a trace; of each transaction the quickest of `runs` counts.

    Args:
        data_dir: a node's data folder, or a copy of it.
        genesis: the chain's genesis file.

    Raises:
        ConfigError: NO_BLOCK_LOG, GENESIS_NOT_FOUND.
        ClientFault: BLOCK_NOT_FOUND.
        InternalError: BLOCK_LOG_DAMAGED; STATE_DIVERGED when the log is another chain's.
    """
    chain = _read_genesis(genesis)
    if not (data_dir / "blocks").is_dir():
        raise ConfigError(
            "NO_BLOCK_LOG",
            "This is no node's data folder: it holds no blocks.",
            subject=str(data_dir),
            fix="name one with --data-dir, e.g. the data_dir of a node's settings",
        )
    log = BlockLog(data_dir / "blocks")
    try:
        logged = log.read(height)
        if logged is None:
            raise ClientFault(
                "BLOCK_NOT_FOUND",
                f"Block {height} is not committed there; the log ends at {log.height}.",
                subject=str(height),
                fix="ask for a lower height",
            )
        executor = _native.Executor(chain.config.chain_id)
        _execute_below(executor, chain, log, height)
        return executor.record_block(*_parts(logged), runs=runs)
    finally:
        log.close()


def _read_genesis(path: Path) -> types_pb2.Genesis:
    try:
        return Genesis.decode(path.read_bytes()).to_proto()
    except OSError:
        raise ConfigError(
            "GENESIS_NOT_FOUND",
            "The genesis file cannot be read.",
            subject=str(path),
            fix="name it with --genesis",
        ) from None


def _parts(logged: LoggedBlock) -> tuple[bytes, bytes, bytes]:
    block = types_pb2.Block.FromString(logged.block)
    return block_context(block.header), logged.batch, bytes(len(block.wids))


def _execute_below(
    executor: _native.Executor, genesis: types_pb2.Genesis, log: BlockLog, height: int
) -> None:
    results: list[Results] = [genesis_results(executor.genesis(encode(genesis)).state_root)]
    for below in range(1, height):
        logged = log.read(below)
        assert logged is not None, "heights up to the log's last are there"
        header = types_pb2.Block.FromString(logged.block).header
        if results[header.exec_height].accumulator != header.results_accumulator:
            raise InternalError(
                "STATE_DIVERGED",
                f"Executing the log again gives other results at height {header.exec_height} than "
                "the chain committed.",
                subject=str(header.exec_height),
                fix=f"check that --genesis is this chain's; if it is: {REJOIN_FIX}",
            )
        outcome = executor.execute_block(*_parts(logged))
        results.append(results[-1].then(outcome.state_root, outcome.receipts_root))
