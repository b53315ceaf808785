//! Waiting for something to become true: never a bare sleep, always an end.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(2);

/// Waits until `reached` is true.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut reached: impl FnMut() -> bool) {
    wait_for_state(limit, what, || (), |()| reached());
}

/// Waits until the state that `look` sees is the wanted one, and hands it back.
///
/// # Panics
/// After `limit`, naming `what` was waited for and the state that was reached instead.
#[track_caller]
pub fn wait_for_state<S: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> S,
    mut wanted: impl FnMut(&S) -> bool,
) -> S {
    let begun = Instant::now();
    loop {
        let state = look();
        if wanted(&state) {
            return state;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain: {what}; reached {state:?}");
        std::thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_the_state_is_reached_and_tells_the_state_when_not() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            looks
        };
        assert_eq!(wait_for_state(Duration::from_secs(5), "three looks", look, |&looks| looks == 3), 3);
        let late = std::panic::catch_unwind(|| wait_for_state(Duration::ZERO, "a six", || 5, |&n| n == 6));
        let said = late.expect_err("it panics").downcast_ref::<String>().cloned().unwrap_or_default();
        assert_eq!(said, "waited 0ns in vain: a six; reached 5");
    }
}
