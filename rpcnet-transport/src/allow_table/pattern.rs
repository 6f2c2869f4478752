//! Patterns of the allow table: an exact text, or one with `*` at one end.

use std::cmp::Ordering;

use thiserror::Error;

use crate::{
    tls::{NameError, canonical_name},
    wire::METHOD_BYTES_MAX,
};

/// Error of a malformed pattern of an [`AllowTable`](crate::AllowTable).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("malformed pattern {pattern:?}: {fault}")]
pub struct PatternError {
    pattern: String,
    fault: PatternFault,
}

impl PatternError {
    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// Reason for which a pattern is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum PatternFault {
    #[error("it is empty")]
    Empty,
    #[error("one '*' is allowed, as its first or its last character")]
    Wildcard,
    #[error("it has {0} bytes, and a method name at most {METHOD_BYTES_MAX}")]
    TooLong(usize),
    #[error("{0:?} cannot be in a node name")]
    NameCharacter(char),
    #[error("it is not a node name: {0}")]
    Name(NameError),
    #[error("{0:?} cannot be in a URI")]
    UriCharacter(char),
    #[error("it matches every host whose name begins with {0:?}: write '/' before the '*'")]
    OpenHost(String),
}

/// Exact text, or one with a wildcard in place of its end or of its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WildcardPattern {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
}

impl WildcardPattern {
    /// Pattern of method names.
    pub(super) fn of_methods(pattern: &str) -> Result<Self, PatternError> {
        let checked = |parsed: Self| match parsed.literal().len() {
            len if len > METHOD_BYTES_MAX => Err(PatternFault::TooLong(len)),
            _ => Ok(parsed),
        };
        Self::parse(pattern, checked)
    }

    /// Pattern of node names, in their canonical form.
    pub(super) fn of_names(pattern: &str) -> Result<Self, PatternError> {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        Self::parse(pattern, |parsed| {
            if let Some(other) = parsed.literal().chars().find(|c| !allowed(c)) {
                return Err(PatternFault::NameCharacter(other));
            }
            Ok(match parsed {
                Self::Exact(name) => {
                    let name = canonical_name(&name).map_err(PatternFault::Name)?;
                    Self::Exact(name.into())
                }
                Self::Prefix(start) => Self::Prefix(start.to_ascii_lowercase().into()),
                Self::Suffix(end) => {
                    let end = end.strip_suffix('.').unwrap_or(&end);
                    Self::Suffix(end.to_ascii_lowercase().into())
                }
            })
        })
    }

    /// Pattern of URIs.
    pub(super) fn of_uris(pattern: &str) -> Result<Self, PatternError> {
        Self::parse(pattern, |parsed| {
            if let Some(other) = parsed.literal().chars().find(|c| !c.is_ascii_graphic()) {
                return Err(PatternFault::UriCharacter(other));
            }
            if let Self::Prefix(start) = &parsed
                && let Some((_, host)) = start.split_once("://")
                && !host.is_empty()
                && !host.contains('/')
            {
                return Err(PatternFault::OpenHost(host.to_owned()));
            }
            Ok(parsed)
        })
    }

    fn parse(
        pattern: &str,
        check: impl FnOnce(Self) -> Result<Self, PatternFault>,
    ) -> Result<Self, PatternError> {
        let parsed = match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            (Some(start), _) => (Self::Prefix(start.into()), start),
            (None, Some(end)) => (Self::Suffix(end.into()), end),
            (None, None) => (Self::Exact(pattern.into()), pattern),
        };
        let checked = match parsed {
            _ if pattern.is_empty() => Err(PatternFault::Empty),
            (_, literal) if literal.contains('*') => Err(PatternFault::Wildcard),
            (parsed, _) => check(parsed),
        };
        checked.map_err(|fault| PatternError {
            pattern: pattern.to_owned(),
            fault,
        })
    }

    fn literal(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
        }
    }

    /// Whether it matches this text, byte by byte.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.matches_by(text.as_bytes(), <[u8]>::eq)
    }

    /// Whether it matches this text, whatever the case of ASCII letters.
    pub(super) fn matches_ignore_case(&self, text: &str) -> bool {
        self.matches_by(text.as_bytes(), <[u8]>::eq_ignore_ascii_case)
    }

    fn matches_by(&self, text: &[u8], is_equal: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        let literal = self.literal().as_bytes();
        let part = match self {
            Self::Exact(_) => Some(text),
            Self::Prefix(_) => text.get(..literal.len()),
            Self::Suffix(_) => text
                .len()
                .checked_sub(literal.len())
                .map(|start| &text[start..]),
        };
        part.is_some_and(|part| is_equal(part, literal))
    }

    /// Order of patterns, the most specific first: an exact one, then those with more characters
    /// beside the `*`, of equally long ones those that begin with them.
    pub(super) fn compare_specificity(&self, other: &Self) -> Ordering {
        let key = |pattern: &Self| {
            let kind = match pattern {
                Self::Exact(_) => 0,
                Self::Prefix(_) => 1,
                Self::Suffix(_) => 2,
            };
            (kind != 0, usize::MAX - pattern.literal().len(), kind)
        };
        let by_key = key(self).cmp(&key(other));
        by_key.then_with(|| self.literal().cmp(other.literal()))
    }
}
