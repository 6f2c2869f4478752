//! Convergence: what has to become true once the faults have ended.

use std::time::Duration;

use rpcnet_swim::unstable::DetectorHooks;
use rpcnet_swim::{Engine, MembershipState};

use super::Cluster;
use super::check::{self, GroundTruth, SimFailure, Violation};

impl<D: DetectorHooks> Cluster<D> {
    /// Whether every view equals the ground truth: which members are live, their epochs, addresses
    /// and tags; and no partition is reported.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        // Asked every 10 ms: the ground truth is built only where no hash differs.
        self.differing_hash().is_none() && self.differing_member().is_none()
    }

    /// The difference of a view from the ground truth, if there is one: the observer, and what
    /// differs.
    ///
    /// Views that differ mostly have different hashes; where all hashes agree, each member of each
    /// view is compared.
    #[must_use]
    pub fn difference(&self) -> Option<(usize, String)> {
        if let Some((node, engine)) = self.differing_hash() {
            let difference = check::difference(engine, &self.ground_truth());
            return Some((node, difference.unwrap_or_else(|| "the hash".to_owned())));
        }
        self.differing_member()
    }

    /// A member that is down and yet live in a view, if there is one: the observer and the member's
    /// name. Compares each member of each view.
    #[must_use]
    pub fn undetected_crash(&self) -> Option<(usize, String)> {
        let truth = self.ground_truth();
        self.running_engines().find_map(|(node, engine)| {
            let mut views = engine.member_views();
            let down = views
                .find(|view| view.version.state.is_live() && !truth.contains_key(&view.key))?;
            Some((node, down.name.to_owned()))
        })
    }

    /// A member that is up and yet live in no other node's view, if there is one and there are
    /// other nodes: its number and its name. Compares each member of each view.
    #[must_use]
    pub fn undiscovered_member(&self) -> Option<(usize, String)> {
        let others = self.running_engines().count() > 1;
        let mut lost = self.running_engines().filter(|(node, engine)| {
            let own = engine.local_view();
            let has_it = |other: &Engine<D>| {
                let view = other.member_view(own.key).map(|view| view.version);
                view.is_some_and(|seen| seen.state.is_live() && seen.epoch == own.version.epoch)
            };
            others
                && !self
                    .running_engines()
                    .any(|(other, engine)| other != *node && has_it(engine))
        });
        let (node, _) = lost.next()?;
        Some((node, self.nodes[node].name.clone()))
    }

    /// Lets time pass until all views equal the ground truth, and returns how long that took.
    /// Inject no more faults before, and end those that there are: no process fault, nothing cut,
    /// little loss.
    ///
    /// # Errors
    /// The first invariant that was broken: one of safety, so far or meanwhile; or, `within` that
    /// time, that a failure is not known everywhere or that a view differs. It is in the report,
    /// too.
    pub fn converge(&mut self, within: Duration) -> Result<Duration, SimFailure> {
        let start = self.now;
        loop {
            let passed = self.now.since(start);
            if let Some(failure) = &self.report.failure {
                return Err(failure.clone());
            }
            match self.difference() {
                None => return Ok(passed),
                Some((node, difference)) if passed >= within => {
                    self.require_crashes_detected(passed);
                    self.require_members_discovered(passed);
                    let violation = Violation::NotConverged {
                        after: passed,
                        difference,
                    };
                    self.violate(node, violation);
                }
                Some(_) => self.run_for(CONVERGENCE_CHECK_INTERVAL.min(within - passed)),
            }
        }
    }

    /// Like [`Cluster::converge`], for scenarios that end with it.
    ///
    /// # Panics
    /// If an invariant was broken.
    pub fn expect_converged(&mut self, within: Duration) -> Duration {
        let result = self.converge(within);
        result.unwrap_or_else(|failure| panic!("seed {}: {failure}", self.report.seed))
    }

    /// # Panics
    /// If an invariant was broken so far.
    pub fn expect_safe(&self) {
        if let Some(failure) = &self.report.failure {
            panic!("seed {}: {failure}", self.report.seed);
        }
    }

    /// Requires that every failure is known everywhere, `after` the faults ended.
    pub(super) fn require_crashes_detected(&mut self, after: Duration) {
        if let Some((node, member)) = self.undetected_crash() {
            self.violate(node, Violation::UndetectedCrash { member, after });
        }
    }

    /// Requires that each member is known to another one, `after` the faults ended.
    pub(super) fn require_members_discovered(&mut self, after: Duration) {
        if let Some((node, member)) = self.undiscovered_member() {
            self.violate(node, Violation::UndiscoveredMember { member, after });
        }
    }

    /// First view that has another size than the cluster, or another hash than the first one.
    fn differing_hash(&self) -> Option<(usize, &Engine<D>)> {
        let mut engines = self.running_engines();
        let hash = engines.next().map(|(_, engine)| engine.view_hash());
        let live = 1 + engines.count();
        self.running_engines()
            .find(|(_, e)| e.live_count() != live || Some(e.view_hash()) != hash)
    }

    /// First view in which a member differs from the ground truth, and how.
    fn differing_member(&self) -> Option<(usize, String)> {
        let truth = self.ground_truth();
        self.running_engines()
            .find_map(|(node, engine)| Some((node, check::difference(engine, &truth)?)))
    }

    fn running_engines(&self) -> impl Iterator<Item = (usize, &Engine<D>)> {
        let engines = self.nodes.iter().enumerate();
        engines.filter_map(|(node, slot)| {
            let engine = slot.engine.as_deref()?;
            is_participating(engine).then_some((node, engine))
        })
    }

    fn ground_truth(&self) -> GroundTruth<'_> {
        let views = self
            .running_engines()
            .map(|(_, engine)| engine.local_view());
        views.map(|view| (view.key, view)).collect()
    }
}

/// Whether the others have to see a node as a member.
pub(super) fn is_participating<D: DetectorHooks>(engine: &Engine<D>) -> bool {
    // A leaving node does so until enough of them know.
    !engine.has_left() && !matches!(engine.state(), MembershipState::Superseded { .. })
}

/// Interval at which the views are compared.
const CONVERGENCE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
