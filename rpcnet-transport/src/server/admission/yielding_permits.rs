//! Permits of a call with streams, which other calls may have while its handler waits.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{permit::Permit, permits::Permits};
use crate::server::handler_result::HandlerResult;

/// Permits of a call with streams, which yields them while its handler waits for the caller.
///
/// Otherwise a caller that sends nothing, or reads nothing, would hold them for as long as it
/// likes. Before the handler goes on it reacquires its permits, in turns with calls that have not
/// started. A handler that stops waiting for its caller or for its permits, as in a `select!`, goes
/// on at once, and for a while more calls may run than the limit says. With its next message it
/// waits for permits again, in the position that it had.
///
/// A call that need not wait for messages, since all have arrived, yields its permits between two
/// of them when its caller holds more than its share.
#[derive(Debug, Clone)]
pub(crate) struct YieldingPermits(Arc<Mutex<YieldState>>);

#[derive(Debug)]
struct YieldState {
    permits: Permits,
    /// Halves of the call that wait for the caller.
    waiting_halves: u8,
}

/// A wait for the caller, until it is dropped.
#[derive(Debug)]
pub(crate) struct PeerWait {
    state: Arc<Mutex<YieldState>>,
    /// Numbers by which the call waits to reacquire its permits, the method's first; `None` once a
    /// permit is reacquired.
    reacquire_numbers: [Option<u64>; 2],
}

impl YieldingPermits {
    /// Creates the permits of a call with streams. `None` where nothing is limited.
    pub(in crate::server) fn new(permits: Permits) -> Option<Self> {
        let is_limited = permits.server.is_some() || permits.method.is_some();
        is_limited.then(|| {
            Self(Arc::new(Mutex::new(YieldState {
                permits,
                waiting_halves: 0,
            })))
        })
    }

    /// Yields the permits because a half of the handler waits for its caller. The other half may
    /// have reacquired them while it waited.
    pub(crate) fn yield_while_waiting(&self) -> PeerWait {
        let mut state = self.0.lock();
        state.waiting_halves += 1;
        state.permits.each(Permit::yield_to_others);
        PeerWait {
            state: Arc::clone(&self.0),
            reacquire_numbers: [None; 2],
        }
    }

    /// Yields the permits after a message that came or went without a wait, if other callers should
    /// have them before the handler goes on.
    pub(crate) fn yield_if_over_share(&self) -> Option<PeerWait> {
        let is_owed = {
            let YieldState { permits, .. } = &*self.0.lock();
            let mut all = permits.server.iter().chain(&permits.method);
            all.any(Permit::should_yield)
        };
        is_owed.then(|| self.yield_while_waiting())
    }

    /// Resumes the handler, which has stopped waiting, even if its other half still waits.
    pub(crate) fn resume(&self) {
        self.0.lock().permits.each(Permit::resume);
    }

    /// Releases the permits, because the handler has returned or was dropped.
    pub(in crate::server) fn end(&self, outcome: Option<&HandlerResult>) {
        let mut permits = std::mem::take(&mut self.0.lock().permits);
        if let Some(outcome) = outcome {
            permits.record(outcome);
        }
    }
}

impl YieldState {
    /// The permits in the order of admission: the method's first.
    fn in_order(&mut self) -> [Option<&mut Permit>; 2] {
        let Permits { server, method } = &mut self.permits;
        [method.as_mut(), server.as_mut()]
    }

    fn permit(&mut self, index: usize) -> Option<&mut Permit> {
        self.in_order().into_iter().nth(index).flatten()
    }
}

impl PeerWait {
    /// Ends the wait once the handler has reacquired its permits. It goes on, even if its other
    /// half still waits.
    pub(crate) async fn reacquire(mut self) {
        for index in 0..self.reacquire_numbers.len() {
            let reacquiring = self
                .state
                .lock()
                .permit(index)
                .and_then(Permit::begin_reacquire);
            let Some((quota, number)) = reacquiring else {
                continue;
            };
            self.reacquire_numbers[index] = Some(number);
            let reacquired = quota.reacquire(number).await;
            self.reacquire_numbers[index] = None;
            let mut state = self.state.lock();
            let unused = match state.permit(index) {
                Some(permit) if permit.is_yielded() => {
                    permit.set_reacquired(reacquired);
                    None
                }
                // The call has ended meanwhile.
                _ => Some(reacquired),
            };
            drop(state);
            drop(unused);
        }
    }
}

impl Drop for PeerWait {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        for (permit, number) in state.in_order().into_iter().zip(self.reacquire_numbers) {
            if let (Some(permit), Some(number)) = (permit, number) {
                permit.keep_reacquire_number(number);
            }
        }
        state.waiting_halves -= 1;
        // A half that has waited for permits has a message to go on with.
        let goes_on = self.reacquire_numbers.iter().any(Option::is_some);
        if state.waiting_halves == 0 || goes_on {
            state.permits.each(Permit::resume);
        }
    }
}

#[cfg(test)]
mod tests;
