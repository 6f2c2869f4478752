//! Exclusion flags: reasons not to pick an endpoint.

use std::{fmt, ops::BitOr};

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

    #[inline]
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

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
