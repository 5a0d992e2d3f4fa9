"""Four real node processes: what a client was told stays true through kill -9 and restarts."""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainnode._proto import node_pb2, types_pb2
from chainnode.sdk.client import AsyncClient, endorse
from chainnode.sdk.problems import TransactionFailed
from chainnode.sdk.sync import Client
from chainnode.types.codec import encode
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.receipt import ReceiptStatus
from chainnode.types.transaction import PayloadKind
from node.running_testnet import RunningTestnet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]
SUPPLY = 1_000_000


@pytest.fixture
def testnet(tmp_path: Path) -> Iterator[RunningTestnet]:
    running = RunningTestnet(tmp_path / "testnet")
    running.start()
    yield running
    running.stop()


async def settled(client: AsyncClient) -> node_pb2.StatusResponse:
    """The status once the chain has fallen silent: a height later it has not moved."""
    last = await client.status()
    while True:
        await asyncio.sleep(0.3)
        status = await client.status()
        if status.height == last.height == status.executed_height:
            return status
        last = status


async def place(client: AsyncClient, tx_id: bytes) -> tuple[int, int, bytes]:
    """Where a node has a transaction, and its receipt."""
    response = await client.get_tx(tx_id, 10_000)
    assert response.found
    return response.height, response.index, encode(response.receipt)


async def freeze(testnet: RunningTestnet, address: bytes) -> bytes:
    """A signed config transaction that freezes a member, endorsed by a majority."""
    async with testnet.client("bank-a/admin") as admin:
        change = types_pb2.MemberChange(address=address)
        payload = await admin.payload(PayloadKind.CONFIG, "", "member_freeze", encode(change))
        others = ("guarantor/admin", "statistics/admin")
        endorsements = [endorse(payload, testnet.identity(name)) for name in others]
        return admin.sign(payload, endorsements).encode()


async def test_transfers_proofs_events_and_blobs(testnet: RunningTestnet) -> None:
    await testnet.deploy_asset(SUPPLY)
    other = testnet.identity("registry/client").address
    async with testnet.client() as client:
        asset = client.contract("asset")
        receipts = [await asset.submit("transfer", to=other, amount=1) for _ in range(3)]
        assert await asset.evaluate("balance_of", owner=other) == 3
        with pytest.raises(TransactionFailed) as refused:
            await asset.submit("transfer", to=other, amount=SUPPLY)
        assert refused.value.code == "REVERTED"
        assert refused.value.error == "InsufficientBalance"

        # The chain is idle now, and still its last transaction can be proven.
        last = refused.value.receipt.tx_id
        proof = await client.receipt_proof(last)
        assert proof.header.exec_height >= proof.height
        status = await settled(client)
        blocks = []
        async for block in client.events(1):
            blocks.append(block)
            if block.height == status.height:
                break
        assert [block.height for block in blocks] == list(range(1, status.height + 1))
        told = [item.tx_id for block in blocks for item in block.transactions]
        assert [told.count(receipt.tx_id) for receipt in receipts] == [1, 1, 1]

        blob = bytes(range(256)) * 8_192
        digest = await client.put_blob(blob)
        assert await client.get_blob(digest) == blob
        with pytest.raises(ClientFault) as absent:
            await client.get_blob(bytes(32))
        assert absent.value.code == "BLOB_NOT_FOUND"


async def test_a_view_is_never_older_than_what_its_client_has_seen(
    testnet: RunningTestnet,
) -> None:
    await testnet.deploy_asset(SUPPLY)
    other = testnet.identity("registry/client").address
    async with testnet.client(only=0) as writer, testnet.client("registry/client", only=3) as late:
        for count in range(1, 21):
            await writer.contract("asset").submit("transfer", to=other, amount=1)
            late.saw(writer.seen_height)
            assert await late.contract("asset").evaluate("balance_of", owner=other) == count
        late.saw(writer.seen_height + 1_000)
        with pytest.raises(ClientFault) as behind:
            await late.contract("asset").evaluate("balance_of", owner=other)
        assert behind.value.code == "NODE_BEHIND"


async def test_kill_nine_under_load_loses_nothing_acknowledged(testnet: RunningTestnet) -> None:
    await testnet.deploy_asset(SUPPLY)
    other = testnet.identity("registry/client").address
    acknowledged: list[bytes] = []
    loading = True

    async def load(only: int) -> None:
        async with testnet.client(only=only) as client:
            asset = client.contract("asset")
            while loading:
                receipt = await asset.submit("transfer", to=other, amount=1)
                acknowledged.append(receipt.tx_id)

    async def until(count: int) -> None:
        while len(acknowledged) < count:
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(load(index)) for index in (0, 1, 2) for _ in range(4)]
    await until(50)
    testnet.kill(3)
    await until(len(acknowledged) + 50)
    await asyncio.to_thread(testnet.start, [3])
    await until(len(acknowledged) + 50)
    loading = False
    await asyncio.gather(*tasks)

    async with testnet.client(only=0) as one, testnet.client(only=3) as killed:
        for tx_id in acknowledged:
            assert await place(one, tx_id) == await place(killed, tx_id)
        balance = await one.contract("asset").evaluate("balance_of", owner=other)
        assert balance == len(acknowledged)


