//! Inheritance of the deadline and the priority by calls that a handler makes.

use std::{cell::Cell, future::poll_fn, pin::pin, time::Instant};

use crate::Priority;

/// Deadline and priority that calls made here inherit from the call being served: see
/// [`inherited`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inherited {
    deadline: Option<tokio::time::Instant>,
    priority: Option<Priority>,
}

/// Deadline and priority that a call made here and now inherits. Empty outside of handlers.
///
/// It is set on the thread while a handler is polled, and so holds in all that the handler awaits.
/// A task that the handler spawns inherits nothing, unless it is
/// [scoped](crate::CallContext::scope).
#[must_use]
pub fn inherited() -> Inherited {
    CURRENT.get()
}

impl Inherited {
    pub(crate) fn new(deadline: Option<tokio::time::Instant>, priority: Priority) -> Self {
        Self {
            deadline,
            priority: Some(priority),
        }
    }

    /// Latest end of the call being served; `None` outside of handlers, or if the call has no
    /// deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.map(tokio::time::Instant::into_std)
    }

    /// Priority of the call being served; `None` outside of handlers.
    #[must_use]
    pub fn priority(&self) -> Option<Priority> {
        self.priority
    }

    /// Runs a future whose calls inherit these values. Meant for tasks that a handler spawns.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(move |cx| {
            let _scope = self.enter();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// The earlier of this deadline and another.
    pub(crate) fn earlier_deadline(
        &self,
        other: Option<tokio::time::Instant>,
    ) -> Option<tokio::time::Instant> {
        match (self.deadline, other) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        }
    }

    /// Sets these values on this thread, until the guard is dropped.
    pub(crate) fn enter(self) -> InheritedScope {
        InheritedScope {
            before: CURRENT.replace(self),
        }
    }
}

/// Restores the previous values when it is dropped, also when a handler panics.
#[derive(Debug)]
pub(crate) struct InheritedScope {
    before: Inherited,
}

impl Drop for InheritedScope {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

thread_local! {
    static CURRENT: Cell<Inherited> = const {
        Cell::new(Inherited {
            deadline: None,
            priority: None,
        })
    };
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use tokio::time::Instant;

    use super::*;

    fn of(priority: Priority) -> Inherited {
        Inherited::new(None, priority)
    }

    #[test]
    fn scopes_nest_and_end_on_panic() {
        assert_eq!(inherited(), Inherited::default());
        let outer = of(Priority::Sheddable).enter();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _inner = of(Priority::CriticalPlus).enter();
            assert_eq!(inherited().priority(), Some(Priority::CriticalPlus));
            panic!("in a handler");
        }));
        assert!(panicked.is_err());
        assert_eq!(inherited().priority(), Some(Priority::Sheddable));
        drop(outer);
        assert_eq!(inherited(), Inherited::default());
    }

    #[test]
    fn values_are_set_only_while_the_future_is_polled() {
        let mut polls = 0;
        let future = poll_fn(|_| {
            assert_eq!(inherited().priority(), Some(Priority::Sheddable));
            polls += 1;
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(polls)
            }
        });
        let mut scoped = pin!(of(Priority::Sheddable).scope(future));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(scoped.as_mut().poll(&mut cx).is_pending());
            assert_eq!(inherited(), Inherited::default());
        }
        assert_eq!(scoped.as_mut().poll(&mut cx), Poll::Ready(3));
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let ours = Inherited::new(Some(now), Priority::default());
        assert_eq!(ours.earlier_deadline(Some(later)), Some(now));
        assert_eq!(ours.earlier_deadline(None), Some(now));
        assert_eq!(
            Inherited::default().earlier_deadline(Some(later)),
            Some(later)
        );
        assert_eq!(Inherited::default().earlier_deadline(None), None);
    }
}
