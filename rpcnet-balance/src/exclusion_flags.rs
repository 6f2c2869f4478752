//! Why an endpoint is better not picked.

use std::{
    fmt,
    ops::BitOr,
    sync::atomic::{AtomicU8, Ordering},
};

/// Reasons why an endpoint is better not picked, as the observer of the endpoint found out. A set:
/// there may be several at once.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ExclusionFlags(u8);

impl ExclusionFlags {
    /// No reason.
    pub const NONE: Self = Self(0);
    /// It could not be connected to a moment ago, or the connection to it broke.
    pub const UNREACHABLE: Self = Self(1);
    /// It failed more often than the others.
    pub const EJECTED: Self = Self(1 << 1);
    /// It said that it takes no new calls.
    pub const DRAINING: Self = Self(1 << 2);
    /// Its [weight](crate::Endpoint::set_weight) is zero: it takes no calls while another endpoint has weight.
    pub const ZERO_WEIGHT: Self = Self(1 << 3);
    /// It is known to be gone: it failed, left, or another process took its place. Set by the owner of the endpoints, so
    /// that an older view that still has it does not pick it.
    pub const GONE: Self = Self(1 << 4);
    /// Any reason.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether there is no reason.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `alias` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These but for those of `alias`.
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

/// The marks of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct AtomicExclusionFlags(AtomicU8);

impl AtomicExclusionFlags {
    pub(crate) const fn none() -> Self {
        Self(AtomicU8::new(0))
    }

    pub(crate) fn get(&self) -> ExclusionFlags {
        ExclusionFlags(self.0.load(Ordering::Relaxed))
    }

    /// Adds marks; says which there were.
    pub(crate) fn set(&self, marks: ExclusionFlags) -> ExclusionFlags {
        ExclusionFlags(self.0.fetch_or(marks.0, Ordering::Relaxed))
    }

    /// Takes marks away; says which there were.
    pub(crate) fn clear(&self, marks: ExclusionFlags) -> ExclusionFlags {
        ExclusionFlags(self.0.fetch_and(!marks.0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_and_go_each_for_itself() {
        let marks = AtomicExclusionFlags::none();
        assert_eq!(marks.set(ExclusionFlags::EJECTED), ExclusionFlags::NONE);
        assert_eq!(marks.set(ExclusionFlags::DRAINING), ExclusionFlags::EJECTED);
        assert_eq!(
            marks.get(),
            ExclusionFlags::EJECTED | ExclusionFlags::DRAINING
        );
        assert_eq!(
            marks.clear(ExclusionFlags::EJECTED),
            ExclusionFlags::EJECTED | ExclusionFlags::DRAINING
        );
        assert_eq!(format!("{:?}", marks.get()), r#"{"draining"}"#);
        assert!(
            ExclusionFlags::ALL.contains(marks.get())
                && !marks.get().contains(ExclusionFlags::UNREACHABLE)
        );
    }
}
