//! Merkle trees of RFC 6962, section 2.1: leaf and node hashes carry different prefixes.

use crate::hash::{sha256, Hash};

fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// Folds one level into the next. RFC 6962's split at the largest power of two is the same tree as
/// pairing neighbours and carrying an odd last node up unchanged.
fn next_level(level: &[Hash]) -> Vec<Hash> {
    level
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => node_hash(left, right),
            _ => pair[0],
        })
        .collect()
}

/// The Merkle root of the leaves in order; of none, SHA-256 of the empty string.
pub fn merkle_root<L: AsRef<[u8]>>(leaves: &[L]) -> Hash {
    if leaves.is_empty() {
        return sha256(&[]);
    }
    let mut level: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    while level.len() > 1 {
        level = next_level(&level);
    }
    level[0]
}

/// The root over neighbouring runs of leaves from the [`merkle_root`] of each: all but the last are
/// of one length, a power of two; `None` of none.
pub fn merkle_root_of_runs(roots: Vec<Hash>) -> Option<Hash> {
    let mut level = roots;
    while level.len() > 1 {
        level = next_level(&level);
    }
    level.pop()
}

/// The siblings that lead from leaf `index` to the root, leaf first; `None` past the last leaf.
pub fn merkle_path<L: AsRef<[u8]>>(leaves: &[L], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let mut position = index;
    let mut level: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    while level.len() > 1 {
        if let Some(sibling) = level.get(position ^ 1) {
            path.push(*sibling);
        }
        position /= 2;
        level = next_level(&level);
    }
    Some(path)
}

/// Whether `leaf` is number `index` of `leaf_count` leaves under `root`. A path with a sibling too
/// few or too many is refused.
pub fn verify_merkle_path<S: AsRef<[u8]>>(
    root: &Hash,
    leaf: &[u8],
    index: u64,
    leaf_count: u64,
    path: &[S],
) -> bool {
    if index >= leaf_count {
        return false;
    }
    let mut hash = leaf_hash(leaf);
    let mut position = index;
    let mut width = leaf_count;
    let mut siblings = path.iter();
    while width > 1 {
        // The last node of an odd level has no sibling: it moves up unchanged.
        if position ^ 1 < width {
            let Some(sibling) = siblings
                .next()
                .and_then(|s| Hash::try_from(s.as_ref()).ok())
            else {
                return false;
            };
            hash = if position & 1 == 1 {
                node_hash(&sibling, &hash)
            } else {
                node_hash(&hash, &sibling)
            };
        }
        position /= 2;
        width = width.div_ceil(2);
    }
    siblings.next().is_none() && hash == *root
}
