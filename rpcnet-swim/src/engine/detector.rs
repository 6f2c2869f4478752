//! The detectors to compare: ours, with each rule switched off, and its rivals.

use std::borrow::Cow;

use super::rival::{LocalHealth, Rival};
use super::rules::Rules;

/// Which failure detector an engine runs.
///
/// The rivals share with ours the join, identity, the codec, seals, the queue of news and its
/// bursts. They differ in what the papers and the source of memberlist say: whom to probe, what a
/// missed round means, who decides when, and how views are repaired (push/pull of the full state
/// every 30 s, times memberlist's scale). They speak with datagrams alone: there is no fallback
/// to TCP for pings, and a page of a push/pull may be lost.
///
/// Every node of a cluster must run the same one.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    name: Cow<'static, str>,
    rules: Rules,
}

/// A rule of ours that can be switched off, or on in a rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A round without an answer counts only if a helper witnessed it with a nack.
    Witness,
    /// Only who missed the member itself, twice, may declare it failed. Off: whoever holds the
    /// suspicion may.
    OnlySuspectorsDecide,
    /// Eight of those that first hear of a suspicion, on average, probe the accused.
    Verify,
    /// The ping is repeated at half of a round.
    SecondPing,
    /// Who accuses probes the accused again at once.
    BackToBack,
    /// A ring successor is probed beside the round robin.
    Ring,
    /// What a miss is worth follows from the loss observed. Off: 1 % for ever.
    ObservedLoss,
    /// A suspicion rides on every message to the accused and every ping-req about it. Switched on
    /// in a rival, on pings, as in Lifeguard section IV-C.
    Buddy,
    /// A member that comes and goes is held down longer each time.
    FlapDamping,
    /// Deadlines shift by the time that the process was stopped.
    StallShift,
    /// Who hears nobody declares nobody failed.
    Isolation,
    /// Failed members are dialled until they are forgotten.
    Redial,
    /// A late answer is an answer, and who gives it is slow and given more time.
    Pace,
}

impl Detector {
    /// Ours, the default: `rpcnet`.
    pub fn rpcnet() -> Self {
        Self {
            name: "rpcnet".into(),
            rules: Rules::OURS,
        }
    }

    /// SWIM with suspicion (Das et al. 2002, section 4.2): `swim`. One member each period by
    /// shuffled round robin, ping, ping-req through three helpers. Everybody who holds a
    /// suspicion declares the member failed after 5 max(1, log10 N) periods.
    pub fn swim() -> Self {
        Self::rival("swim", Rival::swim(5))
    }

    /// SWIM with Lifeguard's LHA-Probe (section IV-A): `lha-probe`. Interval and timeout of
    /// probes stretch with a local health multiplier of 0 to 8; helpers send nacks.
    pub fn lha_probe() -> Self {
        let health = Some(LocalHealth::Paper);
        Self::rival(
            "lha-probe",
            Rival {
                health,
                ..Rival::swim(5)
            },
        )
    }

    /// SWIM with Lifeguard's LHA-Suspicion (section IV-B): `lha-suspicion`. The timeout starts
    /// six times as long and falls with the logarithm of independent suspectors, three at most.
    pub fn lha_suspicion() -> Self {
        Self::rival(
            "lha-suspicion",
            Rival {
                beta: 6,
                confirmations: 3,
                ..Rival::swim(5)
            },
        )
    }

    /// SWIM with Lifeguard's Buddy System (section IV-C): `buddy`. Pings of a suspect carry the
    /// suspicion.
    pub fn buddy() -> Self {
        let mut detector = Self::rival("buddy", Rival::swim(5));
        detector.rules.buddy = true;
        detector
    }

    /// All of Lifeguard (Dadgar et al. 2017) with beta 6, K 3 and this alpha: `lifeguard-a5`.
    /// The suspicion timeout is at least `alpha` max(1, log10 N) periods.
    pub fn lifeguard(alpha: u32) -> Self {
        let rival = Rival {
            beta: 6,
            confirmations: 3,
            health: Some(LocalHealth::Paper),
            ..Rival::swim(alpha)
        };
        let mut detector = Self::rival(format!("lifeguard-a{alpha}"), rival);
        detector.rules.buddy = true;
        detector
    }

    /// Lifeguard as memberlist's source has it, with its LAN defaults: `memberlist`. Alpha 4,
    /// beta 6, K 2; the local health of 0 to 7 stretches the round but not the wait for the
    /// direct ping, counts missed nacks rather than failed probes, and while a round runs no
    /// other starts; helpers send their nacks after the whole probe timeout.
    pub fn memberlist() -> Self {
        let rival = Rival {
            beta: 6,
            confirmations: 2,
            health: Some(LocalHealth::Memberlist),
            ..Rival::swim(4)
        };
        let mut detector = Self::rival("memberlist", rival);
        detector.rules.buddy = true;
        detector
    }

