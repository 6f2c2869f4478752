//! State of an endpoint in one word: exclusion flags, traits, and the number of long calls.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::ExclusionFlags;

/// State of an endpoint in one word, so that a pick looks at all of it at once: nearly always it is
/// zero.
///
/// The lowest byte is the [`ExclusionFlags`], the next one the [`Traits`], the upper half the
/// number of calls in flight that usually take longer than a typical one.
#[derive(Debug)]
pub(crate) struct EndpointState(AtomicU32);

/// State of an endpoint as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateSnapshot(u32);

/// Set of rare traits of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits(u32);

impl EndpointState {
    /// The state of an endpoint without calls so far.
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(Traits::WITHOUT_REPLY.0))
    }

    #[inline]
    pub(crate) fn get(&self) -> StateSnapshot {
        StateSnapshot(self.0.load(Acquire))
    }

    /// Adds flags, and returns those from before.
    pub(crate) fn set_flags(&self, flags: ExclusionFlags) -> ExclusionFlags {
        StateSnapshot(self.0.fetch_or(flags.bits().into(), AcqRel)).flags()
    }

    /// Removes flags, and returns those from before.
    pub(crate) fn clear_flags(&self, flags: ExclusionFlags) -> ExclusionFlags {
        let kept = !u32::from(flags.bits());
        StateSnapshot(self.0.fetch_and(kept, AcqRel)).flags()
    }

    /// Adds or removes traits. What was written before is seen by a thread that sees the change.
    pub(crate) fn set(&self, traits: Traits, present: bool) {
        if present {
            self.0.fetch_or(traits.0, AcqRel);
        } else {
            self.0.fetch_and(!traits.0, AcqRel);
        }
    }

    /// Adds a long call, and returns the number before; `None` if it cannot be counted.
    pub(crate) fn add_long_call(&self) -> Option<u16> {
        let one_more = |state: u32| state.checked_add(LONG_CALL);
        let before = self.0.fetch_update(Relaxed, Relaxed, one_more);
        Some(StateSnapshot(before.ok()?).long_calls())
    }

    /// Removes a long call that was added.
    pub(crate) fn remove_long_call(&self) {
        self.0.fetch_sub(LONG_CALL, Relaxed);
    }
}

impl StateSnapshot {
    /// The state without anything that is rare.
    pub(crate) const EMPTY: Self = Self(0);

    #[inline]
    pub(crate) const fn flags(self) -> ExclusionFlags {
        ExclusionFlags::from_bits(self.0 as u8)
    }

    #[inline]
    pub(crate) const fn has_any(self, traits: Traits) -> bool {
        self.0 & traits.0 != 0
    }

    #[inline]
    pub(crate) const fn long_calls(self) -> u16 {
        (self.0 >> LONG_CALL_BITS) as u16
    }

    /// Flags and traits of either state; the number of long calls is only zero or not.
    #[inline]
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there are none of `flags`, and none of `traits`.
    #[inline]
    pub(crate) const fn is_ordinary(self, flags: ExclusionFlags, traits: Traits) -> bool {
        self.0 & (flags.bits() as u32 | traits.0) == 0
    }
}

impl Traits {
    /// The endpoint takes long to reply, whatever its load.
    pub(crate) const SLOW: Self = Self(1 << 8);
    /// The last report of the endpoint, which may be out of date, said that it is busy or draining.
    pub(crate) const BUSY_REPORTED: Self = Self(1 << 9);
    /// The endpoint may be in backoff: there were failures.
    pub(crate) const BACKOFF: Self = Self(1 << 10);
    /// No latency of the endpoint was recorded so far.
    pub(crate) const WITHOUT_REPLY: Self = Self(1 << 11);
    /// Those that matter where endpoints are compared by their calls in flight: slow, busy, failed.
    pub(crate) const OF_LOAD: Self = Self(Self::SLOW.0 | Self::BUSY_REPORTED.0 | Self::BACKOFF.0);
    /// All traits, and long calls.
    pub(crate) const ALL: Self = Self(!FLAG_BITS);
}

const FLAG_BITS: u32 = u8::MAX as u32;
const LONG_CALL_BITS: u32 = 16;
const LONG_CALL: u32 = 1 << LONG_CALL_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    const DRAINING: ExclusionFlags = ExclusionFlags::DRAINING;
    const EJECTED: ExclusionFlags = ExclusionFlags::EJECTED;

    #[test]
    fn flags_are_set_and_cleared_independently() {
        let state = EndpointState::new();
        assert_eq!(state.set_flags(EJECTED), ExclusionFlags::NONE);
        assert_eq!(state.set_flags(DRAINING), EJECTED);
        assert_eq!(state.get().flags(), EJECTED | DRAINING);
        assert_eq!(state.clear_flags(EJECTED), EJECTED | DRAINING);
        assert_eq!(format!("{:?}", state.get().flags()), r#"{"draining"}"#);
        assert!(
            ExclusionFlags::ALL.contains(state.get().flags())
                && !state.get().flags().contains(ExclusionFlags::UNREACHABLE)
        );
    }

    #[test]
    fn parts_do_not_touch_each_other() {
        let state = EndpointState::new();
        state.set_flags(ExclusionFlags::ALL);
        assert_eq!(state.add_long_call(), Some(0));
        for traits in [Traits::SLOW, Traits::BUSY_REPORTED, Traits::BACKOFF] {
            assert!(!state.get().has_any(traits));
            state.set(traits, true);
            assert!(state.get().has_any(traits));
        }
        state.set(Traits::SLOW, false);
        state.set(Traits::WITHOUT_REPLY, false);
        assert!(!state.get().has_any(Traits::SLOW) && !state.get().has_any(Traits::WITHOUT_REPLY));
        assert_eq!(state.clear_flags(DRAINING), ExclusionFlags::ALL);
        assert!(state.get().has_any(Traits::BACKOFF));
        assert_eq!(state.get().long_calls(), 1);
        state.remove_long_call();
        assert_eq!(state.get().long_calls(), 0);
    }

    #[test]
    fn long_calls_are_counted_as_far_as_there_is_room() {
        let state = EndpointState::new();
        for calls in 0..u16::MAX {
            assert_eq!(state.add_long_call(), Some(calls));
        }
        assert_eq!(state.add_long_call(), None);
        assert_eq!(state.get().long_calls(), u16::MAX);
    }

    #[test]
    fn an_ordinary_state_has_nothing_but_flags_that_are_not_respected() {
        let state = EndpointState::new();
        assert!(!state.get().is_ordinary(ExclusionFlags::ALL, Traits::ALL));
        state.set(Traits::WITHOUT_REPLY, false);
        assert!(state.get().is_ordinary(ExclusionFlags::ALL, Traits::ALL));
        state.set_flags(DRAINING);
        assert!(!state.get().is_ordinary(ExclusionFlags::ALL, Traits::ALL));
        assert!(state.get().is_ordinary(EJECTED, Traits::ALL));
        state.add_long_call();
        assert!(!state.get().is_ordinary(EJECTED, Traits::ALL));
        assert!(state.get().is_ordinary(EJECTED, Traits::OF_LOAD));
    }
}
