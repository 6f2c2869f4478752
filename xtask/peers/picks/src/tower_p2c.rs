//! The power of two choices by peak EWMA of tower.
//!
//! `Balance` over services that are always ready and answer at once, each in a `PeakEwma`. It
//! chooses in `poll_ready` and keeps what it has chosen until that is called, so a pick alone
//! cannot be measured again and again; what is measured is a call: `poll_ready`, `call`, and the
//! end of the response, which is where the latency is noted. `PeakEwma` looks at the clock itself.
//!
//! `poll_ready` and `call` take it exclusively. For one thread it is locked once for many calls, as
//! if the thread owned it; for two it is locked for each. Its users share it through a `Buffer`, a
//! queue to a task, which costs more.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    ops::Range,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tower::{
    Service,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwma},
};
use xtask_pick::{Padding, Subject, Work, shuffle};

use crate::at_once;

type Balanced = Balance<ServiceList<Vec<PeakEwma<Prompt>>>, u64>;
type Response = <Balanced as Service<u64>>::Future;

pub(crate) struct Tower {
    balance: Mutex<Balanced>,
    _padding: Padding,
}

/// A service that is always ready and answers at once.
struct Prompt;

impl Service<u64> for Prompt {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: u64) -> Self::Future {
        ready(Ok(call))
    }
}

impl Tower {
    pub(crate) fn new(workers: usize) -> Self {
        let mut padding = Padding::default();
        let mut services: Vec<_> = (0..workers as u64)
            .map(|number| {
                padding.add(number);
                PeakEwma::new(Prompt, RTT, DECAY_NS, CompleteOnResponse::default())
            })
            .collect();
        shuffle(&mut services);
        Self {
            balance: Mutex::new(Balance::new(ServiceList::new::<u64>(services))),
            _padding: padding,
        }
    }
}

impl Subject for Tower {
    fn batch(&self, work: Work, mut calls: Range<u64>, alone: bool) -> Result<(), String> {
        if work != Work::Call {
            return Err("its picks are parts of calls".to_owned());
        }
        let locked = || self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        if alone {
            let mut balance = locked();
            calls.try_for_each(|call| end(begin(&mut balance, call)?, call))
        } else {
            calls.try_for_each(|call| {
                let response = begin(&mut locked(), call)?;
                end(response, call)
            })
        }
    }
}

fn begin(balance: &mut Balanced, call: u64) -> Result<Response, String> {
    let mut cx = Context::from_waker(Waker::noop());
    match balance.poll_ready(&mut cx) {
        Poll::Ready(Ok(())) => Ok(balance.call(call)),
        Poll::Ready(Err(error)) => Err(error.to_string()),
        Poll::Pending => Err("all of its services are ready".to_owned()),
    }
}

fn end(response: Response, call: u64) -> Result<(), String> {
    match at_once(response)? {
        Ok(answer) if answer == call => Ok(()),
        Ok(_) => Err("a service answers what it is told".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Default latency, as in tower's examples.
const RTT: Duration = Duration::from_millis(10);
/// Decay of the average: ten seconds, as in tower's examples.
const DECAY_NS: f64 = 10_000_000_000.0;
