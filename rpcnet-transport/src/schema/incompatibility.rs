//! Reason why peers of different types cannot call each other.

use std::fmt;

/// Difference between the types of a caller and a server that keeps them from calling: its place,
/// and both types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatibility {
    part: Part,
    path: String,
    written: String,
    read: String,
    reason: Reason,
}

/// Part of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Request,
    Reply,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Types,
    OptionOfNil,
    NotWritten,
    Denied,
    WrittenTwice,
    NoSharedVariant,
    TooManyTypes,
}

impl Incompatibility {
    pub(super) fn new(
        reason: Reason,
        part: Part,
        path: String,
        (written, read): (String, String),
    ) -> Self {
        Self {
            part,
            path,
            written,
            read,
            reason,
        }
    }

    /// Part of the method: `request`, `reply` or `error`.
    #[must_use]
    pub fn part(&self) -> &'static str {
        match self.part {
            Part::Request => "request",
            Part::Reply => "reply",
            Part::Error => "error",
        }
    }

    /// Place in that part: `job.frames[].size`. Empty if it is the part itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Written side of it: a type, the names of fields or variants, or nothing.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Read side of it: a type, the names of fields or variants, or nothing.
    #[must_use]
    pub fn read(&self) -> &str {
        &self.read
    }
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (writer, reader) = match self.part {
            Part::Request => ("caller", "server"),
            Part::Reply | Part::Error => ("server", "caller"),
        };
        let Self { written, read, .. } = self;
        let is_below = !self.path.is_empty() && !self.path.starts_with(['[', '{', ':']);
        let separator = if is_below { "." } else { "" };
        write!(f, "{}{separator}{}: ", self.part(), self.path)?;
        match self.reason {
            Reason::Types => {
                write!(
                    f,
                    "the {writer} writes {written}, the {reader} reads {read}"
                )
            }
            Reason::OptionOfNil => {
                write!(
                    f,
                    "the {writer} writes {written}, the {reader} reads {read}, and an option of \
                     an option or of () needs equal types and postcard"
                )
            }
            Reason::NotWritten => {
                write!(f, "the {writer} does not write it, the {reader} needs it")
            }
            Reason::Denied => {
                write!(
                    f,
                    "the {writer} writes it, the {reader} denies unknown fields"
                )
            }
            Reason::WrittenTwice => {
                write!(
                    f,
                    "the {writer} writes {written}, which are one field of the {reader}"
                )
            }
            Reason::NoSharedVariant => {
                write!(
                    f,
                    "the {writer} writes the variants {written}, the {reader} reads {read}"
                )
            }
            Reason::TooManyTypes => f.write_str("too many types to be compared"),
        }
    }
}

impl std::error::Error for Incompatibility {}
