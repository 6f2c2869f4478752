//! Contract suite: the rules of every balancer, as a test for your own.
//!
//! ```
//! use std::sync::Arc;
//! use rpcnet_balance::{LeastConnections, contract};
//!
//! // Inbound a #[test]; panics with the rule that was violated and the details.
//! contract::check(|seed| Arc::new(LeastConnections::seeded(seed)));
//! ```
//!
//! It does not check that a pick allocates nothing, because that takes an allocator that counts.
//! `tests/allocation.rs` of this crate shows how.

mod pick_checker;
mod violation;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use pick_checker::PickChecker;
pub use violation::{ContractRule, ContractViolation};

use crate::{
    Balancer, Endpoint, ExclusionFlags, InFlight, Outcome, OutcomeKind, PickContext, ReportedLoad,
    Time, View,
    rng::{Rng, unit_f64},
};

/// Runs the whole suite.
///
/// # Panics
///
/// When a rule is violated; the message says which one and how.
pub fn check(build: impl Fn(u64) -> Arc<dyn Balancer>) {
    if let Err(violation) = Contract::new(build).verify() {
        panic!("{violation}");
    }
}

/// The suite, for balancers that need a rule switched off or for a caller that wants the violation
/// as a value.
pub struct Contract<F> {
    build: F,
    starvation_allowed: bool,
    uneven_allowed: bool,
}

impl<F: Fn(u64) -> Arc<dyn Balancer>> Contract<F> {
    /// A suite for the balancers that `build` makes from a seed.
    #[must_use]
    pub const fn new(build: F) -> Self {
        Self {
            build,
            starvation_allowed: false,
            uneven_allowed: false,
        }
    }

    /// Accepts that some endpoints are never picked though all are idle, and so that shares are
    /// uneven. For balancers that choose by the key of the call, by preference or by subset.
    #[must_use]
    pub const fn allow_starvation(mut self) -> Self {
        self.starvation_allowed = true;
        self
    }

    /// Accepts that idle endpoints whose latencies differ by chance alone get unequal shares. For
    /// balancers that always take the fastest.
    #[must_use]
    pub const fn allow_uneven_shares(mut self) -> Self {
        self.uneven_allowed = true;
        self
    }

    /// Runs the suite.
    ///
    /// # Errors
    ///
    /// The first violation of a rule.
    pub fn verify(&self) -> Result<(), ContractViolation> {
        for seed in 0..SEEDS {
            let run = SuiteRun {
                balancer: &|| (self.build)(seed),
                checker: PickChecker { seed },
            };
            run.empty_views()?;
            run.picks_and_exclusions()?;
            run.exclusion_flags()?;
            run.changing_views()?;
            run.outcomes()?;
            run.reported_loads()?;
            run.many_threads()?;
            if !self.starvation_allowed {
                run.starvation()?;
            }
            if !self.starvation_allowed && !self.uneven_allowed {
                run.even_shares()?;
            }
        }
        Ok(())
    }
}

impl<F> fmt::Debug for Contract<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("starvation_allowed", &self.starvation_allowed)
            .field("uneven_allowed", &self.uneven_allowed)
            .finish_non_exhaustive()
    }
}

struct SuiteRun<'a> {
    balancer: &'a dyn Fn() -> Arc<dyn Balancer>,
    checker: PickChecker,
}

