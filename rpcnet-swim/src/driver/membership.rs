//! The handle of a node.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{Instant, timeout};

use super::advertise::initial_advertise_addr;
use super::event_loop::run;
use super::events::EventStream;
use super::outcome::{JoinError, JoinOutcome, LeaveError, StartError};
use super::seed_list::SeedList;
use super::shared::{DriverShared, DriverState, EventChannel, unix_millis};
use super::socket::{DatagramSocket, bind};
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::error::TagError;
use crate::event::{Member, MembershipState, PartitionStatus};
use crate::health::Health;
use crate::id::NodeId;
use crate::key::KeyId;
use crate::seed;
use crate::split_brain::{ClusterView, Decision, SplitBrainPolicy};
use crate::stats::Stats;
use crate::tags::Tags;

/// A node that is a member of a cluster, or on its way to be one. Cheap to clone; all clones are
/// the same node.
///
/// A task of the tokio runtime drives it until it [`leave`](Self::leave)s or the last clone is
/// dropped, which looks to the others like a crash.
///
/// ```
/// use rpcnet_swim::{ClusterConfig, ClusterMembership, Event};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let first = ClusterMembership::new(ClusterConfig::local().with_name("first")).await?;
/// let mut events = first.subscribe();
///
/// let second = ClusterMembership::new(ClusterConfig::local().with_name("second")).await?;
/// second.join([first.local_addr().to_string()]).await?;
///
/// assert!(matches!(events.recv().await, Some(Event::NodeJoined(m)) if &*m.id.name == "second"));
/// second.leave().await?;
/// assert!(matches!(events.recv().await, Some(Event::NodeLeft(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClusterMembership {
    pub(super) shared: Arc<DriverShared>,
    /// Tells the driver when the last handle is gone.
    _stop_on_drop: Arc<StopOnDrop>,
}

struct StopOnDrop {
    shared: Arc<DriverShared>,
}

impl ClusterMembership {
    /// Starts a node on a UDP socket of its own. If the configuration names seeds, it dials them
    /// from now on; [`join`](Self::join) waits for that.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started.
    pub async fn new(config: ClusterConfig) -> Result<Self, StartError> {
        config.validate()?;
        let _ = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let addr = config.bind_addr;
        let socket = bind(addr).map_err(|source| StartError::Bind { addr, source })?;
        Self::with_socket(config, Arc::new(socket)).await
    }

    /// Starts a node on a socket that is there already, as a port shared with QUIC. The bind
    /// address of the configuration is not used, except to tell whether gossip may be insecure.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started.
    pub async fn with_socket(
        mut config: ClusterConfig,
        socket: Arc<dyn DatagramSocket>,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let addr = config.bind_addr;
        let local_addr = socket
            .local_addr()
            .map_err(|source| StartError::Bind { addr, source })?;
        config.bind_addr = local_addr;
        config.validate()?;
        config.trim_seeds()?;
        // Names are looked up later: one that does not resolve, or not yet, holds up no start.
        let seeds: Vec<SocketAddr> = config.seeds.iter().filter_map(|s| s.parse().ok()).collect();
        let addr = initial_advertise_addr(&config, local_addr, &seeds);
        let name = config.name.clone().unwrap_or_else(random_name);
        let id = NodeId::new(name, unix_millis());
        let started = Instant::now();
        let engine = Engine::new(config.clone(), id, addr, crate::Time::ZERO, random_u64())?;
        let shared = Arc::new(DriverShared {
            engine: Mutex::new(engine),
            runtime: runtime.clone(),
            started,
            wake: Notify::new(),
            stop: Notify::new(),
            socket_errors: AtomicU64::new(0),
            events: Mutex::new(EventChannel::Unused),
            state: watch::Sender::new(DriverState::default()),
            seeds: Mutex::new(SeedList::new(config.seeds.clone(), local_addr)),
            config,
        });
        runtime.spawn(run(Arc::clone(&shared), socket));
        Ok(Self {
            _stop_on_drop: Arc::new(StopOnDrop {
                shared: Arc::clone(&shared),
            }),
            shared,
        })
    }

