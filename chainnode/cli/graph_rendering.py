"""A block's dependency graph as a table for people, as plain values and for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from chainnode._proto import types_pb2

CAUSES: Final = {1: "read", 2: "write", 4: "anti"}
CHAIN_SHOWN_MAX: Final = 12


def summary_fields(graph: types_pb2.BlockGraph) -> dict[str, Any]:
    """T1, T-infinity, what they allow, and the longest chain, for people."""
    chain = [str(tx) for tx in graph.longest_chain]
    shown = " -> ".join(chain[:CHAIN_SHOWN_MAX])
    if len(chain) > CHAIN_SHOWN_MAX:
        shown += f" -> ... {len(chain) - CHAIN_SHOWN_MAX} more"
    return {
        "height": graph.height,
        "work_gas": graph.work_gas,
        "critical_path_gas": graph.critical_path_gas,
        "parallelism": parallelism(graph),
        "longest_chain": f"{len(chain)} transactions" + (f": {shown}" if chain else ""),
    }


def parallelism(graph: types_pb2.BlockGraph) -> float | None:
    """T1 / T-infinity: no number of cores makes the block faster than that."""
    if not graph.critical_path_gas:
        return None
    return round(graph.work_gas / graph.critical_path_gas, 2)


def hot_key_rows(graph: types_pb2.BlockGraph) -> list[dict[str, Any]]:
    """The hottest keys, heaviest first."""
    return [
        {
            "contract": hot.contract,
            "key": hot.key.hex(),
            "readers": hot.readers,
            "writers": hot.writers,
            "adders": hot.adders,
            "gas": hot.gas,
        }
        for hot in graph.hot_keys
    ]


def graph_fields(graph: types_pb2.BlockGraph, tx_ids: Sequence[bytes]) -> dict[str, Any]:
    """The whole graph as plain values; edges as [earlier, cause, ...] of each transaction."""
    return {
        "height": graph.height,
        "work_gas": graph.work_gas,
        "critical_path_gas": graph.critical_path_gas,
        "parallelism": parallelism(graph),
        "longest_chain": list(graph.longest_chain),
        "hot_keys": hot_key_rows(graph),
        "truncated": graph.truncated,
        "vertices": [
            {
                "tx_id": tx_id.hex(),
                "neighbors": list(vertex.neighbors),
                "causes": [causes_of(causes) for causes in vertex.causes],
            }
            for tx_id, vertex in zip(tx_ids, graph.vertices, strict=True)
        ],
    }


def causes_of(causes: int) -> list[str]:
    """`read`, `write` and `anti` of an edge's sum."""
    return [name for bit, name in CAUSES.items() if causes & bit]


def dot(graph: types_pb2.BlockGraph, tx_ids: Sequence[bytes]) -> Iterator[str]:
    """Lines of a Graphviz file; the longest chain is drawn bold, and only true reads are solid."""
    longest = list(graph.longest_chain)
    bold = set(pairwise(longest))
    yield f'digraph "block {graph.height}" {{'
    yield "  rankdir=LR; node [shape=box, fontname=monospace];"
    for index, tx_id in enumerate(tx_ids):
        style = ", style=bold" if index in longest else ""
        yield f'  {index} [label="{index}\\n{tx_id.hex()[:8]}"{style}];'
    for later, vertex in enumerate(graph.vertices):
        for earlier, causes in zip(vertex.neighbors, vertex.causes, strict=True):
            style = "bold" if (earlier, later) in bold else "solid" if causes & 1 else "dashed"
            label = "+".join(causes_of(causes))
            yield f'  {earlier} -> {later} [style={style}, label="{label}"];'
    if graph.truncated:
        yield "  // Truncated: edges of later transactions are left out."
    yield "}"
