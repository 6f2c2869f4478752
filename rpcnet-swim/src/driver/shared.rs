//! State that handles and driver of a node share: the engine behind its lock, and its observers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::event_log;
use super::events::{EventChannel, EventStream};
use super::lifecycle::{DriverState, Lifecycle};
use super::observer::MembershipObserver;
use super::observer_list::{Notified, ObserverList, ObserverPanic};
use super::outcome::format_seed_failures;
use super::seed_list::SeedList;
use crate::config::{ClusterConfig, ConfiguredClock};
use crate::engine::Engine;
use crate::event::{Event, MembershipState};
use crate::time::Time;

/// State that the handles of a node share with its driver.
pub(super) struct DriverShared {
    /// Locked for one call of the engine at a time, never over an await or a system call.
    core: Mutex<Core>,
    /// Where the driver runs.
    pub(super) runtime: Handle,
    started: Instant,
    /// The engine has something new to send or to wait for.
    pub(super) wake: Notify,
    /// The last handle is gone.
    pub(super) stop: Notify,
    socket_errors: AtomicU64,
    pub(super) state: watch::Sender<DriverState>,
    pub(super) seeds: Mutex<SeedList>,
    pub(super) config: ClusterConfig,
}

/// The engine, and the receivers of its events.
struct Core {
    engine: Engine,
    channel: EventChannel,
    observers: ObserverList,
    /// How many members acknowledged the leave, once it is over.
    acknowledged: Option<usize>,
    /// How the driver ended, once it has.
    end: Option<MembershipState>,
}

impl DriverShared {
    /// State of a node that `runtime` is about to drive.
    pub(super) fn new(
        engine: Engine,
        runtime: Handle,
        started: Instant,
        seeds: SeedList,
        config: ClusterConfig,
    ) -> Self {
        Self {
            core: Mutex::new(Core {
                engine,
                channel: EventChannel::default(),
                observers: ObserverList::default(),
                acknowledged: None,
                end: None,
            }),
            runtime,
            started,
            wake: Notify::new(),
            stop: Notify::new(),
            socket_errors: AtomicU64::new(0),
            state: watch::Sender::default(),
            seeds: Mutex::new(seeds),
            config,
        }
    }

    /// Feeds the engine, and hands the events that come of it to observers and subscribers before
    /// any other caller can read the engine.
    pub(super) fn input<R>(&self, input: impl FnOnce(&mut Engine, Time) -> R) -> R {
        let mut core = self.core.lock();
        let now = self.now();
        let result = input(&mut core.engine, now);
        let (events, notified) = core.deliver(now);
        drop(core);
        // The log may be slow, or read this node: it is written without the lock.
        events.iter().for_each(event_log::log);
        self.after_events(notified);
        result
    }

