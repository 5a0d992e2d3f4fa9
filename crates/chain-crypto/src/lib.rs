//! Signatures as the chain accepts them: Ed25519 by the ZIP-215 rule, alone and in batches; ECDSA
//! P-256 and SM2 in one encoding each.

use std::sync::atomic::{AtomicU64, Ordering};

mod batch;
mod cache;
mod ed25519;
mod samples;
mod share;
mod sm2_key;
mod suites;

pub use batch::{verify_ed25519_batch, Signed};
pub use ed25519::{is_torsion_free, verify_ed25519};
pub use samples::{samples, Sample};
pub use share::share;
pub use suites::{verify_many, Suite, SM2_IDENTITY};

static CHECKED: AtomicU64 = AtomicU64::new(0);

/// Signatures this process has checked since it started, for metrics: what is cached by wid is not
/// checked again.
pub fn signatures_checked() -> u64 {
    CHECKED.load(Ordering::Relaxed)
}

fn count_checked(signatures: usize) {
    CHECKED.fetch_add(signatures as u64, Ordering::Relaxed);
}

/// Which curve arithmetic this machine runs: `"avx512ifma"`, `"avx2"` or `"serial"`.
pub fn curve_backend() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512ifma") && is_x86_feature_detected!("avx512vl") {
            return "avx512ifma";
        }
        if is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "serial"
}
