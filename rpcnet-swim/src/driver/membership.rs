//! `ClusterMembership`: the handle of a running node.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::advertise::initial_advertise_addr;
use super::event_loop::run;
use super::events::EventStream;
use super::lifecycle::{DriverState, Lifecycle};
use super::observation::Observation;
use super::observer::MembershipObserver;
use super::outcome::{JoinError, JoinOutcome, LeaveError, StartError};
use super::seed_list::SeedList;
use super::shared::{DriverShared, unix_millis};
use super::socket::{DatagramSocket, bind};
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::engine::engine_seed::EngineSeed;
use crate::error::{ConfigError, TagError};
use crate::event::{AddressStatus, Member, MembershipState, PartitionStatus};
use crate::health::Health;
use crate::id::NodeId;
use crate::key::KeyId;
use crate::seed;
use crate::split_brain::{ClusterView, Decision, SplitBrainPolicy};
use crate::stats::Stats;
use crate::tags::Tags;

/// Handle of a node that is a member of a cluster, or on its way to be one. Cheap to clone; all
/// clones are the same node.
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

    /// Starts a node on an existing socket, such as a port shared with QUIC. The bind address of
    /// the configuration is not used, except to tell whether gossip may be insecure.
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
        let id = NodeId::new(name, unix_millis(&config));
        let started = Instant::now();
        let seed = config.rng_seed.map_or_else(random_seed, EngineSeed::from);
        let engine = Engine::new(config.clone(), id, addr, crate::Time::ZERO, seed)?;
        let seeds = SeedList::new(config.seeds.clone(), local_addr);
        let shared = DriverShared::new(engine, runtime.clone(), started, seeds, config);
        let shared = Arc::new(shared);
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
    /// node knows every member, and so does every
    /// [observer](Self::observe) of it. With no seeds at all this node is a cluster of its own, and
    /// so is one that is itself a seed, if no other one answers (see
    /// [`with_seeds`](ClusterConfig::with_seeds)). One that has joined already, be it a cluster of
    /// its own, does not wait: it dials the seeds and merges with those that answer.
    ///
    /// # Errors
    /// [`JoinError::NoSeedAnswered`] after the join timeout, or at once if every seed is of an
    /// address family that the socket cannot send to; the node goes on trying, so this may
    /// be called again just to wait. [`JoinError::Refused`] if a seed did not let it in, and
    /// [`JoinError::ClockSkew`] if that is because the clocks are too far apart.
    /// [`JoinError::Superseded`] if a newer node has this node's name.
    /// [`JoinError::InvalidSeed`] for a text that can never be a seed.
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
        let has_seeds = self.shared.seeds().is_some();
        self.shared.input(|engine, now| match has_seeds {
            true => engine.want_seeds(),
            false => engine.handle_seeds(now, &[]),
        });
        self.shared.wake.notify_one();
        let decided = state.wait_for(DriverState::decides_join);
        let decided = {
            // Entered, so that a thread without a runtime may wait too.
            let _inside = self.shared.runtime.enter();
            timeout(self.shared.config.join_timeout, decided)
        };
        let decided = match decided.await {
            Ok(state) => Some(state.map_or(Lifecycle::Stopped, |state| state.lifecycle)),
            Err(_) => None,
        };
        match decided {
            Some(lifecycle) if lifecycle.is_member() && self.live_count() == 1 => {
                Ok(JoinOutcome::Alone)
            }
            Some(lifecycle) if lifecycle.is_member() => Ok(JoinOutcome::Complete),
            Some(lifecycle) => Err(match self.state() {
                MembershipState::Superseded { by, addr } => JoinError::Superseded { by, addr },
                _ if lifecycle.is_over() => JoinError::Stopped,
                _ => self.shared.join_failure(),
            }),
            None if self.shared.state.borrow().lifecycle.is_member() => Ok(JoinOutcome::Partial),
            None => Err(self.shared.join_failure()),
        }
    }

    /// The tokio runtime that the node was started in and that drives it. When it ends, the node
    /// does.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Ends the node at once and tells no member, as a crash would; the others find it failed. What
    /// waits for it returns. For tests of failures; see [`leave`](Self::leave).
    pub fn abort(&self) {
        self.shared.stop.notify_one();
    }

    /// Tells the others that this node leaves and waits until enough of them know. They record it
    /// as left, not as failed. Returns how many acknowledged it.
    ///
    /// # Errors
    /// [`LeaveError::Unacknowledged`] if there were others and none of them acknowledged it in
    /// the leave timeout: they will find it failed. The node has left all the same.
    pub async fn leave(&self) -> Result<usize, LeaveError> {
        self.leave_within(Duration::MAX).await
    }

    /// Like [`leave`](Self::leave), but waits for acknowledgements for `within` at most, if the
    /// leave timeout is longer. Unlike a future that is dropped, it counts those that came.
    ///
    /// # Errors
    /// As [`leave`](Self::leave).
    pub async fn leave_within(&self, within: Duration) -> Result<usize, LeaveError> {
        let mut state = self.shared.state.subscribe();
        let others = self.shared.input(|engine, now| {
            let state = engine.state();
            engine.leave_within(now, within);
            match state {
                // The name is another node's: there is no member to tell.
                MembershipState::Superseded { .. } => 0,
                _ => engine.live_count() - 1,
            }
        });
        self.shared.wake.notify_one();
        // The engine ends every leave; a driver that ended without a leave has none to wait for.
        let ended = state.wait_for(|state| state.lifecycle.is_over()).await;
        let acknowledged = match ended.map(|state| state.lifecycle) {
            Ok(Lifecycle::Left { acknowledged }) => acknowledged,
            _ => 0,
        };
        match acknowledged {
            0 if others > 0 => Err(LeaveError::Unacknowledged { members: others }),
            acknowledged => Ok(acknowledged),
        }
    }

    /// Sets one tag of this node; the others hear of it by gossip.
    ///
    /// # Errors
    /// [`TagError`] if the tags would be too large; they are unchanged.
    pub fn set_tag(&self, key: &str, value: &str) -> Result<(), TagError> {
        self.edit_tags(|tags| tags.with(key, value))
    }

    /// Sets several tags of this node at once: others see all of them or none.
    ///
    /// # Errors
    /// [`TagError`] if the tags would be too large; they are unchanged.
    pub fn update_tags<K, V>(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<(), TagError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        // Collected first: the iterator is the caller's code, which does not run under the lock.
        let new: Vec<(String, String)> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        self.edit_tags(|tags| {
            let old = tags
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
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
            .input(|engine, now| engine.set_draining(now, draining));
        self.shared.wake.notify_one();
    }

    /// Subscribes to the events from now on. Each event comes after the
    /// [observers](Self::observe) have taken it in.
    #[must_use]
    pub fn subscribe(&self) -> EventStream {
        self.shared.subscribe()
    }

    /// Hands the view of this node to `observer`, and every change from now on, until the
    /// [`Observation`] is dropped.
    ///
    /// The observer of a node whose driver has ended gets the end before this returns.
    pub fn observe(&self, observer: Arc<dyn MembershipObserver>) -> Observation {
        Observation::new(Arc::clone(&self.shared), observer)
    }

    /// Advertises another address from now on, set by hand: what peers see no longer changes it.
    /// Port 0 stands for the port advertised so far.
    ///
    /// # Errors
    /// [`ConfigError::UnusableAdvertiseAddr`] if no node could send to it; nothing changed.
    pub fn set_advertise_addr(&self, addr: SocketAddr) -> Result<(), ConfigError> {
        let set = self
            .shared
            .input(|engine, now| engine.set_advertise_addr(now, addr));
        self.shared.wake.notify_one();
        set
    }

    /// Whether the advertised address leads to this node, judged by the pings that arrive. With a
    /// [problem](AddressStatus::is_problem), calls and probes of others do not come here.
    pub fn address_status(&self) -> AddressStatus {
        self.shared.read(Engine::address_status)
    }

    /// The advertised address. It follows what peers see, unless it was set by hand.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.read(Engine::addr)
    }

    /// Declares, on behalf of a member that is gone for good, that it has left (`force-leave` in
    /// Serf), so that it is no longer expected, here and on all members that this node reaches.
    /// Returns whether that was done: only for a member that failed or that this node does not
    /// reach. See [`Engine::force_leave`](crate::Engine::force_leave).
    #[must_use]
    pub fn force_leave(&self, id: &NodeId) -> bool {
        let done = self.shared.input(|engine, now| engine.force_leave(now, id));
        if done {
            self.shared.wake.notify_one();
        }
        done
    }

    /// Lifecycle of this node in the cluster: joining, a member, superseded by a newer node of its
    /// name, or left.
    #[must_use]
    pub fn state(&self) -> MembershipState {
        self.shared.membership_state()
    }

    /// This node's id.
    pub fn local_id(&self) -> NodeId {
        self.shared.read(Engine::id)
    }

    /// This node as others see it.
    pub fn local_member(&self) -> Member {
        self.shared.read(Engine::local_member)
    }

    /// Every member that is tracked, this node first, failed and left ones too.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.shared.read(|engine| {
            std::iter::once(engine.local_member())
                .chain(engine.members())
                .collect()
        })
    }

    /// How many members are live, this node included; takes the same time however many there are.
    pub fn live_count(&self) -> usize {
        self.shared.read(Engine::live_count)
    }

    /// The live members whose tag `key` is `value`, this node among them if it has it.
    #[must_use]
    pub fn nodes_with_tag(&self, key: &str, value: &str) -> Vec<Member> {
        let mut members = self.members();
        members.retain(|m| m.state.is_live() && m.tags.get(key) == Some(value));
        members
    }

    /// How sure this node is that a member is gone, on the scale of phi: at 8 the chance that it
    /// is alive is one in a hundred million. `None` for a node that is not tracked.
    #[must_use]
    pub fn phi(&self, id: &NodeId) -> Option<f64> {
        self.shared.read(|engine| engine.phi(id, self.shared.now()))
    }

    /// How a member does: whether it answers, how fast, and since when that is known. `None` for
    /// a node that is not tracked.
    #[must_use]
    pub fn health(&self, id: &NodeId) -> Option<Health> {
        self.shared
            .read(|engine| engine.health(id, self.shared.now()))
    }

    /// The counters of this node since its start.
    pub fn stats(&self) -> Stats {
        self.shared.read(Engine::stats)
    }

    /// Errors of the socket so far, datagrams that it had no room for included.
    #[must_use]
    pub fn socket_errors(&self) -> u64 {
        self.shared.socket_errors()
    }

    /// Whether this node sees the whole cluster.
    pub fn partition_status(&self) -> PartitionStatus {
        self.shared.read(Engine::partition_status)
    }

    /// Whether this node may serve while the cluster may be split, by what it sees now.
    ///
    /// Looks at every member, so ask when an event says that something changed, or a few times a
    /// second, rather than for every request.
    pub fn may_serve(&self, policy: &SplitBrainPolicy) -> Decision {
        self.shared.input(|engine, now| {
            engine.watch_policy(policy);
            engine.may_serve(policy, now)
        })
    }

    /// The expected members, by which [`may_serve`](Self::may_serve) decides; see
    /// [`Engine::view`](crate::Engine::view) for which members are expected.
    #[must_use]
    pub fn view(&self) -> ClusterView {
        self.shared.read(|engine| engine.view(self.shared.now()))
    }

    /// Hash of the view: equal in all nodes that know the same live members.
    pub fn view_hash(&self) -> u64 {
        self.shared.read(Engine::view_hash)
    }

    /// The key with which each member seals: shows whether a rotation is complete.
    pub fn keys_in_use(&self) -> Vec<(NodeId, KeyId)> {
        self.shared.read(Engine::keys_in_use)
    }

    fn edit_tags(
        &self,
        edit: impl FnOnce(&Tags) -> Result<Tags, TagError>,
    ) -> Result<(), TagError> {
        self.shared.input(|engine, now| {
            let tags = edit(&engine.local_member().tags)?;
            engine.set_tags(now, tags)
        })?;
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl fmt::Debug for ClusterMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared
            .read(|engine| f.debug_tuple("ClusterMembership").field(engine).finish())
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

fn random_seed() -> EngineSeed {
    EngineSeed::new(random_u64(), random_bytes())
}

fn random_u64() -> u64 {
    u64::from_le_bytes(random_bytes())
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
