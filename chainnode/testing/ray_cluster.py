"""Two Ray nodes on this machine, as processes of their own, that tests may kill."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_OBJECTS_BYTES = 128 << 20


@contextmanager
def two_ray_nodes() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` whose head node carries the caller; gone at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
    ray = importlib.import_module("ray")
    cluster_utils = importlib.import_module("ray.cluster_utils")
    options = {"num_cpus": 1, "object_store_memory": _OBJECTS_BYTES, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=options)
    try:
        add_ray_node(cluster)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def add_ray_node(cluster: Any) -> Any:
    """One more node, ready; `cluster.remove_node` kills it."""
    node = cluster.add_node(num_cpus=1, object_store_memory=_OBJECTS_BYTES)
    cluster.wait_for_nodes()
    return node
