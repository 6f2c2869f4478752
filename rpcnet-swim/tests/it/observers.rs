//! Observers of a node on real sockets: every change within the call that makes it, in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rpcnet_swim::{
    ClusterConfig, ClusterMembership, Engine, Event, MembershipObserver, MembershipState, Time,
};

/// An observer that keeps all that it is handed.
#[derive(Default)]
struct Recorder {
    /// Names in the view that it was given.
    view: Mutex<Vec<String>>,
    events: Mutex<Vec<Event>>,
    end: Mutex<Option<MembershipState>>,
}

impl Recorder {
    /// Values of this node's tag `n`, in the order in which they were set.
    fn values(&self) -> Vec<u32> {
        let events = self.events.lock().unwrap();
        let value = |event: &Event| match event {
            Event::NodeUpdated(member) => member.tags.get("n")?.parse().ok(),
            _ => None,
        };
        events.iter().filter_map(value).collect()
    }

    /// Names of the members in the view and of those that joined since.
    fn members(&self) -> Vec<String> {
        let mut names = self.view.lock().unwrap().clone();
        for event in &*self.events.lock().unwrap() {
            if let Event::NodeJoined(member) = event {
                names.push(member.id.name.to_string());
            }
        }
        names.sort();
        names
    }

    fn end(&self) -> Option<MembershipState> {
        self.end.lock().unwrap().clone()
    }
}

impl MembershipObserver for Recorder {
    fn on_view(&self, engine: &Engine, _: Time) {
        let others = engine.members().map(|member| member.id.name.to_string());
        let mut view = self.view.lock().unwrap();
        view.push(engine.id().name.to_string());
        view.extend(others);
    }

    fn on_events(&self, engine: &Engine, _: Time, events: &[Event]) {
        assert!(!events.is_empty());
        // The engine is never behind its events.
        if let Some(Event::NodeJoined(member)) = events.last() {
            assert!(engine.member(&member.id.name).is_some());
        }
        assert_eq!(self.end(), None);
        self.events.lock().unwrap().extend_from_slice(events);
    }

    fn on_end(&self, state: MembershipState) {
        let before = self.end.lock().unwrap().replace(state);
        assert_eq!(before, None, "called once");
    }
}

async fn node(name: &str) -> ClusterMembership {
    ClusterMembership::new(ClusterConfig::local().with_name(name))
        .await
        .unwrap()
}

/// On a runtime of one thread nothing else runs between the calls.
#[tokio::test]
async fn an_observer_has_every_change_when_the_call_that_makes_it_returns() {
    let me = node("me").await;
    let recorder = Arc::new(Recorder::default());
    let observation = me.observe(recorder.clone());
    for n in 0..100 {
        me.set_tag("n", &n.to_string()).unwrap();
        assert_eq!(recorder.values().last(), Some(&n));
    }
    assert_eq!(recorder.values(), (0..100).collect::<Vec<_>>());
    drop(observation);
    me.set_tag("n", "100").unwrap();
    assert_eq!(recorder.values().len(), 100, "the observation has ended");
    // A later observer begins with the view.
    let late = Arc::new(Recorder::default());
    let _observation = me.observe(late.clone());
    assert_eq!(late.members(), ["me"]);
    assert!(late.values().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_several_threads_come_in_the_order_in_which_they_were_made() {
    let me = node("me").await;
    let recorder = Arc::new(Recorder::default());
    let _observation = me.observe(recorder.clone());
    let threads = (0..4).map(|_| {
        let me = me.clone();
        std::thread::spawn(move || {
            for n in 0..50 {
                me.set_tag("n", &n.to_string()).unwrap();
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let events = recorder.events.lock().unwrap();
    let incarnations: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::NodeUpdated(member) => Some(member.incarnation),
            _ => None,
        })
        .collect();
    assert!(incarnations.is_sorted_by(|a, b| a < b), "{incarnations:?}");
    // The last event is the node's present state.
    let Some(Event::NodeUpdated(last)) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(*last, me.local_member());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_knows_every_member_when_join_returns() {
    let first = node("first").await;
    let mut others = Vec::new();
    for name in ["second", "third"] {
        let other = node(name).await;
        other.join([first.local_addr().to_string()]).await.unwrap();
        others.push(other);
    }
    for round in 0..5 {
        let name = format!("joiner-{round}");
        let joiner = node(&name).await;
        let recorder = Arc::new(Recorder::default());
        let _observation = joiner.observe(recorder.clone());
        joiner.join([first.local_addr().to_string()]).await.unwrap();
        let mut expected = vec!["first".to_owned(), name, "second".into(), "third".into()];
        expected.sort();
        assert_eq!(recorder.members(), expected);
        // The others may not know it yet, so it does not wait for them.
        let _ = joiner.leave_within(Duration::ZERO).await;
        assert_eq!(recorder.end(), Some(MembershipState::Left));
    }
}

#[test]
fn an_observer_is_told_how_the_driver_ended() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let recorder = Arc::new(Recorder::default());
    let (me, _observation) = runtime.block_on(async {
        let me = node("me").await;
        let observation = me.observe(recorder.clone());
        (me, observation)
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    assert_eq!(recorder.end(), Some(MembershipState::Stopped));
    assert_eq!(me.state(), MembershipState::Stopped);
    let late = Arc::new(Recorder::default());
    let _late = me.observe(late.clone());
    assert_eq!(late.end(), Some(MembershipState::Stopped));
    assert_eq!(late.members(), ["me"]);
}
