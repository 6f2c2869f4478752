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

use std::borrow::Cow;

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
            name: "rpcnet".into(),
            rules: Rules::OURS,
            swim: None,
            state: SwimState::default(),
        }
    }

    /// SWIM with suspicion (Das et al. 2002, section 4.2): `swim`. One member each period by
    /// shuffled round robin, ping, ping-req through three helpers. Every node that holds a
    /// suspicion declares the member failed after 5 max(1, log10 N) periods.
    pub fn swim() -> Self {
        Self::swim_family("swim", SwimParams::swim(5))
    }

    /// SWIM with Lifeguard's LHA-Probe (section IV-A): `lha-probe`. Interval and timeout of
    /// probes stretch with a local health multiplier of 0 to 8; helpers send nacks.
    pub fn lha_probe() -> Self {
        let params = SwimParams::swim(5).with_health(LocalHealth::Paper);
        Self::swim_family("lha-probe", params)
    }

    /// SWIM with Lifeguard's LHA-Suspicion (section IV-B): `lha-suspicion`. The timeout starts
    /// six times as long and falls with the logarithm of independent suspectors, three at most.
    pub fn lha_suspicion() -> Self {
        let params = SwimParams::swim(5).with_confirmations(6, 3);
        Self::swim_family("lha-suspicion", params)
    }

    /// SWIM with Lifeguard's Buddy System (section IV-C): `buddy`. Pings of a suspect carry the
    /// suspicion.
    pub fn buddy() -> Self {
        Self::swim_family("buddy", SwimParams::swim(5)).with_buddy()
    }

    /// All of Lifeguard (Dadgar et al. 2017) with beta 6, K 3 and this alpha: `lifeguard-a5`.
    /// The suspicion timeout is at least `alpha` max(1, log10 N) periods.
    pub fn lifeguard(alpha: u32) -> Self {
        let params = SwimParams::swim(alpha)
            .with_confirmations(6, 3)
            .with_health(LocalHealth::Paper);
        Self::swim_family(format!("lifeguard-a{alpha}"), params).with_buddy()
    }

    /// Lifeguard as memberlist's source has it, with its LAN defaults: `memberlist`. Alpha 4,
    /// beta 6, K 2; the local health of 0 to 7 stretches the round but not the wait for the
    /// direct ping, counts missed nacks rather than failed probes, and while a round runs no
    /// other starts; helpers send their nacks after the whole probe timeout.
    pub fn memberlist() -> Self {
        let params = SwimParams::swim(4)
            .with_confirmations(6, 2)
            .with_health(LocalHealth::Memberlist);
        Self::swim_family("memberlist", params).with_buddy()
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
            !(self.is_rival() && rule == Rule::ObservedLoss),
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
        let rules = Rule::value_variants().iter();
        rules.map(|rule| Self::rpcnet().without(*rule)).collect()
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
        for rule in Rule::value_variants().iter().copied() {
            let rule_name = rule.name();
            if let Some(base) = name.strip_suffix(&format!("-without-{rule_name}")) {
                return Some(Self::named(base)?.without(rule));
            }
            if let Some(base) = name.strip_suffix(&format!("-with-{rule_name}")) {
                let base = Self::named(base)?;
                let knows = !(base.is_rival() && rule == Rule::ObservedLoss);
                return knows.then(|| base.with(rule));
            }
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

    fn swim_family(name: impl Into<Cow<'static, str>>, params: SwimParams) -> Self {
        Self {
            name: name.into(),
            rules: Rules {
                nacks: params.health.is_some(),
                ..Rules::SWIM
            },
            swim: Some(params),
            state: SwimState::default(),
        }
    }

    /// The same with Lifeguard's Buddy System.
    fn with_buddy(mut self) -> Self {
        self.rules.switch(Rule::Buddy, true);
        self
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

/// The name of ours.
pub(crate) const OURS: &str = "rpcnet";