    /// Joins through any of `seeds` (`address:port` or `name:port`) and those of the
    /// configuration, and waits until one has let this node in and their views agree: then this
    /// node knows of everybody. With no seeds at all this node is a cluster of its own, and so is
    /// one that is itself a seed, if no other one answers (see
    /// [`with_seeds`](ClusterConfig::with_seeds)). One that is in already, be it a cluster of its
    /// own, does not wait: it dials the seeds and merges with those who answer.
    ///
    /// # Errors
    /// [`JoinError::NoSeedAnswered`] after the join timeout, or at once if every seed is of an
    /// address family that the socket cannot send to; the node goes on trying, so this may
    /// be called again just to wait. [`JoinError::Refused`] if a seed did not let it in, and
    /// [`JoinError::ClockSkew`] if that is because the clocks are too far apart.
    /// [`JoinError::Superseded`] if a newer node has this node's name.
    /// [`JoinError::InvalidSeed`] for what can never be a seed.
    /// [`JoinError::Stopped`] if the node has left.
    pub async fn join<S: Into<String>>(
        &self,
        seeds: impl IntoIterator<Item = S>,
    ) -> Result<JoinOutcome, JoinError> {
        let mut state = self.shared.state.subscribe();
        let seeds: Vec<String> = seeds.into_iter().map(Into::into).collect();
        let seeds = seed::parse_all(&seeds)
            .map_err(|(seed, reason)| JoinError::InvalidSeed { seed, reason })?;
        self.shared.seeds.lock().add(seeds);
        self.shared.update_seed_reachability();
        if self.shared.seeds().is_none() {
            self.shared
                .engine
                .lock()
                .handle_seeds(self.shared.now(), &[]);
        } else {
            self.shared.engine.lock().want_seeds();
        }
        self.shared.wake.notify_one();
        let settled = state.wait_for(|state| {
            let is_in_vain = state.seeds_unreachable && !state.joined;
            (state.joined && state.view_complete) || state.superseded || state.stopped || is_in_vain
        });
        let settled = {
            // So that it may be waited for on a thread without a runtime.
            let _inside = self.shared.runtime.enter();
            timeout(self.shared.config.join_timeout, settled)
        };
        let settled = settled.await;
        // Without the guard of the state that it may hold.
        let settled =
            settled.map(|state| state.map_or_else(|_| DriverState::ended(), |state| *state));
        let is_in = self.shared.state.borrow().joined;
        match settled {
            Ok(DriverState { joined: true, .. }) if self.live_count() == 1 => {
                Ok(JoinOutcome::Alone)
            }
            Ok(DriverState { joined: true, .. }) => Ok(JoinOutcome::Complete),
            Ok(state) => Err(match self.state() {
                MembershipState::Superseded { by, addr } => JoinError::Superseded { by, addr },
                _ if state.stopped => JoinError::Stopped,
                _ => self.shared.join_failure(),
            }),
            Err(_) if is_in => Ok(JoinOutcome::Partial),
            Err(_) => Err(self.shared.join_failure()),
        }
    }

    /// The tokio runtime that it was started in and that drives it. When it ends, the node does.
    pub fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Tells the others that this node leaves and waits until enough of them know. They record it
    /// as left, not as failed. Gives how many acknowledged it.
    ///
    /// # Errors
    /// [`LeaveError::Unacknowledged`] if there were others and none of them acknowledged it in
    /// the leave timeout: they will find it failed. The node is gone all the same.
    pub async fn leave(&self) -> Result<usize, LeaveError> {
        self.leave_within(Duration::MAX).await
    }

    /// Like [`leave`](Self::leave), but waits for acknowledgements for `grace` at most, if the
    /// leave timeout is longer. Unlike a future that is dropped, it counts those that came.
    ///
    /// # Errors
    /// As [`leave`](Self::leave).
    pub async fn leave_within(&self, within: Duration) -> Result<usize, LeaveError> {
        let mut state = self.shared.state.subscribe();
        let others = {
            let mut engine = self.shared.engine.lock();
            let state = engine.state();
            engine.leave_within(self.shared.now(), within);
            match state {
                // The name is another's: there is nobody to tell.
                MembershipState::Superseded { .. } => 0,
                _ => engine.live_count() - 1,
            }
        };
        self.shared.wake.notify_one();
        // The engine ends every leave; the driver that ends without it has none to wait for.
        let left = state
            .wait_for(|state| state.stopped)
            .await
            .ok()
            .and_then(|state| state.left);
        match left.unwrap_or(0) {
            0 if others > 0 => Err(LeaveError::Unacknowledged { members: others }),
            acknowledged => Ok(acknowledged),
        }
    }

    /// Sets one tag of this node; the others hear of it by gossip.
    ///
    /// # Errors
    /// [`TagError`] if the tags would be too large; they are as they were.
    pub fn set_tag(&self, key: &str, value: &str) -> Result<(), TagError> {
        self.edit_tags(|tags| tags.with(key, value))
    }

