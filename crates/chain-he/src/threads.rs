//! Independent blocks on a few threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{refuse, HeResult};

/// Threads one pass may ask for.
pub(crate) const THREADS_MAX: usize = 256;

/// Refuses a number of threads no pass takes.
pub(crate) fn check_threads(threads: usize) -> HeResult<()> {
    if threads == 0 || threads > THREADS_MAX {
        return refuse(format!("threads must be 1 to {THREADS_MAX}, got {threads}"));
    }
    Ok(())
}

/// What `make` gives for 0, 1, ..., in that order; of several refusals that of the first block.
pub(crate) fn each<T: Send>(
    count: usize,
    threads: usize,
    make: impl Fn(usize) -> HeResult<T> + Sync,
) -> HeResult<Vec<T>> {
    check_threads(threads)?;
    if threads == 1 || count < 2 {
        return (0..count).map(make).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let places = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = places.take_while(|place| *place < count);
        mine.map(|place| (place, make(place))).collect::<Vec<_>>()
    };
    let mut made: Vec<(usize, HeResult<T>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for other in others {
            match other.join() {
                Ok(part) => made.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        made
    });
    made.sort_unstable_by_key(|(place, _)| *place);
    made.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_whatever_the_threads() {
        for threads in [1, 2, 7] {
            let made = each(20, threads, |place| Ok(place * place)).unwrap();
            assert_eq!(made, (0..20).map(|i| i * i).collect::<Vec<_>>());
            let refused = each(20, threads, |place| match place {
                3.. => refuse(format!("block {place}")),
                _ => Ok(()),
            });
            assert_eq!(refused.unwrap_err().to_string(), "block 3");
            assert!(each(0, threads, |_| Ok(())).unwrap().is_empty());
        }
        assert!(each(2, 0, |_| Ok(())).is_err());
        assert!(each(2, THREADS_MAX + 1, |_| Ok(())).is_err());
    }
}
