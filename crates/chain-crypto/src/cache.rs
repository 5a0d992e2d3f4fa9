//! Public keys met before, already taken apart.
//!
//! Decompression is a square root in the field, about a fifth of a batched check; a chain's members
//! sign again and again.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

/// 65,536 keys: about 16 MiB. Above it the least recently used key is taken apart again.
pub(crate) const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

/// Parsed keys by their encoding of `N` bytes.
pub(crate) struct Cache<const N: usize, K> {
    keys: Mutex<Option<LruCache<[u8; N], K>>>,
    keys_max: NonZeroUsize,
}

impl<const N: usize, K: Clone> Cache<N, K> {
    pub(crate) const fn new(keys_max: NonZeroUsize) -> Self {
        Self {
            keys: Mutex::new(None),
            keys_max,
        }
    }

    /// The keys by `parse`, `None` for an encoding that is refused.
    pub(crate) fn keys(
        &self,
        encodings: &[[u8; N]],
        parse: impl Fn(&[u8; N]) -> Option<K>,
    ) -> Vec<Option<K>> {
        let mut found: Vec<Option<K>> = {
            let mut cache = self.keys.lock();
            let cache = cache.get_or_insert_with(|| LruCache::new(self.keys_max));
            encodings
                .iter()
                .map(|encoding| cache.get(encoding).cloned())
                .collect()
        };
        // Parsed outside the lock: other threads verify meanwhile.
        let mut fresh = Vec::new();
        for (encoding, key) in encodings.iter().zip(&mut found) {
            if key.is_none() {
                *key = parse(encoding);
                if let Some(key) = key {
                    fresh.push((*encoding, key.clone()));
                }
            }
        }
        if !fresh.is_empty() {
            let mut cache = self.keys.lock();
            let cache = cache.get_or_insert_with(|| LruCache::new(self.keys_max));
            for (encoding, key) in fresh {
                cache.put(encoding, key);
            }
        }
        found
    }
}