    /// Sets several tags of this node at once: others see all of them or none.
    ///
    /// # Errors
    /// [`TagError`] if the tags would be too large; they are as they were.
    pub fn update_tags<K, V>(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<(), TagError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        self.edit_tags(|tags| {
            let old = tags
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
            let new = pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()));
            Tags::from_pairs(old.chain(new))
        })
    }

    /// Removes one tag of this node, if it is there.
    pub fn remove_tag(&self, key: &str) {
        let removed = self.edit_tags(|tags| Ok(tags.without(key)));
        debug_assert_eq!(removed, Ok(()), "fewer tags always fit");
    }

    /// Announces that this node takes no new work, or that it does again.
    pub fn set_draining(&self, draining: bool) {
        self.shared
            .engine
            .lock()
            .set_draining(self.shared.now(), draining);
        self.shared.wake.notify_one();
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> EventStream {
        let mut subscribers = self.shared.events.lock();
        let receiver = match &*subscribers {
            EventChannel::Open(events) => events.subscribe(),
            EventChannel::Unused => {
                let (events, receiver) = broadcast::channel(self.shared.config.event_capacity);
                *subscribers = EventChannel::Open(events);
                receiver
            }
            // Closed from the start.
            EventChannel::Closed => broadcast::Sender::new(1).subscribe(),
        };
        EventStream { receiver }
    }

    /// What part this node takes in the cluster: whether it is in, is superseded by a newer node of
    /// its name, or has left.
    pub fn state(&self) -> MembershipState {
        let state = self.shared.engine.lock().state();
        let driver = *self.shared.state.borrow();
        match driver.stopped && driver.left.is_none() {
            true => MembershipState::Stopped,
            false => state,
        }
    }

    /// This node's id.
    pub fn local_id(&self) -> NodeId {
        self.shared.engine.lock().id()
    }

    /// This node as others see it.
    pub fn local_member(&self) -> Member {
        self.shared.engine.lock().local_member()
    }

    /// Every member that is tracked, this node first, failed and left ones too.
    pub fn members(&self) -> Vec<Member> {
        let engine = self.shared.engine.lock();
        std::iter::once(engine.local_member())
            .chain(engine.members())
            .collect()
    }

    /// How many members are live, this node included; takes the same time however many there are.
    pub fn live_count(&self) -> usize {
        self.shared.engine.lock().live_count()
    }

    /// The live members whose tag `key` is `value`, this node among them if it has it.
    pub fn nodes_with_tag(&self, key: &str, value: &str) -> Vec<Member> {
        let mut members = self.members();
        members.retain(|m| m.state.is_live() && m.tags.get(key) == Some(value));
        members
    }

    /// How sure this node is that a member is gone, on the scale of phi: at 8 the chance that it
    /// is alive is one in a hundred million. None for a node that is not tracked.
    pub fn phi(&self, id: &NodeId) -> Option<f64> {
        self.shared.engine.lock().phi(id, self.shared.now())
    }

    /// How a member does: whether it answers, how fast, and since when that is known. None for a
    /// node that is not tracked.
    pub fn health(&self, id: &NodeId) -> Option<Health> {
        self.shared.engine.lock().health(id, self.shared.now())
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.engine.lock().stats()
    }

    /// Errors of the socket so far; datagrams that it had no room for are among them.
    pub fn socket_errors(&self) -> u64 {
        self.shared.socket_errors.load(Ordering::Relaxed)
    }

    /// Whether this node sees the whole cluster.
    pub fn partition_status(&self) -> PartitionStatus {
        self.shared.engine.lock().partition_status()
    }

    /// Whether this node may serve while the cluster may be split, by what it sees now.
    ///
    /// Looks at every member, so ask when an event says that something changed, or a few times a
    /// second, rather than for every request.
    pub fn may_serve(&self, policy: &SplitBrainPolicy) -> Decision {
        let mut engine = self.shared.engine.lock();
        engine.watch_policy(policy);
        engine.may_serve(policy, self.shared.now())
    }

    /// The expected members, as [`may_serve`](Self::may_serve) goes by; see
    /// [`Engine::view`](crate::Engine::view) for who is expected.
    pub fn view(&self) -> ClusterView {
        self.shared.engine.lock().view(self.shared.now())
    }

    /// Hash of the view: equal in all nodes that know of the same live members.
    pub fn view_hash(&self) -> u64 {
        self.shared.engine.lock().view_hash()
    }

    /// With which key each member seals: whether a rotation is through.
    pub fn keys_in_use(&self) -> Vec<(NodeId, KeyId)> {
        self.shared.engine.lock().keys_in_use()
    }

    fn edit_tags(
        &self,
        edit: impl FnOnce(&Tags) -> Result<Tags, TagError>,
    ) -> Result<(), TagError> {
        let mut engine = self.shared.engine.lock();
        let tags = edit(&engine.local_member().tags)?;
        engine.set_tags(self.shared.now(), tags)?;
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl fmt::Debug for ClusterMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterMembership")
            .field(&self.shared.engine.lock())
            .finish()
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
    }
}

fn random_name() -> String {
    format!("node-{:016x}", random_u64())
}

fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    u64::from_le_bytes(bytes)
}