    /// The same without a rule: `rpcnet-without-witness`.
    pub fn without(mut self, rule: Rule) -> Self {
        self.set(rule, false);
        self.name = format!("{}-without-{}", self.name, rule.name()).into();
        self
    }

    /// A rival with a rule of ours: `swim-with-witness`. A rule that is on already stays on.
    ///
    /// # Panics
    /// If the detector is a rival and the rule is [`Rule::ObservedLoss`]: rivals know no phi.
    pub fn with(mut self, rule: Rule) -> Self {
        assert!(
            !(self.rules.is_rival() && rule == Rule::ObservedLoss),
            "{} has no phi",
            self.name
        );
        self.set(rule, true);
        self.name = format!("{}-with-{}", self.name, rule.name()).into();
        self
    }

    /// The same with this many ring successors, whatever the configuration says: `rpcnet-r2`.
    pub fn with_ring_successors(mut self, successors: usize) -> Self {
        self.rules.ring_successors = Some(successors);
        self.name = format!("{}-r{successors}", self.name).into();
        self
    }

    /// The same with a round robin that has its turn once in so many probe intervals:
    /// `rpcnet-every2`.
    pub fn with_round_robin_every(mut self, intervals: usize) -> Self {
        self.rules.round_robin_every = intervals.max(1);
        self.name = format!("{}-every{intervals}", self.name).into();
        self
    }

    /// The same with so many helpers that have to witness a round, or all that were asked, if
    /// these are fewer: `rpcnet-nacks2`.
    pub fn with_nacks_needed(mut self, nacks: usize) -> Self {
        self.rules.nacks_needed = nacks.max(1);
        self.name = format!("{}-nacks{nacks}", self.name).into();
        self
    }

    /// The same with helpers from as many zones as there are, by the tag `zone`: so two nacks
    /// come from two zones. `rpcnet-nacks2-zoned`.
    pub fn with_zoned_helpers(mut self) -> Self {
        self.rules.zoned_helpers = true;
        self.name = format!("{}-zoned", self.name).into();
        self
    }

    /// What it is called in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is another than ours.
    pub fn is_rival(&self) -> bool {
        self.rules.is_rival()
    }

    /// The rivals, SWIM first, and then ours: the order in which tables show them.
    pub fn all() -> Vec<Self> {
        vec![
            Self::swim(),
            Self::lha_probe(),
            Self::lha_suspicion(),
            Self::buddy(),
            Self::lifeguard(5),
            Self::lifeguard(4),
            Self::lifeguard(2),
            Self::memberlist(),
            Self::rpcnet(),
        ]
    }

    /// Ours without each of its rules.
    pub fn ablation() -> Vec<Self> {
        Rule::ALL
            .into_iter()
            .map(|rule| Self::rpcnet().without(rule))
            .collect()
    }

    /// The detector of this name, if it is one of [`Detector::all`], of [`Detector::ablation`],
    /// or one of these with a suffix such as `-r2`, `-with-witness`, `-without-buddy`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(known) = Self::all().into_iter().find(|known| known.name == name) {
            return Some(known);
        }
        if let Some(alpha) = name.strip_prefix("lifeguard-a") {
            let alpha = alpha.parse().ok().filter(|alpha| *alpha > 0);
            if let Some(alpha) = alpha {
                return Some(Self::lifeguard(alpha));
            }
        }
        let rule = |of: &str| Rule::ALL.into_iter().find(|rule| rule.name() == of);
        if let Some((base, rule)) = name
            .rsplit_once("-without-")
            .and_then(|(base, of)| Some((base, rule(of)?)))
        {
            return Some(Self::named(base)?.without(rule));
        }
        if let Some((base, rule)) = name
            .rsplit_once("-with-")
            .and_then(|(base, of)| Some((base, rule(of)?)))
        {
            let base = Self::named(base)?;
            let knows = !(base.is_rival() && rule == Rule::ObservedLoss);
            return knows.then(|| base.with(rule));
        }
        if let Some(base) = name.strip_suffix("-zoned") {
            return Some(Self::named(base)?.with_zoned_helpers());
        }
        // The last of the suffixes that end with a number.
        let (base, count) =
            name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        let count: usize = count.parse().ok()?;
        let named = |suffix| base.strip_suffix(suffix).and_then(Self::named);
        match count {
            1..=8 if base.ends_with("-nacks") => Some(named("-nacks")?.with_nacks_needed(count)),
            1..=16 if base.ends_with("-every") => {
                Some(named("-every")?.with_round_robin_every(count))
            }
            0..=8 => Some(named("-r")?.with_ring_successors(count)),
            _ => None,
        }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    fn rival(name: impl Into<Cow<'static, str>>, rival: Rival) -> Self {
        let nacks = rival.health.is_some();
        Self {
            name: name.into(),
            rules: Rules {
                witness: false,
                only_suspectors_decide: false,
                verify: false,
                second_ping: false,
                back_to_back: false,
                observed_loss: false,
                buddy: false,
                nacks,
                flap_damping: false,
                stall_shift: false,
                isolation: false,
                redial: false,
                pace: false,
                ring_successors: Some(0),
                round_robin_every: 1,
                nacks_needed: 1,
                zoned_helpers: false,
                rival: Some(rival),
            },
        }
    }

    fn set(&mut self, rule: Rule, on: bool) {
        let rival = self.rules.is_rival();
        let rules = &mut self.rules;
        match rule {
            Rule::Witness => {
                rules.witness = on;
                rules.nacks |= on;
            }
            Rule::OnlySuspectorsDecide => rules.only_suspectors_decide = on,
            Rule::Verify => rules.verify = on,
            Rule::SecondPing => rules.second_ping = on,
            Rule::BackToBack => rules.back_to_back = on,
            Rule::Ring => {
                rules.ring_successors = match (on, rival) {
                    (false, _) => Some(0),
                    (true, true) => Some(1),
                    (true, false) => None,
                };
            }
            Rule::ObservedLoss => rules.observed_loss = on,
            Rule::Buddy => rules.buddy = on,
            Rule::FlapDamping => rules.flap_damping = on,
            Rule::StallShift => rules.stall_shift = on,
            Rule::Isolation => rules.isolation = on,
            Rule::Redial => rules.redial = on,
            Rule::Pace => rules.pace = on,
        }
    }
}

