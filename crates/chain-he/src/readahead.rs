//! Reading columns from disk while computing: a reader keeps two windows ahead of every thread.
//!
//! A window is what one step of a pass reads. The kernels compute in place on the page cache, so
//! the two buffers are the next two windows in it: the reader asks for all of a window at once,
//! waits until its pages are there, and the threads behind it meet no page fault. Columns that are
//! in memory already, as a few sampled pages tell, are computed on without a reader.

use std::sync::{Condvar, Mutex, PoisonError};

// Windows the reader may be ahead of each thread.
const WINDOWS: usize = 2;
const SAMPLES: usize = 24;
const PAGE_BYTES: usize = 4096;

/// The system's page cache, as far as a mapping needs it.
#[cfg(target_os = "linux")]
mod system {
    use super::PAGE_BYTES;

    fn advise(run: &[u8], advice: libc::c_int) -> bool {
        let start = run.as_ptr() as usize & !(PAGE_BYTES - 1);
        let length = run.as_ptr() as usize + run.len() - start;
        // SAFETY: the range lies in a mapping that `run` borrows; none of the advice used here
        // changes what a read-only mapping of a file holds.
        unsafe { libc::madvise(start as *mut libc::c_void, length, advice) == 0 }
    }

    /// Starts reading a run without waiting for it.
    pub fn ask(run: &[u8]) {
        advise(run, libc::MADV_WILLNEED);
    }

    /// Waits until a run is mapped; false where the kernel cannot (before Linux 5.14, or behind a
    /// file's end).
    pub fn fill(run: &[u8]) -> bool {
        advise(run, libc::MADV_POPULATE_READ)
    }

    /// Whether the page of a byte is in memory.
    pub fn resident(byte: &u8) -> bool {
        let page = std::ptr::from_ref(byte) as usize & !(PAGE_BYTES - 1);
        let mut state = 0u8;
        // SAFETY: the page is mapped, and one page needs one byte of answer.
        unsafe {
            libc::mincore(page as *mut libc::c_void, PAGE_BYTES, &mut state) != 0 || state & 1 == 1
        }
    }

    /// Drops a mapped file from memory.
    pub fn evict(file: &std::fs::File, map: &[u8]) {
        use std::os::fd::AsRawFd;
        advise(map, libc::MADV_DONTNEED);
        // SAFETY: the descriptor is open; the advice drops clean pages only.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn ask(_: &[u8]) {}
    pub fn fill(_: &[u8]) -> bool {
        false
    }
    pub fn resident(_: &u8) -> bool {
        true
    }
    pub fn evict(_: &std::fs::File, _: &[u8]) {}
}

pub(crate) use system::{ask, evict};

/// Waits until every page of a run is in memory.
fn wait_for(run: &[u8]) {
    if !system::fill(run) {
        for byte in run.iter().step_by(PAGE_BYTES) {
            // SAFETY: the byte is borrowed; volatile, so that the read is not left out.
            unsafe { std::ptr::read_volatile(byte) };
        }
    }
}

/// Reads runs into memory and waits for them.
pub(crate) fn preload(runs: &[&[u8]]) {
    runs.iter().for_each(|run| ask(run));
    runs.iter().for_each(|run| wait_for(run));
}

/// Whether a few pages spread over the runs are all in memory.
pub(crate) fn warm(runs: &[&[u8]]) -> bool {
    let step = runs.len().div_ceil(SAMPLES).max(1);
    runs.iter().enumerate().step_by(step).all(|(number, run)| {
        let place = [0, run.len() / 2, run.len() - 1][number / step % 3];
        system::resident(&run[place])
    })
}

#[derive(Default)]
struct Progress {
    read: usize,
    computed: usize,
    abandoned: bool,
}

/// Between the reader and the computing threads: how far each has come.
pub(crate) struct Gate {
    progress: Mutex<Progress>,
    changed: Condvar,
    ahead: usize,
}

/// One window being computed on; dropping it lets the reader go on.
pub(crate) struct Turn<'a>(&'a Gate);

impl Gate {
    /// A gate for so many computing threads.
    pub fn new(threads: usize) -> Self {
        Self {
            progress: Mutex::default(),
            changed: Condvar::new(),
            ahead: WINDOWS * threads,
        }
    }

    fn wait(&self, until: impl Fn(&Progress) -> bool) {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.changed
                .wait_while(progress, |progress| !until(progress)),
        );
    }

    fn change(&self, how: impl FnOnce(&mut Progress)) {
        how(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Reads windows in order, never more than two ahead of each thread.
    pub fn read<'a>(&self, windows: impl Iterator<Item = Vec<&'a [u8]>>) {
        for (number, runs) in windows.enumerate() {
            self.wait(|p| p.abandoned || number < p.computed + self.ahead);
            preload(&runs);
            self.change(|p| p.read = number + 1);
        }
    }

    /// Waits for window `number`, counted as the reader reads.
    pub fn enter(&self, number: usize) -> Turn<'_> {
        self.wait(|p| p.read > number);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let abandoned = std::thread::panicking();
        self.0.change(|p| {
            p.computed += 1;
            p.abandoned |= abandoned;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_reader_stays_two_windows_ahead_and_no_thread_overtakes_it() {
        const COUNT: usize = 50;
        let gate = Gate::new(2);
        let (read, computed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                gate.read((0..COUNT).map(|number| {
                    // Made before the reader waits for its turn: one more than it may hold.
                    assert!(number <= computed.load(Ordering::SeqCst) + 2 * WINDOWS);
                    read.store(number, Ordering::SeqCst);
                    Vec::new()
                }))
            });
            for thread in 0..2 {
                let (gate, read, computed) = (&gate, &read, &computed);
                scope.spawn(move || {
                    for number in (thread..COUNT).step_by(2) {
                        let _turn = gate.enter(number);
                        assert!(read.load(Ordering::SeqCst) >= number);
                        computed.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(computed.into_inner(), COUNT);
    }

    #[test]
    fn a_kernel_that_fails_leaves_no_reader_waiting() {
        let gate = Gate::new(1);
        let failed = std::thread::scope(|scope| {
            let reader = scope.spawn(|| gate.read((0..20).map(|_| Vec::new())));
            let kernel = scope.spawn(|| {
                let _turn = gate.enter(0);
                panic!("a kernel fails");
            });
            let failed = kernel.join().is_err();
            reader.join().unwrap();
            failed
        });
        assert!(failed);
    }
}
