//! Parse error of a filter.

use std::fmt;

/// Parse error of a filter expression: the position, and what was expected there.
///
/// The caller's fault; the same text will fail again. Displays over three lines, the last one with
/// a caret under the position, and a fourth with the hint if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    pub(super) expression: String,
    pub(super) position: usize,
    pub(super) expected: &'static str,
    pub(super) hint: Option<String>,
}

impl FilterError {
    /// The expression.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The byte at which the expression is invalid; its length if it ends too early.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The syntax that was expected there.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.expected
    }

    /// A hint what to write instead, if it is a known mistake.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The character that was found there; `None` at the end.
    #[must_use]
    pub fn found(&self) -> Option<char> {
        self.expression[self.position..].chars().next()
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found ", self.expected)?;
        match self.found() {
            Some(found) => write!(f, "{found:?}")?,
            None => f.write_str("the end")?,
        }
        writeln!(f, " at byte {}", self.position)?;

        // A window around the position, on one line whatever is in it.
        let (before, after) = self.expression.split_at(self.position);
        let column = before.chars().count();
        let skipped = column.saturating_sub(CONTEXT_CHARS_BEFORE);
        let line = |text: &mut dyn Iterator<Item = char>| -> String {
            text.map(|one| if one.is_control() { '\u{fffd}' } else { one })
                .collect()
        };
        let (left, right) = (
            line(&mut before.chars().skip(skipped)),
            line(&mut after.chars().take(CONTEXT_CHARS_AFTER)),
        );
        let (cut_left, cut_right) = (
            if skipped > 0 { "..." } else { "" },
            if after.chars().nth(CONTEXT_CHARS_AFTER).is_some() {
                "..."
            } else {
                ""
            },
        );
        writeln!(f, "  {cut_left}{left}{right}{cut_right}")?;
        write!(
            f,
            "  {:width$}^",
            "",
            width = cut_left.len() + column - skipped
        )?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FilterError {}

const CONTEXT_CHARS_BEFORE: usize = 60;
const CONTEXT_CHARS_AFTER: usize = 30;
