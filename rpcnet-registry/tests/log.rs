//! Log lines of registries: none is written under the lock of the source.

#![cfg(feature = "swim")]

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::executor::block_on;
use rpcnet_registry::{
    ClusterEvent, LoadBalancingStrategy, Membership, NodeId, NodeInfo, Observer, StaticMembership,
    Watch, WorkerRegistry,
};
use rpcnet_swim::{ClusterConfig, ClusterMembership, DatagramSocket};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::with_default,
};

/// Log that keeps the lines about invalid tags, and calls a function at each.
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    on_line: Box<dyn Fn() + Send + Sync>,
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0 == "invalid tag" {
            (self.on_line)();
            self.lines.lock().unwrap().push(message.0);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A socket that receives nothing and loses all that is sent.
struct Null;

impl DatagramSocket for Null {
    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        Poll::Pending
    }

    fn poll_send(&self, _: &mut Context<'_>, _: &[u8], _: SocketAddr) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 7946).into())
    }
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
            let config = ClusterConfig::local().with_name("me");
            let me = ClusterMembership::with_socket(config, Arc::new(Null));
            let me = me.await.unwrap();
            let lines = Arc::default();
            let node = me.clone();
            let log = Log {
                lines: Arc::clone(&lines),
                on_line: Box::new(move || assert_eq!(&*node.local_id().name, "me")),
            };
            me.set_tag("weight", "heavy").unwrap();
            let workers = WorkerRegistry::new(me.clone(), LoadBalancingStrategy::RoundRobin);
            with_default(log, || {
                block_on(workers.start());
                assert_eq!(lines.lock().unwrap().len(), 1, "of the snapshot");
                me.set_tag("weight", "heavier").unwrap();
                assert_eq!(lines.lock().unwrap().len(), 2, "of the event");
            });
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).expect("no deadlock");
}

fn heavy(name: &str) -> NodeInfo {
    NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into()).with_tag("weight", "heavy")
}

#[test]
fn a_source_that_defers_nothing_logs_at_once() {
    let cluster: StaticMembership = [heavy("a")].into_iter().collect();
    let workers = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    let lines = Arc::default();
    let log = Log {
        lines: Arc::clone(&lines),
        on_line: Box::new(|| ()),
    };
    with_default(log, || {
        block_on(workers.start());
        assert_eq!(lines.lock().unwrap().len(), 1);
        cluster.insert(heavy("b"));
        assert_eq!(lines.lock().unwrap().len(), 2);
    });
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
    let lines = Arc::default();
    let log = Log {
        lines: Arc::clone(&lines),
        on_line: Box::new(|| ()),
    };
    with_default(log, || {
        block_on(workers.start());
        let observer = cluster.0.lock().unwrap().clone().expect("it is watched");
        observer.on_event(ClusterEvent::NodeJoined(Arc::new(heavy("b"))));
        assert!(lines.lock().unwrap().is_empty());
        observer.after_events();
        assert_eq!(lines.lock().unwrap().len(), 2);
        observer.after_events();
        assert_eq!(lines.lock().unwrap().len(), 2);
    });
}

/// Longest wait before a deadlock is assumed.
const PATIENCE: Duration = Duration::from_secs(60);
