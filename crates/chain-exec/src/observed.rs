//! Keys that calls are seen to touch, learnt from the last blocks where no template foretells them.
//!
//! A key that a call wrote is taken apart into what it shares with the sender's address, with the
//! arguments, and the rest. The pattern is tried on later calls of the method, and those that keep
//! coming true foretell keys as the compiler's templates do. Patterns are this node's own and
//! advisory: a wrong one costs time, never correctness.

use std::collections::HashMap;

use chain_state::keys::STORAGE_TAG;

use crate::graph::Access;

/// Shortest run of bytes that is taken to come from the arguments.
const ARGUMENT_MIN: usize = 4;
/// Patterns kept of each method.
const PATTERNS_MAX: usize = 24;
/// Methods known at once.
const METHODS_MAX: usize = 1_024;
/// Calls of a method learnt from in one block: more tell little and cost time.
const CALLS_PER_BLOCK_MAX: u32 = 32;
/// Keys of one call looked at.
const KEYS_MAX: usize = 16;
/// Trials after which a pattern may foretell, and the share of them, in sixteenths, it has to meet.
const TRIALS_MIN: u32 = 4;
const HITS_SIXTEENTHS: u32 = 14;
/// Trials after which old ones count half: a method may change its ways.
const TRIALS_MAX: u32 = 64;

/// What a call did to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Read, and put or deleted.
    Change,
    /// Put or deleted without being read.
    Put,
    /// Added to.
    Add,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Fixed(Vec<u8>),
    Sender,
    /// Bytes of the arguments: where they start and how many.
    Argument(usize, usize),
}

#[derive(Debug)]
struct Pattern {
    parts: Vec<Part>,
    used: Use,
    trials: u32,
    hits: u32,
}

#[derive(Debug, Default)]
struct Method {
    patterns: Vec<Pattern>,
    calls: u32,
}

/// A call as far as its keys may depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) contract: &'a str,
    pub(crate) method: &'a str,
    pub(crate) sender: &'a [u8],
    pub(crate) args: &'a [u8],
}

/// Keys a call is expected to touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Those of the keys written that are read as well; what is only read makes nobody wait.
    pub(crate) reads: Vec<Vec<u8>>,
    pub(crate) writes: Vec<Vec<u8>>,
    pub(crate) adds: Vec<Vec<u8>>,
}

/// What was learnt of every method.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// By contract, then by name.
    methods: HashMap<String, HashMap<String, Method>>,
    count: usize,
}

impl Observed {
    /// A block has ended: its successor is learnt from as well.
    pub(crate) fn next_block(&mut self) {
        for method in self.methods.values_mut().flat_map(HashMap::values_mut) {
            method.calls = 0;
        }
    }

    /// Learn from what a call did.
    pub(crate) fn learn(&mut self, call: Call<'_>, access: &Access) {
        let known = self.methods.get_mut(call.contract);
        if let Some(method) = known.and_then(|methods| methods.get_mut(call.method)) {
            return method.hear_of(call, access);
        }
        if self.count >= METHODS_MAX {
            return;
        }
        self.count += 1;
        let methods = self.methods.entry(call.contract.to_owned()).or_default();
        let method = methods.entry(call.method.to_owned()).or_default();
        method.hear_of(call, access);
    }

