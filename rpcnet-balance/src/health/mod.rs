//! Passive health checks: outlier detection and backoff from the outcomes of calls.
//!
//! [`OutlierDetector`] is told how every attempt ended and [flags](crate::ExclusionFlags)
//! endpoints, which picks then avoid by themselves
//! ([`PickContext::allows`](crate::PickContext::allows)); it sends nothing itself. Its state is
//! kept in the endpoints, in atomics.
//!
//! - **Unreachable**: a connection failed or broke. Flagged at once, with a backoff that doubles
//!   with every consecutive failure (100 ms to 10 s, with a jitter of a fifth).
//! - **Ejected**: the endpoint fails more often than the others, by the rules of gRPC's proposal
//!   A50 (outlier detection), or several times in a row. Never more than a tenth of all, one in any
//!   case. For 30 s times the number of recent ejections, up to 300 s.
//! - **Half-open**: when the time is over, one call is let through, the probe. Success clears the
//!   flags; failure starts a longer time.
//! - **Panic**: when fewer than half of a group are healthy, ejections are ignored in it: the
//!   failures are then hardly the endpoints' fault alone, and the remaining ones would have to take
//!   all calls.
//!
//! Each can be switched off ([`HealthConfig`]). Every change is an [`HealthChange`] that says why,
//! and is counted ([`HealthStats`]).
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use rpcnet_balance::{
//!     Balancer, Endpoint, ExclusionFlags, LeastConnections, Outcome, OutcomeKind, PickContext,
//!     Time, View,
//!     health::{GroupHealth, HealthChange, HealthConfig, OutlierDetector},
//! };
//!
//! let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 1);
//! let detector = OutlierDetector::seeded(HealthConfig::new(), 42);
//! detector.set_view(&view);
//! let (balancer, group) = (LeastConnections::seeded(42), GroupHealth::new());
//!
//! // Endpoint 0 cannot be reached. Picks avoid it.
//! let now = Time::ZERO + Duration::from_secs(1);
//! let outcome = Outcome::new(OutcomeKind::Unreachable, Duration::ZERO).with_now(now);
//! let change = detector.on_outcome(&view[0], &outcome).expect("a change");
//! assert!(matches!(change, HealthChange::Unreachable { endpoint: 0, failures: 1, .. }));
//! let respected = group.check(&detector, &view, now).respected_flags;
//! let cx = PickContext::new().with_now(now).with_respected_flags(respected);
//! assert_ne!(balancer.pick(&view, &cx), Some(0));
//!
//! // A moment later one call goes there, and succeeds.
//! let now = now + Duration::from_millis(150);
//! assert!(group.check(&detector, &view, now).is_probe_due);
//! let cx = PickContext::new().with_now(now);
//! let (index, probe) = detector.probe(&view, &cx).expect("a due probe");
//! assert_eq!(index, 0);
//! assert!(detector.probe(&view, &cx).is_none(), "a single probe");
//! let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO).with_now(now);
//! let changes = detector.on_probe_outcome(&view[0], &probe, &outcome);
//! assert_eq!(changes.count(), 1);
//! assert_eq!(view[0].flags(), ExclusionFlags::NONE);
//! ```

mod change;
mod config;
mod connection_backoff;
mod detector;
mod ejection;
mod group_health;
mod outlier_rules;
mod probes;
mod record;
mod unejection;

pub use change::{EjectionReason, HealthChange, HealthChanges, HealthStats};
pub use config::{FailurePercentage, HealthConfig, OutlierConfig, SuccessRate};
pub use detector::OutlierDetector;
pub use group_health::{GroupCheck, GroupHealth};
pub use probes::Probe;
pub(crate) use record::HealthRecord;

/// Endpoints that take no calls for reasons of their own count as neither healthy nor unhealthy.
const NOT_COUNTED: crate::ExclusionFlags = crate::ExclusionFlags::DRAINING
    .or(crate::ExclusionFlags::ZERO_WEIGHT)
    .or(crate::ExclusionFlags::GONE);

#[cfg(test)]
mod tests;
