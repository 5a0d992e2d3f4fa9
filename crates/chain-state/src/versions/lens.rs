//! What one execution sees of the memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Effect, Found, Memory, Version};
use crate::view::Write;

/// One execution's window on the memory.
#[derive(Debug)]
pub struct Lens {
    memory: Arc<Memory>,
    version: Version,
    exact: bool,
    blocked: std::cell::Cell<Option<u32>>,
    bounds: std::cell::RefCell<Vec<(Vec<u8>, i128, i128)>>,
}

impl Lens {
    /// A window; with `exact`, all earlier transactions are final and nothing need be remembered.
    pub fn new(memory: Arc<Memory>, version: Version, exact: bool) -> Self {
        Self {
            memory,
            version,
            exact,
            blocked: std::cell::Cell::new(None),
            bounds: std::cell::RefCell::default(),
        }
    }

    /// Use it for another execution.
    pub fn reset(&mut self, version: Version, exact: bool) {
        self.version = version;
        self.exact = exact;
        self.blocked.set(None);
        self.bounds.get_mut().clear();
    }

    /// The transaction this execution has to wait for: what it computes from now on is junk.
    pub fn blocked(&self) -> Option<u32> {
        self.blocked.get()
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

    /// Remember that a running sum was taken to fit.
    pub(crate) fn assume(&self, key: &[u8], total: i128) {
        let mut bounds = self.bounds.borrow_mut();
        match bounds.iter_mut().find(|(other, ..)| other == key) {
            Some((_, low, high)) => {
                *low = total.min(*low);
                *high = total.max(*high);
            }
            None => bounds.push((key.to_vec(), total.min(0), total.max(0))),
        }
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    pub(crate) fn depend_on_range(&self, start: &[u8], end: &[u8]) {
        if !self.exact {
            self.memory.depend_on_range(self.version, start, end);
        }
    }

    /// The writes, none where the transaction failed, and what was assumed on the way.
    pub fn effects(&mut self, writes: Option<BTreeMap<Vec<u8>, Write>>) -> Vec<Effect> {
        let mut assumed = std::mem::take(self.bounds.get_mut());
        let mut effects: Vec<Effect> = writes
            .unwrap_or_default()
            .into_iter()
            .map(|(key, write)| {
                let found = assumed.iter().position(|(other, ..)| *other == key);
                let assumed = found.map(|at| assumed.swap_remove(at));
                Effect {
                    key,
                    write: Some(write),
                    assumed: assumed.map(|(_, low, high)| (low, high)),
                }
            })
            .collect();
        effects.extend(assumed.into_iter().map(|(key, low, high)| Effect {
            key,
            write: None,
            assumed: Some((low, high)),
        }));
        effects
    }
}
