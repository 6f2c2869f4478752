//! Clauses of a filter, and how their keys and values are written.

use std::fmt;

use crate::Tags;

/// Clause of a filter: a condition on the tag of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Clause {
    pub(super) key: String,
    pub(super) condition: Condition,
}

/// Condition on the value of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Condition {
    Present,
    Absent,
    Equal(String),
    NotEqual(String),
    OneOf(Vec<String>),
}

impl Clause {
    pub(super) fn matches(&self, tags: &Tags) -> bool {
        let value = tags.value(&self.key);
        match &self.condition {
            Condition::Present => value.is_some(),
            Condition::Absent => value.is_none(),
            Condition::Equal(wanted) => value == Some(wanted),
            Condition::NotEqual(unwanted) => value != Some(unwanted),
            Condition::OneOf(wanted) => {
                value.is_some_and(|value| wanted.iter().any(|one| one == value))
            }
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Literal::key(&self.key);
        match &self.condition {
            Condition::Present => write!(f, "{key}"),
            Condition::Absent => write!(f, "!{key}"),
            Condition::Equal(value) => write!(f, "{key}={}", Literal::value(value)),
            Condition::NotEqual(value) => write!(f, "{key}!={}", Literal::value(value)),
            Condition::OneOf(values) => {
                write!(f, "{key} in (")?;
                for (index, value) in values.iter().enumerate() {
                    let bar = if index == 0 { "" } else { "|" };
                    write!(f, "{bar}{}", Literal::value(value))?;
                }
                f.write_str(")")
            }
        }
    }
}

/// A key or a value as it is displayed: quoted only if necessary.
pub(super) struct Literal<'a> {
    text: &'a str,
    is_bare: fn(char) -> bool,
}

impl<'a> Literal<'a> {
    pub(super) const fn key(text: &'a str) -> Self {
        Self {
            text,
            is_bare: is_bare_key,
        }
    }

    pub(super) const fn value(text: &'a str) -> Self {
        Self { text, is_bare }
    }
}

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.text.is_empty() && self.text.chars().all(self.is_bare) {
            return f.write_str(self.text);
        }
        f.write_str("\"")?;
        for character in self.text.chars() {
            if matches!(character, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{character}")?;
        }
        f.write_str("\"")
    }
}

/// Whether a character is allowed in a key without quotes.
pub(super) fn is_bare_key(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '/')
}

/// Whether a character is allowed in a value without quotes.
pub(super) fn is_bare(character: char) -> bool {
    is_bare_key(character) || matches!(character, ':' | '@' | '+' | '%')
}
