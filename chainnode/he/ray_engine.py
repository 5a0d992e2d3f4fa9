"""The engine on an existing Ray cluster: the same bytes as `LocalEngine`, from many machines.

A chunk's blocks are split into shards. Each Ray node runs one actor, which keeps the tiles of its
shards on the node's own disk, checks them against their Merkle roots, and computes. A node that is
lost, late, or holds wrong tiles is named and the shard goes to the next one; with no node left the
worker computes the shard itself. Results are combined in block order.
"""

from __future__ import annotations

import importlib
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chainnode.he.engine import LocalEngine, chunk_blocks, combine
from chainnode.he.plan import Plan
from chainnode.he.planner.chunks import split
from chainnode.he.private_points import EncryptedPoints
from chainnode.he.shards import ShardOrder, ShardStore, order_of, place, shard_count, tiles_of
from chainnode.types.errors import ChainnodeError, ConfigError, PeerFault
from chainnode.types.limits import MEBI

if TYPE_CHECKING:
    from chainnode._native import HeColumns

_AVOID_S: Final = 30.0
_CONNECT_S: Final = 5.0
_ORDERS_KEPT_MAX: Final = 4_096
_FAULTS_KEPT_MAX: Final = 256

DONE, MISSING, WRONG, REFUSED = "done", "missing", "wrong", "refused"


@dataclass(frozen=True, slots=True)
class RaySettings:
    """The `[ray]` table of a worker's configuration.

    Args:
        address: of the cluster, `host:port` of its head node; `auto` takes the one this machine is
            part of.
        shards: how many shards a chunk is split into at most: no more than it has blocks, and of
            sums no more than pay (`shard_count`).
        replication: Ray nodes that keep a shard's tiles, so that losing one loses no tiles.
        agreement: Ray nodes that compute each shard; with 2 or more their bytes are compared, and
            where they differ this worker computes the shard itself and names the wrong one.
        timeout_s: how long a Ray node may take for a shard.
        folder: where Ray nodes keep tiles, on their own disks.
        folder_max_mib: size of that folder for each Ray node.
    """

    address: str = "auto"
    shards: int = 4
    replication: int = 2
    agreement: int = 1
    timeout_s: int = 60
    folder: str = "/var/tmp/chainnode-shards"
    folder_max_mib: int = 16_384


@dataclass(frozen=True, slots=True)
class RayFault:
    """What a Ray node did wrong, and to which shard.

    Args:
        node: its address and the start of its Ray id.
        code: `RAY_NODE_LOST`, `RAY_NODE_SLOW`, `CHUNK_MISMATCH`, `SHARD_REFUSED` or `WRONG_RESULT`.
        reason: one line.
        shard: key of the shard's tiles.
    """

    node: str
    code: str
    reason: str
    shard: str


class ShardActor:
    """Runs on a Ray node. Answers with an outcome and never raises what a caller must understand.

    Args:
        folder: of the node's tiles.
        size_max_bytes: of the folder.
        threads: native threads a kernel may use.
    """

    def __init__(self, folder: str, size_max_bytes: int, threads: int) -> None:
        self._store = ShardStore(Path(folder), size_max_bytes)
        self._threads = threads

    def where(self) -> tuple[int, str]:
        """This process's id and its folder."""
        return os.getpid(), str(self._store.folder)

    def keep(self, order: ShardOrder, tiles: Sequence[Any]) -> tuple[str, str]:
        """Store a shard's tiles unless they are here; `tiles` is empty or one object reference."""
        if self._store.holds(order):
            return DONE, ""
        if not tiles:
            return MISSING, ""
        try:
            self._store.keep(order, _ray().get(tiles[0]))
        except PeerFault as error:
            return WRONG, str(error)
        return DONE, ""

    def compute(
        self,
        order: ShardOrder,
        tiles: Sequence[Any],
        plan: bytes,
        masks: Sequence[bytes],
        query: bytes,
    ) -> tuple[str, bytes | str]:
        """A shard's result container."""
        outcome, reason = self.keep(order, tiles)
        if outcome != DONE:
            return outcome, reason
        try:
            decoded = Plan.decode(plan)
            return DONE, self._store.compute(order, decoded, masks, query, self._threads)
        except PeerFault as error:
            return WRONG, str(error)
        except (ValueError, ChainnodeError) as error:
            self._store.drop(order)
            return REFUSED, str(error)

    def forget(self, order: ShardOrder) -> None:
        """Drop a shard's tiles: something computed from them was wrong."""
        self._store.drop(order)


@dataclass(slots=True)
class _Shard:
    """One shard of one chunk on its way."""

    order: ShardOrder
    masks: Sequence[bytes]
    nodes: list[str]
    reference: Any = None


@dataclass(slots=True)
class _Node:
    """A Ray node as this worker knows it."""

    name: str
    actor: Any
    holds: set[str] = field(default_factory=set)
    sent: dict[str, Any] = field(default_factory=dict)


