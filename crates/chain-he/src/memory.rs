//! What freed memory the allocator keeps.

/// Lets the allocator keep so many bytes of freed memory instead of returning them to the system.
///
/// Results of some hundred KiB are made and dropped for every block, and fetching their pages anew
/// costs more than computing them. Does nothing where the allocator is not glibc's.
pub fn keep_freed(size_bytes: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGEST_THRESHOLD: i32 = 32 << 20;
        let size = i32::try_from(size_bytes).unwrap_or(i32::MAX);
        // SAFETY: mallopt only sets two thresholds of the allocator; it may be called at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, size.min(LARGEST_THRESHOLD));
            libc::mallopt(libc::M_TRIM_THRESHOLD, size);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = size_bytes;
}
