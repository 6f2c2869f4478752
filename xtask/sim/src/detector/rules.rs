//! Rules that an experiment switches off in ours, or on in a rival.

use super::Rule;

/// The rules that are on, and the numbers that go with them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    /// A bit for each rule that is on.
    pub(super) on: u16,
    /// Helpers send a nack when the target does not answer (Lifeguard section IV-A).
    pub(super) nacks: bool,
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
        on: u16::MAX,
        nacks: true,
        ring_successors: None,
        round_robin_every: 2,
        nacks_needed: 1,
        zoned_helpers: false,
    };

    /// None of them, as in SWIM.
    pub(super) const SWIM: Self = Self {
        on: 0,
        nacks: false,
        ring_successors: Some(0),
        round_robin_every: 1,
        nacks_needed: 1,
        zoned_helpers: false,
    };

    pub(super) fn has(&self, rule: Rule) -> bool {
        self.on & Self::bit(rule) != 0
    }

    /// The value if the rule is on, else zero.
    pub(super) fn if_on<T: Default>(&self, rule: Rule, value: T) -> T {
        match self.has(rule) {
            true => value,
            false => T::default(),
        }
    }

    pub(super) fn switch(&mut self, rule: Rule, on: bool) {
        match on {
            true => self.on |= Self::bit(rule),
            false => self.on &= !Self::bit(rule),
        }
    }

    const fn bit(rule: Rule) -> u16 {
        1 << rule as u16
    }
}
