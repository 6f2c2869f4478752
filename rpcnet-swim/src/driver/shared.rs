//! What the handles of a node share with its driver.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use super::event_log;
use super::outcome::format_seed_failures;
use super::seed_list::SeedList;
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::event::{Event, MembershipState};
use crate::time::Time;

/// What the handles share with the driver.
pub(super) struct DriverShared {
    /// Locked for one call of the engine at a time, never over an await or a system call.
    pub(super) engine: Mutex<Engine>,
    /// Where the driver runs.
    pub(super) runtime: Handle,
    pub(super) started: Instant,
    /// The engine has something new to send or to wait for.
    pub(super) wake: Notify,
    /// The last handle is gone.
    pub(super) stop: Notify,
    pub(super) socket_errors: AtomicU64,
    pub(super) events: Mutex<EventChannel>,
    pub(super) state: watch::Sender<DriverState>,
    pub(super) seeds: Mutex<SeedList>,
    pub(super) config: ClusterConfig,
}

/// Who listens to the events. The channel takes memory for all the events that it can hold, so it
/// is there only while somebody does.
pub(super) enum EventChannel {
    Unused,
    Open(broadcast::Sender<Event>),
    /// Nothing will happen any more.
    Closed,
}

/// What `join` and `leave` wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DriverState {
    pub(super) joined: bool,
    /// Whether the view is whole.
    pub(super) view_complete: bool,
    /// A newer node has this node's name.
    pub(super) superseded: bool,
    /// Every seed is of an address family that the socket cannot send to.
    pub(super) seeds_unreachable: bool,
    /// How many members acknowledged that this one left.
    pub(super) left: Option<usize>,
    pub(super) stopped: bool,
}

impl DriverState {
    /// Of a driver that is gone.
    pub(super) fn ended() -> Self {
        Self {
            stopped: true,
            ..Self::default()
        }
    }
}

impl DriverShared {
    /// Hands the engine's events to the subscribers and to those who wait.
    pub(super) fn publish(&self) {
        loop {
            let (event, next, founded) = {
                let mut engine = self.engine.lock();
                let event = engine.poll_event();
                let superseded = matches!(engine.state(), MembershipState::Superseded { .. });
                let next = (engine.is_joined(), engine.is_view_complete(), superseded);
                (event, next, engine.has_bootstrapped())
            };
            let mut is_new = false;
            self.state.send_if_modified(|state| {
                let before = (state.joined, state.view_complete, state.superseded);
                (state.joined, state.view_complete, state.superseded) = next;
                is_new = next.0 && !before.0;
                before != next
            });
            if is_new {
                self.log_joined(founded);
            }
            let Some(event) = event else { return };
            event_log::log(&event);
            if let Event::Left { acknowledged } = event {
                self.state
                    .send_modify(|state| state.left = Some(acknowledged));
            }
            let mut subscribers = self.events.lock();
            if let EventChannel::Open(events) = &*subscribers
                && events.send(event).is_err()
            {
                // The last of them is gone.
                *subscribers = EventChannel::Unused;
            }
        }
    }

    /// Tells those who wait for a seed whether any can be sent to, as far as they resolve.
    pub(super) fn update_seed_reachability(&self) {
        let out_of_reach = self.seeds.lock().are_unreachable();
        let is_new = self.state.send_if_modified(|state| {
            std::mem::replace(&mut state.seeds_unreachable, out_of_reach) != out_of_reach
        });
        if is_new && out_of_reach {
            let seeds = format_seed_failures(&self.seed_failures());
            tracing::warn!(%seeds, "no seed can be sent to from here");
        }
    }

    /// Nothing will happen any more.
    pub(super) fn close(&self) {
        *self.events.lock() = EventChannel::Closed;
        self.state.send_modify(|state| {
            state.joined = false;
            state.stopped = true;
        });
    }

    /// The engine's time.
    pub(super) fn now(&self) -> Time {
        let micros = self.started.elapsed().as_micros();
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    pub(super) fn instant(&self, at: Time) -> Instant {
        self.started + Duration::from_micros(at.as_micros())
    }

    pub(super) fn count_socket_error(&self, error: &io::Error) {
        tracing::debug!(%error, "gossip socket");
        self.socket_errors.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
