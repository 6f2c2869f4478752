//! The way of a call past the gates: its method's, then the server's.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    caller::CallerShare,
    gate::{Newcomer, Passed, Ticket, Turned},
    place::Place,
};
use crate::{Code, Status, server::router::Outcome, stats::Counters};

/// The places that a call holds while it runs; none where nothing is limited.
#[derive(Debug, Default)]
pub(in crate::server) struct Places {
    // Given back in this order: who waits for the method needs both.
    server: Option<Place>,
    method: Option<Place>,
}

/// What became of a call at the gates.
#[derive(Debug)]
pub(in crate::server) enum Entry {
    Now(Places),
    Later(Queued),
    Never(Status),
}

/// A call that waits at one of the gates.
#[derive(Debug)]
pub(in crate::server) enum Queued {
    AtMethod {
        ticket: Ticket,
        /// Where it goes from there.
        next: Option<(Arc<CallerShare>, Newcomer)>,
    },
    AtServer {
        ticket: Ticket,
        /// What it holds from the gate before.
        method: Option<Place>,
    },
}

/// The caller of a call at the gates that it has to pass.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Gates<'a> {
    pub(in crate::server) method: Option<&'a Arc<CallerShare>>,
    pub(in crate::server) server: Option<&'a Arc<CallerShare>>,
}

/// A call comes that has to pass these gates.
pub(in crate::server) fn enter(
    counters: &Counters,
    Gates { method, server }: Gates<'_>,
    now: Instant,
    who: impl Fn() -> Newcomer,
) -> Entry {
    let mut held = None;
    if let Some(caller) = method {
        match caller.pass(now, &who) {
            Passed::Through(place) => held = Some(place),
            Passed::Turned(turned) => return Entry::Never(status(counters, turned)),
            Passed::Waits(ticket) => {
                counters.calls_queued.add_one();
                let next = server.map(|server| (Arc::clone(server), who()));
                return Entry::Later(Queued::AtMethod { ticket, next });
            }
        }
    }
    let Some(caller) = server else {
        return Entry::Now(Places {
            server: None,
            method: held,
        });
    };
    match caller.pass(now, who) {
        Passed::Through(place) => Entry::Now(Places {
            server: Some(place),
            method: held,
        }),
        Passed::Turned(turned) => Entry::Never(status(counters, turned)),
        Passed::Waits(ticket) => {
            counters.calls_queued.add_one();
            let method = held;
            Entry::Later(Queued::AtServer { ticket, method })
        }
    }
}

/// Why a call that comes now would be refused at once, if it would.
pub(in crate::server) fn refusal(
    counters: &Counters,
    Gates { method, server }: Gates<'_>,
    now: Instant,
    who: Newcomer,
) -> Option<Status> {
    let mut gates = method.into_iter().chain(server);
    let turned = gates.find_map(|caller| caller.refusal(now, &who))?;
    Some(status(counters, turned))
}

impl Queued {
    /// Waits until it is the call's turn, or there is no hope for it: then with what its caller is told.
    pub(in crate::server) async fn turn(self, counters: &Counters) -> Result<Places, Status> {
        let told = |turned| status(counters, turned);
        match self {
            Self::AtServer { ticket, method } => {
                let server = ticket.turn().await.map_err(told)?;
                Ok(Places {
                    server: Some(server),
                    method,
                })
            }
            Self::AtMethod { ticket, next } => {
                let method = ticket.turn().await.map_err(told)?;
                let mut server = None;
                if let Some((caller, who)) = next {
                    server = Some(match caller.pass(Instant::now(), || who) {
                        Passed::Through(place) => place,
                        Passed::Turned(turned) => return Err(told(turned)),
                        Passed::Waits(ticket) => ticket.turn().await.map_err(told)?,
                    });
                }
                Ok(Places {
                    server,
                    method: Some(method),
                })
            }
        }
    }
}

impl Places {
    /// The call does not end at its first poll, so that its time says something about the server.
    pub(in crate::server) fn measure(&mut self) {
        if let Some(place) = &mut self.server {
            place.measure();
        }
    }

    fn each(&mut self, what: impl Fn(&mut Place)) {
        self.server.iter_mut().for_each(&what);
        self.method.iter_mut().for_each(&what);
    }

    /// The call has ended.
    pub(in crate::server) fn note(&mut self, outcome: &Outcome) {
        if let (Some(place), Ok(_)) = (&mut self.server, outcome) {
            place.note_reply();
        }
    }
}

