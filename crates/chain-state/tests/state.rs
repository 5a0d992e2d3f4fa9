//! The tree against its definition, and the views against a plain map.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use chain_state::{
    share_out, stretches, verify_proof, Alone, BlockOverlay, Bounds, Form, NumberError, Place,
    Places, State, StateTree, TxView, Workers,
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

/// Threads made for each piece of work.
struct Threads(usize);

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn each(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        part if part < parts => work(part),
                        _ => return,
                    }
                });
            }
        });
    }
}

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn entry((key, value): &(Vec<u8>, Option<Vec<u8>>)) -> (&[u8], Option<&[u8]>) {
    (key, value.as_deref())
}

/// Blocks that put, delete and put again: half of the keys come up in several of them.
fn blocks(count: usize, writes: usize, seed: u64) -> Vec<Writes> {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let block = |_| {
        let mut block = BTreeMap::new();
        for _ in 0..writes {
            let key = format!("account/{:012}", draw(2 * writes as u64)).into_bytes();
            let value = (draw(4) > 0).then(|| vec![draw(256) as u8; draw(40) as usize]);
            block.insert(key, value);
        }
        block.into_iter().collect()
    };
    (0..count).map(block).collect()
}

#[test]
fn roots_do_not_depend_on_the_number_of_threads() {
    for (writes, seed) in [(0, 1), (1, 2), (3, 3), (50, 4), (2_000, 5)] {
        let blocks = blocks(6, writes, seed);
        let mut serial = StateTree::default();
        let mut trees: Vec<_> = [1, 2, 3, 8, 96]
            .map(|threads| (Threads(threads), StateTree::default()))
            .into();
        for block in &blocks {
            serial.update(block.iter().map(entry));
            for (threads, tree) in &mut trees {
                tree.update_on(threads, block, entry);
                assert_eq!(tree.root(), serial.root(), "{} threads", threads.0);
            }
        }
        // The nodes are the same, not only the root: what one wrote, another goes on with.
        let deleted: Writes = blocks
            .concat()
            .into_iter()
            .map(|(key, _)| (key, None))
            .collect();
        for (threads, tree) in &mut trees {
            for (key, _) in &blocks[0] {
                assert_eq!(tree.prove(key), serial.prove(key));
            }
            tree.update_on(threads, &deleted, entry);
            assert_eq!(tree.root(), [0; 32]);
        }
    }
}

#[test]
fn of_several_writes_to_a_key_the_last_stays_on_any_thread() {
    let value = |number: u32| Some(number.to_be_bytes().to_vec());
    let writes: Writes = (0..90)
        .map(|number| (vec![number as u8 % 7], value(number)))
        .collect();
    let mut serial = StateTree::default();
    serial.update(writes.iter().map(entry));
    for threads in [2, 3, 8] {
        let mut tree = StateTree::default();
        tree.update_on(&Threads(threads), &writes, entry);
        assert_eq!(tree.root(), serial.root());
    }
}

#[test]
fn a_state_written_by_several_threads_is_that_of_one() {
    // More than one stretch holds, so that stretches split, empty and go.
    let blocks = blocks(5, 12_000, 9);
    for threads in [1, 2, 3, 8] {
        let threads = Threads(threads);
        let (mut state, mut map) = (State::default(), Map::new());
        for block in &blocks {
            state.apply_all(&threads, block, entry);
            for (key, value) in block {
                match value {
                    Some(value) => map.insert(key.clone(), value.clone()),
                    None => map.remove(key),
                };
            }
            assert!(state.range(b"", None).eq(&map));
            assert!(state.range(b"", None).rev().eq(map.iter().rev()));
            assert_eq!((state.len(), state.is_empty()), (map.len(), map.is_empty()));
            for at in (0..24_000).step_by(977) {
                let key = |at: usize| format!("account/{at:012}").into_bytes();
                let (start, end) = (key(at), key(at + 9 * 977));
                assert_eq!(state.get(&start), map.get(&start).map(Vec::as_slice));
                let expected = map.range(start.clone()..end.clone());
                assert!(state.range(&start, Some(&end)).eq(expected));
                assert_eq!(state.range(&end, Some(&start)).count(), 0);
            }
        }
        let all: Writes = map.into_keys().map(|key| (key, None)).collect();
        state.apply_all(&threads, &all, entry);
        assert!(state.is_empty());
        assert_eq!(state.range(b"", None).next(), None);
        state.apply(b"a".to_vec(), Some(b"1".to_vec()));
        assert_eq!(state.get(b"a"), Some(&b"1"[..]));
    }
}

