//! The troubles of the daemon as a whole: who meets one notes it here, and `GET status` tells all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcr_model::trouble::{Trouble, TroubleKind};

/// The troubles that there are now. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<Vec<Trouble>>>);

impl Troubles {
    /// All of them, in the order that they were met.
    pub(crate) fn all(&self) -> Vec<Trouble> {
        self.list().clone()
    }

    /// There is one; what was said of the same one before is not said any more. Whether it is news.
    pub(crate) fn begin(&self, trouble: Trouble) -> bool {
        let mut list = self.list();
        match list.iter_mut().find(|known| known.kind == trouble.kind && known.relay == trouble.relay) {
            Some(known) if *known == trouble => false,
            Some(known) => {
                *known = trouble;
                true
            }
            None => {
                list.push(trouble);
                true
            }
        }
    }

    /// There is none of that kind any more, of that relay where it is about one. Whether there was one.
    pub(crate) fn end(&self, kind: TroubleKind, relay: Option<&str>) -> bool {
        let mut list = self.list();
        let before = list.len();
        list.retain(|known| known.kind != kind || known.relay.as_deref() != relay);
        list.len() < before
    }

    /// Whether there is one of that kind, of that relay.
    pub(crate) fn has(&self, kind: TroubleKind, relay: &str) -> bool {
        self.list().iter().any(|known| known.kind == kind && known.relay.as_deref() == Some(relay))
    }

    fn list(&self) -> MutexGuard<'_, Vec<Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
