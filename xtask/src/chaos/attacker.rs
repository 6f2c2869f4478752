//! A child process that does harm: a peer with a good certificate, which speaks QUIC and TLS rightly and the protocol as it likes.

mod greedy;
mod keyed;
mod liar;
mod raw;

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{greedy::Greedy, keyed::Keyed, liar::Liar, raw::RawEndpoint};
use super::{
    node::{self, Link, Role},
    protocol::{Notice, Order, Target},
};

/// How many connections and streams an attacker has opened.
type Acts = Arc<AtomicU64>;

/// Runs the attacker until it is told to finish.
pub(super) async fn attack(
    link: &mut Link,
    role: Role,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let setup = node::setup(link).await?;
    let endpoint = RawEndpoint::open(&setup.node)?;
    let notices = link.notices();
    let addr = endpoint.local_addr()?;
    notices.tell(Notice::Ready { addr }).await;
    let acts = Acts::default();
    // Ends with this function.
    let mut attacks = JoinSet::new();
    while let Some(order) = link.order().await {
        match order {
            Order::Attack { targets } => {
                begin(role, &endpoint, targets, &acts, &mut attacks).await;
                notices.tell(Notice::Attacking).await;
            }
            Order::Finish => break,
            _ => {}
        }
    }
    let acts = acts.load(Relaxed);
    notices.tell(Notice::Attacked { acts }).await;
    Ok(())
}

/// Begins to do harm to each of them; returns when the first round of it is over.
async fn begin(
    role: Role,
    endpoint: &RawEndpoint,
    targets: Vec<Target>,
    acts: &Acts,
    attacks: &mut JoinSet<()>,
) {
    let mut begun = Vec::new();
    for (number, target) in (1..).zip(targets) {
        let peer = Peer {
            endpoint: endpoint.clone(),
            target,
            acts: Arc::clone(acts),
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        begun.push(told);
        attacks.spawn(async move {
            match role {
                Role::Liar => rounds(Liar::new(peer, number), LIES_EVERY, tell).await,
                Role::Keyed => rounds(Keyed::new(peer), GRABS_EVERY, tell).await,
                _ => rounds(Greedy::new(peer), GRABS_EVERY, tell).await,
            }
        });
    }
    let _ = timeout(BEGIN_WITHIN, futures::future::join_all(begun)).await;
}

async fn rounds(mut attack: impl Attack, every: Duration, begun: tokio::sync::oneshot::Sender<()>) {
    attack.round().await;
    let _ = begun.send(());
    loop {
        sleep(every).await;
        attack.round().await;
    }
}

/// Harm that is done to one worker, again and again. What fails is tried again in the next round.
trait Attack {
    /// Does it once more.
    fn round(&mut self) -> impl Future<Output = ()> + Send;
}

/// The worker that is attacked, and the way to it.
#[derive(Debug)]
struct Peer {
    endpoint: RawEndpoint,
    target: Target,
    acts: Acts,
}

impl Peer {
    /// A new connection, if the worker takes it.
    async fn connect(&self) -> Option<quinn::Connection> {
        let connecting = self.endpoint.connect(&self.target);
        let connection = timeout(CONNECT_WITHIN, connecting).await.ok()?;
        self.act(connection)
    }

    /// The connection in this place, which is made anew if it has ended.
    async fn connected(&self, place: &mut Option<quinn::Connection>) -> Option<quinn::Connection> {
        if place.as_ref().is_none_or(|it| it.close_reason().is_some()) {
            *place = self.connect().await;
        }
        place.clone()
    }

    /// A new stream with these bytes at its beginning, if the worker lets it be opened soon.
    async fn call(
        &self,
        connection: &quinn::Connection,
        bytes: &[u8],
    ) -> Option<(quinn::SendStream, quinn::RecvStream)> {
        let opened = timeout(STEP_WITHIN, connection.open_bi()).await.ok()?;
        let (mut send, recv) = self.act(opened.ok())?;
        let written = timeout(STEP_WITHIN, send.write_all(bytes)).await;
        written.is_ok_and(|it| it.is_ok()).then_some((send, recv))
    }

    /// Counts it if it came about.
    fn act<T>(&self, it: Option<T>) -> Option<T> {
        self.acts.fetch_add(u64::from(it.is_some()), Relaxed);
        it
    }
}

const BEGIN_WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// What takes longer is held up by the worker's limits.
const STEP_WITHIN: Duration = Duration::from_millis(20);
/// A body goes on by a few bytes in each round.
const GRABS_EVERY: Duration = Duration::from_secs(1);
const LIES_EVERY: Duration = Duration::from_millis(10);
