//! Who is better not picked, found out from the calls themselves.
//!
//! [`OutlierDetector`] is told how every attempt ended and [marks](crate::ExclusionFlags) endpoints, which picks then pass over by
//! themselves ([`PickContext::allows`](crate::PickContext::allows)); it sends nothing of its own. What it knows is kept in
//! the endpoints, in atomics.
//!
//! - **Unreachable**: no connection, or one that broke. Marked at once, for a time that doubles with every failure in a
//!   row (100 ms to 10 s, a random fifth more or less).
//! - **Ejected**: it fails more often than the others, by the rules of gRPC's proposal A50 (outlier detection), or several
//!   times in a row. Never more than a tenth of all, one in any case. For 30 s, as many times as it was ejected of late, up
//!   to 300 s.
//! - **Half-open**: when the time is over, one call is let through, the probe. Success takes the marks away; failure lets
//!   the time begin anew, longer.
//! - **Panic**: when fewer than half of a group are well, ejections are no longer heeded in it: what fails is then hardly
//!   the endpoints' fault alone, and those left would have to carry all.
//!
//! Each can be switched off ([`HealthConfig`]). Whatever is done is an [`HealthChange`] that says why, and is counted
//! ([`HealthStats`]).
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use rpcnet_balance::{
//!     Balancer, Endpoint, LeastConnections, ExclusionFlags, Outcome, OutcomeKind, PickContext, Time, View,
//!     health::{HealthChange, GroupHealth, HealthConfig, OutlierDetector},
//! };
//!
//! let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 1);
//! let outliers = OutlierDetector::seeded(HealthConfig::new(), 42);
//! outliers.set_view(&view);
//! let (balancer, gate) = (LeastConnections::seeded(42), GroupHealth::new());
//!
//! // EmptyTable answers at 0. Picks go elsewhere.
//! let now = Time::ZERO + Duration::from_secs(1);
//! let outcome = Outcome::new(OutcomeKind::Unreachable, Duration::ZERO).with_now(now);
//! let action = outliers.on_outcome(&view[0], &outcome).expect("it is marked");
//! assert!(matches!(action, HealthChange::Unreachable { endpoint: 0, failures: 1, .. }));
//! let heeded = gate.check(&outliers, &view, now).respected_flags;
//! let cx = PickContext::new().with_now(now).with_respected_flags(heeded);
//! assert_ne!(balancer.pick(&view, &cx), Some(0));
//!
//! // A moment later one call goes there, and succeeds.
//! let now = now + Duration::from_millis(150);
//! assert!(gate.check(&outliers, &view, now).is_probe_due);
//! let (index, probe) = outliers.probe(&view, &PickContext::new().with_now(now)).expect("one is due");
//! assert_eq!(index, 0);
//! assert!(outliers.probe(&view, &PickContext::new().with_now(now)).is_none(), "one alone");
//! let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO).with_now(now);
//! let actions = outliers.on_probe_outcome(&view[0], &probe, &outcome);
//! assert_eq!(actions.count(), 1);
//! assert_eq!(view[0].flags(), ExclusionFlags::NONE);
//! ```

mod change;
mod config;
mod detector;
mod group_health;
mod probes;
mod record;
mod sweep;

pub use change::{EjectionReason, HealthChange, HealthChanges, HealthStats};
pub use config::{FailurePercentage, HealthConfig, OutlierConfig, SuccessRate};
pub use detector::OutlierDetector;
pub use group_health::{GroupCheck, GroupHealth};
pub use probes::Probe;
pub(crate) use record::HealthRecord;

/// Endpoints that take no calls for reasons of their own are neither well nor unwell.
const NOT_COUNTED: crate::ExclusionFlags = crate::ExclusionFlags::DRAINING
    .or(crate::ExclusionFlags::ZERO_WEIGHT)
    .or(crate::ExclusionFlags::GONE);

#[cfg(test)]
mod tests;
