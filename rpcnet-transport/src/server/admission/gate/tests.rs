//! Tests of the shares of callers: what one caller leaves to others, and that no permit is lost.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    task::{JoinSet, unconstrained, yield_now},
    time::advance,
};

use super::*;
use crate::{
    Priority,
    server::admission::{
        gate_admission::{AdmissionRequest, GateOutcome, Ticket},
        recent_callers::RECENT_S,
    },
};

/// A gate with so many permits and a queue without a bound in time.
fn gate(limit: usize) -> Arc<AdmissionGate> {
    let hours = Duration::from_secs(1_000_000);
    let admission = Admission::fixed(limit).with_queue_target(hours);
    Arc::new(AdmissionGate::new(&admission))
}

fn request() -> AdmissionRequest {
    AdmissionRequest {
        priority: Priority::Critical,
        is_retry: false,
        deadline: None,
    }
}

/// A caller, the permits that it holds, and its queued calls.
struct Caller {
    share: Arc<CallerQuota>,
    permits: Vec<Permit>,
    tickets: Vec<Ticket>,
    yielded: Vec<Permit>,
    reacquiring: Vec<Pin<Box<dyn Future<Output = Permit>>>>,
}

impl Caller {
    fn new(gate: &Arc<AdmissionGate>, name: &str) -> Self {
        Self {
            share: gate.quota_of(name.into()),
            permits: Vec::new(),
            tickets: Vec::new(),
            yielded: Vec::new(),
            reacquiring: Vec::new(),
        }
    }

    /// Makes a call. Returns whether it has a permit at once.
    fn call(&mut self) -> bool {
        match self.share.admit(Instant::now(), request) {
            GateOutcome::Admitted(permit) => {
                self.permits.push(permit);
                return true;
            }
            GateOutcome::Queued(ticket) => self.tickets.push(ticket),
            GateOutcome::Rejected(_) => {}
        }
        false
    }

    /// Makes calls until one is queued, which is then dropped. Returns how many permits the caller
    /// holds.
    fn fill(&mut self) -> usize {
        while self.call() {}
        self.tickets.pop();
        self.permits.len()
    }

    /// Takes the permits that its queued calls were granted.
    fn collect(&mut self) {
        let Self { permits, .. } = self;
        self.tickets
            .retain_mut(|ticket| match ticket.outcome.try_recv() {
                Ok(Ok(permit)) => {
                    permits.push(permit);
                    false
                }
                Ok(Err(_)) => false,
                Err(_) => true,
            });
        let mut cx = Context::from_waker(Waker::noop());
        self.reacquiring
            .retain_mut(|reacquiring| match reacquiring.as_mut().poll(&mut cx) {
                Poll::Ready(permit) => {
                    permits.push(permit);
                    false
                }
                Poll::Pending => true,
            });
    }

    fn yield_one(&mut self) {
        if let Some(mut permit) = self.permits.pop() {
            permit.yield_to_others();
            self.yielded.push(permit);
        }
    }

