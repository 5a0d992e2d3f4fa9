//! What a transaction read and wrote, as one hash that every engine computes alike.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::view::Write;
use crate::Hash;

const DOMAIN: &[u8] = b"chainnode/access/v1";

/// Keys and ranges read from outside the transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessSet {
    /// Keys.
    pub keys: BTreeSet<Vec<u8>>,
    /// Start (inclusive) and end (exclusive, empty is none) of each range.
    pub ranges: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

fn put(hasher: &mut Sha256, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("state keys and values are far below 4 GiB");
    hasher.update(length.to_be_bytes());
    hasher.update(bytes);
}

fn count(hasher: &mut Sha256, items: usize) {
    let items = u32::try_from(items).expect("gas bounds a transaction's accesses");
    hasher.update(items.to_be_bytes());
}

impl AccessSet {
    /// Hash of the canonical set: keys read, ranges read, writes; each sorted and length-prefixed.
    ///
    /// A delta is hashed as the delta and its form, not as the sum it leads to.
    pub fn hash(&self, writes: &BTreeMap<Vec<u8>, Write>) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        count(&mut hasher, self.keys.len());
        for key in &self.keys {
            put(&mut hasher, key);
        }
        count(&mut hasher, self.ranges.len());
        for (start, end) in &self.ranges {
            put(&mut hasher, start);
            put(&mut hasher, end);
        }
        count(&mut hasher, writes.len());
        for (key, write) in writes {
            put(&mut hasher, key);
            match write {
                Write::Delete => hasher.update([0]),
                Write::Put(value) => {
                    hasher.update([1]);
                    put(&mut hasher, value);
                }
                Write::Add(delta, form) => {
                    hasher.update([2, form.code()]);
                    hasher.update(delta.to_be_bytes());
                }
            }
        }
        hasher.finalize().into()
    }
}
