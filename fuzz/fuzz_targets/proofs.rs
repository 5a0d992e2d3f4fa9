//! Merkle and state proofs: made ones hold, changed ones do not, arbitrary ones never crash.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use chain_state::{verify_proof, Proof, StateTree};
use chain_types::{merkle_path, merkle_root, verify_merkle_path};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    leaves: Vec<Vec<u8>>,
    index: u16,
    other_leaf: Vec<u8>,
    claimed_index: u64,
    claimed_count: u64,
    path: Vec<Vec<u8>>,
    siblings: Vec<[u8; 32]>,
    found: Option<([u8; 32], [u8; 32])>,
    removed: Vec<u8>,
    flip: (u16, u8),
}

fn merkle(input: &Input) {
    let root = merkle_root(&input.leaves);
    let count = input.leaves.len() as u64;
    if !input.leaves.is_empty() {
        let index = usize::from(input.index) % input.leaves.len();
        let path = merkle_path(&input.leaves, index).expect("within the leaves");
        let leaf = &input.leaves[index];
        assert!(verify_merkle_path(&root, leaf, index as u64, count, &path));
        if input.other_leaf != *leaf {
            let other = &input.other_leaf;
            assert!(!verify_merkle_path(
                &root,
                other,
                index as u64,
                count,
                &path
            ));
        }
        let mut longer = path.clone();
        longer.push([0; 32]);
        assert!(!verify_merkle_path(
            &root,
            leaf,
            index as u64,
            count,
            &longer
        ));
        if !path.is_empty() {
            let short = &path[1..];
            assert!(!verify_merkle_path(&root, leaf, index as u64, count, short));
        }
        // At another place only a leaf with the same content can be shown.
        let claimed = input.claimed_index;
        if verify_merkle_path(&root, leaf, claimed, count, &input.path) {
            assert_eq!(&input.leaves[claimed as usize], leaf);
        }
    }
    let (index, count) = (input.claimed_index, input.claimed_count);
    let _ = verify_merkle_path(&root, &input.other_leaf, index, count, &input.path);
}

fn state(input: &Input) {
    let mut tree = StateTree::default();
    let mut stored = BTreeMap::new();
    for (number, key) in input.leaves.iter().enumerate() {
        stored.insert(key.clone(), vec![number as u8]);
    }
    let writes = |map: &BTreeMap<Vec<u8>, Vec<u8>>| -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        map.iter()
            .map(|(k, v)| (k.clone(), Some(v.clone())))
            .collect()
    };
    let all = writes(&stored);
    tree.update(all.iter().map(|(k, v)| (k.as_slice(), v.as_deref())));
    if let Some(place) = (!input.leaves.is_empty()).then_some(usize::from(input.index)) {
        let gone = input.leaves[place % input.leaves.len()].clone();
        tree.update(std::iter::once((gone.as_slice(), None)));
        stored.remove(&gone);
    }
    let mut again = StateTree::default();
    for (key, value) in &stored {
        again.update(std::iter::once((key.as_slice(), Some(value.as_slice()))));
    }
    let root = tree.root();
    assert_eq!(
        root,
        again.root(),
        "the root depends on the order of writes"
    );
    let keys = input
        .leaves
        .iter()
        .chain([&input.other_leaf, &input.removed]);
    for key in keys.take(8) {
        let value = stored.get(key).map(Vec::as_slice);
        let proof = tree.prove(key);
        assert!(verify_proof(&root, key, value, &proof));
        assert!(!verify_proof(&root, key, Some(b"another value"), &proof));
        if value.is_some() {
            assert!(!verify_proof(&root, key, None, &proof));
        }
        let mut forged = proof.clone();
        if let (Some(_), Some((path, hash)), Some((bits, other))) =
            (value, forged.leaf.as_mut(), input.found)
        {
            path.iter_mut()
                .zip(bits)
                .for_each(|(byte, bits)| *byte ^= bits);
            if input.flip.1 & 1 == 1 {
                *hash = other;
            }
            assert!(
                !verify_proof(&root, key, None, &forged),
                "a present key was hidden"
            );
        }
        let mut changed = proof.clone();
        let (at, bits) = (usize::from(input.flip.0), input.flip.1 | 1);
        if let Some(sibling) = (at % 257 < changed.siblings.len()).then_some(at % 257) {
            changed.siblings[sibling][at % 32] ^= bits;
            assert!(!verify_proof(&root, key, value, &changed));
        }
    }
    let made = Proof {
        siblings: input.siblings.clone(),
        leaf: input.found,
    };
    let key = &input.other_leaf;
    let truth = stored.get(key);
    for claim in [None, Some(input.removed.as_slice())] {
        if verify_proof(&root, key, claim, &made) {
            assert_eq!(claim, truth.map(Vec::as_slice), "a forged proof holds");
        }
    }
}

fuzz_target!(|input: Input| {
    if input.leaves.len() > 64 {
        return;
    }
    merkle(&input);
    state(&input);
});