async def test_nodes_with_different_numbers_of_threads_make_one_chain(tmp_path: Path) -> None:
    """A header with another state root is refused, so a chain that grows is a chain that agrees."""
    testnet = RunningTestnet(tmp_path / "testnet")
    for place, threads in zip(testnet.layout.nodes, (1, 2, 4, 96), strict=True):
        settings = place.config.read_text()
        place.config.write_text(f"executor_threads = {threads}\n{settings}")
    testnet.start()
    try:
        await testnet.deploy_asset(SUPPLY)
        others = [testnet.identity(f"{name}/client").address for name in ("guarantor", "registry")]
        async with testnet.client() as client:
            asset = client.contract("asset")
            bodies = [
                (await asset.transaction("transfer", to=others[number % 2], amount=1)).encode()
                for number in range(400)
            ]
            async for answer in client.submit_many(
                [bodies[at : at + 50] for at in range(0, 400, 50)]
            ):
                assert set(answer.admissions) == {node_pb2.ADMISSION_ACCEPTED}
            final = await settled(client)
        for index in range(4):
            async with testnet.client("registry/client", only=index) as one:
                assert (await settled(one)).height == final.height
                assert await one.contract("asset").evaluate("balance_of", owner=others[1]) == 200
    finally:
        testnet.stop()


async def test_a_whole_restart_keeps_everything_and_replays_nothing(
    testnet: RunningTestnet,
) -> None:
    await testnet.deploy_asset(SUPPLY)
    other = testnet.identity("registry/client").address
    async with testnet.client() as client:
        transaction = await client.contract("asset").transaction("transfer", to=other, amount=5)
        await client.submit(transaction)
        before = await place(client, transaction.tx_id())
    for index in range(4):
        testnet.kill(index)
    await asyncio.to_thread(testnet.start)
    async with testnet.client() as client:
        assert await place(client, transaction.tx_id()) == before
        batch = types_pb2.TransactionBatch(transactions=[transaction.encode()])
        answer = await client.endpoints.call(
            "/chainnode.v1.Tx/Submit", encode(batch), node_pb2.SubmitResponse.FromString
        )
        assert list(answer.admissions) == [node_pb2.ADMISSION_KNOWN]
        asset = client.contract("asset")
        await asset.submit("transfer", to=other, amount=1)
        assert await asset.evaluate("balance_of", owner=other) == 6


async def test_a_sender_frozen_after_admission_fails_alike_on_warm_and_rebuilt_nodes(
    testnet: RunningTestnet,
) -> None:
    await testnet.deploy_asset(SUPPLY)
    other = testnet.identity("registry/client").address
    frozen = testnet.identity("bank-a/client").address
    async with testnet.client() as client, testnet.client("registry/client") as observer:
        late = await client.contract("asset").transaction("transfer", to=other, amount=1)
        # One batch: both are admitted while the sender is active, and ordered freeze first.
        batch = [await freeze(testnet, frozen), late.encode()]
        async for answer in client.submit_many([batch]):
            assert set(answer.admissions) == {node_pb2.ADMISSION_ACCEPTED}
        warm = await place(observer, late.tx_id())
        assert (
            types_pb2.Receipt.FromString(warm[2]).status == types_pb2.RECEIPT_STATUS_MEMBER_FROZEN
        )
        with pytest.raises(ClientFault) as refused:
            await client.status()
        assert refused.value.code == "MEMBER_FROZEN"
        await settled(observer)
    testnet.kill(1)
    shutil.rmtree(testnet.layout.nodes[1].data_dir / "state")
    await asyncio.to_thread(testnet.start, [1])
    async with testnet.client("registry/client", only=1) as rebuilt:
        assert await place(rebuilt, late.tx_id()) == warm
        asset = rebuilt.contract("asset")
        with pytest.raises(TransactionFailed) as poor:
            await asset.submit("transfer", to=frozen, amount=1)
        assert poor.value.receipt.status is ReceiptStatus.REVERTED


async def test_a_stranger_does_not_get_past_the_handshake(
    testnet: RunningTestnet, tmp_path: Path
) -> None:
    elsewhere = RunningTestnet(tmp_path / "elsewhere", seed=2)
    stranger = AsyncClient(
        [testnet.layout.nodes[0].endpoint],
        elsewhere.identity("bank-a/client"),
        testnet.layout.genesis,
    )
    async with stranger:
        with pytest.raises(PeerFault) as refused:
            await stranger.status()
        assert refused.value.code == "NODES_UNREACHABLE"


async def test_a_node_whose_disk_fails_stops_and_comes_back(testnet: RunningTestnet) -> None:
    await testnet.deploy_asset(SUPPLY)
    other = testnet.identity("registry/client").address
    process = testnet.processes.pop(2)
    # From now on every write of this process fails: its disk is full.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    async with testnet.client(only=0) as client:
        asset = client.contract("asset")
        first = await asset.submit("transfer", to=other, amount=1)
        assert await asyncio.to_thread(process.wait, 20) == 70
        second = await asset.submit("transfer", to=other, amount=1)
        await asyncio.to_thread(testnet.start, [2])
        async with testnet.client(only=2) as failed:
            for receipt in (first, second):
                assert await place(failed, receipt.tx_id) == await place(client, receipt.tx_id)


def test_the_client_without_an_event_loop(testnet: RunningTestnet) -> None:
    asyncio.run(testnet.deploy_asset(SUPPLY))
    other = testnet.identity("registry/client").address
    endpoints = [node.endpoint for node in testnet.layout.nodes]
    with Client(endpoints, testnet.identity("bank-a/client"), testnet.layout.genesis) as client:
        receipt = client.call("asset", "transfer", to=other, amount=7)
        assert client.view("asset", "balance_of", owner=other) == 7
        assert client.receipt_proof(receipt.tx_id).height == client.get_tx(receipt.tx_id).height
        assert client.get_blob(client.put_blob(b"blob")) == b"blob"
        assert next(client.events(1)).height == 1
