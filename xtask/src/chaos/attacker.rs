//! Attacker process: a peer with a valid certificate, which speaks QUIC and TLS correctly and
//! violates the protocol or exhausts resources.

mod greedy;
mod protocol_violator;
mod raw_quic;
mod slot_holder;

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use xtask_harness::NodeSetup;

use self::{
    greedy::hold_resources, protocol_violator::violate_protocol, raw_quic::RawEndpoint,
    slot_holder::hold_slots,
};
use super::{
    node::{Link, Role, unix_ms},
    protocol::{Notice, Order, Target},
};

/// Number of connections and streams that an attacker has opened.
type ActionCount = Arc<AtomicU64>;

/// Runs the attacker until it is told to finish.
pub(super) async fn run_attacker(
    link: &mut Link,
    setup: &NodeSetup,
    role: Role,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let endpoint = RawEndpoint::open(setup)?;
    let notices = link.notices();
    let ready = Notice::Ready {
        addr: endpoint.local_addr()?,
        took_ms: 0,
        clock_ms: unix_ms(),
    };
    notices.send(ready).await;
    let actions = ActionCount::default();
    // Ends with this function.
    let mut attacks = JoinSet::new();
    while let Some(order) = link.next_order().await {
        match order {
            Order::Attack { targets } => {
                start_attacks(role, &endpoint, targets, &actions, &mut attacks).await;
                notices.send(Notice::Done { count: 0 }).await;
            }
            Order::Finish => break,
            _ => {}
        }
    }
    let count = actions.load(Relaxed);
    notices.send(Notice::Done { count }).await;
    Ok(())
}

/// Starts the attacks on all targets; returns when the first round of each is over.
async fn start_attacks(
    role: Role,
    endpoint: &RawEndpoint,
    targets: Vec<Target>,
    actions: &ActionCount,
    attacks: &mut JoinSet<()>,
) {
    let mut first_rounds = Vec::new();
    for (number, target) in (1..).zip(targets) {
        let (first_round, ended) = oneshot::channel();
        first_rounds.push(ended);
        let worker = AttackedWorker {
            endpoint: endpoint.clone(),
            target,
            actions: Arc::clone(actions),
            first_round: Some(first_round),
        };
        match role {
            Role::ProtocolViolator => attacks.spawn(violate_protocol(worker, number)),
            Role::SlotHolder => attacks.spawn(hold_slots(worker)),
            _ => attacks.spawn(hold_resources(worker)),
        };
    }
    let _ = timeout(FIRST_ROUND_TIMEOUT, futures::future::join_all(first_rounds)).await;
}

/// Worker that is attacked in rounds. A step that fails is tried again in the next round.
struct AttackedWorker {
    endpoint: RawEndpoint,
    target: Target,
    actions: ActionCount,
    /// Told when the first round is over.
    first_round: Option<oneshot::Sender<()>>,
}

impl AttackedWorker {
    /// Ends a round; returns when the next one begins.
    async fn end_round(&mut self, interval: Duration) {
        if let Some(first_round) = self.first_round.take() {
            let _ = first_round.send(());
        }
        sleep(interval).await;
    }

    /// A new connection, if the worker takes it.
    async fn connect(&self) -> Option<quinn::Connection> {
        let connecting = self.endpoint.connect(&self.target);
        let connection = timeout(CONNECT_TIMEOUT, connecting).await.ok()?;
        self.count_action(connection)
    }

    /// The connection in this place, which is made anew if it has ended.
    async fn connected(&self, place: &mut Option<quinn::Connection>) -> Option<quinn::Connection> {
        if place.as_ref().is_none_or(|it| it.close_reason().is_some()) {
            *place = self.connect().await;
        }
        place.clone()
    }

    /// A new stream with these bytes at its beginning, if the worker lets it be opened soon.
    async fn open_stream(
        &self,
        connection: &quinn::Connection,
        bytes: &[u8],
    ) -> Option<(quinn::SendStream, quinn::RecvStream)> {
        let opened = timeout(STEP_TIMEOUT, connection.open_bi()).await.ok()?;
        let (mut send, recv) = self.count_action(opened.ok())?;
        let written = timeout(STEP_TIMEOUT, send.write_all(bytes)).await;
        written.is_ok_and(|it| it.is_ok()).then_some((send, recv))
    }

    /// Counts an action that succeeded.
    fn count_action<T>(&self, it: Option<T>) -> Option<T> {
        self.actions.fetch_add(u64::from(it.is_some()), Relaxed);
        it
    }
}

const FIRST_ROUND_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout of a step: a longer one is held up by the worker's limits.
const STEP_TIMEOUT: Duration = Duration::from_millis(20);