/// Places of a call with streams, which another call may have while the handler waits for the caller.
///
/// A caller that sends nothing, or takes nothing, would hold them for as long as it likes otherwise. Before the handler goes on it
/// has its places back, in turns with calls that have not begun. One that stops waiting for its
/// caller or for its places, as in a `select!`, goes on at once, and for a while more may run than
/// the limit says. With its next message it waits for places again, in the turn that it had.
///
/// A call that waits for no message, since all are there, gives its places back between two of them
/// when its caller holds more than its share.
#[derive(Debug, Clone)]
pub(crate) struct LentPlaces(Arc<Mutex<Lent>>);

#[derive(Debug)]
struct Lent {
    places: Places,
    /// Halves of the call that wait for the caller.
    waits: u8,
}

/// A wait for the caller, until it is dropped.
#[derive(Debug)]
pub(crate) struct PeerWait {
    lent: Arc<Mutex<Lent>>,
    /// Numbers by which it waits for its places, the method's first; `None` once one is there.
    return_numbers: [Option<u64>; 2],
}

impl LentPlaces {
    /// `None` where nothing is limited.
    pub(in crate::server) fn new(places: Places) -> Option<Self> {
        let is_limited = places.server.is_some() || places.method.is_some();
        is_limited.then(|| Self(Arc::new(Mutex::new(Lent { places, waits: 0 }))))
    }

    /// A half of the handler waits for its caller. The other half may have had the places back
    /// while it waited too.
    pub(crate) fn wait(&self) -> PeerWait {
        let mut lent = self.0.lock();
        lent.waits += 1;
        lent.places.each(Place::pause);
        PeerWait {
            lent: Arc::clone(&self.0),
            return_numbers: [None; 2],
        }
    }

    /// A message has come or gone without a wait. Gives the places back if others should have them
    /// before the handler goes on.
    pub(crate) fn wait_if_owed(&self) -> Option<PeerWait> {
        let is_owed = {
            let Lent { places, .. } = &*self.0.lock();
            let mut all = places.server.iter().chain(&places.method);
            all.any(Place::is_owed)
        };
        is_owed.then(|| self.wait())
    }

    /// The handler has stopped waiting and goes on, even if its other half waits on.
    pub(crate) fn go_on(&self) {
        self.0.lock().places.each(Place::resume);
    }

    /// The handler has returned, or is gone.
    pub(in crate::server) fn end(&self, outcome: Option<&Outcome>) {
        let mut places = std::mem::take(&mut self.0.lock().places);
        if let Some(outcome) = outcome {
            places.note(outcome);
        }
    }
}

impl Lent {
    /// The method's first, as on the way in.
    fn in_order(&mut self) -> [Option<&mut Place>; 2] {
        let Places { server, method } = &mut self.places;
        [method.as_mut(), server.as_mut()]
    }

    fn place(&mut self, index: usize) -> Option<&mut Place> {
        self.in_order().into_iter().nth(index).flatten()
    }
}

impl PeerWait {
    /// Ends the wait when the handler has its places back. It goes on, even if its other half waits
    /// on.
    pub(crate) async fn end(mut self) {
        for index in 0..self.return_numbers.len() {
            let returning = self.lent.lock().place(index).and_then(Place::begin_return);
            let Some((caller, number)) = returning else {
                continue;
            };
            self.return_numbers[index] = Some(number);
            let regained = caller.regain(number).await;
            self.return_numbers[index] = None;
            let mut lent = self.lent.lock();
            let unused = match lent.place(index) {
                Some(place) if place.is_lent() => {
                    place.replace_lent(regained);
                    None
                }
                // The call has ended meanwhile.
                _ => Some(regained),
            };
            drop(lent);
            drop(unused);
        }
    }
}

impl Drop for PeerWait {
    fn drop(&mut self) {
        let mut lent = self.lent.lock();
        for (place, number) in lent.in_order().into_iter().zip(self.return_numbers) {
            if let (Some(place), Some(number)) = (place, number) {
                place.keep_return_number(number);
            }
        }
        lent.waits -= 1;
        // A half that has waited for its places has something to go on with.
        let goes_on = self.return_numbers.iter().any(Option::is_some);
        if lent.waits == 0 || goes_on {
            lent.places.each(Place::resume);
        }
    }
}

fn status(counters: &Counters, turned: Turned) -> Status {
    let overloaded = |message, retry_after| {
        counters.calls_refused_overloaded.add_one();
        Status::overloaded(message).with_retry_after(retry_after)
    };
    match turned {
        Turned::Refused { retry_after } => overloaded("the admission queue is full", retry_after),
        Turned::Shed { retry_after } => {
            counters.calls_shed.add_one();
            overloaded("the call was shed from the admission queue", retry_after)
        }
        Turned::Expired => {
            counters.calls_expired.add_one();
            let message = "deadline exceeded before the handler started";
            Status::new(Code::DeadlineExceeded, message).not_processed()
        }
    }
}

#[cfg(test)]
mod tests;
