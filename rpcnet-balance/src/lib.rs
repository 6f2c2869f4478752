//! Load balancing: a small balancer trait and lock-free strategies for any client.
//!
//! A client has several servers that could all take the next call. The crate has the trait
//! [`Balancer`], which picks one, the usual strategies, and a contract suite for your own. It knows
//! nothing about networks: an [`Endpoint`] is an id with a count of calls in flight and the load
//! that it last reported.
//!
//! ```
//! use std::sync::Arc;
//! use rpcnet_balance::{Balancer, Endpoint, LeastConnections, PickContext, View};
//!
//! let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 1);
//! let balancer = LeastConnections::seeded(42);
//!
//! let first = balancer.pick(&view, &PickContext::new()).unwrap();
//! let call = view[first].begin(); // counted for as long as the guard lives
//! let second = balancer.pick(&view, &PickContext::new()).unwrap();
//! assert_ne!(first, second);
//! drop(call);
//! ```
//!
//! Any client uses it in four steps: pick, begin, call, report.
//!
//! ```
//! use std::{sync::Arc, time::{Duration, Instant}};
//! use rpcnet_balance::{
//!     Balancer, Endpoint, Outcome, OutcomeKind, PeakEwma, PickContext, Time, View,
//! };
//!
//! # fn send(id: u64) -> Result<(), ()> { if id == 1 { Err(()) } else { Ok(()) } }
//! let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 1);
//! let balancer = PeakEwma::seeded(42);
//! let began = Instant::now();
//!
//! for _ in 0..100 {
//!     let now = Time::from(began.elapsed());
//!     let index = balancer.pick(&view, &PickContext::new().with_now(now)).expect("an endpoint");
//!     let call = view[index].begin_at(now);
//!     let kind = match send(view[index].id()) {
//!         Ok(()) => OutcomeKind::Success,
//!         Err(()) => OutcomeKind::Failure,
//!     };
//!     let ended = Time::from(began.elapsed());
//!     balancer.on_outcome(&view, index, &Outcome::new(kind, ended.since(now)).with_now(ended));
//!     drop(call);
//! }
//! ```
//!
//! # Choice of a strategy
//!
//! | calls are | and servers are | use |
//! |---|---|---|
//! | short, with one reply | of any kind | [`PeakEwma`] |
//! | short, with one reply | used by many clients, and report their load | [`Prequal`] |
//! | long, or streams, or of very different cost | of any kind | [`PowerOfTwo`] |
//! | few and heavy | few | [`LeastConnections`] |
//! | all alike | all alike | [`RoundRobin`] |
//! | all alike | of different size | [`Weighted`] |
//! | all alike | of different size, and report their load | [`WeightedByLoad`] |
//! | about a key, some keys are hot | keep state for a key | [`Rendezvous`] |
//! | about a key, all equally frequent | keep state for a key | [`Maglev`] |
//! | of any kind | of any kind, as a baseline | [`Random`] |
//!
//! Wrappers around these, or around your own: [`Tiered`] prefers near servers, [`Subset`] uses some
//! of very many, [`Sticky`] keeps calls with a key at one server, [`SlowStart`] gives new servers
//! few calls at first. They compose:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use rpcnet_balance::{Balancer, Endpoint, PeakEwma, PickContext, SlowStart, Tiered, View};
//!
//! let quick = SlowStart::new(Arc::new(PeakEwma::seeded(42)), Duration::from_secs(10));
//! let near = Tiered::new(Arc::new(quick)).prefer("zone", "eu-1").prefer("region", "eu");
//! // Wrappers and balancers with tables are made for a view, whenever there is a new one.
//! let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 1);
//! let balancer = near.rebuild(&view).expect("a balancer");
//! assert!(balancer.pick(&view, &PickContext::new()).is_some());
//! ```
//!
//! # Your own balancer, in ten lines
//!
//! ```
//! use rpcnet_balance::{Balancer, PickContext, View};
//!
//! /// Calls with the same key go to the same server, as long as there is that server.
//! #[derive(Debug)]
//! struct Sticky;
//!
//! impl Balancer for Sticky {
//!     fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
//!         let start = cx.key().unwrap_or(0) as usize;
//!         (0..view.len())
//!             .map(|step| start.wrapping_add(step) % view.len())
//!             .find(|&index| cx.allows(&view[index]))
//!     }
//! }
//!
//! # #[cfg(feature = "contract")]
//! # {
//! // In a test, with the feature `contract`.
//! let suite = rpcnet_balance::contract::Contract::new(|_seed| std::sync::Arc::new(Sticky));
//! suite.allow_starvation().verify().expect("the other rules hold");
//! # }
//! ```
//!
//! or, without a type, as a closure: [`from_fn`]. The test runs it through the contract suite. A
//! balancer that spreads calls over all endpoints is run with `contract::check(|seed| ..)`; this
//! one sends calls without a key to the first endpoint and lets the others starve, on purpose, so
//! that rule is switched off.
//!
//! # Reported load
//!
//! A client sees only its own calls. Servers that report their load with their replies tell it the
//! rest: [`Outcome::reported_load`] when an attempt has ended, and at any later pick
//! [`Endpoint::reported_load`].
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use rpcnet_balance::{Balancer, Endpoint, PickContext, ReportedLoad, View, from_fn};
//!
//! // The shortest queue by the last reports; servers that never reported come first.
//! let shortest_queue = from_fn(|view, cx| {
//!     let queue_delay = |index: usize| view[index].reported_load().map(|load| load.queue_delay);
//!     let allowed = (0..view.len()).filter(|&index| cx.allows(&view[index]));
//!     allowed.min_by_key(|&index| queue_delay(index))
//! });
//!
//! let view = View::new((0..2).map(|id| Arc::new(Endpoint::new(id))), 1);
//! // The caller records the reports that come with the replies.
//! let waits = |ms| ReportedLoad::new().with_queue_delay(Duration::from_millis(ms));
//! view[0].set_reported_load(waits(7));
//! view[1].set_reported_load(waits(2));
//! assert_eq!(shortest_queue.pick(&view, &PickContext::new()), Some(1));
//! # #[cfg(feature = "contract")]
//! # let suite = rpcnet_balance::contract::Contract::new(move |_| Arc::new(shortest_queue));
//! # #[cfg(feature = "contract")]
//! # suite.allow_starvation().verify().unwrap();
//! ```
//!
//! # Calls of different kinds
//!
//! An endpoint has one latency, whatever was called. Where calls take very different times, say by
//! their methods, a [`LatencyNormalizer`] compares each with what calls of its kind usually take,
//! so that an endpoint does not look slow because it has served a call that takes long
//! everywhere.
//!
//! ```
//! use std::{sync::Arc, time::{Duration, Instant}};
//! use rpcnet_balance::{
//!     Balancer, LatencyNormalizer, Outcome, OutcomeKind, PeakEwma, PickContext, Time, View,
//! };
//! # use rpcnet_balance::Endpoint;
//!
//! # fn send(id: u64, method: u64) {}
//! # let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 1);
//! let (balancer, normalizer) = (PeakEwma::seeded(42), LatencyNormalizer::new());
//! let began = Instant::now();
//!
//! # for method in 0..3 {
//! let now = Time::from(began.elapsed());
//! let index = balancer.pick(&view, &PickContext::new().with_now(now)).expect("an endpoint");
//! let mut call = view[index].begin_at(now);
//! // How long it may be silent.
//! call.set_scale(now, normalizer.scale(method));
//! send(view[index].id(), method);
//! let ended = Time::from(began.elapsed());
//! let outcome = Outcome::new(OutcomeKind::Success, ended.since(now)).with_now(ended);
//! balancer.on_outcome(&view, index, &normalizer.record(method, outcome));
//! # }
//! ```
//!
//! # Rules
//!
//! - A [`View`] is immutable. When the endpoints change, a new one with a higher generation takes
//!   its place, and [`Balancer::rebuild`] is the moment, off the path of the calls, to compute
//!   tables for it.
//! - A pick takes no lock and allocates nothing (`tests/allocation.rs` counts). What picks write,
//!   each thread has for itself, so threads that pick at the same time do not slow each other down.
//! - The load of an endpoint lives in the endpoint, behind an `Arc`: it survives the change of a
//!   view, and several balancers see the same.
//!
//! # What it does not do
//!
//! It reads no clock (times are [arguments](Time)), spawns nothing and sends nothing: the caller
//! decides which endpoints are in the view, and makes the calls. [`health`] detects outliers,
//! [`retry`] says what follows a failed call, [`RetryBudget`] bounds the load of retries, and
//! [`LatencyQuantiles`] gives the delay of hedges.
//!
//! # Features
//!
//! - `contract`: the module `contract`. Meant for `dev-dependencies`.
//! - `sim`: the module `sim`, a simulator of fleets in virtual time to compare balancers. Unstable.

