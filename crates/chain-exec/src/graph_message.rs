//! The graph of a block as clients get it.

use chain_state::keys;
use chain_types::proto::{BlockGraph, HotKey, Vertex};

use crate::graph::{self, dependencies, summary, Access, Cause, DEPENDENCIES_MAX};

/// Hottest keys that are named.
const HOT_KEYS_MAX: usize = 16;

/// The graph of an executed block, with its edges unless only the summary is asked for.
pub fn block_graph(
    height: u64,
    accesses: &[Access],
    gas: &[u64],
    summary_only: bool,
) -> BlockGraph {
    let found = summary(accesses, gas, HOT_KEYS_MAX);
    let mut graph = BlockGraph {
        height,
        work_gas: found.work_gas,
        critical_path_gas: found.path_gas,
        longest_chain: found.path,
        hot_keys: found.hot_keys.into_iter().map(hot_key).collect(),
        ..BlockGraph::default()
    };
    if summary_only {
        return graph;
    }
    let edges = dependencies(accesses);
    graph.truncated = edges.len() == DEPENDENCIES_MAX;
    graph.vertices = vec![Vertex::default(); accesses.len()];
    for edge in edges {
        let vertex = &mut graph.vertices[edge.later as usize];
        let cause = match edge.cause {
            Cause::Read => 1,
            Cause::Write => 2,
            Cause::Anti => 4,
        };
        // Edges come sorted: those of one pair lie side by side.
        match vertex.causes.last_mut() {
            Some(causes) if vertex.neighbors.last() == Some(&edge.earlier) => *causes |= cause,
            _ => {
                vertex.neighbors.push(edge.earlier);
                vertex.causes.push(cause);
            }
        }
    }
    graph
}

fn hot_key(hot: graph::HotKey) -> HotKey {
    let (contract, key) = keys::split_storage(&hot.key).unwrap_or(("", &hot.key));
    HotKey {
        contract: contract.to_owned(),
        key: key.to_vec(),
        readers: hot.readers,
        writers: hot.writers,
        adders: hot.adders,
        gas: hot.gas,
    }
}
