//! The size of tests of reliability: short in every run, at full size for `make reliability`.

/// `full` when `MCR_FULL` is set, `usual` otherwise.
pub(crate) fn pick<T>(usual: T, full: T) -> T {
    if std::env::var_os("MCR_FULL").is_some() { full } else { usual }
}
