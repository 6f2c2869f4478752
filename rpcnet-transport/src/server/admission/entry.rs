//! The way of a call past the gates: its method's, then the server's.

use std::sync::Arc;

use super::gate::{Gate, Newcomer, Passed, Place, Ticket, Turned};
use crate::{Code, Status, server::router::Outcome, stats::Counters};

/// The places that a call holds while it runs; none where nothing is limited.
#[derive(Debug, Default)]
pub(in crate::server) struct Places {
    // Given back in this order: who waits for the method needs both.
    server: Option<Place>,
    _method: Option<Place>,
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
        next: Option<(Arc<Gate>, Newcomer)>,
    },
    AtServer {
        ticket: Ticket,
        /// What it holds from the gate before.
        method: Option<Place>,
    },
}

/// A call comes that has to pass these gates.
pub(in crate::server) fn enter(
    counters: &Counters,
    method: Option<&Arc<Gate>>,
    server: Option<&Arc<Gate>>,
    who: impl Fn() -> Newcomer,
) -> Entry {
    let mut held = None;
    if let Some(gate) = method {
        match gate.pass(&who) {
            Passed::Through(place) => held = Some(place),
            Passed::Turned(turned) => return Entry::Never(status(counters, turned)),
            Passed::Waits(ticket) => {
                counters.calls_queued.add_one();
                let next = server.map(|server| (Arc::clone(server), who()));
                return Entry::Later(Queued::AtMethod { ticket, next });
            }
        }
    }
    let Some(gate) = server else {
        return Entry::Now(Places {
            server: None,
            _method: held,
        });
    };
    match gate.pass(who) {
        Passed::Through(place) => Entry::Now(Places {
            server: Some(place),
            _method: held,
        }),
        Passed::Turned(turned) => Entry::Never(status(counters, turned)),
        Passed::Waits(ticket) => {
            counters.calls_queued.add_one();
            let method = held;
            Entry::Later(Queued::AtServer { ticket, method })
        }
    }
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
                    _method: method,
                })
            }
            Self::AtMethod { ticket, next } => {
                let method = ticket.turn().await.map_err(told)?;
                let mut server = None;
                if let Some((gate, who)) = next {
                    server = Some(match gate.pass(|| who) {
                        Passed::Through(place) => place,
                        Passed::Turned(turned) => return Err(told(turned)),
                        Passed::Waits(ticket) => ticket.turn().await.map_err(told)?,
                    });
                }
                Ok(Places {
                    server,
                    _method: Some(method),
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

    /// The call has ended.
    pub(in crate::server) fn note(&mut self, outcome: &Outcome) {
        if let (Some(place), Ok(_)) = (&mut self.server, outcome) {
            place.note_reply();
        }
    }
}

fn status(counters: &Counters, turned: Turned) -> Status {
    let overloaded = |message, retry_after| {
        counters.calls_refused_overloaded.add_one();
        Status::overloaded(message).with_retry_after(retry_after)
    };
    match turned {
        Turned::Refused { retry_after } => overloaded("too many calls at a time", retry_after),
        Turned::Shed { retry_after } => {
            counters.calls_shed.add_one();
            overloaded("too many calls to wait for a place", retry_after)
        }
        Turned::Expired => {
            counters.calls_expired.add_one();
            let message = "the time was over before the handler began";
            Status::new(Code::DeadlineExceeded, message).not_processed()
        }
    }
}
