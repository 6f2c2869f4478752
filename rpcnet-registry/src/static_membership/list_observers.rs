//! Observers of a list: calls them in order, and removes those that panic.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{ClusterEvent, Observer, SourceState};

/// The registered observers, called under the lock of the list.
#[derive(Default)]
pub(super) struct ListObservers {
    entries: Vec<(u64, Arc<dyn Observer>)>,
    next_id: u64,
}

impl ListObservers {
    /// Registers an observer after its first call, unless that panics.
    pub(super) fn add(
        &mut self,
        observer: Arc<dyn Observer>,
        first_call: impl FnOnce(&dyn Observer),
    ) -> (u64, CalledObservers) {
        let id = self.next_id;
        self.next_id += 1;
        let mut called = CalledObservers::default();
        if called.call(id, &observer, first_call) {
            self.entries.push((id, observer));
        }
        (id, called)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<dyn Observer>> {
        let index = self.entries.iter().position(|(known, _)| *known == id)?;
        Some(self.entries.remove(index).1)
    }

    /// Calls every observer.
    pub(super) fn notify(&mut self, call: impl Fn(&dyn Observer)) -> CalledObservers {
        let mut called = CalledObservers::default();
        self.entries
            .retain(|(id, observer)| called.call(*id, observer, &call));
        called
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Work that remains, once the lock is released, for the observers that were called under it.
#[derive(Default)]
#[must_use]
pub(super) struct CalledObservers {
    /// The observers, those that panicked too: they must not be dropped under the lock.
    observers: Vec<(u64, Arc<dyn Observer>)>,
    panics: Vec<Panic>,
}

impl CalledObservers {
    /// Calls an observer. Returns whether it did not panic; if it did, it has been told the end.
    fn call(
        &mut self,
        id: u64,
        observer: &Arc<dyn Observer>,
        call: impl FnOnce(&dyn Observer),
    ) -> bool {
        self.observers.push((id, Arc::clone(observer)));
        let Err(panic) = catch(|| call(&**observer)) else {
            return true;
        };
        self.panics.push(panic);
        self.panics.extend(catch(|| end(&**observer)).err());
        false
    }

    /// Does what observers do without the lock, and logs which of them panicked. `remove` takes an
    /// observer off the list.
    pub(super) fn after_events(self, remove: impl Fn(u64) -> Option<Arc<dyn Observer>>) {
        self.panics.iter().for_each(log);
        for (id, observer) in self.observers {
            // Moved into the call, so that its drop is guarded too.
            let Err(panic) = catch(move || observer.after_events()) else {
                continue;
            };
            log(&panic);
            if let Some(observer) = remove(id) {
                let ended = catch(move || end(&*observer));
                ended.unwrap_or_else(|panic| log(&panic));
            }
        }
    }
}

/// Payload of a panic of an observer.
type Panic = Box<dyn Any + Send>;

/// Runs code of an observer.
fn catch(call: impl FnOnce()) -> Result<(), Panic> {
    catch_unwind(AssertUnwindSafe(call))
}

/// Tells an observer that no change follows.
fn end(observer: &dyn Observer) {
    observer.on_event(ClusterEvent::SourceChanged(SourceState::Stopped));
}

/// Writes the log line; not under the lock.
fn log(panic: &Panic) {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    let panic = text.or_else(owned).unwrap_or("not a text");
    tracing::error!(panic, "observer panicked: it is removed");
}
