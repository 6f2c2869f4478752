//! Observers that panic, what observers do without the lock, and their precedence over subscribers,
//! in virtual time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use rpcnet_swim::{
    ClusterConfig, ClusterMembership, Engine, Event, EventStream, MembershipObserver,
    MembershipState, Time,
};
use rpcnet_testing::{PanicIn, within};

use crate::test_socket::{SendFate, TestSocket};

struct PanickingObserver {
    panic_in: PanicIn,
    events: AtomicUsize,
    ends: Mutex<Vec<MembershipState>>,
}

impl PanickingObserver {
    fn new(panic_in: PanicIn) -> Arc<Self> {
        let (events, ends) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self {
            panic_in,
            events,
            ends,
        })
    }

    fn events(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }

    fn ends(&self) -> Vec<MembershipState> {
        self.ends.lock().unwrap().clone()
    }
}

impl MembershipObserver for PanickingObserver {
    fn on_view(&self, _: &Engine, _: Time) {
        self.panic_in.enter(PanicIn::Snapshot);
    }

    fn on_events(&self, _: &Engine, _: Time, events: &[Event]) {
        self.events.fetch_add(events.len(), Ordering::Relaxed);
        self.panic_in.enter(PanicIn::Events);
    }

    fn on_end(&self, state: MembershipState) {
        self.ends.lock().unwrap().push(state);
        self.panic_in.enter(PanicIn::End);
    }

    fn after_events(&self) {
        if self.events() > 0 {
            self.panic_in.enter(PanicIn::AfterEvents);
        }
    }
}

async fn node() -> ClusterMembership {
    let config = ClusterConfig::local().with_name("me");
    let socket = TestSocket::bind(|_, _| SendFate::Lost).await;
    ClusterMembership::with_socket(config, Arc::new(socket))
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_removes_it_and_harms_nothing_else() {
    use PanicIn::{AfterEvents, End, Events, Nothing, Snapshot};
    let me = node().await;
    let before = PanickingObserver::new(Nothing);
    let panicking = [Snapshot, Events, AfterEvents, End].map(PanickingObserver::new);
    let after = PanickingObserver::new(Nothing);
    let all = std::iter::once(&before).chain(&panicking).chain([&after]);
    let _observations: Vec<_> = all.map(|one| me.observe(one.clone())).collect();
    let mut events = me.subscribe();
    for n in 1..=2 {
        me.set_tag("n", &n.to_string()).unwrap();
        assert_eq!((before.events(), after.events()), (n, n));
        let event = within(events.recv()).await;
        assert!(matches!(event, Some(Event::NodeUpdated(_))), "{event:?}");
    }
    // One that panicked gets no more events, and knows that it is stale.
    assert_eq!(panicking.each_ref().map(|one| one.events()), [0, 1, 1, 2]);
    for one in &panicking[..3] {
        assert_eq!(one.ends(), [MembershipState::Stopped]);
    }
    assert_eq!(within(me.leave()).await, Ok(0));
    for one in [&before, &panicking[3], &after] {
        assert_eq!(one.ends(), [MembershipState::Left]);
    }
    // An observer of a node that has ended is told so at once, and may panic too.
    let late = PanickingObserver::new(End);
    let _late = me.observe(late.clone());
    assert_eq!(late.ends(), [MembershipState::Left]);
}

/// An observer that looks, at each call, what a subscriber knows by then.
struct SubscriberView {
    subscription: Mutex<EventStream>,
    /// For each event that was handed over, whether the subscriber knew it before.
    knew_event: Mutex<Vec<bool>>,
    knew_end: Mutex<Option<bool>>,
}

impl SubscriberView {
    /// Events that the subscriber has, and whether its events have ended.
    fn read(&self) -> (Vec<Event>, bool) {
        let mut subscription = self.subscription.lock().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut events = Vec::new();
        loop {
            let next = std::pin::pin!(subscription.recv()).poll(&mut cx);
            match next {
                Poll::Ready(Some(event)) => events.push(event),
                Poll::Ready(None) => return (events, true),
                Poll::Pending => return (events, false),
            }
        }
    }
}

impl MembershipObserver for SubscriberView {
    fn on_view(&self, _: &Engine, _: Time) {}

    fn on_events(&self, _: &Engine, _: Time, events: &[Event]) {
        let (known, _) = self.read();
        let knew = events.iter().map(|event| known.contains(event));
        self.knew_event.lock().unwrap().extend(knew);
    }

    fn on_end(&self, _: MembershipState) {
        *self.knew_end.lock().unwrap() = Some(self.read().1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_gets_the_events_and_their_end_after_the_observers() {
    let me = node().await;
    let observer = Arc::new(SubscriberView {
        subscription: Mutex::new(me.subscribe()),
        knew_event: Mutex::default(),
        knew_end: Mutex::default(),
    });
    let _observation = me.observe(observer.clone());
    me.set_tag("n", "1").unwrap();
    me.set_tag("n", "2").unwrap();
    assert_eq!(*observer.knew_event.lock().unwrap(), [false, false]);
    within(me.leave()).await.unwrap();
    assert_eq!(*observer.knew_end.lock().unwrap(), Some(false));
}

/// An observer that reads its node once the lock is released.
struct Reader {
    node: ClusterMembership,
    names: Mutex<Vec<String>>,
}

impl MembershipObserver for Reader {
    fn on_view(&self, _: &Engine, _: Time) {}

    fn on_events(&self, _: &Engine, _: Time, _: &[Event]) {}

    fn on_end(&self, _: MembershipState) {}

    fn after_events(&self) {
        let name = self.node.local_id().name.to_string();
        self.names.lock().unwrap().push(name);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_read_its_node_after_the_events() {
    let me = node().await;
    let reader = Arc::new(Reader {
        node: me.clone(),
        names: Mutex::default(),
    });
    let _observation = me.observe(reader.clone());
    me.set_tag("n", "1").unwrap();
    assert_eq!(*reader.names.lock().unwrap(), ["me", "me"]);
    within(me.leave()).await.unwrap();
    assert!(reader.names.lock().unwrap().len() > 2);
}
