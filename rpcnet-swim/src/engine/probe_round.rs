//! Probe rounds: one attempt to reach one member, directly and through helpers.

use std::net::SocketAddr;

use crate::time::Time;

/// Probe round: a ping, then a second ping and requests to helpers.
#[derive(Debug)]
pub struct ProbeRound {
    pub(super) seq: u32,
    pub(super) key: u64,
    /// Epoch of the target: an answer of another epoch is none.
    pub(super) epoch: u64,
    /// Address that was pinged.
    pub(super) addr: SocketAddr,
    pub(super) started: Time,
    /// When it ends, unless it waits for slow members.
    pub(super) end: Time,
    /// Time of the second ping, once it is sent. It has the next sequence number, so that its
    /// answer is told from that of the first.
    pub(super) second_ping_at: Option<Time>,
    pub(super) stage: Stage,
    /// Helpers asked, and whether each said that the target did not answer it.
    pub(super) helpers: Vec<(u64, bool)>,
    /// Whether it has waited for late nacks.
    pub(super) extended: bool,
    /// Whether this process was stopped meanwhile: then no answer means nothing.
    pub(super) stalled: bool,
    /// Whether the first ping was larger than what every path carries.
    pub(super) is_large: bool,
}

/// Stage of a probe round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Direct,
    Indirect,
    /// Round to a failed member: one ping, no helper is asked and nothing is concluded.
    Redial,
}

impl ProbeRound {
    /// Time of the ping with this sequence number, if it was sent.
    pub(super) fn pinged_at(&self, seq: u32) -> Option<Time> {
        match seq == self.seq {
            true => Some(self.started),
            false => self.second_ping_at,
        }
    }

    /// Whether it has to wait for nacks once more.
    pub(super) fn lacks_witness(&self, needed: usize) -> bool {
        needed > 0 && !self.helpers.is_empty() && !self.is_witnessed(needed) && !self.extended
    }

    /// Whether `needed` helpers, or all that were asked if these are fewer, sent a nack.
    pub(super) fn is_witnessed(&self, needed: usize) -> bool {
        let (asked, nacks) = self.witnesses();
        needed == 0 || nacks > 0 && nacks >= needed.min(asked)
    }

    /// How many helpers were asked, and how many of them sent a nack.
    pub fn witnesses(&self) -> (usize, usize) {
        let nacks = self.helpers.iter().filter(|(_, nacked)| *nacked).count();
        (self.helpers.len(), nacks)
    }
}

#[cfg(feature = "unstable")]
impl ProbeRound {
    /// Sequence number of its first ping.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// Key of the target.
    pub fn target(&self) -> u64 {
        self.key
    }

    /// When it ends.
    pub fn end(&self) -> Time {
        self.end
    }

    /// Whether this process was stopped meanwhile.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Keys of the helpers asked.
    pub fn helpers(&self) -> Vec<u64> {
        self.helpers.iter().map(|(key, _)| *key).collect()
    }
}

/// Probe rounds in progress, one for each target.
#[derive(Debug, Default)]
pub(super) struct ProbeRounds(Vec<ProbeRound>);

impl ProbeRounds {
    /// Whether a round to a member may start.
    pub(super) fn has_room_for(&self, key: u64) -> bool {
        self.0.len() < PROBE_ROUNDS_MAX && self.of_target(key).is_none()
    }

    pub(super) fn push(&mut self, round: ProbeRound) {
        debug_assert!(self.has_room_for(round.key));
        self.0.push(round);
    }

    pub(super) fn of_target(&self, key: u64) -> Option<&ProbeRound> {
        self.0.iter().find(|round| round.key == key)
    }

    pub(super) fn get_mut(&mut self, seq: u32) -> Option<&mut ProbeRound> {
        self.0.iter_mut().find(|round| round.seq == seq)
    }

    pub(super) fn contains(&self, seq: u32) -> bool {
        self.0.iter().any(|round| round.seq == seq)
    }

    pub(super) fn remove(&mut self, seq: u32) -> Option<ProbeRound> {
        let at = self.0.iter().position(|round| round.seq == seq)?;
        Some(self.0.swap_remove(at))
    }