    /// The keys a call is expected to touch; none when nothing is known.
    pub(crate) fn expect(&self, call: Call<'_>) -> Option<Expected> {
        let mut expected = Expected::default();
        let proven = |pattern: &&Pattern| {
            pattern.trials >= TRIALS_MIN && pattern.hits * 16 >= pattern.trials * HITS_SIXTEENTHS
        };
        let method = self.methods.get(call.contract)?.get(call.method)?;
        for pattern in method.patterns.iter().filter(proven) {
            let Some(key) = key(&pattern.parts, call) else {
                continue;
            };
            if pattern.used == Use::Change && !expected.reads.contains(&key) {
                expected.reads.push(key.clone());
            }
            let keys = match pattern.used {
                Use::Change | Use::Put => &mut expected.writes,
                Use::Add => &mut expected.adds,
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let known = !expected.writes.is_empty() || !expected.adds.is_empty();
        known.then_some(expected)
    }
}

impl Method {
    fn hear_of(&mut self, call: Call<'_>, access: &Access) {
        if self.calls < CALLS_PER_BLOCK_MAX {
            self.calls += 1;
            self.learn(call, access);
        }
    }

    fn learn(&mut self, call: Call<'_>, access: &Access) {
        let writes = access.writes.iter().map(|key| {
            let read = access.reads.keys.contains(key);
            (key, if read { Use::Change } else { Use::Put })
        });
        let adds = access.deltas.iter().map(|key| (key, Use::Add));
        let stored = |(key, _): &(&Vec<u8>, Use)| key.first() == Some(&STORAGE_TAG);
        let found: Vec<(&Vec<u8>, Use)> = writes.chain(adds).filter(stored).collect();
        if found.is_empty() || found.len() > KEYS_MAX {
            return;
        }
        let mut known = vec![false; found.len()];
        for pattern in &mut self.patterns {
            pattern.trials += 1;
            let key = key(&pattern.parts, call);
            let same = |(other, used): &(&Vec<u8>, Use)| {
                *used == pattern.used && key.as_ref() == Some(*other)
            };
            if let Some(at) = found.iter().position(same) {
                pattern.hits += 1;
                known[at] = true;
            }
            if pattern.trials > TRIALS_MAX {
                (pattern.trials, pattern.hits) = (pattern.trials / 2, pattern.hits / 2);
            }
        }
        self.patterns
            .retain(|one| one.trials < TRIALS_MIN || one.hits * 4 >= one.trials);
        for ((key, used), _) in found.iter().zip(known).filter(|(_, known)| !known) {
            if self.patterns.len() < PATTERNS_MAX {
                self.patterns.push(Pattern {
                    parts: take_apart(key, call),
                    used: *used,
                    trials: 1,
                    hits: 1,
                });
            }
        }
    }
}

fn key(parts: &[Part], call: Call<'_>) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for part in parts {
        match part {
            Part::Fixed(bytes) => key.extend_from_slice(bytes),
            Part::Sender => key.extend_from_slice(call.sender),
            Part::Argument(at, length) => key.extend_from_slice(call.args.get(*at..at + length)?),
        }
    }
    Some(key)
}

/// What a key shares with the sender and the arguments, longest first, from its beginning on.
fn take_apart(key: &[u8], call: Call<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut fixed = Vec::new();
    let mut at = 0;
    while at < key.len() {
        let rest = &key[at..];
        let (part, length) = if !call.sender.is_empty() && rest.starts_with(call.sender) {
            (Part::Sender, call.sender.len())
        } else if let Some((start, length)) = longest(rest, call.args) {
            (Part::Argument(start, length), length)
        } else {
            fixed.push(key[at]);
            at += 1;
            continue;
        };
        if !fixed.is_empty() {
            parts.push(Part::Fixed(std::mem::take(&mut fixed)));
        }
        parts.push(part);
        at += length;
    }
    if !fixed.is_empty() {
        parts.push(Part::Fixed(fixed));
    }
    parts
}

/// Where the arguments hold the longest beginning of some bytes that is long enough to tell.
fn longest(bytes: &[u8], args: &[u8]) -> Option<(usize, usize)> {
    let shared = |start: usize| {
        let pairs = args[start..].iter().zip(bytes);
        pairs.take_while(|(left, right)| left == right).count()
    };
    // Arguments are bounded by the transaction's size; what is far inside them is no key.
    let starts = 0..args.len().min(256);
    let found = starts.map(|start| (start, shared(start)));
    let found = found.filter(|(_, length)| *length >= ARGUMENT_MIN);
    found.max_by_key(|(start, length)| (*length, std::cmp::Reverse(*start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(rest: &[&[u8]]) -> Vec<u8> {
        [&[STORAGE_TAG, 4][..], b"bank", &rest.concat()].concat()
    }

    fn call<'a>(sender: &'a [u8; 32], args: &'a [u8]) -> Call<'a> {
        Call {
            contract: "bank",
            method: "transfer",
            sender,
            args,
        }
    }

    fn transfer(sender: u8, to: u8) -> ([u8; 32], Vec<u8>, Access) {
        let (from, to) = ([sender; 32], [to; 32]);
        let args = [&to[..], &7u64.to_be_bytes()].concat();
        let writes = vec![stored(&[b"b", &from]), stored(&[b"b", &to])];
        let mut access = Access {
            writes,
            deltas: vec![stored(&[b"fees"])],
            ..Access::default()
        };
        access.reads.keys.insert(access.writes[0].clone());
        (from, args, access)
    }

    #[test]
    fn keys_of_sender_arguments_and_nothing_are_learnt() {
        let mut observed = Observed::default();
        for (from, to) in [(1, 2), (3, 4), (5, 6), (7, 8)] {
            let (sender, args, access) = transfer(from, to);
            assert_eq!(observed.expect(call(&sender, &args)), None);
            observed.learn(call(&sender, &args), &access);
        }
        let (sender, args, access) = transfer(20, 30);
        let mut expected = observed.expect(call(&sender, &args)).unwrap();
        expected.writes.sort();
        assert_eq!(expected.writes, access.writes);
        assert_eq!(expected.reads, access.writes[..1]);
        assert_eq!(expected.adds, access.deltas);
        let short = observed.expect(call(&sender, b"")).unwrap();
        assert_eq!(
            short.writes.len(),
            1,
            "only the sender's key needs no arguments"
        );
    }

    #[test]
    fn what_does_not_come_true_is_forgotten() {
        let mut observed = Observed::default();
        let sender = [9; 32];
        for number in 0..40u8 {
            // A key that no call foretells.
            let access = Access {
                writes: vec![stored(&[&[number; 5]])],
                ..Access::default()
            };
            observed.learn(call(&sender, b"none"), &access);
            observed.next_block();
        }
        assert_eq!(observed.expect(call(&sender, b"none")), None);
        let method = &observed.methods["bank"]["transfer"];
        assert!(method.patterns.len() <= TRIALS_MIN as usize);
    }

    #[test]
    fn a_flood_of_methods_and_calls_takes_bounded_memory() {
        let mut observed = Observed::default();
        for number in 0..2 * METHODS_MAX {
            let (sender, args, access) = transfer(1, 2);
            let method = number.to_string();
            let call = Call {
                method: &method,
                ..call(&sender, &args)
            };
            observed.learn(call, &access);
        }
        assert_eq!(observed.count, METHODS_MAX);
        let known = observed.methods.values().map(HashMap::len);
        assert_eq!(known.sum::<usize>(), METHODS_MAX);
    }
}