    /// Reads the engine.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Engine) -> R) -> R {
        read(&self.core.lock().engine)
    }

    /// Takes the next datagram from the engine, and gives it the buffer of the last one back.
    pub(super) fn poll_transmit(&self, sent: Option<Vec<u8>>) -> Option<(SocketAddr, Vec<u8>)> {
        let mut core = self.core.lock();
        if let Some(sent) = sent {
            core.engine.recycle(sent);
        }
        core.engine.poll_transmit()
    }

    pub(super) fn subscribe(&self) -> EventStream {
        let capacity = self.config.event_capacity;
        self.core.lock().channel.subscribe(capacity)
    }

    pub(super) fn add_observer(&self, observer: Arc<dyn MembershipObserver>) -> u64 {
        let mut core = self.core.lock();
        let now = self.now();
        let Core {
            engine, observers, ..
        } = &mut *core;
        let (id, mut notified) = observers.add(observer, |observer| observer.on_view(engine, now));
        if let Some(end) = core.end.clone() {
            notified.panics.append(&mut core.observers.end(&end).panics);
        }
        drop(core);
        self.after_events(notified);
        id
    }

    pub(super) fn remove_observer(&self, id: u64) -> Option<Arc<dyn MembershipObserver>> {
        self.core.lock().observers.remove(id)
    }

    /// Does what observers do without the lock, and logs which of them panicked.
    fn after_events(&self, notified: Notified) {
        notified.panics.iter().for_each(ObserverPanic::log);
        for (id, observer) in notified.called {
            // Moved into the call, so that its drop is guarded too.
            let Err(panic) = ObserverPanic::catch(move || observer.after_events()) else {
                continue;
            };
            panic.log();
            if let Some(observer) = self.remove_observer(id) {
                let ended = ObserverPanic::catch(move || observer.on_end(MembershipState::Stopped));
                ended.unwrap_or_else(|panic| panic.log());
            }
        }
    }

    /// Lifecycle of the node in its cluster.
    pub(super) fn membership_state(&self) -> MembershipState {
        let core = self.core.lock();
        let end = core.end.clone();
        end.unwrap_or_else(|| core.engine.state())
    }

    /// Tells all who wait that the driver has ended: observers first, then `join` and `leave`.
    pub(super) fn close(&self) {
        let (lifecycle, notified) = {
            let mut core = self.core.lock();
            let (end, lifecycle) = match core.acknowledged {
                Some(acknowledged) => (MembershipState::Left, Lifecycle::Left { acknowledged }),
                None => (MembershipState::Stopped, Lifecycle::Stopped),
            };
            core.end = Some(end.clone());
            let notified = core.observers.end(&end);
            // After the observers: a subscriber whose events end finds that they know it.
            core.channel = EventChannel::Closed;
            (lifecycle, notified)
        };
        // Before any log line, which may be slow.
        self.state.send_modify(|state| state.lifecycle = lifecycle);
        self.after_events(notified);
    }

    /// Tells `join` and `leave` what the engine has come to.
    pub(super) fn update_lifecycle(&self) {
        let (lifecycle, has_bootstrapped) = self.read(|engine| {
            let lifecycle = match engine.state() {
                MembershipState::Superseded { .. } => Lifecycle::Superseded,
                MembershipState::Left => Lifecycle::Leaving,
                _ if !engine.is_joined() => Lifecycle::Joining,
                _ if engine.is_view_complete() => Lifecycle::Complete,
                _ => Lifecycle::Joined,
            };
            (lifecycle, engine.has_bootstrapped())
        });
        let mut has_joined = false;
        self.state.send_if_modified(|state| {
            let before = std::mem::replace(&mut state.lifecycle, lifecycle);
            has_joined = lifecycle.is_member() && !before.is_member();
            before != lifecycle
        });
        if has_joined {
            self.log_joined(has_bootstrapped);
        }
    }

    /// Tells `join` whether the socket can send to any seed, as far as they resolve.
    pub(super) fn update_seed_reachability(&self) {
        let unreachable = self.seeds.lock().are_unreachable();
        let is_new = self.state.send_if_modified(|state| {
            std::mem::replace(&mut state.seeds_unreachable, unreachable) != unreachable
        });
        if is_new && unreachable {
            let seeds = format_seed_failures(&self.seed_failures());
            tracing::warn!(%seeds, "the socket cannot send to any seed: other address family");
        }
    }

    /// The engine's time.
    pub(super) fn now(&self) -> Time {
        let micros = self.started.elapsed().as_micros();
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// The point in the runtime's time that is `at` in the engine's.
    pub(super) fn instant(&self, at: Time) -> Instant {
        self.started + Duration::from_micros(at.as_micros())
    }

    pub(super) fn count_socket_error(&self, error: &io::Error) {
        tracing::debug!(%error, "gossip socket");
        self.socket_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn socket_errors(&self) -> u64 {
        self.socket_errors.load(Ordering::Relaxed)
    }
}

impl Core {
    /// Hands over the events that the engine has, and returns them for the log.
    fn deliver(&mut self, now: Time) -> (Vec<Event>, Notified) {
        // Without events it allocates nothing.
        let mut events = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            if let Event::Left { acknowledged } = event {
                self.acknowledged = Some(acknowledged);
            }
            events.push(event);
        }
        if events.is_empty() {
            return (events, Notified::default());
        }
        let Self {
            engine, observers, ..
        } = self;
        let notified = observers.notify(|observer| observer.on_events(engine, now, &events));
        // After the observers: a subscriber finds in them what its event tells.
        events.iter().for_each(|event| self.channel.send(event));
        (events, notified)
    }
}

/// The wall clock of a node, in milliseconds since the Unix epoch.
pub(super) fn unix_millis(config: &ClusterConfig) -> u64 {
    let clock = config.wall_clock.as_ref();
    ConfiguredClock::unix_millis(clock.map_or_else(SystemTime::now, ConfiguredClock::read))
}