    /// Takes out the round that an answer of `key` to either of its pings ends.
    pub(super) fn take_answered(&mut self, key: u64, seq: u32) -> Option<ProbeRound> {
        let is_answered = |it: &ProbeRound| it.key == key && seq.wrapping_sub(it.seq) < 2;
        let at = self.0.iter().position(is_answered)?;
        Some(self.0.swap_remove(at))
    }

    /// Takes in the nack of a helper. Says whether it was asked and has sent none before.
    pub(super) fn take_nack(&mut self, helper: u64, seq: u32, target: u64) -> bool {
        let round = self.get_mut(seq).filter(|round| round.key == target);
        let helpers = round.into_iter().flat_map(|round| &mut round.helpers);
        let nacked = helpers
            .filter(|(key, _)| *key == helper)
            .map(|it| &mut it.1);
        nacked
            .take(1)
            .any(|nacked| !std::mem::replace(nacked, true))
    }

    /// Marks all rounds: the process was stopped.
    pub(super) fn mark_stalled(&mut self) {
        self.0.iter_mut().for_each(|round| round.stalled = true);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(any(test, feature = "unstable"))]
    pub(super) fn as_slice(&self) -> &[ProbeRound] {
        &self.0
    }
}

/// Most rounds at once; a member beyond waits for its next turn.
pub(super) const PROBE_ROUNDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn round(seq: u32, key: u64, helpers: &[u64]) -> ProbeRound {
        ProbeRound {
            seq,
            key,
            epoch: 1,
            addr: ([127, 0, 0, 1], 1).into(),
            started: Time::ZERO,
            end: Time::from_millis(1_000),
            second_ping_at: None,
            stage: Stage::Indirect,
            helpers: helpers.iter().map(|key| (*key, false)).collect(),
            extended: false,
            stalled: false,
            is_large: false,
        }
    }

    #[test]
    fn a_round_is_ended_by_an_answer_of_its_target_to_either_ping() {
        let mut rounds = ProbeRounds::default();
        rounds.push(round(u32::MAX, 7, &[]));
        assert!(
            rounds.take_answered(8, u32::MAX).is_none(),
            "another member"
        );
        assert!(rounds.take_answered(7, 1).is_none(), "of a later round");
        assert!(rounds.take_answered(7, 0).is_some(), "the second ping");
        assert!(rounds.take_answered(7, u32::MAX).is_none(), "once");
    }

    #[test]
    fn a_nack_counts_once_and_from_helpers_that_were_asked() {
        let mut rounds = ProbeRounds::default();
        rounds.push(round(1, 7, &[21, 22]));
        assert!(!rounds.take_nack(23, 1, 7) && !rounds.take_nack(21, 1, 8));
        assert!(rounds.take_nack(21, 1, 7) && !rounds.take_nack(21, 1, 7));
        assert_eq!(rounds.as_slice()[0].witnesses(), (2, 1));
    }

    #[test]
    fn as_many_helpers_witness_a_round_as_are_needed_or_were_asked() {
        let mut one = round(1, 7, &[21, 22]);
        one.helpers[0].1 = true;
        assert!(one.is_witnessed(0) && one.is_witnessed(1) && !one.is_witnessed(2));
        assert!(one.lacks_witness(2) && !one.lacks_witness(1));
        one.helpers.truncate(1);
        assert!(one.is_witnessed(2), "all that were asked");
        let alone = round(1, 7, &[]);
        assert!(!alone.is_witnessed(1) && !alone.lacks_witness(1));
    }

    #[test]
    fn a_member_has_one_round_and_all_rounds_are_bounded() {
        let mut rounds = ProbeRounds::default();
        for n in 0..PROBE_ROUNDS_MAX {
            assert!(rounds.has_room_for(n as u64));
            rounds.push(round(2 * n as u32, n as u64, &[]));
            assert!(!rounds.has_room_for(n as u64));
        }
        assert!(!rounds.has_room_for(u64::MAX));
        assert!(rounds.remove(8).is_some_and(|round| round.key == 4));
        assert!(rounds.has_room_for(4) && !rounds.contains(8));
    }
}
