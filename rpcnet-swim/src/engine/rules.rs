//! Which rules the engine follows. Ours are a constant; with feature `sim` an experiment may
//! switch each of them off, or run another detector in their place.

#[cfg(feature = "sim")]
use super::rival::Rival;

/// The rules, by what holds while one is on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    /// A round without an answer counts only if a helper witnessed it.
    pub(crate) witness: bool,
    /// Who did not miss the member itself never declares it failed.
    pub(crate) only_suspectors_decide: bool,
    /// Some of those that first hear of a suspicion look for themselves.
    pub(crate) verify: bool,
    /// The ping is repeated when the helpers are asked.
    pub(crate) second_ping: bool,
    /// Who accuses probes again at once.
    pub(crate) back_to_back: bool,
    /// What a miss is worth follows from the loss observed.
    pub(crate) observed_loss: bool,
    /// A suspicion rides on every ping of the accused (Lifeguard section IV-C).
    pub(crate) buddy: bool,
    /// Helpers say so when the target does not answer (Lifeguard section IV-A).
    pub(crate) nacks: bool,
    /// Who comes and goes is held down longer each time.
    pub(crate) flap_damping: bool,
    /// Deadlines shift by the time that the process was stopped.
    pub(crate) stall_shift: bool,
    /// Who hears nobody declares nobody failed.
    pub(crate) isolation: bool,
    /// Failed members are dialled.
    pub(crate) redial: bool,
    /// Late answers are answers, and who gives them is slow.
    pub(crate) pace: bool,
    /// Ring successors probed, whatever the configuration says.
    pub(crate) ring_successors: Option<usize>,
    /// The round robin has its turn once in so many probe intervals, if there is a ring beside it:
    /// of twice as many it saves a quarter of the datagrams and finds a crash 0.1 s later.
    pub(crate) round_robin_every: usize,
    /// Helpers that have to witness a round, or all that were asked, if these are fewer.
    pub(crate) nacks_needed: usize,
    /// Helpers come from as many zones as there are.
    #[cfg(feature = "sim")]
    pub(crate) zoned_helpers: bool,
    /// Another detector decides.
    #[cfg(feature = "sim")]
    pub(crate) rival: Option<Rival>,
}

impl Rules {
    /// What a cluster runs.
    pub(crate) const OURS: Self = Self {
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
        #[cfg(feature = "sim")]
        zoned_helpers: false,
        #[cfg(feature = "sim")]
        rival: None,
    };

    /// Whether the detector is another than ours.
    #[cfg(feature = "sim")]
    pub(crate) const fn is_rival(&self) -> bool {
        self.rival.is_some()
    }

    /// Never, without feature `sim`.
    #[cfg(not(feature = "sim"))]
    pub(crate) const fn is_rival(&self) -> bool {
        false
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
