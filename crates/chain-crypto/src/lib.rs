//! Ed25519 as the chain accepts it: the ZIP-215 rule, alone and in batches.

mod batch;
mod ed25519;
mod keys;

pub use batch::{verify_ed25519_batch, Signed};
pub use ed25519::{is_torsion_free, verify_ed25519};

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
