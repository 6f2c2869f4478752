//! Priority of a call under overload.

use std::fmt;

/// Priority of a call on an overloaded server. Of callers that have more than an equal share of the
/// queue, the calls of lowest priority are shed first, and the call of highest priority gets the
/// next permit. It has no effect while there is room for all.
///
/// The classes are those of chapter 21 of Google's book on site reliability engineering (2016). A
/// call made by a handler has the priority of the call that it serves, unless [set
/// otherwise](crate::CallOptions::with_priority). A higher priority compares as less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Its failure hurts users badly. Plan capacity for all of it; use it sparingly.
    CriticalPlus,
    /// Its failure hurts users. Plan capacity for all of it. The default.
    #[default]
    Critical,
    /// It can be repeated some minutes later, as batch work can.
    SheddablePlus,
    /// It may fail often, as best-effort work may.
    Sheddable,
}

impl Priority {
    /// All classes, from highest to lowest priority.
    pub const ALL: [Self; 4] = [
        Self::CriticalPlus,
        Self::Critical,
        Self::SheddablePlus,
        Self::Sheddable,
    ];

    /// Two bits of the wire; zero is the default.
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Critical => 0,
            Self::CriticalPlus => 1,
            Self::SheddablePlus => 2,
            Self::Sheddable => 3,
        }
    }

    /// Priority in the two lowest bits.
    pub(crate) const fn from_wire(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::Critical,
            1 => Self::CriticalPlus,
            2 => Self::SheddablePlus,
            _ => Self::Sheddable,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CriticalPlus => "critical plus",
            Self::Critical => "critical",
            Self::SheddablePlus => "sheddable plus",
            Self::Sheddable => "sheddable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_survives_the_wire_and_zero_is_the_default() {
        for priority in Priority::ALL {
            assert_eq!(Priority::from_wire(priority.to_wire()), priority);
        }
        assert_eq!(Priority::from_wire(0), Priority::default());
        assert!(Priority::ALL.is_sorted());
    }
}
