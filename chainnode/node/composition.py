"""The composition root: which parts a node has and who knows whom."""

from __future__ import annotations

import asyncio
import os

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.consensus.interface import ConsensusConfig
from chainnode.consensus.tbft import TbftEngine
from chainnode.identity import Identity, load_identity
from chainnode.ledger.ledger import STATE, Ledger
from chainnode.ledger.signer_file import SignerFile
from chainnode.ledger.wal_file import WalFile
from chainnode.network.peer_link import PeerLink
from chainnode.network.peer_service import PeerService
from chainnode.network.tls import CHANNEL_OPTIONS, TlsMaterial, roots_pem, server_credentials
from chainnode.node.admission import Admission
from chainnode.node.application import Application
from chainnode.node.architecture import ArchitectureSelector
from chainnode.node.backend import NodeBackend
from chainnode.node.block_sync import BlockSync
from chainnode.node.chain import Chain
from chainnode.node.config import NodeConfig, split_endpoint
from chainnode.node.directory import MEMBER_PREFIX, MemberDirectory
from chainnode.node.disk import Disk
from chainnode.node.driver import Driver
from chainnode.node.graphs import BlockGraphs
from chainnode.node.metrics import Metrics, MetricsServer
from chainnode.node.pacer import Pacer
from chainnode.node.peers import Peers, hello_of
from chainnode.node.pipeline import Pipeline
from chainnode.node.tip import Tip
from chainnode.rpc.authorisation import Guard
from chainnode.rpc.blobs import BlobStore, HeService
from chainnode.rpc.services import ChainService, EventsService, QueryService, TxService
from chainnode.types.codec import encode
from chainnode.types.errors import ConfigError
from chainnode.types.genesis import ChainConfig, Genesis
from chainnode.types.limits import EXECUTOR_THREADS_MAX, GRPC_CONCURRENT_RPCS_MAX

STOP_GRACE_SECONDS = 0.2


