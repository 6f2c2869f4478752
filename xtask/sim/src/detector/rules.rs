//! Rules that an experiment switches off in ours, or on in a rival.

/// The rules, by what holds while one is on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    /// A round without an answer counts only if a helper witnessed it.
    pub(super) witness: bool,
    /// A node that did not miss the member itself never declares it failed.
    pub(super) only_suspectors_decide: bool,
    /// Some of those that first hear of a suspicion probe the suspect.
    pub(super) verify: bool,
    /// The ping is repeated when the helpers are asked.
    pub(super) second_ping: bool,
    /// A node that suspects a member probes it again at once.
    pub(super) back_to_back: bool,
    /// The weight of a miss follows from the loss observed.
    pub(super) observed_loss: bool,
    /// A suspicion rides on every ping of the suspect (Lifeguard section IV-C).
    pub(super) buddy: bool,
    /// Helpers send a nack when the target does not answer (Lifeguard section IV-A).
    pub(super) nacks: bool,
    /// A member that fails and recovers repeatedly is held down longer each time.
    pub(super) flap_damping: bool,
    /// Deadlines shift by the time that the process was stopped.
    pub(super) stall_shift: bool,
    /// A node that hears no member declares none failed.
    pub(super) isolation: bool,
    /// Failed members are dialled.
    pub(super) redial: bool,
    /// Late answers are answers, and their senders are slow.
    pub(super) pace: bool,
    /// Ring successors probed, whatever the configuration says.
    pub(super) ring_successors: Option<usize>,
    /// Probe intervals between two turns of the round robin, if there is a ring beside it.
    pub(super) round_robin_every: usize,
    /// Helpers that have to witness a round, or all that were asked, if these are fewer.
    pub(super) nacks_needed: usize,
    /// Helpers come from as many zones as there are.
    pub(super) zoned_helpers: bool,
}

impl Rules {
    /// All rules of ours.
    pub(super) const OURS: Self = Self {
        witness: true,
        only_suspectors_decide: true,
        verify: true,
        second_ping: true,
        back_to_back: true,
        observed_loss: true,
        buddy: true,
        nacks: true,
        flap_damping: true,
        stall_shift: true,
        isolation: true,
        redial: true,
        pace: true,
        ring_successors: None,
        round_robin_every: 2,
        nacks_needed: 1,
        zoned_helpers: false,
    };

    /// None of them, as in SWIM.
    pub(super) const SWIM: Self = Self {
        witness: false,
        only_suspectors_decide: false,
        verify: false,
        second_ping: false,
        back_to_back: false,
        observed_loss: false,
        buddy: false,
        nacks: false,
        flap_damping: false,
        stall_shift: false,
        isolation: false,
        redial: false,
        pace: false,
        ring_successors: Some(0),
        round_robin_every: 1,
        nacks_needed: 1,
        zoned_helpers: false,
    };
}