mod alias_table;
mod atomic_time;
mod backoff;
mod backoff_range;
mod balancer;
mod choices;
#[cfg(feature = "contract")]
pub mod contract;
mod endpoint;
mod endpoint_state;
mod exclusion_flags;
mod from_fn;
mod gauge;
pub mod health;
mod hedging;
mod latency;
mod latency_estimate;
mod latency_quantiles;
mod latency_scale;
mod least_connections;
mod maglev;
mod normalizer;
mod outcome;
mod peak_ewma;
mod power_of_two;
mod prequal;
mod random;
mod ready_since;
mod rendezvous;
mod rendezvous_table;
mod reported_load;
pub mod retry;
mod retry_budget;
mod rng;
mod round_robin;
mod sample;
mod score;
#[cfg(feature = "sim")]
pub mod sim;
mod slow_start;
mod sticky;
mod stripes;
mod subset;
mod success_batch;
mod tiered;
mod time;
mod view;
mod weighted;
mod weighted_by_load;

pub use backoff_range::BackoffRange;
pub use balancer::{Balancer, PickContext};
pub use endpoint::{Endpoint, InFlight};
pub use exclusion_flags::ExclusionFlags;
pub use from_fn::{FromFn, from_fn};
pub use hedging::{HedgeLatencies, Hedging};
pub use latency_quantiles::LatencyQuantiles;
pub use latency_scale::{KindLatency, LatencyScale};
pub use least_connections::LeastConnections;
pub use maglev::Maglev;
pub use normalizer::LatencyNormalizer;
pub use outcome::{Outcome, OutcomeKind};
pub use peak_ewma::PeakEwma;
pub use power_of_two::PowerOfTwo;
pub use prequal::Prequal;
pub use random::Random;
pub use rendezvous::Rendezvous;
pub use reported_load::ReportedLoad;
pub use retry_budget::RetryBudget;
pub use round_robin::RoundRobin;
pub use slow_start::SlowStart;
pub use sticky::Sticky;
pub use stripes::Stripes;
pub use subset::Subset;
pub use success_batch::SuccessBatch;
pub use tiered::Tiered;
pub use time::Time;
pub use view::{TagLookup, View};
pub use weighted::Weighted;
pub use weighted_by_load::WeightedByLoad;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
