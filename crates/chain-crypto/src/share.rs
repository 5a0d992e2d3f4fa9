//! Work on many items by several threads.

use std::num::NonZeroUsize;

/// What `work` gives for each item, in their order, by up to `threads` threads, the caller's
/// included.
///
/// `work` gets neighbouring items, at least `part_min` of them where there are as many: below that
/// a thread costs more than its share.
///
/// # Panics
/// When `work` does.
pub fn share<T: Sync, R: Send>(
    items: &[T],
    part_min: usize,
    threads: NonZeroUsize,
    work: impl Fn(&[T]) -> Vec<R> + Sync,
) -> Vec<R> {
    let threads = threads.get().min(items.len() / part_min.max(1));
    if threads < 2 {
        return work(items);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let mut parts = items.chunks(items.len().div_ceil(threads));
        let own = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let mut all = work(own);
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_items() {
        let items: Vec<usize> = (0..1_000).collect();
        for threads in [1, 2, 3, 7, 64, 2_000] {
            let threads = NonZeroUsize::new(threads).unwrap();
            let double = |part: &[usize]| part.iter().map(|item| 2 * item).collect();
            let expected: Vec<usize> = items.iter().map(|item| 2 * item).collect();
            assert_eq!(share(&items, 16, threads, double), expected);
            assert!(share(&[], 16, threads, double).is_empty());
        }
    }

    #[test]
    fn work_is_done_by_as_many_threads_as_are_worth_it() {
        let seen = |count: usize, threads: usize| {
            let items = vec![(); count];
            let threads = NonZeroUsize::new(threads).unwrap();
            let mut ids = share(&items, 10, threads, |part| {
                vec![(std::thread::current().id(), part.len())]
            });
            assert_eq!(ids.iter().map(|(_, size)| size).sum::<usize>(), count);
            ids.dedup_by_key(|(id, _)| *id);
            ids.len()
        };
        assert_eq!(seen(100, 4), 4);
        assert_eq!(seen(100, 1), 1);
        assert_eq!(seen(39, 4), 3);
        assert_eq!(seen(19, 4), 1);
    }
}
