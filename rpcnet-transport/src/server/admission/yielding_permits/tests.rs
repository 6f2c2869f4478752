//! Tests of permits that are yielded while a handler waits.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{task::unconstrained, time::Instant};

use super::*;
use crate::{
    Admission, Priority,
    server::admission::{
        AdmissionGate, AdmissionRequest, CallerQuota, gate_admission::GateOutcome,
    },
};

/// A call of the caller that has a permit.
fn call(caller: &Arc<CallerQuota>) -> YieldingPermits {
    let who = || AdmissionRequest {
        priority: Priority::Critical,
        is_retry: false,
        deadline: None,
    };
    let GateOutcome::Admitted(permit) = caller.admit(Instant::now(), who) else {
        panic!("a permit is free");
    };
    let permits = Permits {
        server: Some(permit),
        method: None,
    };
    YieldingPermits::new(permits).expect("it is limited")
}

/// Reacquires the permits after a wait whose message has come.
fn reacquiring(wait: PeerWait) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(unconstrained(wait.reacquire()))
}

fn is_back(reacquiring: &mut Pin<Box<dyn Future<Output = ()>>>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    reacquiring.as_mut().poll(&mut cx) == Poll::Ready(())
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_yielded_again_when_both_halves_wait_again() {
    let gate = Arc::new(AdmissionGate::new(&Admission::fixed(1)));
    let call = call(&gate.quota_of("a".into()));
    let _sends = call.yield_while_waiting();
    for _ in 0..3 {
        let receives = call.yield_while_waiting();
        assert_eq!(gate.state().running, 0);
        assert!(is_back(&mut reacquiring(receives)));
        assert_eq!(gate.state().running, 1, "though its other half waits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_stops_reacquiring_runs_over_the_limit_and_keeps_its_position() {
    let gate = Arc::new(AdmissionGate::new(&Admission::fixed(1)));
    let caller = gate.quota_of("a".into());
    let [first, second] = [(); 2].map(|()| {
        let call = call(&caller);
        let wait = call.yield_while_waiting();
        (call, wait)
    });
    let holder = call(&caller);
    let (mut of_first, mut of_second) = (reacquiring(first.1), reacquiring(second.1));
    assert!(!is_back(&mut of_first) && !is_back(&mut of_second));
    for _ in 0..3 {
        drop(of_first);
        assert_eq!(gate.state().running, 2, "it goes on");
        of_first = reacquiring(first.0.yield_if_over_share().expect("it has no permit"));
        assert!(!is_back(&mut of_first));
        assert_eq!(gate.state().running, 1, "it waits");
    }
    holder.end(None);
    assert!(!is_back(&mut of_second) && is_back(&mut of_first));
    first.0.end(None);
    assert!(is_back(&mut of_second));
    second.0.end(None);
    assert_eq!((gate.state().running, caller.permits_held()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_half_that_resumes_counts_while_the_other_half_waits() {
    let gate = Arc::new(AdmissionGate::new(&Admission::fixed(1)));
    let caller = gate.quota_of("a".into());
    let call = call(&caller);
    let (_sends, receives) = (call.yield_while_waiting(), call.yield_while_waiting());
    drop(receives);
    assert_eq!(gate.state().running, 0, "it may have ended");
    call.resume();
    assert_eq!(gate.state().running, 1);
    let receives = call.yield_while_waiting();
    assert_eq!(gate.state().running, 0);
    let _holder = self::call(&caller);
    let mut receives = reacquiring(receives);
    assert!(!is_back(&mut receives));
    drop(receives);
    assert_eq!(gate.state().running, 2, "its message has come");
}
