//! Log lines of registries: none is written under the lock of the source.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use futures::executor::block_on;
use rpcnet_registry::{
    ClusterEvent, LoadBalancingStrategy, Membership, NodeId, NodeInfo, Observer, StaticMembership,
    Watch, WorkerRegistry,
};
use rpcnet_swim::{ClusterConfig, ClusterMembership};
use rpcnet_testing::{LogCapture, LogLine, TEST_TIMEOUT};
use tracing::Level;

/// Number of lines about invalid tags since the last call.
fn invalid_tags(log: &LogCapture) -> usize {
    let lines = log.take();
    lines.iter().filter(|line| is_invalid_tag(line)).count()
}

fn is_invalid_tag(line: &LogLine) -> bool {
    line.text.starts_with("message=invalid tag ")
}

/// On a thread of its own: a deadlock fails the test.
#[test]
fn a_log_may_read_the_node_that_the_registry_follows() {
    let (done, is_done) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let me = ClusterMembership::new(ClusterConfig::local().with_name("me"));
            let me = me.await.unwrap();
            me.set_tag("weight", "heavy").unwrap();
            let workers = WorkerRegistry::new(me.clone(), LoadBalancingStrategy::RoundRobin);
            let node = me.clone();
            let log = LogCapture::start_with(Level::DEBUG, move |line| {
                if is_invalid_tag(line) {
                    assert_eq!(&*node.local_id().name, "me");
                }
            });
            block_on(workers.start());
            assert_eq!(invalid_tags(&log), 1, "of the snapshot");
            me.set_tag("weight", "heavier").unwrap();
            assert_eq!(invalid_tags(&log), 1, "of the event");
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(TEST_TIMEOUT).expect("no deadlock");
}

fn heavy(name: &str) -> NodeInfo {
    NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into()).with_tag("weight", "heavy")
}

/// On a thread of its own: a deadlock fails the test.
#[test]
fn a_log_may_read_the_list_that_the_registry_follows() {
    let (done, is_done) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let cluster: StaticMembership = [heavy("a")].into_iter().collect();
        let workers = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
        let list = cluster.clone();
        let log = LogCapture::start_with(Level::DEBUG, move |_| {
            assert!(format!("{list:?}").contains("heavy"));
        });
        block_on(workers.start());
        assert_eq!(invalid_tags(&log), 1, "of the snapshot");
        cluster.insert(heavy("b"));
        assert_eq!(invalid_tags(&log), 1, "of the event");
        done.send(()).unwrap();
    });
    is_done.recv_timeout(TEST_TIMEOUT).expect("no deadlock");
}

/// A source that keeps its observer for the test to call.
#[derive(Clone, Default)]
struct ManualMembership {
    observer: Arc<Mutex<Option<Arc<dyn Observer>>>>,
    defers_log: bool,
}

impl ManualMembership {
    fn observer(&self) -> Arc<dyn Observer> {
        let observer = self.observer.lock().unwrap();
        observer.clone().expect("it is watched")
    }
}

impl Membership for ManualMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        if self.defers_log {
            observer.defer_log();
        }
        observer.on_snapshot(vec![heavy("a")]);
        *self.observer.lock().unwrap() = Some(observer);
        Watch::new(|| ())
    }
}

#[test]
fn deferred_lines_are_written_after_the_events_and_others_at_once() {
    for defers_log in [true, false] {
        let cluster = ManualMembership {
            defers_log,
            ..ManualMembership::default()
        };
        let workers = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
        let log = LogCapture::start(Level::DEBUG);
        block_on(workers.start());
        let observer = cluster.observer();
        observer.on_event(ClusterEvent::NodeJoined(Arc::new(heavy("b"))));
        let at_once = if defers_log { 0 } else { 2 };
        assert_eq!(invalid_tags(&log), at_once);
        observer.after_events();
        assert_eq!(invalid_tags(&log), 2 - at_once);
        observer.after_events();
        assert_eq!(invalid_tags(&log), 0);
    }
}
