//! The primitives of what workers share.
//!
//! Under `shuttle` they are those of a model checker. Under `yields` they are the usual ones, but
//! a thread gives its core away at random before and after each step, so that many more threads
//! than cores meet in orders that a quiet machine never shows.

#[cfg(not(any(feature = "shuttle", feature = "yields")))]
mod chosen {
    pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
    pub use std::sync::Once;
    pub use std::thread;

    pub fn wait<'a, T>(awake: &Condvar, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        awake.wait(&mut guard);
        guard
    }
}
#[cfg(feature = "shuttle")]
mod chosen {
    pub use super::checked::{wait, Mutex, RwLock};
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
    pub use shuttle::sync::Once;
    pub use shuttle::sync::{Condvar, MutexGuard};
    pub use shuttle::thread;
}
#[cfg(all(feature = "yields", not(feature = "shuttle")))]
mod chosen {
    pub use super::yielding::{
        wait, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, RwLock,
    };
    pub use parking_lot::MutexGuard;
    pub use std::sync::Once;
    pub use std::thread;
}

pub use std::sync::atomic::Ordering;

/// Threads, their sleep and their wake-up.
pub use chosen::thread;
/// Sleep until notified; the lock is free meanwhile.
pub use chosen::wait;
pub use chosen::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Once, RwLock,
};

/// The model checker's locks with the faces of those they stand for: they cannot be poisoned.
#[cfg(feature = "shuttle")]
mod checked {
    use shuttle::sync;

    #[derive(Debug, Default)]
    pub struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub fn lock(&self) -> sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }

        pub fn into_inner(self) -> T {
            self.0.into_inner().unwrap()
        }
    }

    #[derive(Debug, Default)]
    pub struct RwLock<T>(sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn read(&self) -> sync::RwLockReadGuard<'_, T> {
            self.0.read().unwrap()
        }

        pub fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap()
        }
    }

    pub fn wait<'a, T>(
        awake: &sync::Condvar,
        guard: sync::MutexGuard<'a, T>,
    ) -> sync::MutexGuard<'a, T> {
        awake.wait(guard).unwrap()
    }
}

/// The usual primitives, with a step aside before and after.
#[cfg(all(feature = "yields", not(feature = "shuttle")))]
mod yielding {
    use std::cell::Cell;
    use std::sync::atomic::{self, Ordering};

    /// One step in so many gives the core away.
    const ONE_IN: u64 = 8;

    thread_local! {
        static STATE: Cell<u64> = Cell::new(seed());
    }

    fn seed() -> u64 {
        static NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Give the core away, or not, by a xorshift stream of the thread's own.
    fn step() {
        STATE.with(|state| {
            let mut x = state.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            state.set(x);
            if (x >> 32) % ONE_IN == 0 {
                std::thread::yield_now();
            }
        });
    }

    fn stepped<T>(act: impl FnOnce() -> T) -> T {
        step();
        let done = act();
        step();
        done
    }

    macro_rules! atomic {
        ($($name:ident of $value:ty),*) => {$(
            #[derive(Debug, Default)]
            pub struct $name(atomic::$name);

            impl $name {
                pub fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    stepped(|| self.0.load(order))
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    stepped(|| self.0.store(value, order));
                }

                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    stepped(|| self.0.swap(value, order))
                }

                pub fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    order: Ordering,
                    failed: Ordering,
                ) -> Result<$value, $value> {
                    stepped(|| self.0.compare_exchange(from, to, order, failed))
                }
            }
        )*};
    }

    macro_rules! count {
        ($($name:ident of $value:ty),*) => {$(
            impl $name {
                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    stepped(|| self.0.fetch_add(value, order))
                }

                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    stepped(|| self.0.fetch_sub(value, order))
                }
            }
        )*};
    }

    atomic!(AtomicBool of bool, AtomicU32 of u32, AtomicU64 of u64, AtomicUsize of usize);
    count!(AtomicU32 of u32, AtomicU64 of u64, AtomicUsize of usize);

    #[derive(Debug, Default)]
    pub struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        pub fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            stepped(|| self.0.lock())
        }

        pub fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    #[derive(Debug, Default)]
    pub struct RwLock<T>(parking_lot::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn read(&self) -> parking_lot::RwLockReadGuard<'_, T> {
            stepped(|| self.0.read())
        }

        pub fn write(&self) -> parking_lot::RwLockWriteGuard<'_, T> {
            stepped(|| self.0.write())
        }
    }

    #[derive(Debug, Default)]
    pub struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub fn notify_one(&self) {
            stepped(|| self.0.notify_one());
        }

        pub fn notify_all(&self) {
            stepped(|| self.0.notify_all());
        }
    }

    pub fn wait<'a, T>(
        awake: &Condvar,
        mut guard: parking_lot::MutexGuard<'a, T>,
    ) -> parking_lot::MutexGuard<'a, T> {
        stepped(|| awake.0.wait(&mut guard));
        guard
    }
}
