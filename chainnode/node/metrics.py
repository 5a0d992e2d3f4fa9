"""Prometheus metrics, with the names CometBFT and Fabric operators know where they mean the same,
served with /healthz and /readyz on their own port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from chainnode import _native

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """One node's metrics, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.height = self._gauge("consensus_height", "Last committed height.")
        self.executed_height = self._gauge("executed_height", "Last executed height.")
        self.round = self._gauge("consensus_round", "Current round.")
        self.peers = self._gauge("p2p_peers", "Connected peers.")
        self.pool_transactions = self._gauge("mempool_size", "Pending transactions.")
        self.pool_size_bytes = self._gauge("mempool_size_bytes", "Their size.")
        self.block_interval_seconds = self._histogram(
            "consensus_block_interval_seconds", "Between a commit and the one before."
        )
        self.execution_seconds = self._histogram("block_execution_seconds", "Executing one block.")
        self.store_write_seconds = self._histogram(
            "store_write_seconds", "The synced batch of one block."
        )
        self.log_sync_seconds = self._histogram("log_sync_seconds", "One synced append.")
        self.transactions = self._counter("consensus_total_txs", "Committed transactions.")
        self.admissions = Counter(
            "chainnode_admissions",
            "Submitted transactions by verdict.",
            ["verdict"],
            registry=self.registry,
        )
        self.peer_faults = Counter(
            "chainnode_peer_faults",
            "Messages of peers that broke the protocol, by code.",
            ["code"],
            registry=self.registry,
        )
        checked = self._gauge("signatures_checked", "Signatures checked by this process.")
        checked.set_function(_native.signatures_checked)
        self.evidence = self._counter("consensus_byzantine_evidence", "Conflicting votes seen.")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"chainnode_{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"chainnode_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"chainnode_{name}", text, buckets=_SECONDS, registry=self.registry)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not news."""


class MetricsServer:
    """Serves /metrics, /healthz (the process runs) and /readyz (it follows the chain).

    Args:
        host: loopback unless the operator decides otherwise.
        port: TCP port.
        metrics: what to show.
        ready: asked at every /readyz.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, ready: Callable[[], bool]) -> None:
        show = make_wsgi_app(metrics.registry)

        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                shown: Iterable[bytes] = show(environ, start_response)
                return shown
            known = path in ("/healthz", "/readyz")
            good = path == "/healthz" or (path == "/readyz" and ready())
            status = "200 OK" if good else "503 Service Unavailable" if known else "404 Not Found"
            start_response(status, [("Content-Type", "text/plain")])
            return [status.encode() + b"\n"]

        self._server: WSGIServer = make_server(
            host, port, answer, ThreadingWSGIServer, handler_class=_Quiet
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