class RayEngine:
    """Computes plans on a Ray cluster. See `Engine`.

    Args:
        settings: which cluster, and how.
        threads: native threads a kernel may use, here and on each Ray node, which must offer as
            many CPUs.
        on_fault: told of every fault as it happens; `faults` keeps the last ones.

    Raises:
        ConfigError: `RAY_MISSING` or `RAY_UNREACHABLE`.
    """

    def __init__(
        self,
        settings: RaySettings,
        threads: int = 1,
        on_fault: Callable[[RayFault], None] = lambda fault: None,
    ) -> None:
        self.faults: list[RayFault] = []
        self._settings = settings
        self._threads = threads
        self._on_fault = on_fault
        self._local = LocalEngine(threads)
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._avoided: dict[str, float] = {}
        self._orders: OrderedDict[tuple[object, ...], ShardOrder] = OrderedDict()
        self._ray = _connect(settings.address)

    def run_chunk(
        self,
        plan: Plan,
        chunk_index: int,
        columns: HeColumns,
        mask_blocks: Sequence[bytes],
        query_id: bytes,
        points: EncryptedPoints | None = None,
    ) -> bytes:
        """See `Engine.run_chunk`. Private points are computed with here: they change with the
        model, and would cost each Ray node as many bytes as its tiles."""
        if points is not None:
            return self._local.run_chunk(plan, chunk_index, columns, mask_blocks, query_id, points)
        start, blocks = chunk_blocks(plan, chunk_index)
        orders = [
            self._order(plan, columns, start + first, count)
            for first, count in split(blocks, shard_count(plan, blocks, self._settings.shards))
        ]
        nodes = self._machines()
        keys = [order.key() for order in orders]
        placed = place(keys, nodes) if nodes else [[] for _ in keys]
        shards = [
            _Shard(order, mask_blocks[order.first : order.first + order.count], found)
            for order, found in zip(orders, placed, strict=True)
        ]

        def work(shard: _Shard) -> bytes:
            return self._shard(plan, shard, columns, query_id)

        with ThreadPoolExecutor(len(shards)) as pool:
            return combine(plan, list(pool.map(work, shards)))

    def reduce(
        self,
        plan: Plan,
        chunk_results: Sequence[bytes],
        relin_key: bytes,
        selectors: Sequence[bytes] = (),
    ) -> bytes:
        """See `Engine.reduce`. Done here: a chunk's result is small."""
        return self._local.reduce(plan, chunk_results, relin_key, selectors)

    def actors(self) -> dict[str, Any]:
        """The actor on each Ray node in use, by the node's name."""
        with self._lock:
            return {node.name: node.actor for node in self._nodes.values()}

    def close(self) -> None:
        """End this worker's actors; their tiles stay on the Ray nodes for the next ones."""
        with self._lock:
            nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            self._ray.kill(node.actor)

    # --- one shard --------------------------------------------------------------------------------

    def _shard(self, plan: Plan, shard: _Shard, columns: HeColumns, query: bytes) -> bytes:
        answers: dict[str, bytes] = {}
        for node in shard.nodes:
            if len(answers) == self._settings.agreement:
                break
            result = (
                None if self._is_avoided(node) else self._ask(node, plan, shard, columns, query)
            )
            if result is not None:
                answers[node] = result
        self._replicate(shard, columns)
        results = set(answers.values())
        if len(results) == 1 and len(answers) == self._settings.agreement:
            return results.pop()
        order = shard.order
        own = self._local.run_blocks(
            plan, columns, order.first, order.count, shard.masks, query, order.first
        )
        for node, result in answers.items():
            if result != own:
                self._distrust(node, order)
        return own

    def _ask(
        self, node_id: str, plan: Plan, shard: _Shard, columns: HeColumns, query: bytes
    ) -> bytes | None:
        order = shard.order
        # Twice: tiles it had may have been dropped meanwhile, or found to be wrong.
        for known in (True, False):
            node = self._node(node_id)
            there = known and order.key() in node.holds
            tiles = [] if there else [self._reference(shard, columns)]
            call = node.actor.compute.remote(order, tiles, plan.encode(), shard.masks, query)
            answer = self._wait(node_id, node, call, order)
            if answer is None:
                return None
            outcome, found = answer
            if outcome == DONE:
                node.holds.add(order.key())
                return bytes(found)
            node.holds.discard(order.key())
            if outcome == REFUSED:
                self._report(node.name, "SHARD_REFUSED", str(found), order)
                return None
            if outcome == WRONG:
                shard.reference = None
                self._report(node.name, "CHUNK_MISMATCH", str(found), order)
        return None

    def _wait(self, node_id: str, node: _Node, call: Any, order: ShardOrder) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(call, timeout=self._settings.timeout_s)
        except errors.GetTimeoutError:
            code, reason = "RAY_NODE_SLOW", f"no answer within {self._settings.timeout_s} s"
        except errors.RayError as error:
            code, reason = "RAY_NODE_LOST", _line(error)
        # Of several shards that wait for a node, the first to give it up says why.
        if self._give_up(node_id, node):
            self._report(node.name, code, reason, order)
        return None

    def _replicate(self, shard: _Shard, columns: HeColumns) -> None:
        """Send the tiles to the nodes that shall have a copy, without waiting for them."""
        key = shard.order.key()
        for node_id in shard.nodes[: self._settings.replication]:
            if self._is_avoided(node_id):
                continue
            node = self._node(node_id)
            if key in node.holds or key in node.sent:
                continue
            reference = self._reference(shard, columns)
            # The reference is kept with the call: Ray drops an object nobody refers to.
            node.sent[key] = (node.actor.keep.remote(shard.order, [reference]), reference)

    def _reference(self, shard: _Shard, columns: HeColumns) -> Any:
        if shard.reference is None:
            shard.reference = self._ray.put(tiles_of(shard.order, columns))
        return shard.reference

    def _order(self, plan: Plan, columns: HeColumns, first: int, count: int) -> ShardOrder:
        source = tuple((name, *columns.roots(name)) for name in plan.columns())
        key = (plan.profile, plan.limbs, first, count, source)
        with self._lock:
            found = self._orders.get(key)
        if found is None:
            found = order_of(plan, columns, first, count)
        with self._lock:
            self._orders[key] = found
            while len(self._orders) > _ORDERS_KEPT_MAX:
                self._orders.popitem(last=False)
        return found

    # --- the cluster's nodes ----------------------------------------------------------------------

    def _machines(self) -> list[str]:
        """Ids of the Ray nodes to use, in order; those that just failed are left out."""
        now = time.monotonic()
        alive = {item["NodeID"] for item in self._ray.nodes() if self._fits(item)}
        with self._lock:
            for node_id in [item for item, until in self._avoided.items() if until < now]:
                del self._avoided[node_id]
            for node_id in [item for item in self._nodes if item not in alive]:
                del self._nodes[node_id]
            for node in self._nodes.values():
                self._settle(node)
            return sorted(alive - self._avoided.keys())

    def _is_avoided(self, node_id: str) -> bool:
        with self._lock:
            return node_id in self._avoided

    def _fits(self, item: Mapping[str, Any]) -> bool:
        return bool(item["Alive"]) and item["Resources"].get("CPU", 0) >= self._threads

    def _settle(self, node: _Node) -> None:
        calls = {call: key for key, (call, _) in node.sent.items()}
        if not calls:
            return
        for call in self._ray.wait(list(calls), num_returns=len(calls), timeout=0)[0]:
            key = calls[call]
            del node.sent[key]
            try:
                if self._ray.get(call)[0] == DONE:
                    node.holds.add(key)
            except self._ray.exceptions.RayError:
                # The node says so itself, when it is asked to compute.
                continue

    def _node(self, node_id: str) -> _Node:
        with self._lock:
            found = self._nodes.get(node_id)
            if found is None:
                found = _Node(self._name(node_id), self._start_actor(node_id))
                self._nodes[node_id] = found
            return found

    def _start_actor(self, node_id: str) -> Any:
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor = self._ray.remote(ShardActor).options(
            num_cpus=self._threads, scheduling_strategy=here, max_restarts=0
        )
        settings = self._settings
        return actor.remote(settings.folder, settings.folder_max_mib * MEBI, self._threads)

    def _name(self, node_id: str) -> str:
        for item in self._ray.nodes():
            if item["NodeID"] == node_id:
                return f"{item['NodeManagerAddress']}/{node_id[:8]}"
        return node_id[:8]

    def _give_up(self, node_id: str, node: _Node) -> bool:
        """Leave a node out for a while; its actor is started anew when it is used again."""
        with self._lock:
            if self._nodes.get(node_id) is not node:
                return False
            self._avoided[node_id] = time.monotonic() + _AVOID_S
            del self._nodes[node_id]
        self._ray.kill(node.actor)
        return True

    def _distrust(self, node_id: str, order: ShardOrder) -> None:
        node = self._node(node_id)
        node.holds.discard(order.key())
        self._report(node.name, "WRONG_RESULT", "its bytes differ from this worker's own", order)
        node.actor.forget.remote(order)

    def _report(self, node: str, code: str, reason: str, order: ShardOrder) -> None:
        fault = RayFault(node, code, reason, order.key())
        with self._lock:
            self.faults = [*self.faults, fault][-_FAULTS_KEPT_MAX:]
        self._on_fault(fault)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "RAY_MISSING",
            'engine = "ray" needs the package ray',
            subject="engine",
            fix="install it: pip install 'chainnode[ray]', or set engine = \"local\"",
        ) from error


def _connect(address: str) -> Any:
    ray = _ray()
    if ray.is_initialized():
        return ray
    try:
        host, _, port = address.rpartition(":")
        if port.isdecimal() and "/" not in host:
            # Ray itself would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            "RAY_UNREACHABLE",
            f"cannot join the Ray cluster: {_line(error)}",
            subject=f"ray.address = {address}",
            fix="start it (ray start) with this Ray and Python version, or correct the address",
        ) from error
    return ray


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
