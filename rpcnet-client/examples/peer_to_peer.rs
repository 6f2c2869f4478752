//! Peers: every node serves and calls. Together they are a cache: rendezvous hashing says which two
//! nodes hold a key, the same in every process, so no lookup is needed. The cache goes on answering
//! while nodes join, leave and are killed.
//!
//! - A value never changes: it is the result of something costly, and its key says of what. So any
//!   copy is as good as another.
//! - A read asks both holders at once and takes the first answer: one that has just died costs
//!   nothing.
//! - When a node comes or goes, every peer gives what it has to those who should hold it now. Two
//!   copies survive the loss of one node; what is lost with two at a time would have to be computed
//!   again.
//!
//! Run with `cargo run -p rpcnet-client --example peer_to_peer`.

mod common;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{Process, Result, Trust, count, ensure, until};
use futures::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use rpcnet_client::{Node, NodeBuilder, Worker, WorkerChannel, service};
use tokio::time::timeout;

type Store = Arc<Mutex<BTreeMap<String, String>>>;

/// What a peer does for others.
#[service]
trait Cache {
    #[rpc(idempotent)]
    async fn get(&self, key: String) -> Option<String>;
    #[rpc(idempotent)]
    async fn put(&self, key: String, value: String) -> ();
}

impl Cache for Mutex<BTreeMap<String, String>> {
    async fn get(&self, key: String) -> Option<String> {
        self.lock().unwrap().get(&key).cloned()
    }

    async fn put(&self, key: String, value: String) {
        self.lock().unwrap().insert(key, value);
    }
}

/// A node of the cache.
#[derive(Clone)]
struct Peer {
    node: Node,
    store: Store,
}

impl Peer {
    async fn start(name: &'static str, builder: NodeBuilder) -> Result<Self> {
        let store = Store::default();
        let methods = CacheServer::from_arc(Arc::clone(&store)).into_router();
        let node = builder
            .tag("peer", name)
            // A key may belong to the node itself.
            .select_local(true)
            .serve(methods)
            .start()
            .await?;
        let peer = Self { node, store };
        tokio::spawn(peer.clone().rebalance());
        Ok(peer)
    }

    /// All peers that can be reached, those that should hold the key first: key and name give a
    /// number, the highest come first. When a node goes, only its own keys move. No matter of load:
    /// a copy lies where it lies.
    fn ranking(&self, key: &str) -> Vec<Worker> {
        let mut peers = self.node.workers().select_all(PEERS).unwrap_or_default();
        peers.sort_by_cached_key(|peer| Reverse(hash((key, &peer.id().name))));
        peers
    }

    fn holders(&self, key: &str) -> Vec<Worker> {
        let mut ranking = self.ranking(key);
        ranking.truncate(COPIES);
        ranking
    }

    /// Asks both holders, and only if neither has the value the other peers: a peer may not have
    /// passed it on yet.
    async fn get(&self, key: &str) -> Option<String> {
        for some in self.ranking(key).chunks(COPIES) {
            let asked = some.iter().map(async |peer| {
                let peer = self.client_of(peer);
                peer.get(key.to_owned()).await
            });
            let mut answers: FuturesUnordered<_> = asked.collect();
            while let Some(answer) = answers.next().await {
                if let Ok(Some(value)) = answer {
                    return Some(value);
                }
            }
        }
        None
    }

    /// Gives the value to both holders, and again for as long as one of them has not got it: that
    /// one may be about to be declared failed, and then another peer is a holder.
    async fn put(&self, key: &str, value: &str) {
        loop {
            let holders = self.holders(key);
            let given = holders.iter().map(async |peer| {
                let peer = self.client_of(peer);
                peer.put(key.to_owned(), value.to_owned()).await
            });
            if try_join_all(given).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client that calls this peer and no other.
    fn client_of(&self, peer: &Worker) -> CacheClient<WorkerChannel> {
        let filter = format!("peer={}", peer.id());
        CacheClient::new(self.node.client().workers(Some(&filter)))
    }

    /// Passes all values to the peers that should hold them, whenever a peer joins or leaves, and
    /// now and then, since not all peers hear of that at once.
    async fn rebalance(self) {
        let mut changes = self.node.workers().subscribe();
        while let Ok(Some(_)) | Err(_) = timeout(Duration::from_secs(1), changes.recv()).await {
            let all = self.store.lock().unwrap().clone();
            for (key, value) in all {
                self.put(&key, &value).await;
            }
        }
    }
}

/// The same in all processes of one build; where builds differ, take a hash that is specified.
fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The peers of this run, by name.
type Peers = BTreeMap<&'static str, Process<Peer>>;

async fn join(trust: &Trust, peers: &mut Peers, name: &'static str) -> Result {
    let seeds = peers.values().next().map(|one| one.node.addr().to_string());
    let builder = trust.node(name)?.seeds(seeds);
    peers.insert(name, Process::start(Peer::start(name, builder)).await?);
    println!("{name} joins");
    Ok(())
}

/// Waits until all know all and every key is where it should be, and says who holds how much.
async fn settle(peers: &Peers) -> Result {
    let is_settled = || {
        peers
            .values()
            .all(|one| count(&one.node, PEERS) == peers.len())
            && KEYS.map(key).all(|key| {
                peers["ada"]
                    .holders(&key)
                    .iter()
                    .all(|one| peers[&*one.label].store.lock().unwrap().contains_key(&key))
            })
    };
    until("two peers hold each key", is_settled).await?;
    let mut held = BTreeMap::new();
    for key in KEYS.map(key) {
        for holder in peers["ada"].holders(&key) {
            *held.entry(holder.label.to_string()).or_insert(0) += 1;
        }
    }
    println!("  two copies of each of {} keys: {held:?}", KEYS.end);
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    let trust = Trust::new();
    let mut peers = Peers::new();
    for name in ["ada", "barbara", "edsger", "grace"] {
        join(&trust, &mut peers, name).await?;
    }
    for (n, by) in KEYS.zip(peers.values().cycle()) {
        by.put(&key(n), &value(n)).await;
    }
    settle(&peers).await?;

    // Two peers read all the time from here on, and every key once more when the changes are over.
    let over = Arc::new(AtomicBool::new(false));
    let readers = ["ada", "grace"].map(|name| {
        let (peer, over) = (peers[name].clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut missed = 0;
            loop {
                let last = over.load(SeqCst);
                for n in KEYS {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    missed += usize::from(peer.get(&key(n)).await != Some(value(n)));
                }
                if last {
                    return missed;
                }
            }
        })
    });
    join(&trust, &mut peers, "tony").await?;
    settle(&peers).await?;
    println!("barbara leaves");
    if let Some(barbara) = peers.remove("barbara") {
        barbara.node.shutdown(Duration::from_secs(10)).await;
    }
    settle(&peers).await?;
    println!("edsger is killed");
    if let Some(edsger) = peers.remove("edsger") {
        edsger.kill().await?;
    }
    settle(&peers).await?;
    over.store(true, SeqCst);
    let mut missed = 0;
    for reader in readers {
        missed += reader.await?;
    }
    ensure(missed == 0, "every read finds its value")?;
    println!("every read meanwhile found its value");
    let none = peers["tony"].get("never put").await;
    ensure(none.is_none(), "an unknown key is a miss")
}

fn key(n: u32) -> String {
    format!("square of {n}")
}

fn value(n: u32) -> String {
    (u64::from(n) * u64::from(n)).to_string()
}

const PEERS: Option<&str> = Some("peer");

/// How many hold each key.
const COPIES: usize = 2;

const KEYS: Range<u32> = 0..60;