    fn reacquire(&mut self) {
        if self.yielded.pop().is_some() {
            let number = self.share.gate.next_reacquire_number();
            let reacquire = Arc::clone(&self.share).reacquire(number);
            self.reacquiring.push(Box::pin(unconstrained(reacquire)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_caller_may_hold_every_permit() {
    let gate = gate(8);
    let mut alone = Caller::new(&gate, "a");
    assert_eq!(alone.fill(), 8);
    assert_eq!(gate.state().running, 8);
}

#[tokio::test(start_paused = true)]
async fn a_caller_leaves_permits_to_other_callers() {
    let gate = gate(8);
    let [mut greedy, mut modest, mut third] = ["a", "b", "c"].map(|n| Caller::new(&gate, n));
    assert!(modest.call());
    modest.permits.clear();
    assert_eq!(greedy.fill(), 6);
    assert_eq!(modest.fill(), 2, "an equal part");
    assert!(!third.call(), "all are taken");
    greedy.call();
    greedy.permits.pop();
    third.collect();
    greedy.collect();
    assert_eq!((third.permits.len(), greedy.permits.len()), (1, 5));
    assert_eq!(gate.state().running, 8);
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_hold_every_permit_again_after_others_were_gone_for_a_minute() {
    let gate = gate(8);
    let [mut greedy, mut modest] = ["a", "b"].map(|name| Caller::new(&gate, name));
    assert!(modest.call());
    modest.permits.clear();
    assert_eq!(greedy.fill(), 6);
    advance(Duration::from_secs(RECENT_S - 1)).await;
    assert_eq!(greedy.fill(), 6);
    advance(Duration::from_secs(1)).await;
    assert_eq!(greedy.fill(), 8);
    // The next caller that comes makes it leave some, and waits for the first call that ends.
    assert!(!modest.call());
    greedy.call();
    greedy.permits.pop();
    modest.collect();
    greedy.collect();
    assert_eq!((modest.permits.len(), greedy.permits.len()), (1, 7));
    greedy.permits.pop();
    greedy.collect();
    assert_eq!(greedy.permits.len(), 6, "and none of its calls that wait");
    assert!(modest.call());
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_caller_at_its_share_do_not_delay_others() {
    let gate = gate(8);
    let [mut greedy, mut modest] = ["a", "b"].map(|name| Caller::new(&gate, name));
    assert!(modest.call());
    modest.permits.clear();
    greedy.fill();
    for _ in 0..20 {
        assert!(!greedy.call());
    }
    for _ in 0..100 {
        assert!(modest.call());
        modest.permits.clear();
        greedy.collect();
        assert_eq!(greedy.permits.len(), 6);
    }
    assert_eq!(gate.state().waiting, 20);
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_served_beside_queued_calls_of_a_caller_at_its_share() {
    let gate = Arc::new(AdmissionGate::new(&Admission::fixed(8).with_queue_len(0)));
    let [mut greedy, mut modest] = ["a", "b"].map(|name| Caller::new(&gate, name));
    assert_eq!(greedy.fill(), 8);
    assert!(!modest.call(), "it is rejected, and seen");
    for _ in 0..2 {
        greedy.yield_one();
    }
    greedy.reacquire();
    greedy.collect();
    assert_eq!(greedy.reacquiring.len(), 1, "it holds all of its share");
    assert!(modest.call());
    assert!(!greedy.call());
}

#[tokio::test(start_paused = true)]
async fn a_reacquiring_call_counts_to_its_caller() {
    let gate = gate(8);
    let [mut greedy, mut modest] = ["a", "b"].map(|name| Caller::new(&gate, name));
    assert_eq!(greedy.fill(), 8);
    for _ in 0..8 {
        greedy.yield_one();
    }
    assert!(modest.call());
    for _ in 0..8 {
        greedy.reacquire();
    }
    greedy.collect();
    assert_eq!((greedy.permits.len(), greedy.reacquiring.len()), (5, 3));
    assert!(modest.call());
    assert!(!modest.call(), "the last is for one that comes");
    modest.permits.clear();
    modest.collect();
    greedy.collect();
    assert_eq!((modest.permits.len(), greedy.permits.len()), (1, 5));
    drop(greedy);
    assert_eq!(gate.state().running, 1);
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_yielded_while_calls_wait_and_its_caller_exceeds_its_share() {
    let gate = gate(8);
    let [mut greedy, mut modest] = ["a", "b"].map(|name| Caller::new(&gate, name));
    assert_eq!(greedy.fill(), 8);
    // The caller was last seen a while ago, and its calls go on.
    advance(Duration::from_secs(10 * RECENT_S)).await;
    let owed = |caller: &Caller| {
        caller
            .permits
            .iter()
            .filter(|permit| permit.should_yield())
            .count()
    };
    assert_eq!(owed(&greedy), 0);
    assert!(!modest.call());
    assert_eq!(owed(&greedy), 8);
    greedy.yield_one();
    modest.collect();
    assert_eq!(
        (modest.permits.len(), owed(&greedy)),
        (1, 0),
        "no call waits"
    );
    greedy.reacquire();
    greedy.collect();
    assert_eq!((owed(&greedy), owed(&modest)), (7, 0));
    for _ in 0..2 {
        greedy.yield_one();
        greedy.reacquire();
        greedy.collect();
    }
    assert_eq!((greedy.permits.len(), owed(&greedy)), (5, 0));
    // The other callers have been gone for long, which calls that go on find out.
    modest.permits.clear();
    advance(Duration::from_secs(RECENT_S)).await;
    assert_eq!(owed(&greedy), 0);
    greedy.collect();
    assert_eq!((greedy.permits.len(), greedy.reacquiring.len()), (8, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_over_the_limit_takes_no_permit_from_others() {
    let gate = gate(4);
    let [mut greedy, mut modest] = ["a", "b"].map(|name| Caller::new(&gate, name));
    assert!(modest.call());
    modest.permits.clear();
    for _ in 0..10 {
        assert!(greedy.call());
        greedy.yield_one();
    }
    greedy.yielded.iter_mut().for_each(Permit::resume);
    let owed = greedy
        .yielded
        .iter()
        .filter(|permit| permit.should_yield())
        .count();
    assert_eq!(owed, 7, "those without");
    assert_eq!(
        (gate.state().running, greedy.share.permits_held()),
        (10, 10)
    );
    assert!(gate.is_busy());
    assert!(!greedy.call());
    assert!(modest.call());
    greedy.yielded.drain(..9);
    greedy.collect();
    assert_eq!(greedy.permits.len(), 1, "when enough of them have ended");
    greedy.yielded.clear();
    assert_eq!((gate.state().running, greedy.share.permits_held()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_permit_goes_to_a_caller_without_permits_first() {
    let gate = gate(1);
    let [mut greedy, mut modest] = ["a", "b"].map(|name| Caller::new(&gate, name));
    assert!(greedy.call());
    for _ in 0..3 {
        assert!(!greedy.call() && !modest.call());
        greedy.permits.clear();
        greedy.collect();
        modest.collect();
        assert_eq!((greedy.permits.len(), modest.permits.len()), (0, 1));
        modest.permits.clear();
        greedy.collect();
        assert_eq!(greedy.permits.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_shared_by_connections_and_dropped_with_the_last() {
    let gate = gate(8);
    let first = gate.quota_of("a".into());
    assert!(Arc::ptr_eq(&first, &gate.quota_of("a".into())));
    assert!(!Arc::ptr_eq(&first, &gate.quota_of("b".into())));
    let GateOutcome::Admitted(permit) = first.admit(Instant::now(), request) else {
        panic!("all permits are free");
    };
    drop(first);
    // A run that outlives its caller.
    assert_eq!(gate.quota_of("a".into()).permits_held(), 1);
    drop(permit);
    assert_eq!(gate.quota_of("a".into()).permits_held(), 0);
}

/// Concurrent calls of the same caller see each other.
#[test]
fn concurrent_calls_stay_within_the_share_of_their_caller() {
    let gate = gate(8);
    let other = gate.quota_of("b".into());
    let greedy = gate.quota_of("a".into());
    for caller in [&other, &greedy] {
        drop(caller.admit(Instant::now(), request));
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let mut permits = Vec::new();
                    for _ in 0..3 {
                        if greedy.try_acquire() {
                            permits.push(Permit::acquired(Arc::clone(&greedy)));
                        }
                    }
                    assert!(gate.permits.running() <= 6);
                }
            });
        }
    });
    assert_eq!((gate.state().running, greedy.permits_held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_gets_a_permit_eventually() {
    let gate = gate(4);
    let mut tasks = JoinSet::new();
    for number in 0..24 {
        let caller = gate.quota_of(["a", "b", "c"][number % 3].into());
        tasks.spawn(async move {
            for round in 0..100 {
                let mut permit = match caller.admit(Instant::now(), request) {
                    GateOutcome::Admitted(permit) => permit,
                    GateOutcome::Queued(ticket) => ticket.wait_admitted().await.expect("its turn"),
                    GateOutcome::Rejected(rejection) => panic!("{rejection:?}"),
                };
                if round % 3 == 0 {
                    permit.yield_to_others();
                    yield_now().await;
                    let number = caller.gate.next_reacquire_number();
                    permit.set_reacquired(Arc::clone(&caller).reacquire(number).await);
                }
                yield_now().await;
            }
        });
    }
    tasks.join_all().await;
    let state = gate.state();
    assert_eq!((state.running, state.waiting), (0, 0));
}

#[derive(Debug, Clone)]
enum Operation {
    Call(usize),
    End(usize),
    GiveUp(usize),
    Yield(usize),
    Reacquire(usize),
    Wait(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let caller = 0..CALLERS;
    prop_oneof![
        8 => caller.clone().prop_map(Operation::Call),
        5 => caller.clone().prop_map(Operation::End),
        1 => caller.clone().prop_map(Operation::GiveUp),
        1 => caller.clone().prop_map(Operation::Yield),
        1 => caller.prop_map(Operation::Reacquire),
        1 => (0u64..100).prop_map(Operation::Wait),
    ]
}

const CALLERS: usize = 4;

/// Permits that a caller may hold beside so many recent callers, as documented.
fn most(limit: usize, recent: usize, others: usize) -> usize {
    let left = limit - others;
    if recent == 1 {
        return left;
    }
    let part = (0..=left).rev().find(|own| *own <= 4 * (left - own));
    part.unwrap_or(0).max(limit / (recent + 1)).max(1)
}

proptest! {
    #[test]
    fn permits_are_shared_and_none_is_lost(
        limit in 1usize..12,
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let gate = gate(limit);
            let name = |number: usize| number.to_string();
            let mut callers: [_; CALLERS] =
                std::array::from_fn(|number| Caller::new(&gate, &name(number)));
            for operation in operations {
                let newcomers: Vec<usize> = (0..CALLERS)
                    .filter(|at| {
                        callers[*at].permits.is_empty() && !callers[*at].tickets.is_empty()
                    })
                    .collect();
                let lens = callers.iter().map(|caller| caller.reacquiring.len());
                let reacquiring: usize = lens.sum();
                let mut has_ended = false;
                match operation {
                    Operation::Call(who) => {
                        if callers[who].call() {
                            let recent = gate.callers.recent_count();
                            let others = gate.state().running - callers[who].permits.len();
                            let most = most(limit, recent, others);
                            prop_assert!(callers[who].permits.len() <= most);
                        }
                    }
                    Operation::End(who) => has_ended = callers[who].permits.pop().is_some(),
                    Operation::GiveUp(who) => drop(callers[who].tickets.pop()),
                    Operation::Yield(who) => callers[who].yield_one(),
                    Operation::Reacquire(who) => callers[who].reacquire(),
                    Operation::Wait(s) => advance(Duration::from_secs(s)).await,
                }
                // Twice: the first poll of one that reacquires may grant a permit to one before it.
                for _ in 0..2 {
                    callers.iter_mut().for_each(Caller::collect);
                }
                let (running, recent) = (gate.state().running, gate.callers.recent_count());
                let held: usize = callers.iter().map(|caller| caller.permits.len()).sum();
                prop_assert_eq!(running, held);
                prop_assert!(running <= limit);
                if has_ended && reacquiring == 0 && !newcomers.is_empty() {
                    let has_permit = |at: &usize| !callers[*at].permits.is_empty();
                    prop_assert!(newcomers.iter().any(has_permit), "within one end");
                }
                for caller in &callers {
                    prop_assert_eq!(caller.share.permits_held(), caller.permits.len());
                    let waits = !caller.tickets.is_empty() || !caller.reacquiring.is_empty();
                    if waits && running < limit {
                        let most = most(limit, recent, running - caller.permits.len());
                        prop_assert!(caller.permits.len() >= most, "it may have a free permit");
                    }
                }
            }
            let shares = callers.map(|caller| Arc::clone(&caller.share));
            let state = gate.state();
            prop_assert_eq!((state.running, state.waiting), (0, 0));
            prop_assert!(shares.iter().all(|share| share.permits_held() == 0));
            Ok::<_, TestCaseError>(())
        })?;
    }
}
