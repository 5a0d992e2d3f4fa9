//! The authenticated root: a binary sparse Merkle tree over SHA-256 of the keys.
//!
//! A subtree with one key is that key's leaf, so the shape, and the root, depend only on what is
//! stored, never on the order in which it came (Dahlberg, Pulls and Peeters, "Efficient Sparse
//! Merkle Trees", 2016, with the single-leaf compression of Diem's Jellyfish tree, 2021).

use sha2::{Digest, Sha256};

use crate::workers::{share_out, stretches, Workers};
use crate::Hash;

const EMPTY: Hash = [0; 32];

fn digest(tag: u8, left: &[u8], right: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([tag]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

fn bit(path: &Hash, depth: usize) -> bool {
    path[depth / 8] >> (7 - depth % 8) & 1 == 1
}

fn path_of(key: &[u8]) -> Hash {
    Sha256::digest(key).into()
}

fn leaf_hash(path: &Hash, value_hash: &Hash) -> Hash {
    digest(0, path, value_hash)
}

#[derive(Debug, Default)]
enum Node {
    #[default]
    Empty,
    // The value's hash, not the leaf's: a proof of absence must show what the leaf is made of.
    Leaf {
        path: Hash,
        value_hash: Hash,
    },
    Branch(Box<Branch>),
}

#[derive(Debug)]
struct Branch {
    hash: Hash,
    left: Node,
    right: Node,
}

type Update = (Hash, Option<Hash>);

impl Node {
    fn hash(&self) -> Hash {
        match self {
            Self::Empty => EMPTY,
            Self::Leaf { path, value_hash } => leaf_hash(path, value_hash),
            Self::Branch(branch) => branch.hash,
        }
    }

    fn join(left: Self, right: Self) -> Self {
        match (left, right) {
            (Self::Empty, Self::Empty) => Self::Empty,
            (leaf @ Self::Leaf { .. }, Self::Empty) | (Self::Empty, leaf @ Self::Leaf { .. }) => {
                leaf
            }
            (left, right) => {
                let hash = digest(1, &left.hash(), &right.hash());
                Self::Branch(Box::new(Branch { hash, left, right }))
            }
        }
    }

    /// A subtree from sorted leaves.
    fn build(leaves: &[Update], depth: usize) -> Self {
        match leaves {
            [] => Self::Empty,
            [(_, None)] => Self::Empty,
            [(path, Some(value_hash))] => Self::Leaf {
                path: *path,
                value_hash: *value_hash,
            },
            _ => {
                let split = leaves.partition_point(|(path, _)| !bit(path, depth));
                let (left, right) = leaves.split_at(split);
                Self::join(Self::build(left, depth + 1), Self::build(right, depth + 1))
            }
        }
    }

    /// The subtrees `levels` further down, those that are empty included, in the order of paths.
    fn take_apart(self, depth: usize, levels: usize, subtrees: &mut Vec<Self>) {
        if levels == 0 {
            return subtrees.push(self);
        }
        let (left, right) = match self {
            Self::Branch(branch) => (branch.left, branch.right),
            Self::Leaf { path, .. } if bit(&path, depth) => (Self::Empty, self),
            other => (other, Self::Empty),
        };
        left.take_apart(depth + 1, levels - 1, subtrees);
        right.take_apart(depth + 1, levels - 1, subtrees);
    }

    fn update(self, updates: &[Update], depth: usize) -> Self {
        if updates.is_empty() {
            return self;
        }
        match self {
            Self::Empty => Self::build(updates, depth),
            Self::Leaf { path, value_hash } => {
                let place = updates.partition_point(|(other, _)| *other < path);
                if updates.get(place).is_some_and(|(other, _)| *other == path) {
                    return Self::build(updates, depth);
                }
                let mut merged = Vec::with_capacity(updates.len() + 1);
                merged.extend_from_slice(&updates[..place]);
                merged.push((path, Some(value_hash)));
                merged.extend_from_slice(&updates[place..]);
                Self::build(&merged, depth)
            }
            Self::Branch(mut branch) => {
                let split = updates.partition_point(|(path, _)| !bit(path, depth));
                let (first, second) = updates.split_at(split);
                let left = std::mem::take(&mut branch.left).update(first, depth + 1);
                let right = std::mem::take(&mut branch.right).update(second, depth + 1);
                if matches!(left, Self::Branch(_)) || matches!(right, Self::Branch(_)) {
                    // The box is kept: most updates only change hashes below it.
                    branch.hash = digest(1, &left.hash(), &right.hash());
                    branch.left = left;
                    branch.right = right;
                    return Self::Branch(branch);
                }
                Self::join(left, right)
            }
        }
    }
}

fn hashed((key, value): (&[u8], Option<&[u8]>)) -> Update {
    (
        path_of(key),
        value.map(|value| Sha256::digest(value).into()),
    )
}

/// Updates by path; of several to one path the last stays.
fn sorted(mut updates: Vec<Update>) -> Vec<Update> {
    updates.sort_by_key(|(path, _)| *path);
    updates.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            *kept = *later;
        }
        same
    });
    updates
}

