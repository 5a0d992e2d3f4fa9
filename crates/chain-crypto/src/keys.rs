//! Public keys met before, already decompressed.
//!
//! Decompression is a square root in the field, about a fifth of a batched check; a chain's members
//! sign again and again.

use std::num::NonZeroUsize;
use std::sync::LazyLock;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use lru::LruCache;
use parking_lot::Mutex;

/// 65,536 points: about 16 MiB. Above it the least recently used key is decompressed again.
const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

static KEYS: LazyLock<Mutex<LruCache<[u8; 32], EdwardsPoint>>> =
    LazyLock::new(|| Mutex::new(LruCache::new(KEYS_MAX)));

/// The points of the keys, `None` for one that is not on the curve.
pub(crate) fn points(keys: &[[u8; 32]]) -> Vec<Option<EdwardsPoint>> {
    let mut found: Vec<Option<EdwardsPoint>> = {
        let mut cache = KEYS.lock();
        keys.iter().map(|key| cache.get(key).copied()).collect()
    };
    // Decompressed outside the lock: other threads verify meanwhile.
    let mut fresh = Vec::new();
    for (key, point) in keys.iter().zip(&mut found) {
        if point.is_none() {
            *point = CompressedEdwardsY(*key).decompress();
            if let Some(point) = point {
                fresh.push((*key, *point));
            }
        }
    }
    if !fresh.is_empty() {
        let mut cache = KEYS.lock();
        for (key, point) in fresh {
            cache.put(key, point);
        }
    }
    found
}
