//! Exclusion flags: reasons not to pick an endpoint.

use std::{
    fmt,
    ops::BitOr,
    sync::atomic::{AtomicU8, Ordering},
};

/// Set of reasons not to pick an endpoint, as its observer found out. There may be several at once.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ExclusionFlags(u8);

impl ExclusionFlags {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// A connection to the endpoint failed a moment ago, or broke.
    pub const UNREACHABLE: Self = Self(1);
    /// The endpoint is an outlier: it failed more often than the others.
    pub const EJECTED: Self = Self(1 << 1);
    /// The endpoint is draining: it said that it takes no new calls.
    pub const DRAINING: Self = Self(1 << 2);
    /// The [weight](crate::Endpoint::set_weight) of the endpoint is zero: it takes no calls while
    /// another endpoint has weight.
    pub const ZERO_WEIGHT: Self = Self(1 << 3);
    /// The endpoint is known to be gone: it failed, left, or another process took its place. Set by
    /// the owner of the endpoints, so that an older view that still has it does not pick it.
    pub const GONE: Self = Self(1 << 4);
    /// Every reason.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether there is no reason.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that are in either set.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for ExclusionFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for ExclusionFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::UNREACHABLE, "unreachable"),
            (Self::EJECTED, "ejected"),
            (Self::DRAINING, "draining"),
            (Self::ZERO_WEIGHT, "no weight"),
            (Self::GONE, "gone"),
        ];
        let present = names.iter().filter(|(mark, _)| self.contains(*mark));
        f.debug_set()
            .entries(present.map(|(_, name)| name))
            .finish()
    }
}

/// Exclusion flags of an endpoint, shared between threads.
#[derive(Debug, Default)]
pub(crate) struct AtomicExclusionFlags(AtomicU8);

impl AtomicExclusionFlags {
    pub(crate) const fn none() -> Self {
        Self(AtomicU8::new(0))
    }

    pub(crate) fn get(&self) -> ExclusionFlags {
        ExclusionFlags(self.0.load(Ordering::Relaxed))
    }

    /// Adds flags, and returns those from before.
    pub(crate) fn set(&self, flags: ExclusionFlags) -> ExclusionFlags {
        ExclusionFlags(self.0.fetch_or(flags.0, Ordering::Relaxed))
    }

    /// Removes flags, and returns those from before.
    pub(crate) fn clear(&self, flags: ExclusionFlags) -> ExclusionFlags {
        ExclusionFlags(self.0.fetch_and(!flags.0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_set_and_cleared_independently() {
        let flags = AtomicExclusionFlags::none();
        assert_eq!(flags.set(ExclusionFlags::EJECTED), ExclusionFlags::NONE);
        assert_eq!(flags.set(ExclusionFlags::DRAINING), ExclusionFlags::EJECTED);
        assert_eq!(
            flags.get(),
            ExclusionFlags::EJECTED | ExclusionFlags::DRAINING
        );
        assert_eq!(
            flags.clear(ExclusionFlags::EJECTED),
            ExclusionFlags::EJECTED | ExclusionFlags::DRAINING
        );
        assert_eq!(format!("{:?}", flags.get()), r#"{"draining"}"#);
        assert!(
            ExclusionFlags::ALL.contains(flags.get())
                && !flags.get().contains(ExclusionFlags::UNREACHABLE)
        );
    }
}