/// Depth at which so many workers take a tree apart: a few subtrees for each, so that none waits
/// long for another with a larger one.
pub(crate) fn subtree_levels(workers: usize) -> usize {
    const PER_WORKER: usize = 4;
    let subtrees = (workers * PER_WORKER).next_power_of_two();
    (subtrees.ilog2() as usize).min(12)
}

/// The updates below one subtree, of parts that are each sorted; later parts come later.
fn of_subtree(parts: &[Vec<Update>], prefix: usize, levels: usize) -> Vec<Update> {
    let subtree =
        |(path, _): &Update| usize::from(u16::from_be_bytes([path[0], path[1]])) >> (16 - levels);
    let mut found = Vec::new();
    for part in parts {
        let start = part.partition_point(|update| subtree(update) < prefix);
        let own = part[start..]
            .iter()
            .take_while(|update| subtree(update) == prefix);
        found.extend(own.copied());
    }
    sorted(found)
}

/// The tree over all keys, nodes in memory.
#[derive(Debug, Default)]
pub struct StateTree {
    root: Node,
}

impl StateTree {
    /// Apply a block's net writes, or any batch; of several writes to a key the last one stays.
    pub fn update<'a>(&mut self, writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) {
        let updates = sorted(writes.map(hashed).collect());
        self.root = std::mem::take(&mut self.root).update(&updates, 0);
    }

    /// The same by several workers: keys, values and subtrees are hashed side by side, and only
    /// the nodes above the subtrees by one. `entry` is a write's key and value.
    pub fn update_on<W: Sync>(
        &mut self,
        workers: &dyn Workers,
        writes: &[W],
        entry: impl Fn(&W) -> (&[u8], Option<&[u8]>) + Sync,
    ) {
        if workers.count() < 2 {
            return self.update(writes.iter().map(entry));
        }
        let parts = stretches(writes.len(), workers.count());
        let updates = share_out(workers, parts, |part| {
            let hashed = writes[part].iter().map(|write| hashed(entry(write)));
            sorted(hashed.collect())
        });
        let levels = subtree_levels(workers.count());
        let mut subtrees = Vec::with_capacity(1 << levels);
        std::mem::take(&mut self.root).take_apart(0, levels, &mut subtrees);
        let subtrees = subtrees.into_iter().enumerate().collect();
        let mut level = share_out(workers, subtrees, |(prefix, subtree): (usize, Node)| {
            subtree.update(&of_subtree(&updates, prefix, levels), levels)
        });
        while level.len() > 1 {
            let mut nodes = level.into_iter();
            let mut above = Vec::with_capacity(nodes.len() / 2);
            while let (Some(left), Some(right)) = (nodes.next(), nodes.next()) {
                above.push(Node::join(left, right));
            }
            level = above;
        }
        self.root = level.pop().expect("a tree has a root");
    }

    /// The root; 32 zero bytes when nothing is stored.
    pub fn root(&self) -> Hash {
        self.root.hash()
    }

    /// What proves a key's value, or its absence, against the root.
    pub fn prove(&self, key: &[u8]) -> Proof {
        let path = path_of(key);
        let mut siblings = Vec::new();
        let mut node = &self.root;
        loop {
            match node {
                Node::Branch(branch) => {
                    let right = bit(&path, siblings.len());
                    let (next, other) = if right {
                        (&branch.right, &branch.left)
                    } else {
                        (&branch.left, &branch.right)
                    };
                    siblings.push(other.hash());
                    node = next;
                }
                Node::Leaf { path, value_hash } => {
                    return Proof {
                        siblings,
                        leaf: Some((*path, *value_hash)),
                    };
                }
                Node::Empty => {
                    return Proof {
                        siblings,
                        leaf: None,
                    }
                }
            }
        }
    }
}

/// A path from the root to where a key's leaf is or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Hashes beside the path, root first.
    pub siblings: Vec<Hash>,
    /// Path and value hash of the leaf found there, the key's own or a stranger's.
    pub leaf: Option<(Hash, Hash)>,
}

/// Whether a proof shows that `key` has `value` (absent: none) under `root`.
pub fn verify_proof(root: &Hash, key: &[u8], value: Option<&[u8]>, proof: &Proof) -> bool {
    let path = path_of(key);
    let depth = proof.siblings.len();
    if depth > 256 {
        return false;
    }
    let shown = match (value, proof.leaf) {
        (Some(value), Some((found, value_hash))) => {
            found == path && value_hash[..] == Sha256::digest(value)[..]
        }
        (None, Some((found, _))) => {
            found != path && (0..depth).all(|level| bit(&found, level) == bit(&path, level))
        }
        (None, None) => true,
        (Some(_), None) => false,
    };
    let leaf = proof.leaf.as_ref();
    let mut hash = leaf.map_or(EMPTY, |(found, value_hash)| leaf_hash(found, value_hash));
    for (level, sibling) in proof.siblings.iter().enumerate().rev() {
        hash = if bit(&path, level) {
            digest(1, sibling, &hash)
        } else {
            digest(1, &hash, sibling)
        };
    }
    shown && hash == *root
}
