//! Locks that survive a panic elsewhere: every critical section here leaves its data consistent.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// Locks `m`, also when another thread panicked while it held the lock.
pub(crate) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy of what `l` holds: tables are swapped whole, so readers never wait for a writer's work.
pub(crate) fn snapshot<T: Clone>(l: &RwLock<T>) -> T {
    l.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Replaces what `l` holds by what `f` makes of it.
pub(crate) fn replace<T, R>(l: &RwLock<T>, f: impl FnOnce(&mut T) -> R) -> R {
    f(&mut l.write().unwrap_or_else(PoisonError::into_inner))
}
