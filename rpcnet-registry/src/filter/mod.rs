//! Tag filter: an expression over the tags of a node.

mod clause;
mod error;
mod hint;
mod parse;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, sync::Arc};

use clause::Clause;
pub use error::FilterError;

use crate::Tags;

/// Tag filter: an expression over the tags of a node, such as `role=worker,zone=eu-1`.
///
/// It has clauses, separated by commas, that must all hold; without any it matches every node:
///
/// | clause | holds when |
/// |---|---|
/// | `key=value` | the tag is there and has this value |
/// | `key!=value` | the tag is not there, or has another value |
/// | `key` | the tag is there |
/// | `!key` | the tag is not there |
/// | `key in (a\|b)` | the tag is there and has one of these values |
///
/// White space around the parts does not matter. Keys of letters, digits and `-_./` are written as
/// they are, and so are values of these and `:@+%`. Any other key or value is put in double quotes,
/// in which `\"` and `\\` stand for the quote and the backslash: `name="a, b"`, `"a:b"`. Upper and
/// lower case differ.
///
/// An expression of another filter language, such as `weight>3`, `role:worker` or `a&&b`, is an
/// error with a [hint](FilterError::hint).
///
/// The state of a node is no tag, and needs no clause: selection excludes nodes that drain, left or
/// failed by itself.
///
/// Parsed once with [`str::parse`], then cheap to clone and to apply. Displays in one canonical
/// form that parses to the same filter.
///
/// ```
/// use rpcnet_registry::{Filter, Tags};
///
/// let filter: Filter = "role=worker, zone in (eu-1|eu-2), !spare".parse()?;
/// assert!(filter.matches(&Tags::from([("role", "worker"), ("zone", "eu-2")])));
///
/// let error = "role=worker,zone==eu-1".parse::<Filter>().unwrap_err();
/// assert_eq!(error.position(), 17);
/// assert_eq!(error.to_string(), "\
/// expected a value, found '=' at byte 17
///   role=worker,zone==eu-1
///                    ^
/// hint: write `zone=eu-1`");
/// # Ok::<(), rpcnet_registry::FilterError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    clauses: Arc<[Clause]>,
}

impl Filter {
    /// The longest expression that is parsed, in bytes.
    pub const BYTES_MAX: usize = parse::BYTES_MAX;

    /// The filter that matches every node.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Whether a node with these tags matches.
    #[must_use]
    pub fn matches(&self, tags: &Tags) -> bool {
        self.clauses.iter().all(|clause| clause.matches(tags))
    }

    /// Whether it matches every node.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.clauses.is_empty()
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    /// # Errors
    ///
    /// The position at which the expression is invalid, and what was expected there.
    fn from_str(expression: &str) -> Result<Self, FilterError> {
        parse::parse_clauses(expression).map(|clauses| Self {
            clauses: clauses.into(),
        })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, clause) in self.clauses.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{clause}")?;
        }
        Ok(())
    }
}
