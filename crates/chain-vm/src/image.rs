//! A memory as a module's segments leave it, and how an instance gets it back.

const PAGE_SIZE_BYTES: usize = 4096;
/// Copied without a look.
const NEAR_SIZE_BYTES: usize = 2 * PAGE_SIZE_BYTES;

/// What a call can have written is copied back, most of it a few hundred bytes. Far pages of most
/// modules are zero: those are only looked at, which leaves clean ones alone.
pub(crate) struct Image {
    bytes: Vec<u8>,
    /// Per page: whether a segment put anything there.
    filled: Vec<bool>,
}

impl Image {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let filled = bytes.chunks(PAGE_SIZE_BYTES).map(|page| !is_zero(page));
        Self {
            filled: filled.collect(),
            bytes: bytes.to_vec(),
        }
    }

    /// Make a memory that differs in its first `reach` bytes at most equal to the image; false
    /// when it has another size.
    pub(crate) fn restore(&self, memory: &mut [u8], reach: usize) -> bool {
        if memory.len() != self.bytes.len() {
            return false;
        }
        let reach = reach.min(memory.len());
        let near = reach.min(NEAR_SIZE_BYTES);
        memory[..near].copy_from_slice(&self.bytes[..near]);
        if near == reach {
            return true;
        }
        let pages = memory[..reach].chunks_mut(PAGE_SIZE_BYTES);
        let images = self.bytes.chunks(PAGE_SIZE_BYTES).zip(&self.filled);
        for (page, (image, filled)) in pages.zip(images) {
            if *filled {
                page.copy_from_slice(&image[..page.len()]);
            } else if !is_zero(page) {
                page.fill(0);
            }
        }
        true
    }
}

fn is_zero(page: &[u8]) -> bool {
    // Comparing slices is the C library's widest loop; an own one is compiled for the oldest CPU.
    static ZEROS: [u8; PAGE_SIZE_BYTES] = [0; PAGE_SIZE_BYTES];
    page == &ZEROS[..page.len()]
}
