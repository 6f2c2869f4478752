//! Observers of a node: calls them in order, and removes those that panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::observer::MembershipObserver;
use crate::event::MembershipState;

/// The registered observers, called under the lock of the engine.
#[derive(Default)]
pub(super) struct ObserverList {
    entries: Vec<(u64, Arc<dyn MembershipObserver>)>,
    next_id: u64,
}

impl ObserverList {
    /// Registers an observer after its first call, unless that panics.
    pub(super) fn add(
        &mut self,
        observer: Arc<dyn MembershipObserver>,
        first_call: impl FnOnce(&dyn MembershipObserver),
    ) -> (u64, Notified) {
        let id = self.next_id;
        self.next_id += 1;
        let mut notified = Notified::default();
        if notified.call(id, &observer, first_call) {
            self.entries.push((id, observer));
        }
        (id, notified)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<dyn MembershipObserver>> {
        let index = self.entries.iter().position(|(other, _)| *other == id)?;
        Some(self.entries.remove(index).1)
    }

    /// Calls every observer.
    pub(super) fn notify(&mut self, call: impl Fn(&dyn MembershipObserver)) -> Notified {
        let mut notified = Notified::default();
        self.entries
            .retain(|(id, observer)| notified.call(*id, observer, &call));
        notified
    }

    /// Tells every observer that the driver has ended, and removes them all.
    pub(super) fn end(&mut self, state: &MembershipState) -> Notified {
        let mut notified = Notified::default();
        for (id, observer) in std::mem::take(&mut self.entries) {
            notified.guard(|| observer.on_end(state.clone()));
            notified.called.push((id, observer));
        }
        notified
    }
}

/// Work that remains, once the lock is released, for the observers that were called under it.
#[derive(Default)]
#[must_use]
pub(super) struct Notified {
    /// The observers, those that panicked too: they must not be dropped under the lock.
    pub(super) called: Vec<(u64, Arc<dyn MembershipObserver>)>,
    pub(super) panics: Vec<ObserverPanic>,
}

impl Notified {
    /// Calls an observer. Returns whether it did not panic; if it did, it has been told the end.
    fn call(
        &mut self,
        id: u64,
        observer: &Arc<dyn MembershipObserver>,
        call: impl FnOnce(&dyn MembershipObserver),
    ) -> bool {
        self.called.push((id, Arc::clone(observer)));
        let is_done = self.guard(|| call(&**observer));
        if !is_done {
            self.guard(|| observer.on_end(MembershipState::Stopped));
        }
        is_done
    }

    fn guard(&mut self, call: impl FnOnce()) -> bool {
        let result = ObserverPanic::catch(call);
        result.map_err(|panic| self.panics.push(panic)).is_ok()
    }
}

/// A panic of an observer.
pub(super) struct ObserverPanic {
    payload: Box<dyn Any + Send>,
}

impl ObserverPanic {
    /// Runs code of an observer.
    pub(super) fn catch(call: impl FnOnce()) -> Result<(), Self> {
        catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Self { payload })
    }

    /// Writes the log line; not under the lock.
    pub(super) fn log(&self) {
        let text = self.payload.downcast_ref::<&str>().copied();
        let owned = || self.payload.downcast_ref::<String>().map(String::as_str);
        let panic = text.or_else(owned).unwrap_or("not a text");
        tracing::error!(panic, "observer panicked: it is removed");
    }
}
