//! Log lines of registries: none is written under the lock of the source.

#![cfg(feature = "swim")]

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
    let (done, is_done) = mpsc::channel();
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

#[test]
fn a_source_that_defers_nothing_logs_at_once() {
    let cluster: StaticMembership = [heavy("a")].into_iter().collect();
    let workers = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    let log = LogCapture::start(Level::DEBUG);
    block_on(workers.start());
    assert_eq!(invalid_tags(&log), 1);
    cluster.insert(heavy("b"));
    assert_eq!(invalid_tags(&log), 1);
}

/// A source that keeps its observer for the test to call.
#[derive(Clone, Default)]
struct ManualMembership(Arc<Mutex<Option<Arc<dyn Observer>>>>);

impl Membership for ManualMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        observer.defer_log();
        observer.on_snapshot(vec![heavy("a")]);
        *self.0.lock().unwrap() = Some(observer);
        Watch::new(|| ())
    }
}

#[test]
fn deferred_lines_are_written_after_the_events() {
    let cluster = ManualMembership::default();
    let workers = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    let log = LogCapture::start(Level::DEBUG);
    block_on(workers.start());
    let observer = cluster.0.lock().unwrap().clone().expect("it is watched");
    observer.on_event(ClusterEvent::NodeJoined(Arc::new(heavy("b"))));
    assert_eq!(invalid_tags(&log), 0);
    observer.after_events();
    assert_eq!(invalid_tags(&log), 2);
    observer.after_events();
    assert_eq!(invalid_tags(&log), 0);
}