impl SuiteRun<'_> {
    fn empty_views(&self) -> Result<(), ContractViolation> {
        let empty = View::new([], 0);
        for balancer in self.built_and_rebuilt(&empty) {
            self.checker
                .checked_pick(&*balancer, &empty, &PickContext::new())?;
            self.checker.checked_pick(
                &*balancer,
                &empty,
                &PickContext::new().with_key(1).with_excluded(&[1, 2]),
            )?;
        }
        for len in SIZES {
            let view = view(len, 1);
            let all: Vec<u64> = view
                .endpoints()
                .iter()
                .map(|endpoint| endpoint.id())
                .collect();
            for balancer in self.built_and_rebuilt(&view) {
                self.checker.checked_pick(
                    &*balancer,
                    &view,
                    &PickContext::new().with_excluded(&all),
                )?;
            }
        }
        Ok(())
    }

    fn picks_and_exclusions(&self) -> Result<(), ContractViolation> {
        for len in SIZES {
            let view = view(len, 1);
            let ids = view.endpoints().iter().map(|endpoint| endpoint.id());
            let mut unfit: Vec<u64> = ids.skip(1).step_by(2).collect();
            unfit.sort_unstable();
            for balancer in self.built_and_rebuilt(&view) {
                for round in 0..4 * len as u64 {
                    let key = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    self.checker
                        .checked_pick(&*balancer, &view, &PickContext::new())?;
                    self.checker.checked_pick(
                        &*balancer,
                        &view,
                        &PickContext::new().with_key(key),
                    )?;

                    let cx = PickContext::new().with_incompatible(&unfit);
                    self.checker.checked_pick(&*balancer, &view, &cx)?;
                    self.checker
                        .checked_pick(&*balancer, &view, &cx.with_key(key))?;

                    // The attempts of one call: each excludes those before, until nothing is left.
                    let mut tried = Vec::new();
                    let mut calls: Vec<InFlight> = Vec::new();
                    for _ in 0..=len.min(5) {
                        let cx = PickContext::new().with_excluded(&tried).with_key(key);
                        let Some(index) = self.checker.checked_pick(&*balancer, &view, &cx)? else {
                            break;
                        };
                        tried.push(view[index].id());
                        calls.push(view[index].begin());
                    }
                    // An id that is not in the view (any more) excludes no endpoint.
                    self.checker.checked_pick(
                        &*balancer,
                        &view,
                        &PickContext::new().with_excluded(&[u64::MAX]),
                    )?;
                }
            }
            self.checker.check_idle(&view)?;
        }
        Ok(())
    }

    /// Flags one endpoint after the other, until picks succeed only without respecting the flag;
    /// and clears them again.
    fn exclusion_flags(&self) -> Result<(), ContractViolation> {
        for len in SIZES {
            let view = view(len, 1);
            for balancer in self.built_and_rebuilt(&view) {
                let ignoring_ejection =
                    PickContext::new().with_respected_flags(ExclusionFlags::DRAINING);
                for (round, endpoint) in view.endpoints().iter().enumerate() {
                    endpoint.set_flags(ExclusionFlags::EJECTED);
                    let now = Time::from(Duration::from_secs(round as u64));
                    for cx in [PickContext::new(), ignoring_ejection] {
                        self.checker
                            .checked_pick(&*balancer, &view, &cx.with_now(now))?;
                        self.checker.checked_pick(
                            &*balancer,
                            &view,
                            &cx.with_now(now).with_key(1),
                        )?;
                    }
                }
                for endpoint in view.endpoints() {
                    endpoint.clear_flags(ExclusionFlags::EJECTED);
                    self.checker
                        .checked_pick(&*balancer, &view, &PickContext::new())?;
                }
            }
        }
        Ok(())
    }

    /// Checks that one endpoint is picked however loaded all are, while views grow and shrink
    /// between picks.
    fn changing_views(&self) -> Result<(), ContractViolation> {
        let mut balancer = (self.balancer)();
        let pool: Vec<_> = (0..64).map(|id| Arc::new(Endpoint::new(id))).collect();
        let _calls: Vec<_> = pool
            .iter()
            .flat_map(|one| (0..50).map(|_| one.begin()))
            .collect();
        let mut before = View::new([], 0);
        for (generation, len) in [1, 64, 3, 0, 17, 2, 33, 1].into_iter().enumerate() {
            let skipped = generation * 7 % (pool.len() - len + 1);
            let members = pool.iter().skip(skipped).take(len).cloned();
            let view = View::new(members, generation as u64 + 1);
            for round in 0..100 {
                let cx = PickContext::new().with_key(round);
                self.checker.checked_pick(&*balancer, &view, &cx)?;
                self.checker.checked_pick(&*balancer, &before, &cx)?;
            }
            balancer = balancer.rebuild(&view).unwrap_or(balancer);
            for round in 0..100 {
                let cx = PickContext::new().with_key(round);
                self.checker.checked_pick(&*balancer, &view, &cx)?;
                self.checker.checked_pick(&*balancer, &before, &cx)?;
            }
            before = view;
        }
        Ok(())
    }

    fn outcomes(&self) -> Result<(), ContractViolation> {
        let view = view(5, 1);
        for balancer in self.built_and_rebuilt(&view) {
            for round in 0..200 {
                let Some(index) =
                    self.checker
                        .checked_pick(&*balancer, &view, &PickContext::new())?
                else {
                    break;
                };
                let kind = [
                    OutcomeKind::Success,
                    OutcomeKind::Failure,
                    OutcomeKind::Unreachable,
                    OutcomeKind::Overloaded,
                    OutcomeKind::Rejected,
                    OutcomeKind::StreamStarted,
                    OutcomeKind::Cancelled,
                ];
                let latency =
                    [Duration::ZERO, Duration::from_millis(3), Duration::MAX][round / 3 % 3];
                let call = view[index].begin();
                let outcome = Outcome::new(kind[round % kind.len()], latency)
                    .with_now(Time::from_nanos(round as u64 * 1_000_000))
                    .with_reported_load(REPORTS[round % REPORTS.len()]);
                balancer.on_outcome(&view, index, &outcome);
                drop(call);
            }
        }
        self.checker.check_idle(&view)
    }

    /// Checks that one endpoint is picked whatever the endpoints report, and though some report
    /// nothing: a report may be out of date.
    fn reported_loads(&self) -> Result<(), ContractViolation> {
        for len in SIZES {
            let view = view(len, 1);
            for balancer in self.built_and_rebuilt(&view) {
                for report in REPORTS.into_iter().flatten() {
                    // From no endpoint having reported to all having reported.
                    for endpoint in view.endpoints() {
                        self.checker
                            .checked_pick(&*balancer, &view, &PickContext::new())?;
                        endpoint.set_reported_load(report);
                        let cx = PickContext::new().with_key(endpoint.id());
                        let Some(index) = self.checker.checked_pick(&*balancer, &view, &cx)? else {
                            continue;
                        };
                        let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO)
                            .with_reported_load(Some(report));
                        balancer.on_outcome(&view, index, &outcome);
                    }
                }
            }
        }
        Ok(())
    }

    fn many_threads(&self) -> Result<(), ContractViolation> {
        let balancer = (self.balancer)();
        let views = [view(4, 1), view(9, 2), view(1, 3)];
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let (checker, balancer, views, stop) = (self.checker, &balancer, &views, &stop);
                    scope.spawn(move || {
                        for round in 0..1000 {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            let view = &views[(round + thread) % views.len()];
                            let result =
                                checker.checked_pick(&**balancer, view, &PickContext::new());
                            stop.fetch_or(result.is_err(), Ordering::Relaxed);
                            let Some(index) = result? else { continue };
                            let _call = view[index].begin();
                            let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO);
                            balancer.on_outcome(view, index, &outcome);
                        }
                        Ok(())
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })?;
        views
            .iter()
            .try_for_each(|view| self.checker.check_idle(view))
    }

    fn starvation(&self) -> Result<(), ContractViolation> {
        for len in SIZES {
            let view = view(len, 1);
            for balancer in self.built_and_rebuilt(&view) {
                let mut picked = vec![0_u32; len];
                // A uniform choice misses a given one of n in 30 n picks with probability e^-30.
                for _ in 0..30 * len {
                    if let Some(index) =
                        self.checker
                            .checked_pick(&*balancer, &view, &PickContext::new())?
                    {
                        let _call = view[index].begin();
                        picked[index] += 1;
                    }
                }
                if let Some(index) = picked.iter().position(|&count| count == 0) {
                    return self.checker.violation(
                        ContractRule::NoStarvation,
                        format!(
                            "{index} of {len} idle endpoints got none of {} calls",
                            30 * len
                        ),
                    );
                }
            }
        }
        Ok(())
    }

    /// Sends one call at a time to endpoints that differ by chance only: no order among them may
    /// become permanent.
    fn even_shares(&self) -> Result<(), ContractViolation> {
        for typical in [
            Duration::from_micros(200),
            Duration::from_millis(5),
            Duration::from_millis(100),
        ] {
            for cold in [1.0, 8.0] {
                for of_view in [false, true] {
                    self.even_shares_of(typical, cold, of_view)?;
                }
            }
        }
        Ok(())
    }

    /// The first reply of each endpoint takes up to `cold` times as long.
    fn even_shares_of(
        &self,
        typical: Duration,
        cold: f64,
        of_view: bool,
    ) -> Result<(), ContractViolation> {
        let view = view(3, 1);
        let Some(balancer) = self
            .built_and_rebuilt(&view)
            .into_iter()
            .nth(of_view.into())
        else {
            return Ok(());
        };
        let mut rng = Rng::seeded(self.checker.seed);
        let mut chance = || unit_f64(rng.next());
        let mut now = Time::from(Duration::from_secs(1));
        let mut picked = [0_u32; 3];
        for _ in 0..EVEN_SHARES_CALLS {
            let cx = PickContext::new().with_now(now);
            let Some(index) = self.checker.checked_pick(&*balancer, &view, &cx)? else {
                break;
            };
            let call = view[index].begin_at(now);
            // Log-normal (Box, Muller, 1958).
            let normal =
                (-2.0 * (1.0 - chance()).ln()).sqrt() * (std::f64::consts::TAU * chance()).cos();
            let mut latency = typical.mul_f64((0.2 * normal).exp());
            if picked[index] == 0 {
                latency = latency.mul_f64(1.0 + (cold - 1.0) * chance());
            }
            picked[index] += 1;
            now = now + latency;
            let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(now);
            balancer.on_outcome(&view, index, &outcome);
            drop(call);
        }
        let share = |count: &u32| f64::from(*count) / f64::from(EVEN_SHARES_CALLS);
        if picked
            .iter()
            .all(|count| (0.2..=0.47).contains(&share(count)))
        {
            return Ok(());
        }
        self.checker.violation(
            ContractRule::EvenShares,
            format!("{picked:?} calls went to equal endpoints of {typical:?}"),
        )
    }

    /// The balancer as it was built, and as it is rebuilt for the view.
    fn built_and_rebuilt(&self, view: &View) -> Vec<Arc<dyn Balancer>> {
        let plain = (self.balancer)();
        let rebuilt = plain.rebuild(view);
        [plain].into_iter().chain(rebuilt).collect()
    }
}

/// Ids differ from indices, so that one cannot be mistaken for the other.
fn view(len: usize, generation: u64) -> View {
    View::new(
        (0..len as u64).map(|index| Arc::new(Endpoint::new(1000 + 3 * index))),
        generation,
    )
}

const SEEDS: u64 = 3;

/// Number of calls of the rule on even shares: chance alone stays far within its bounds.
const EVEN_SHARES_CALLS: u32 = 600;

/// Reports from idle to the highest load.
const REPORTS: [Option<ReportedLoad>; 5] = [
    None,
    Some(ReportedLoad::new()),
    Some(ReportedLoad::new().with_in_flight(7).with_busy(true)),
    Some(ReportedLoad::new().with_draining(true)),
    Some(
        ReportedLoad::new()
            .with_in_flight(u32::MAX)
            .with_queue_delay(Duration::MAX)
            .with_busy(true)
            .with_draining(true),
    ),
];
const SIZES: [usize; 5] = [1, 2, 3, 16, 100];
