//! Failure detectors to compare: ours, with each rule switched off, and its rivals.

mod gossip;
mod hooks;
mod probe;
mod push_pull;
mod rules;
mod suspicion;
mod suspicion_timers;
mod swim_family;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, ops::RangeInclusive};

use clap::ValueEnum;

use self::{
    rules::Rules,
    swim_family::{LocalHealth, SwimParams, SwimState},
};

/// Engine that runs one of the detectors.
pub type Engine = rpcnet_swim::Engine<Detector>;
/// Cluster whose nodes all run one of the detectors.
pub type Cluster = rpcnet_swim_sim::Cluster<Detector>;

/// Failure detector of an engine.
///
/// The rivals share with ours the join, identity, the codec, seals, the gossip queue and its
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
    /// Parameters of the SWIM family; none for ours.
    swim: Option<SwimParams>,
    state: SwimState,
}

/// A rule of ours that can be switched off, or on in a rival.
///
/// Its name in the names of detectors is that of its value: `only-suspectors-decide`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
#[non_exhaustive]
pub enum Rule {
    /// A round without an answer counts only if a helper witnessed it with a nack.
    Witness,
    /// Only a node that missed the member itself, twice, may declare it failed. Off: every node
    /// that holds the suspicion may.
    OnlySuspectorsDecide,
    /// Eight of those that first hear of a suspicion, on average, probe the suspect.
    Verify,
    /// The ping is repeated at half of a round.
    SecondPing,
    /// A node that suspects a member probes it again at once.
    BackToBack,
    /// A ring successor is probed beside the round robin.
    Ring,
    /// The weight of a miss follows from the loss observed. Off: 1 % for ever.
    ObservedLoss,
    /// A suspicion rides on every message to the suspect and every ping-req about it. Switched on
    /// in a rival, on pings, as in Lifeguard section IV-C.
    Buddy,
    /// A member that fails and recovers repeatedly is held down longer each time.
    FlapDamping,
    /// Deadlines shift by the time that the process was stopped.
    StallShift,
    /// A node that hears no member declares none failed.
    Isolation,
    /// Failed members are dialled until they are forgotten.
    Redial,
    /// A late answer is an answer, and its sender is slow and given more time.
    Slowness,
}

impl Detector {
    /// Ours, the default: `rpcnet`.
    pub fn rpcnet() -> Self {
        Self {
            name: OURS.into(),
            rules: Rules::OURS,
            swim: None,
            state: SwimState::default(),
        }
    }

