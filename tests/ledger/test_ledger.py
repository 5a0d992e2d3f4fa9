"""Recovery: whatever the moment of death, the ledger comes back to what was committed."""

import shutil
from pathlib import Path

import pytest

from chainnode._proto import types_pb2
from chainnode.ledger.ledger import Ledger
from chainnode.ledger.proofs import receipt_proof
from chainnode.types.codec import encode
from chainnode.types.errors import ClientFault, ConfigError, InternalError
from ledger.chain_fixture import HandMadeChain


def grown(directory: Path, heights: int = 5) -> HandMadeChain:
    chain = HandMadeChain(directory)
    for height in range(1, heights + 1):
        chain.order(chain.transaction(height))
        chain.execute()
    return chain


def test_a_restart_gives_the_same_state_receipts_and_results(tmp_path: Path) -> None:
    chain = grown(tmp_path)
    before = [chain.ledger.results(height) for height in range(6)]
    receipts = chain.ledger.receipts(3)
    chain.ledger.close()
    chain.open()
    assert chain.ledger.executed_height == chain.ledger.height == 5
    assert [chain.ledger.results(height) for height in range(6)] == before
    assert chain.ledger.receipts(3) == receipts
    assert chain.executor.state_root() == before[5].state_root  # type: ignore[union-attr]


def test_committed_blocks_that_were_not_executed_are_executed_at_the_next_start(
    tmp_path: Path,
) -> None:
    chain = grown(tmp_path / "a", 4)
    chain.order(chain.transaction(5))
    chain.order(chain.transaction(6))
    chain.ledger.close()
    chain.open()
    whole = grown(tmp_path / "b", 6)
    assert chain.ledger.executed_height == 6
    assert chain.ledger.results(6) == whole.ledger.results(6)
    assert chain.ledger.tx_ids(6) == whole.ledger.tx_ids(6)


def test_a_store_that_is_gone_is_rebuilt_from_the_block_log(tmp_path: Path) -> None:
    chain = grown(tmp_path)
    wanted = chain.ledger.results(5)
    chain.ledger.close()
    shutil.rmtree(chain.directory / "state")
    chain.open()
    assert chain.ledger.results(5) == wanted


def test_leveldb_ahead_of_a_torn_block_log_asks_for_state_sync(tmp_path: Path) -> None:
    chain = grown(tmp_path)
    chain.ledger.close()
    path = next((chain.directory / "blocks").glob("*.log"))
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(InternalError) as caught:
        chain.open()
    assert caught.value.code == "LEDGER_TORN"
    assert "peers" in caught.value.fix
    assert path.read_bytes() == data[:-10], "the evidence stays as it was"


def test_a_torn_tail_above_the_store_is_cut(tmp_path: Path) -> None:
    chain = grown(tmp_path)
    chain.order(chain.transaction(6))
    chain.ledger.close()
    path = next((chain.directory / "blocks").glob("*.log"))
    path.write_bytes(path.read_bytes()[:-10])
    chain.open()
    assert chain.ledger.height == chain.ledger.executed_height == 5
    chain.order(chain.transaction(7))
    chain.execute()
    assert chain.ledger.executed_height == 6


def test_a_replayed_id_is_a_duplicate_after_a_restart_and_keeps_its_first_place(
    tmp_path: Path,
) -> None:
    chain = grown(tmp_path, 3)
    (tx_id,) = chain.ledger.tx_ids(2)
    chain.ledger.close()
    chain.open()
    chain.order(chain.transaction(2))
    chain.execute()
    receipts = chain.ledger.receipts(4)
    assert receipts is not None
    receipt = types_pb2.Receipt.FromString(receipts[0])
    assert receipt.tx_id == tx_id
    assert receipt.status == types_pb2.RECEIPT_STATUS_DUPLICATE
    assert chain.ledger.locate(tx_id) == (2, 0)


def test_an_id_twice_in_one_block_keeps_its_first_place(tmp_path: Path) -> None:
    chain = HandMadeChain(tmp_path)
    other = chain.transaction(1)
    chain.order(chain.transaction(9), other, other)
    chain.execute()
    tx_id = chain.ledger.tx_ids(1)[1]
    assert chain.ledger.locate(tx_id) == (1, 1)


def test_the_window_forgets_what_can_no_longer_be_replayed(tmp_path: Path) -> None:
    chain = HandMadeChain(tmp_path)
    chain.order(chain.transaction(1, expiry_height=2), chain.transaction(2, expiry_height=100))
    chain.execute()
    for salt in (3, 4):
        chain.order(chain.transaction(salt))
        chain.execute()
    kept = [tx_id for tx_id, _ in chain.ledger.window(1_000)]
    short, long = chain.ledger.tx_ids(1)
    assert short not in kept
    assert long in kept


def test_another_genesis_in_an_old_folder_is_refused(tmp_path: Path) -> None:
    chain = grown(tmp_path, 1)
    chain.ledger.close()
    genesis = types_pb2.Genesis.FromString(chain.genesis)
    genesis.genesis_time_ms += 1
    chain.genesis = encode(genesis)
    with pytest.raises(ConfigError) as caught:
        chain.open()
    assert caught.value.code == "GENESIS_MISMATCH"


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    chain = grown(tmp_path, 1)
    with pytest.raises(ConfigError) as caught:
        Ledger.open(chain.directory, chain.genesis, chain.executor, 1_000)
    assert caught.value.code == "STORE_LOCKED"


def test_results_that_differ_from_a_committed_header_stop_the_node(tmp_path: Path) -> None:
    chain = grown(tmp_path, 2)
    header = chain.order(chain.transaction(3))
    chain.ledger.check_results(header)
    header.results_accumulator = bytes(32)
    with pytest.raises(InternalError) as caught:
        chain.ledger.check_results(header)
    assert caught.value.code == "STATE_DIVERGED"


def test_a_proof_waits_for_the_header_that_covers_it(tmp_path: Path) -> None:
    chain = grown(tmp_path, 2)
    (tx_id,) = chain.ledger.tx_ids(2)
    with pytest.raises(ClientFault) as caught:
        receipt_proof(chain.ledger, tx_id)
    assert caught.value.code == "PROOF_NOT_READY"
    for salt in (3, 4):
        chain.order(chain.transaction(salt))
        chain.execute()
    proof = receipt_proof(chain.ledger, tx_id)
    assert (proof.height, proof.index, proof.header.height) == (2, 0, 4)
    assert not proof.steps


def test_an_unknown_id_has_no_proof(tmp_path: Path) -> None:
    with pytest.raises(ClientFault) as caught:
        receipt_proof(grown(tmp_path, 1).ledger, bytes(32))
    assert caught.value.code == "TX_NOT_FOUND"