class Node:
    """One node, built but not started. Must be made inside the event loop.

    Args:
        config: its settings.

    Raises:
        ConfigError: the genesis, identity or data folder does not fit.
        InternalError: the ledger cannot be recovered.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.genesis = _read_genesis(config)
        self.identity = load_identity(config.identity)
        chain_config = self.genesis.config
        self.executor = _native.Executor(chain_config.chain_id)
        if config.executor_threads is not None or config.executor_pinned:
            threads = config.executor_threads or min(os.cpu_count() or 1, EXECUTOR_THREADS_MAX)
            self.executor.set_engine(threads, pinned=config.executor_pinned)
        self.ledger = Ledger.open(
            config.data_dir,
            encode(self.genesis),
            self.executor,
            chain_config.expiry_window,
        )
        self.tip = Tip(self.genesis, self.ledger)
        self.disk = Disk(self.metrics)
        self.pool = self._open_pool()
        self.directory = MemberDirectory(self.tip.validators, self.pool.set_member)
        members = self.ledger.store.scan(STATE + MEMBER_PREFIX)
        self.directory.load((key[len(STATE) :], value) for key, value in members)
        self.graphs = BlockGraphs()
        self.pipeline = Pipeline(
            self.ledger, self.executor, self.pool, self.directory, self.graphs, self.metrics
        )
        self.chain = Chain(self.ledger, self.tip, self.pool, self.pipeline, self.disk, self.metrics)
        self.admission = Admission(self.pool, lambda: self.tip.height, self.metrics)
        self.architecture = ArchitectureSelector(
            ChainConfig.from_proto(chain_config), self.tip, self.ledger
        )
        self._material = _material(self.genesis, self.identity)
        self.peers = Peers(self._links(), self.ledger, self.pool, self.admission)
        self._build_consensus()
        self._server = self._build_server()
        self._metrics_server: MetricsServer | None = None

    async def run(self) -> None:
        """Serve and take part in consensus until cancelled.

        Raises:
            InternalError: an invariant is broken or storage failed.
            ConfigError: the port is taken.
        """
        log = structlog.get_logger("node")
        try:
            self._listen()
            await self._server.start()
            self.peers.connect(self.driver)
            log.info("node_started", listen=self.config.listen, height=self.tip.height)
            async with asyncio.TaskGroup() as group:
                for part in (self.pipeline, self.driver, self.sync, self.pacer, self.admission):
                    group.create_task(part.run(), name=type(part).__name__)
                group.create_task(self._watch(), name="watch")
        finally:
            await self.close()
            log.info("node_stopped", height=self.tip.height)

    def _open_pool(self) -> _native.TxPool:
        config = self.genesis.config
        pool = _native.TxPool(
            config.chain_id,
            expiry_window=config.expiry_window,
            transactions_max=self.config.pool_transactions_max,
            size_max_bytes=self.config.pool_size_max_bytes,
            transaction_size_max_bytes=config.transaction_size_max_bytes,
            threads=self.config.executor_threads or os.cpu_count() or 1,
        )
        entries = list(self.ledger.window(config.expiry_window))
        pool.restore([entry[0] for entry in entries], [entry[1] for entry in entries])
        return pool

    def _links(self) -> list[PeerLink]:
        hello = hello_of(
            self.genesis.config.chain_id,
            self.ledger.genesis_hash,
            self.identity.address,
            self.ledger,
        )
        return [
            PeerLink(peer, self._material, lambda: self.peers.greeting(hello))
            for peer in self.config.peers
        ]

    def _build_consensus(self) -> None:
        config = self.genesis.config
        signer_path = self.config.signer_state or self.config.identity / "signer.state"
        self.signer_file = SignerFile(signer_path, self.ledger.genesis_hash)
        engine = TbftEngine(
            ConsensusConfig(
                chain_id=config.chain_id,
                engine=config.engine,
                timeout_propose_ms=config.timeout_propose_ms,
                timeout_vote_ms=config.timeout_vote_ms,
                timeout_delta_ms=config.timeout_delta_ms,
            ),
            self.tip.state(),
            self.identity,
            _native.verify_ed25519_batch,
            self.signer_file.last,
        )
        self.application = Application(config, self.chain, self.architecture, self.peers)
        self.driver = Driver(
            engine,
            WalFile(self.config.data_dir / "consensus.wal"),
            self.signer_file,
            self.application,
            self.chain,
            self.peers,
            self.disk,
            self.metrics,
        )
        self.sync = BlockSync(config.chain_id, self.chain, self.peers, self.driver.synced)
        self.driver.connect(self.sync)
        self.pacer = Pacer(self.chain, config, self.driver.work_available)
        self.chain.listen(self.pacer.changed)

        def arrived() -> None:
            self.pacer.changed()
            self.peers.transactions_arrived()

        self.admission.connect(self.peers.gossip, arrived)

    def _build_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=CHANNEL_OPTIONS, maximum_concurrent_rpcs=GRPC_CONCURRENT_RPCS_MAX
        )
        backend = NodeBackend(
            self.config.name,
            self.genesis,
            self.chain,
            self.executor,
            self.admission,
            self.peers,
            self.architecture,
            self.graphs,
        )
        guard = Guard(self.directory)
        peer_service = PeerService(
            self.directory,
            self.peers,
            self.genesis.config.chain_id,
            self.ledger.genesis_hash,
        )
        services = (
            TxService(backend),
            QueryService(backend),
            EventsService(backend),
            ChainService(backend),
            HeService(BlobStore(self.config.data_dir / "blobs")),
        )
        server.add_generic_rpc_handlers(
            [peer_service.handler(), *(service.handler(guard) for service in services)]
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    def _listen(self) -> None:
        credentials = server_credentials(self._material)
        try:
            bound = self._server.add_secure_port(self.config.listen, credentials)
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise ConfigError(
                "PORT_TAKEN",
                "The listening address cannot be bound.",
                subject=self.config.listen,
                fix="stop what uses the port, or change listen",
            )
        if self.config.metrics:
            host, port = split_endpoint("metrics", self.config.metrics)
            self._metrics_server = MetricsServer(host, port, self.metrics, self._ready)

    def _ready(self) -> bool:
        here = [self.identity.address, *self.peers.connected_validators()]
        return self.tip.validators.is_quorum(
            sum(self.tip.validators.power(address) for address in here)
        )

    async def _watch(self) -> None:
        while True:
            self.metrics.peers.set(len(self.peers.connected()))
            self.metrics.pool_transactions.set(len(self.pool))
            self.metrics.pool_size_bytes.set(self.pool.size_bytes)
            serving = health_pb2.HealthCheckResponse.SERVING
            waiting = health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set("", serving if self._ready() else waiting)
            self.peers.tell_height()
            await asyncio.sleep(1.0)

    async def close(self) -> None:
        """Stop serving and release everything; what was promised is on the disk already."""
        await self._server.stop(STOP_GRACE_SECONDS)
        await self.peers.close()
        self.admission.close()
        self.pipeline.close()
        self.disk.close()
        self.signer_file.close()
        self.ledger.close()
        if self._metrics_server is not None:
            self._metrics_server.close()


def _read_genesis(config: NodeConfig) -> types_pb2.Genesis:
    try:
        data = config.genesis.read_bytes()
    except OSError:
        raise ConfigError(
            "GENESIS_NOT_FOUND",
            "The genesis file cannot be read.",
            subject=str(config.genesis),
            fix="copy it from another node of the chain",
        ) from None
    return Genesis.decode(data).to_proto()


def _material(genesis: types_pb2.Genesis, identity: Identity) -> TlsMaterial:
    return TlsMaterial(
        identity.tls_certificate_pem,
        identity.tls_key_pem,
        roots_pem(item.ca_certificate for item in genesis.organisations),
    )