#[test]
fn writes_out_of_order_are_refused() {
    let write = |key: u32| (key.to_be_bytes().to_vec(), Some(vec![1]));
    let many: Writes = (0..20_000).map(write).collect();
    for (count, at) in [(10, 4), (20_000, 2_047), (20_000, 2_048), (20_000, 19_999)] {
        for filled in [false, true] {
            let mut state = State::default();
            if filled {
                state.apply_all(&Threads(3), &many, entry);
            }
            let mut wrong = many[..count].to_vec();
            wrong[at] = wrong[at - 1].clone();
            let apply = || state.apply_all(&Alone, &wrong, entry);
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(apply)).is_err());
        }
    }
}

/// Lists behind one another, each put in its places by one of the workers.
fn placed<T: Send>(workers: &dyn Workers, lists: Vec<Vec<T>>) -> Vec<T> {
    let mut all = Places::new(lists.iter().map(Vec::len).sum());
    let places = all.cut(lists.iter().map(Vec::len));
    let parts = places.into_iter().zip(lists).collect();
    share_out(workers, parts, |(mut place, list): (Place<T>, Vec<T>)| {
        place.extend(list);
    });
    all.into_list()
}

#[test]
fn parts_are_done_once_and_in_their_order() {
    for (count, parts) in [(0, 3), (1, 3), (10, 3), (96, 96), (5, 1)] {
        let ranges = stretches(count, parts);
        assert!(ranges.iter().cloned().flatten().eq(0..count));
        assert!(ranges.len() <= parts);
        let double = |range: std::ops::Range<usize>| range.map(|at| 2 * at).collect::<Vec<_>>();
        let alone = share_out(&Alone, ranges.clone(), double);
        assert_eq!(share_out(&Threads(3), ranges, double), alone);
        for threads in [1, 3] {
            assert_eq!(placed(&Threads(threads), alone.clone()), alone.concat());
        }
        // What is dropped once each: an item of its own memory.
        let lists: Vec<Vec<String>> = alone
            .iter()
            .map(|list| list.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(placed(&Threads(3), lists.clone()), lists.concat());
    }
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
            1..12),
        threads in 2usize..9,
    ) {
        let mut map = Map::new();
        let mut tree = StateTree::default();
        let mut shared = StateTree::default();
        for block in &blocks {
            tree.update(block.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
            let writes: Writes = block.clone().into_iter().collect();
            shared.update_on(&Threads(threads), &writes, entry);
            prop_assert_eq!(shared.root(), tree.root());
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

#[test]
fn a_list_is_whole_only_when_every_place_was_filled_once() {
    let fill = |lengths: &[usize], puts: &[usize]| {
        let mut list = Places::new(5);
        let places = list.cut(lengths.iter().copied());
        for (mut place, puts) in places.into_iter().zip(puts) {
            (0..*puts).for_each(|item| place.put(item.to_string()));
        }
        list.into_list()
    };
    assert_eq!(fill(&[2, 0, 3], &[2, 0, 3]), ["0", "1", "0", "1", "2"]);
    let refused = |lengths: &'static [usize], puts: &'static [usize]| {
        assert!(std::panic::catch_unwind(|| fill(lengths, puts)).is_err());
    };
    refused(&[2, 3], &[2, 2]);
    refused(&[2, 3], &[3, 2]);
    refused(&[2, 4], &[2, 3]);
    refused(&[2], &[2]);
    let twice = || {
        let mut list = Places::<u8>::new(2);
        list.cut([1]);
        list.cut([1]);
    };
    assert!(std::panic::catch_unwind(twice).is_err());
}
