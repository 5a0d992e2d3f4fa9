//! What one execution sees of the memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Effect, Found, Guess, Memory, Version};
use crate::number::{Form, Room};
use crate::view::Write;

/// What an execution goes by that adds to a key.
#[derive(Debug)]
enum Belief {
    /// The number below was read.
    Read(Form, i128),
    /// The number below is taken to leave room.
    Room(Guess),
}

/// One execution's window on the memory.
#[derive(Debug)]
pub struct Lens {
    memory: Arc<Memory>,
    version: Version,
    exact: bool,
    blocked: std::cell::Cell<Option<u32>>,
    beliefs: std::cell::RefCell<Vec<(Vec<u8>, Belief)>>,
}

impl Lens {
    /// A window; with `exact`, all earlier transactions are final and nothing need be remembered.
    pub fn new(memory: Arc<Memory>, version: Version, exact: bool) -> Self {
        Self {
            memory,
            version,
            exact,
            blocked: std::cell::Cell::new(None),
            beliefs: std::cell::RefCell::default(),
        }
    }

    /// Use it for another execution.
    pub fn reset(&mut self, version: Version, exact: bool) {
        self.version = version;
        self.exact = exact;
        self.blocked.set(None);
        self.beliefs.get_mut().clear();
    }

    /// The transaction this execution has to wait for: what it computes from now on is junk.
    pub fn blocked(&self) -> Option<u32> {
        self.blocked.get()
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    /// The memory behind.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Read a key.
    pub fn read(&self, key: &[u8]) -> Found {
        let found = self.memory.read(self.version, key, !self.exact);
        if let Found::Blocked(on) = found {
            self.blocked.set(Some(on));
        }
        found
    }

    /// Read a key to which is added, where that costs less than settling the addition in order.
    pub(crate) fn read_calm(&self, key: &[u8]) -> Option<Found> {
        if self.exact {
            return Some(self.read(key));
        }
        self.memory.read_calm(self.version, key)
    }

    /// Remember what the number below was taken to be, which was `under` before the block; false
    /// where that cannot be.
    pub(crate) fn assume(&self, key: &[u8], room: Room, under: i128) -> bool {
        let mut beliefs = self.beliefs.borrow_mut();
        match beliefs.iter_mut().find(|(other, _)| other == key) {
            Some((_, Belief::Room(earlier))) if earlier.room.form == room.form => {
                earlier.room.narrow(room);
            }
            // One guess a key: in two forms it is read.
            Some(_) => return false,
            None => beliefs.push((key.to_vec(), Belief::Room(Guess { room, under }))),
        }
        true
    }

    /// Remember what the number below was read to be.
    pub(crate) fn learn(&self, key: &[u8], form: Form, below: i128) {
        let mut beliefs = self.beliefs.borrow_mut();
        if !beliefs.iter().any(|(other, _)| other == key) {
            beliefs.push((key.to_vec(), Belief::Read(form, below)));
        }
    }

    pub(crate) fn depend_on_range(&self, start: &[u8], end: &[u8]) {
        if !self.exact {
            self.memory.depend_on_range(self.version, start, end);
        }
    }

    /// The writes, none where the transaction failed, and what was assumed on the way.
    pub fn effects(&mut self, writes: Option<BTreeMap<Vec<u8>, Write>>) -> Vec<Effect> {
        let mut beliefs = std::mem::take(self.beliefs.get_mut());
        let mut effects: Vec<Effect> = writes
            .unwrap_or_default()
            .into_iter()
            .map(|(key, write)| {
                let found = beliefs.iter().position(|(other, _)| *other == key);
                let belief = found.map(|at| beliefs.swap_remove(at).1);
                let (write, assumed) = match (write, belief) {
                    // Whoever changes what was read invalidates this, so that the sum stands.
                    (Write::Add(delta, form), Some(Belief::Read(other, below)))
                        if form == other =>
                    {
                        (Write::Put(form.encode(below.wrapping_add(delta))), None)
                    }
                    (write, Some(Belief::Room(guess))) => (write, Some(guess)),
                    (write, _) => (write, None),
                };
                Effect {
                    key,
                    write: Some(write),
                    assumed,
                }
            })
            .collect();
        effects.extend(
            beliefs
                .into_iter()
                .filter_map(|(key, belief)| match belief {
                    Belief::Room(guess) => Some(Effect {
                        key,
                        write: None,
                        assumed: Some(guess),
                    }),
                    Belief::Read(..) => None,
                }),
        );
        effects
    }
}
