//! Instructions of a call through the cluster client, beside those of a call on a bare connection.
//!
//! Caller and workers are on one thread and on a network in memory, so that a count of instructions
//! is nearly the same in each run. The cost of a call is the difference of two runs of different
//! length, and what the cluster client adds is the difference of two subjects:
//!
//! ```text
//! CARGO_PROFILE_RELEASE_LTO=off cargo bench -p rpcnet-client --all-features --no-run
//! valgrind --tool=callgrind call_cost-... cluster 3 64 4000
//! valgrind --tool=callgrind call_cost-... cluster 3 64 8000
//! ```
//!
//! The arguments are the subject (`direct`, `cluster` or `route`), the number of workers, of
//! calls in flight and of calls. Without them, each subject makes a few calls.

use std::{env, net::Ipv4Addr, rc::Rc, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use rpcnet_client::{
    ClusterClient, ClusterClientConfig, DevCa, LoadBalancingStrategy, Router, RpcClient, RpcServer,
    TransportConfig, WorkerRegistry, WorkerRoute,
    registry::{NodeId, NodeInfo, StaticMembership},
    transport::MemoryNetwork,
};
use tokio::{runtime::Builder, task::LocalSet};

/// A client of some workers, and a bare connection to each of them.
struct Cluster {
    client: Arc<ClusterClient>,
    route: WorkerRoute,
    direct: Vec<RpcClient>,
    _servers: Vec<RpcServer>,
}

async fn cluster(workers: usize) -> Cluster {
    let ca = DevCa::new("cost");
    let network = MemoryNetwork::new();
    let bind = |name: &str| {
        let any = (Ipv4Addr::UNSPECIFIED, 0).into();
        let identity = ca.issue(name).expect("a node name");
        let bound = network.bind(any, TransportConfig::default(), identity);
        bound.expect("a free address")
    };
    let router = Router::new().raw("echo", |_, body| async move { Ok(body) });
    let caller = bind("caller");
    let list = StaticMembership::new();
    let (mut servers, mut direct) = (Vec::new(), Vec::new());
    for index in 0..workers {
        let name = format!("worker-{index}");
        let server = bind(&name).serve(router.clone());
        let node = NodeInfo::new(NodeId::new(&*name, 1), server.local_addr());
        list.insert(node.with_tag("role", "worker"));
        let connected = caller.connect(server.local_addr(), &name).await;
        direct.push(connected.expect("a connection"));
        servers.push(server);
    }
    let registry = WorkerRegistry::new(list, LoadBalancingStrategy::default());
    registry.start().await;
    let client = ClusterClient::new(Arc::new(registry), ClusterClientConfig::new(caller));
    let client = Arc::new(client);
    Cluster {
        route: client.route(WORKERS),
        client,
        direct,
        _servers: servers,
    }
}

/// Makes calls, so many at a time.
async fn run(cluster: Rc<Cluster>, subject: &str, in_flight: usize, calls: usize) {
    let callers = (0..in_flight).map(|caller| {
        let (cluster, subject) = (Rc::clone(&cluster), subject.to_owned());
        tokio::task::spawn_local(async move {
            for number in 0..calls / in_flight {
                let connection = &cluster.direct[(caller + number) % cluster.direct.len()];
                let reply = match &*subject {
                    "direct" => connection.call("echo", BODY).await.is_ok(),
                    "cluster" => {
                        let call = cluster.client.call_worker("echo", BODY, Some(WORKERS));
                        call.await.is_ok()
                    }
                    "route" => cluster.route.call("echo", BODY).await.is_ok(),
                    other => panic!("no subject: {other}"),
                };
                assert!(reply, "a call has failed");
            }
        })
    });
    for caller in join_all(callers).await {
        caller.expect("the calls succeed");
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index)?.parse().ok();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let subject = arguments.first().filter(|first| !first.starts_with('-'));
    let subjects = subject.map_or_else(|| SUBJECTS.to_vec(), |subject| vec![&**subject]);
    LocalSet::new().block_on(&runtime, async {
        let cluster = Rc::new(cluster(number(1).unwrap_or(2)).await);
        for subject in subjects {
            let (in_flight, calls) = (number(2).unwrap_or(8), number(3).unwrap_or(64));
            run(Rc::clone(&cluster), subject, in_flight, calls).await;
        }
    });
}

const WORKERS: &str = "role=worker";
const BODY: Bytes = Bytes::from_static(&[7; 32]);
const SUBJECTS: [&str; 3] = ["direct", "cluster", "route"];
