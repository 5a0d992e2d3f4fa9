//! What a block's graph comes to: its heaviest path, its hot keys, its form for clients.

use chain_exec::oracle::Random;
use chain_exec::{block_graph, dependencies, summary, Access, Cause};
use chain_state::{keys, AccessSet};

fn key(number: u64) -> Vec<u8> {
    [keys::storage_prefix("coin"), vec![4, number as u8]].concat()
}

fn access(reads: &[u64], writes: &[u64], deltas: &[u64]) -> Access {
    Access {
        reads: AccessSet {
            keys: reads.iter().map(|number| key(*number)).collect(),
            ..AccessSet::default()
        },
        writes: writes.iter().map(|number| key(*number)).collect(),
        deltas: deltas.iter().map(|number| key(*number)).collect(),
    }
}

fn random_block(random: &mut Random) -> (Vec<Access>, Vec<u64>) {
    let pool = [2, 5, 30][random.below(3) as usize];
    let some = |random: &mut Random, most: u64| -> Vec<u64> {
        let mut keys: Vec<u64> = (0..random.below(most))
            .map(|_| random.below(pool))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    let block = (0..random.below(40)).map(|_| {
        let (reads, writes) = (some(random, 4), some(random, 3));
        let deltas: Vec<u64> = some(random, 2);
        let deltas: Vec<u64> = deltas
            .into_iter()
            .filter(|key| !writes.contains(key))
            .collect();
        let mut one = access(&reads, &writes, &deltas);
        if random.below(6) == 0 {
            let start = random.below(pool);
            let end = match random.below(4) {
                0 => Vec::new(),
                _ => key(start + random.below(4)),
            };
            one.reads.ranges.insert((key(start), end));
        }
        one
    });
    let block: Vec<Access> = block.collect();
    let gas = block
        .iter()
        .map(|_| random.below(3) * random.below(900))
        .collect();
    (block, gas)
}

#[test]
fn the_heaviest_path_is_a_path_and_no_other_is_heavier() {
    let mut random = Random(5);
    let mut longest = 0;
    for _ in 0..600 {
        let (block, gas) = random_block(&mut random);
        let weight = |tx: u32| gas[tx as usize].max(1);
        let found = summary(&block, &gas, 4);
        assert_eq!(
            found.work_gas,
            (0..gas.len() as u32).map(weight).sum::<u64>()
        );
        assert_eq!(
            found.path_gas,
            found.path.iter().copied().map(weight).sum::<u64>()
        );
        let edges = dependencies(&block);
        let reads = |later, earlier| {
            let mut edges = edges.iter();
            edges
                .any(|edge| (edge.later, edge.earlier, edge.cause) == (later, earlier, Cause::Read))
        };
        assert!(found.path.windows(2).all(|pair| reads(pair[1], pair[0])));
        // By the edges alone, in the order of the block.
        let mut ends: Vec<u64> = Vec::new();
        for tx in 0..block.len() as u32 {
            let mine = edges
                .iter()
                .filter(|edge| (edge.later, edge.cause) == (tx, Cause::Read));
            let from = mine
                .map(|edge| ends[edge.earlier as usize])
                .max()
                .unwrap_or(0);
            ends.push(from + weight(tx));
        }
        assert_eq!(found.path_gas, ends.into_iter().max().unwrap_or(0));
        longest = longest.max(found.path.len());
    }
    assert!(longest > 10, "{longest}");
}

#[test]
fn clients_get_each_neighbour_once_with_all_reasons() {
    let mut random = Random(9);
    for _ in 0..200 {
        let (block, gas) = random_block(&mut random);
        let graph = block_graph(7, &block, &gas, false);
        assert_eq!((graph.height, graph.truncated), (7, false));
        assert_eq!(graph.vertices.len(), block.len());
        let mut edges = Vec::new();
        for (vertex, later) in graph.vertices.iter().zip(0u32..) {
            assert!(vertex.neighbors.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(vertex.neighbors.len(), vertex.causes.len());
            for (earlier, causes) in vertex.neighbors.iter().zip(&vertex.causes) {
                let each = [(1, Cause::Read), (2, Cause::Write), (4, Cause::Anti)];
                let each = each.into_iter().filter(|(bit, _)| causes & bit != 0);
                edges.extend(each.map(|(_, cause)| (later, *earlier, cause)));
            }
        }
        let told = dependencies(&block);
        let told: Vec<_> = told
            .iter()
            .map(|edge| (edge.later, edge.earlier, edge.cause))
            .collect();
        assert_eq!(edges, told);
        let short = block_graph(7, &block, &gas, true);
        assert!(short.vertices.is_empty());
        assert_eq!(short.longest_chain, graph.longest_chain);
    }
}

#[test]
fn hot_keys_are_named_by_contract_and_counted_once_a_transaction() {
    let block = [
        access(&[1], &[1], &[]),
        access(&[1], &[], &[]),
        access(&[], &[], &[2]),
        access(&[], &[], &[2]),
        access(&[3], &[], &[]),
        access(&[3, 4], &[4], &[]),
    ];
    let graph = block_graph(1, &block, &[10, 5, 100, 100, 1_000, 1_000], true);
    let told: Vec<_> = graph
        .hot_keys
        .iter()
        .map(|hot| {
            (
                &hot.contract[..],
                hot.key[1],
                [hot.readers, hot.writers, hot.adders],
                hot.gas,
            )
        })
        .collect();
    // Key 3 is only read and key 4 is one transaction's own.
    assert_eq!(
        told,
        [("coin", 2, [0, 0, 2], 200), ("coin", 1, [2, 1, 0], 15)]
    );
    assert_eq!(
        graph.longest_chain,
        [5],
        "additions wait for nobody, nor do mere reads"
    );
}

#[test]
fn a_graph_in_the_square_is_cut_and_says_so() {
    let mut block: Vec<Access> = (0..1_100).map(|_| access(&[], &[], &[1])).collect();
    block.extend((0..1_100).map(|_| access(&[1], &[], &[])));
    let gas = vec![1; block.len()];
    let graph = block_graph(1, &block, &gas, false);
    assert!(graph.truncated);
    let edges: usize = graph
        .vertices
        .iter()
        .map(|vertex| vertex.neighbors.len())
        .sum();
    assert_eq!(edges, chain_exec::DEPENDENCIES_MAX);
    assert_eq!(graph.vertices.len(), block.len());
}
