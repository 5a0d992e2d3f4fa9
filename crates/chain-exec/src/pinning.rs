//! Giving a thread one core of those that the process may use.

/// Pin the calling thread to the process's core number `worker`, counted round; whether it was.
///
/// The caller of a block is worker 0 and stays free: its thread is not the executor's own.
pub(crate) fn pin(worker: usize) -> bool {
    let cores = allowed();
    if cores.len() < 2 {
        return false;
    }
    only(cores[worker % cores.len()])
}

/// Cores that this thread may use, in their order.
#[cfg(target_os = "linux")]
pub(crate) fn allowed() -> Vec<usize> {
    // SAFETY: a set of all zeros is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is writable and as large as the call is told.
    let failed = unsafe { libc::sched_getaffinity(0, std::mem::size_of_val(&set), &mut set) } != 0;
    if failed {
        return Vec::new();
    }
    let cores = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: every core number is below the size of the set.
    cores
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
        .collect()
}

#[cfg(target_os = "linux")]
fn only(core: usize) -> bool {
    // SAFETY: a set of all zeros is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `allowed` gives core numbers below the size of the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is readable and as large as the call is told; 0 is the calling thread.
    unsafe { libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set) == 0 }
}

/// No other system lets a thread choose.
#[cfg(not(target_os = "linux"))]
pub(crate) fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn only(_: usize) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_keeps_to_one_core_and_leaves_the_others_alone() {
        let before = allowed();
        assert!(!before.is_empty());
        for worker in 0..2 * before.len() {
            let pinned = std::thread::spawn(move || (pin(worker), allowed()));
            let (done, cores) = pinned.join().unwrap();
            if before.len() > 1 {
                assert!(done);
                assert_eq!(cores, [before[worker % before.len()]]);
            } else {
                assert!(!done, "one core leaves nothing to choose");
            }
        }
        assert_eq!(allowed(), before, "the caller stays free");
    }
}
