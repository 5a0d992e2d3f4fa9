//! A memory as a module's segments leave it, and how an instance gets it back.

const PAGE_SIZE_BYTES: usize = 4096;

/// Most pages of most modules are zero: those are only looked at, which costs half of writing them
/// and leaves clean ones alone.
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

    /// Make a memory equal to the image; false when it has another size.
    pub(crate) fn restore(&self, memory: &mut [u8]) -> bool {
        if memory.len() != self.bytes.len() {
            return false;
        }
        let pages = memory.chunks_mut(PAGE_SIZE_BYTES);
        let images = self.bytes.chunks(PAGE_SIZE_BYTES).zip(&self.filled);
        for (page, (image, filled)) in pages.zip(images) {
            if *filled {
                page.copy_from_slice(image);
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
