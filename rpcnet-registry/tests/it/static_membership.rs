//! Tests of the observers of a static list.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::executor::block_on;
use rpcnet_registry::{
    ClusterEvent, Membership, NodeId, NodeInfo, NodeRegistry, Observer, SourceState,
    StaticMembership,
};
use rpcnet_testing::PanicIn;

struct PanickingObserver {
    panic_in: PanicIn,
    events: AtomicUsize,
    after_events: AtomicUsize,
    ends: Mutex<Vec<SourceState>>,
}

impl PanickingObserver {
    fn new(panic_in: PanicIn) -> Arc<Self> {
        Arc::new(Self {
            panic_in,
            events: AtomicUsize::new(0),
            after_events: AtomicUsize::new(0),
            ends: Mutex::default(),
        })
    }

    fn events(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }
}

impl Observer for PanickingObserver {
    fn on_snapshot(&self, _: Vec<NodeInfo>) {
        self.panic_in.enter(PanicIn::Snapshot);
    }

    fn on_event(&self, event: ClusterEvent) {
        if let ClusterEvent::SourceChanged(state) = event {
            self.ends.lock().unwrap().push(state);
            self.panic_in.enter(PanicIn::End);
            return;
        }
        self.events.fetch_add(1, Ordering::Relaxed);
        // One that panics at its end has to panic before.
        self.panic_in.enter(PanicIn::Events);
        self.panic_in.enter(PanicIn::End);
    }

    fn after_events(&self) {
        if self.events() > 0 {
            self.after_events.fetch_add(1, Ordering::Relaxed);
            self.panic_in.enter(PanicIn::AfterEvents);
        }
    }
}

fn node(name: &str) -> NodeInfo {
    NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into())
}

#[test]
fn a_panic_of_an_observer_removes_it_and_harms_nothing_else() {
    use PanicIn::{AfterEvents, End, Events, Nothing, Snapshot};
    let cluster = StaticMembership::new();
    let before = PanickingObserver::new(Nothing);
    let panicking = [Snapshot, Events, AfterEvents, End].map(PanickingObserver::new);
    let after = PanickingObserver::new(Nothing);
    let registry = NodeRegistry::new(cluster.clone());
    let all = std::iter::once(&before).chain(&panicking).chain([&after]);
    let _watches: Vec<_> = all.map(|one| cluster.watch(one.clone())).collect();
    block_on(registry.start());
    for (n, name) in [(1, "a"), (2, "b")] {
        assert!(cluster.insert(node(name)));
        for one in [&before, &after] {
            assert_eq!(one.events(), n);
            assert_eq!(one.after_events.load(Ordering::Relaxed), n);
        }
        assert_eq!(registry.snapshot().len(), n);
    }
    // One that panicked gets no more events, and knows that it is stale.
    assert_eq!(panicking.each_ref().map(|one| one.events()), [0, 1, 1, 1]);
    for one in &panicking {
        assert_eq!(*one.ends.lock().unwrap(), [SourceState::Stopped]);
    }
    assert!(before.ends.lock().unwrap().is_empty());
}