    /// The detector of this name: `rpcnet`, a rival such as `memberlist` or `lifeguard-a5` (the
    /// number is alpha), or one of these with suffixes.
    ///
    /// - `-without-witness` and `-with-witness` switch a [`Rule`].
    /// - `-r2` probes two ring successors, whatever the configuration says.
    /// - `-every2` gives the round robin its turn once in two probe intervals, if there is a ring
    ///   beside it.
    /// - `-nacks2` needs two helpers that witness a round, or all that were asked, if these are
    ///   fewer.
    /// - `-zoned` takes helpers from as many zones as there are, by the tag `zone`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(base) = Self::without_suffix(name) {
            return Some(base);
        }
        for rule in Rule::value_variants().iter().copied() {
            let rule_name = rule.name();
            if let Some(base) = name.strip_suffix(&format!("-without-{rule_name}")) {
                return Some(Self::named(base)?.without(rule));
            }
            if let Some(base) = name.strip_suffix(&format!("-with-{rule_name}")) {
                let base = Self::named(base)?;
                return base.can_have(rule).then(|| base.with(rule));
            }
        }
        let changed = |base: &str, change: &dyn Fn(&mut Rules)| {
            let mut detector = Self::named(base)?;
            change(&mut detector.rules);
            detector.name = name.to_owned().into();
            Some(detector)
        };
        if let Some(base) = name.strip_suffix("-zoned") {
            return changed(base, &|rules| rules.zoned_helpers = true);
        }
        // The last of the suffixes that end with a number.
        let (base, count) =
            name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        let count: usize = count.parse().ok()?;
        let mut suffixes = NUMBER_SUFFIXES.iter();
        let (suffix, counts, set) = suffixes.find(|(suffix, ..)| base.ends_with(suffix))?;
        let base = base
            .strip_suffix(suffix)
            .filter(|_| counts.contains(&count))?;
        changed(base, &|rules| set(rules, count))
    }

    fn without_suffix(name: &str) -> Option<Self> {
        if name == OURS {
            return Some(Self::rpcnet());
        }
        let (params, buddy) = family_member(name)?;
        let mut rules = Rules {
            nacks: params.health.is_some(),
            ..Rules::SWIM
        };
        rules.switch(Rule::Buddy, buddy);
        Some(Self {
            name: name.to_owned().into(),
            rules,
            swim: Some(params),
            state: SwimState::default(),
        })
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
        assert!(self.can_have(rule), "{} has no phi", self.name);
        self.set(rule, true);
        self.name = format!("{}-with-{}", self.name, rule.name()).into();
        self
    }

    fn can_have(&self, rule: Rule) -> bool {
        !self.is_rival() || rule != Rule::ObservedLoss
    }

    /// Name in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is one of the SWIM family rather than ours.
    pub fn is_rival(&self) -> bool {
        self.swim.is_some()
    }

    /// The rivals, SWIM first, and then ours: the order in which tables show them.
    pub fn all() -> Vec<Self> {
        let named = |name: &&str| Self::named(name).expect("the name is of the family");
        ALL.iter().map(named).collect()
    }

    /// Ours without each of its rules.
    pub fn ablation() -> Vec<Self> {
        let rules = Rule::value_variants().iter();
        rules.map(|rule| Self::rpcnet().without(*rule)).collect()
    }

    fn set(&mut self, rule: Rule, on: bool) {
        let rival = self.is_rival();
        let rules = &mut self.rules;
        rules.switch(rule, on);
        match rule {
            // Without nacks there is no witness.
            Rule::Witness => rules.nacks |= on,
            Rule::Ring => {
                rules.ring_successors = match (on, rival) {
                    (false, _) => Some(0),
                    (true, true) => Some(1),
                    (true, false) => None,
                };
            }
            _ => {}
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
    fn name(self) -> String {
        let value = self.to_possible_value().expect("no rule is skipped");
        value.get_name().to_owned()
    }
}

/// Parameters of a detector of the SWIM family, and whether it has Lifeguard's Buddy System:
/// pings of a suspect carry the suspicion (Dadgar et al. 2017, section IV-C).
fn family_member(name: &str) -> Option<(SwimParams, bool)> {
    Some(match name {
        // SWIM with suspicion (Das et al. 2002, section 4.2). One member each period by shuffled
        // round robin, ping, ping-req through three helpers. Every node that holds a suspicion
        // declares the member failed after 5 max(1, log10 N) periods.
        "swim" => (SwimParams::swim(5), false),
        // Lifeguard's LHA-Probe (section IV-A): interval and timeout of probes stretch with a
        // local health multiplier of 0 to 8; helpers send nacks.
        "lha-probe" => (SwimParams::swim(5).with_health(LocalHealth::Paper), false),
        // Lifeguard's LHA-Suspicion (section IV-B): the timeout starts six times as long and falls
        // with the logarithm of independent suspectors, three at most.
        "lha-suspicion" => (SwimParams::swim(5).with_confirmations(6, 3), false),
        "buddy" => (SwimParams::swim(5), true),
        // Lifeguard as memberlist's source has it, with its LAN defaults. Alpha 4, beta 6, K 2; the
        // local health of 0 to 7 stretches the round but not the wait for the direct ping, counts
        // missed nacks rather than failed probes, and while a round runs no other starts; helpers
        // send their nacks after the whole probe timeout.
        "memberlist" => {
            let params = SwimParams::swim(4).with_confirmations(6, 2);
            (params.with_health(LocalHealth::Memberlist), true)
        }
        // All of Lifeguard with beta 6, K 3 and this alpha: a suspicion lasts at least alpha
        // max(1, log10 N) periods.
        _ => {
            let alpha = name.strip_prefix("lifeguard-a")?.parse().ok();
            let params = SwimParams::swim(alpha.filter(|alpha| *alpha > 0)?);
            let params = params.with_confirmations(6, 3);
            (params.with_health(LocalHealth::Paper), true)
        }
    })
}

/// The name of ours.
pub(crate) const OURS: &str = "rpcnet";

/// Names of all detectors in the order of the tables.
pub(crate) const ALL: [&str; 9] = [
    "swim",
    "lha-probe",
    "lha-suspicion",
    "buddy",
    "lifeguard-a5",
    "lifeguard-a4",
    "lifeguard-a2",
    "memberlist",
    OURS,
];

/// Suffix that ends with a number, the numbers that it takes, and what it sets.
type NumberSuffix = (&'static str, RangeInclusive<usize>, fn(&mut Rules, usize));

const NUMBER_SUFFIXES: [NumberSuffix; 3] = [
    ("-nacks", 1..=8, |rules, count| rules.nacks_needed = count),
    ("-every", 1..=16, |rules, count| {
        rules.round_robin_every = count;
    }),
    ("-r", 0..=8, |rules, count| {
        rules.ring_successors = Some(count);
    }),
];
