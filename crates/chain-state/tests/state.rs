//! The tree against its definition, and the views against a plain map.

use std::collections::BTreeMap;

use chain_state::{
    verify_proof, BlockOverlay, Bounds, Form, NumberError, State, StateTree, TxView,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn rebuilt(map: &Map) -> StateTree {
    let mut tree = StateTree::default();
    tree.update(
        map.iter()
            .map(|(key, value)| (key.as_slice(), Some(value.as_slice()))),
    );
    tree
}

// A leaf's hash used to stand in a proof unexplained, so that any path could be claimed for it.
#[test]
fn a_strangers_path_on_the_own_leaf_proves_no_absence() {
    let map: Map = (0u8..9).map(|key| (vec![key], vec![key])).collect();
    let tree = rebuilt(&map);
    for key in map.keys() {
        let honest = tree.prove(key);
        let mut forged = honest.clone();
        let (mut path, value_hash) = honest.leaf.expect("present");
        path[31] ^= 1;
        forged.leaf = Some((path, value_hash));
        assert!(!verify_proof(&tree.root(), key, None, &forged));
        let node = [&[0][..], &honest.leaf.expect("present").0, &value_hash].concat();
        forged.leaf = Some((path, Sha256::digest(node).into()));
        assert!(!verify_proof(&tree.root(), key, None, &forged));
    }
}

#[test]
fn of_several_writes_to_a_key_the_last_stays() {
    let writes: [(&[u8], Option<&[u8]>); 5] = [
        (b"a", Some(b"1")),
        (b"b", Some(b"1")),
        (b"a", Some(b"2")),
        (b"b", None),
        (b"a", Some(b"3")),
    ];
    let mut tree = StateTree::default();
    tree.update(writes.into_iter());
    let mut expected = StateTree::default();
    expected.update([(&b"a"[..], Some(&b"3"[..]))].into_iter());
    assert_eq!(tree.root(), expected.root());
    tree.update([(&b"a"[..], Some(&b"4"[..])), (&b"a"[..], None)].into_iter());
    assert_eq!(tree.root(), [0; 32]);
}

proptest! {
    #[test]
    fn root_depends_only_on_the_content(
        blocks in prop::collection::vec(
            prop::collection::btree_map(
                prop::collection::vec(0u8..4, 1..3),
                prop::option::of(prop::collection::vec(any::<u8>(), 0..3)), 0..12),
            1..12)
    ) {
        let mut map = Map::new();
        let mut tree = StateTree::default();
        for block in &blocks {
            tree.update(block.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
            for (key, value) in block {
                match value {
                    Some(value) => { map.insert(key.clone(), value.clone()); }
                    None => { map.remove(key); }
                }
            }
            prop_assert_eq!(tree.root(), rebuilt(&map).root());
        }
        for first in 0u8..5 {
            let key = vec![first];
            let value = map.get(&key).map(Vec::as_slice);
            let proof = tree.prove(&key);
            prop_assert!(verify_proof(&tree.root(), &key, value, &proof));
            prop_assert!(!verify_proof(&tree.root(), &key, Some(b"other value"), &proof));
            if value.is_some() {
                prop_assert!(!verify_proof(&tree.root(), &key, None, &proof));
            }
        }
    }

    #[test]
    fn scans_see_own_block_and_base_in_order(
        base in prop::collection::btree_map(prop::collection::vec(0u8..3, 1..3), any::<u8>(), 0..8),
        block in prop::collection::btree_map(
            prop::collection::vec(0u8..3, 1..3), prop::option::of(any::<u8>()), 0..8),
        own in prop::collection::btree_map(
            prop::collection::vec(0u8..3, 1..3), prop::option::of(any::<u8>()), 0..8),
        start in prop::collection::vec(0u8..3, 0..3),
        end in prop::option::of(prop::collection::vec(0u8..3, 0..3)),
        reverse in any::<bool>(),
    ) {
        let mut model = Map::new();
        let mut state = State::default();
        for (key, value) in &base {
            state.apply(key.clone(), Some(vec![*value]));
            model.insert(key.clone(), vec![*value]);
        }
        let mut view = TxView::new(&state, BlockOverlay::default());
        let mut overlay = BlockOverlay::default();
        for layer in [&block, &own] {
            view = TxView::new(&state, overlay);
            for (key, value) in layer {
                match value {
                    Some(value) => {
                        view.put(key.clone(), vec![*value]);
                        model.insert(key.clone(), vec![*value]);
                    }
                    None => { view.delete(key.clone()); model.remove(key); }
                }
            }
            if std::ptr::eq(layer, &block) {
                overlay = view.commit().1;
                view = TxView::new(&state, BlockOverlay::default());
            } else {
                overlay = BlockOverlay::default();
            }
        }
        let inside = |key: &Vec<u8>| *key >= start && end.as_ref().is_none_or(|end| key < end);
        let mut expected: Vec<_> = model.into_iter().filter(|(key, _)| inside(key)).collect();
        if reverse { expected.reverse(); }
        let (mut low, mut high) = (start.clone(), end.clone());
        let mut seen = Vec::new();
        while let Some((key, value)) = view.edge(&low, high.as_deref(), reverse) {
            if reverse { high = Some(key.clone()); } else { low = key.clone(); low.push(0); }
            seen.push((key, value));
        }
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn a_rolled_back_view_leaves_nothing() {
    let mut state = State::default();
    state.apply(b"a".to_vec(), Some(b"1".to_vec()));
    let mut view = TxView::new(&state, BlockOverlay::default());
    view.put(b"a".to_vec(), b"2".to_vec());
    let (base, block) = view.rollback();
    let mut view = TxView::new(base, block);
    assert_eq!(view.get(b"a").as_deref(), Some(b"1".as_slice()));
    view.put(b"a".to_vec(), b"2".to_vec());
    view.delete(b"missing".to_vec());
    let (base, block) = view.commit();
    assert_eq!(
        block.into_net_writes(base),
        [(b"a".to_vec(), Some(b"2".to_vec()))]
    );
}

#[test]
fn counters_add_read_and_refuse() {
    let mut state = State::default();
    state.apply(b"text".to_vec(), Some(b"abc".to_vec()));
    let mut view = TxView::new(&state, BlockOverlay::default());
    view.add(b"n".to_vec(), 5, &Bounds::COUNTER).unwrap();
    let blind = view.access_hash(true);
    view.add(b"n".to_vec(), -7, &Bounds::COUNTER).unwrap();
    assert_eq!(view.read_sum(b"n"), Ok(-2));
    assert_ne!(view.access_hash(true), blind);
    assert_eq!(
        view.add(b"n".to_vec(), i128::MIN, &Bounds::COUNTER),
        Err(NumberError::OutOfBounds)
    );
    assert_eq!(
        view.add(b"text".to_vec(), 1, &Bounds::COUNTER),
        Err(NumberError::NotANumber)
    );
    assert_eq!(view.read_sum(b"text"), Err(NumberError::NotANumber));
    let (base, block) = view.commit();
    let expected = (-2i128).to_be_bytes().to_vec();
    assert_eq!(
        block.into_net_writes(base),
        [(b"n".to_vec(), Some(expected))]
    );
}

#[test]
fn every_form_stores_its_whole_range_and_nothing_beyond() {
    for code in [1, 2, 4, 8, -1, -2, -4, -8, -16] {
        let form = Form::new(code).unwrap();
        let bits = 8 * code.unsigned_abs();
        let (least, most) = match code {
            -16 => (i128::MIN, i128::MAX),
            1.. => (0, (1 << bits) - 1),
            _ => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        };
        // The form cuts the bounds.
        let bounds = Bounds::new(form, i128::MIN, i128::MAX);
        for number in [least, -1, 0, 1, most] {
            if (least..=most).contains(&number) {
                let stored = form.encode(number);
                assert_eq!(stored.len() as u32, code.unsigned_abs());
                assert_eq!(form.decode(Some(&stored)), Ok(number), "{code}");
                assert_eq!(bounds.sum(0, number), Ok(number));
            }
        }
        assert_eq!(bounds.sum(most, 1), Err(NumberError::OutOfBounds), "{code}");
        assert_eq!(bounds.sum(least, -1), Err(NumberError::OutOfBounds));
        assert_eq!(form.decode(None), Ok(0));
        assert_eq!(form.decode(Some(b"123")), Err(NumberError::NotANumber));
        assert_eq!(i32::from(form.code() as i8), code);
    }
    for code in [0, 3, 16, -3, -17, 256 + 8, i32::MIN] {
        assert_eq!(Form::new(code), None, "{code}");
    }
}

#[test]
fn a_bounded_addition_happens_exactly_within_its_bounds() {
    let price = Form::new(8).unwrap();
    let bounds = Bounds::new(price, 2, 10);
    let mut state = State::default();
    state.apply(b"n".to_vec(), Some(8u64.to_be_bytes().to_vec()));
    state.apply(b"wide".to_vec(), Some(8i128.to_be_bytes().to_vec()));
    let stored = |number: u64| Some(number.to_be_bytes().to_vec());
    let view = || TxView::new(&state, BlockOverlay::default());
    let mut blind = view();
    blind.add(b"n".to_vec(), 2, &bounds).unwrap();
    let added = blind.access_hash(false);
    assert_eq!(blind.peek(b"n").map(|value| value.to_vec()), stored(10));
    // One that does not fit changes nothing, and its outcome is what was read.
    assert_eq!(
        blind.add(b"n".to_vec(), 1, &bounds),
        Err(NumberError::OutOfBounds)
    );
    assert_ne!(blind.access_hash(false), added);
    blind.add(b"n".to_vec(), -8, &bounds).unwrap();
    assert_eq!(
        blind.add(b"n".to_vec(), -1, &bounds),
        Err(NumberError::OutOfBounds)
    );
    let (_, block) = blind.commit();
    assert_eq!(block.get(&state, b"n").map(<[u8]>::to_vec), stored(2));
    let mut other = view();
    // Absent and deleted count as 0, a value put as itself.
    assert!(other.add(b"new".to_vec(), 1, &bounds).is_err());
    other.add(b"new".to_vec(), 2, &bounds).unwrap();
    other.delete(b"n".to_vec());
    assert!(other.add(b"n".to_vec(), 1, &bounds).is_err());
    other.add(b"n".to_vec(), 3, &bounds).unwrap();
    other.add(b"n".to_vec(), 7, &bounds).unwrap();
    assert!(other.add(b"n".to_vec(), 1, &bounds).is_err());
    assert_eq!(other.get(b"n").map(|value| value.to_vec()), stored(10));
    // Of one form.
    for key in [&b"wide"[..], b"new"] {
        let form = if key == b"wide" { price } else { Form::COUNTER };
        let all = Bounds::new(form, i128::MIN, i128::MAX);
        let wrong = other.add(key.to_vec(), 1, &all);
        assert_eq!(wrong, Err(NumberError::NotANumber));
    }
}

#[test]
fn running_sums_beyond_128_bits_are_exact() {
    let mut state = State::default();
    state.apply(b"n".to_vec(), Some(i128::MIN.to_be_bytes().to_vec()));
    let mut view = TxView::new(&state, BlockOverlay::default());
    for delta in [i128::MAX, i128::MAX, 1] {
        view.add(b"n".to_vec(), delta, &Bounds::COUNTER).unwrap();
    }
    assert_eq!(view.read_sum(b"n"), Ok(i128::MAX));
    assert!(view.add(b"n".to_vec(), 1, &Bounds::COUNTER).is_err());
}
