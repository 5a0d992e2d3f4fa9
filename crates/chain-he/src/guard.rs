//! Mapped files that shrink under their reader: a corrupt column, not the end of the process.
//!
//! Reading a mapped page behind the end of its file raises SIGBUS. The handler installed here puts
//! a page of zeros in its place and marks the mapping, so that the kernel in progress ends and its
//! caller finds the mark. Faults elsewhere go to whoever handled them before.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{refuse, HeResult};

const SLOTS_MAX: usize = 1 << 16;

struct Slot {
    start: AtomicUsize,
    length: AtomicUsize,
    struck: AtomicBool,
}

static SLOTS: [Slot; SLOTS_MAX] = [const {
    Slot {
        start: AtomicUsize::new(0),
        length: AtomicUsize::new(0),
        struck: AtomicBool::new(false),
    }
}; SLOTS_MAX];
static USED: AtomicUsize = AtomicUsize::new(0);

/// A watched mapping; must be dropped before the mapping is.
pub struct Guard(usize);

impl Guard {
    /// Watches mapped bytes.
    pub fn new(mapped: &[u8]) -> HeResult<Self> {
        install();
        let start = mapped.as_ptr() as usize;
        for (place, slot) in SLOTS.iter().enumerate() {
            let claimed =
                slot.start
                    .compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_ok() {
                slot.struck.store(false, Ordering::Relaxed);
                slot.length.store(mapped.len(), Ordering::Release);
                USED.fetch_max(place + 1, Ordering::AcqRel);
                return Ok(Self(place));
            }
        }
        refuse(format!("{SLOTS_MAX} column files are mapped already"))
    }

    /// Whether a page was missing when it was read.
    pub fn struck(&self) -> bool {
        SLOTS[self.0].struck.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        SLOTS[self.0].length.store(0, Ordering::Release);
        SLOTS[self.0].start.store(0, Ordering::Release);
    }
}

fn watched(address: usize) -> Option<&'static Slot> {
    SLOTS[..USED.load(Ordering::Acquire)].iter().find(|slot| {
        let length = slot.length.load(Ordering::Acquire);
        address.wrapping_sub(slot.start.load(Ordering::Acquire)) < length
    })
}

#[cfg(target_os = "linux")]
mod handler {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::Ordering;
    use std::sync::OnceLock;

    const PAGE_BYTES: usize = 4096;
    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

    extern "C" fn on_bus_error(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel hands the handler a valid siginfo_t of SIGBUS.
        let address = unsafe { (*info).si_addr() } as usize;
        if let Some(slot) = super::watched(address) {
            let page = address & !(PAGE_BYTES - 1);
            // SAFETY: the page lies in a mapping of ours that its Guard keeps alive; it is replaced
            // by zeros of the same protection. mmap is one system call, safe in a handler.
            let mapped = unsafe {
                libc::mmap(
                    page as *mut c_void,
                    PAGE_BYTES,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            if mapped != libc::MAP_FAILED {
                slot.struck.store(true, Ordering::Release);
                return;
            }
        }
        // The read is tried again under the handler that was there before.
        if let Some(previous) = PREVIOUS.get() {
            // SAFETY: `previous` was filled by sigaction; sigaction is safe in a handler.
            unsafe { libc::sigaction(libc::SIGBUS, previous, std::ptr::null_mut()) };
        }
    }

    pub(super) fn install() {
        PREVIOUS.get_or_init(|| {
            // SAFETY: both structures are plain data; the handler only does what is safe in one.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let mut previous: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_bus_error as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaction(libc::SIGBUS, &action, &mut previous);
                previous
            }
        });
    }
}

#[cfg(target_os = "linux")]
fn install() {
    handler::install();
}

#[cfg(not(target_os = "linux"))]
fn install() {}