impl Default for Detector {
    /// [`Detector::rpcnet`].
    fn default() -> Self {
        Self::rpcnet()
    }
}

impl Rule {
    /// Each rule once.
    pub const ALL: [Self; 13] = [
        Self::Witness,
        Self::OnlySuspectorsDecide,
        Self::Verify,
        Self::SecondPing,
        Self::BackToBack,
        Self::Ring,
        Self::ObservedLoss,
        Self::Buddy,
        Self::FlapDamping,
        Self::StallShift,
        Self::Isolation,
        Self::Redial,
        Self::Pace,
    ];

    /// What it is called in the names of detectors: `only-suspectors-decide`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Witness => "witness",
            Self::OnlySuspectorsDecide => "only-suspectors-decide",
            Self::Verify => "verify",
            Self::SecondPing => "second-ping",
            Self::BackToBack => "back-to-back",
            Self::Ring => "ring",
            Self::ObservedLoss => "observed-loss",
            Self::Buddy => "buddy",
            Self::FlapDamping => "flap-damping",
            Self::StallShift => "stall-shift",
            Self::Isolation => "isolation",
            Self::Redial => "redial",
            Self::Pace => "pace",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_tables_and_lead_back() {
        let names: Vec<_> = Detector::all().iter().map(|d| d.name.to_string()).collect();
        assert_eq!(
            names,
            [
                "swim",
                "lha-probe",
                "lha-suspicion",
                "buddy",
                "lifeguard-a5",
                "lifeguard-a4",
                "lifeguard-a2",
                "memberlist",
                "rpcnet"
            ]
        );
        let more = [
            Detector::rpcnet().with_ring_successors(0),
            Detector::rpcnet().with_ring_successors(2),
            Detector::swim().with(Rule::Witness),
            Detector::lifeguard(2)
                .with(Rule::Witness)
                .with_ring_successors(1),
            Detector::lifeguard(3).without(Rule::Buddy),
            Detector::rpcnet().with_nacks_needed(2).with_zoned_helpers(),
            Detector::rpcnet()
                .with_nacks_needed(2)
                .with_ring_successors(2),
            Detector::rpcnet()
                .with_ring_successors(2)
                .with_round_robin_every(2),
        ];
        let all = Detector::all().into_iter().chain(Detector::ablation());
        for detector in all.chain(more) {
            assert_eq!(Detector::named(detector.name()), Some(detector));
        }
        for unknown in ["", "swam", "lifeguard-a0", "rpcnet-r9", "rpcnet-without-x"] {
            assert_eq!(Detector::named(unknown), None, "{unknown}");
        }
        assert_eq!(Detector::named("swim-with-observed-loss"), None);
    }

    #[test]
    fn each_rule_is_one_switch() {
        for rule in Rule::ALL {
            let off = Detector::rpcnet().without(rule);
            assert_ne!(off.rules, Rules::OURS, "{rule:?}");
            assert_eq!(off.with(rule).rules, Rules::OURS, "{rule:?}");
        }
        // A rival has none of them, but for what is Lifeguard's.
        for rival in Detector::all().into_iter().filter(Detector::is_rival) {
            for rule in Rule::ALL {
                let none = rival.clone().without(rule).rules == rival.rules;
                let lifeguards = rule == Rule::Buddy && rival.rules.buddy;
                assert_eq!(none, !lifeguards, "{rule:?} of {}", rival.name);
            }
        }
    }
}
