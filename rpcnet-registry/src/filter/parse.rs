//! Reading a filter, and saying where it cannot be read.

use std::fmt;

use super::{
    Clause, Filter, Test,
    hint::{self, Place},
};

/// A filter expression that cannot be read: where, and what was expected there.
///
/// The caller's fault; the same text will fail again. Displays over three lines, the last a caret under the place, and a fourth
/// with the hint if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    expression: String,
    position: usize,
    expected: &'static str,
    hint: Option<String>,
}

impl ParseError {
    /// The expression.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The byte at which the expression stops making sense; its length if it ends too early.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// What could have stood there.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.expected
    }

    /// What to write instead, if what stands there is a known mistake.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What stands there; `None` at the end.
    #[must_use]
    pub fn found(&self) -> Option<char> {
        self.expression[self.position..].chars().next()
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found ", self.expected)?;
        match self.found() {
            Some(found) => write!(f, "{found:?}")?,
            None => f.write_str("the end")?,
        }
        writeln!(f, " at byte {}", self.position)?;

        // A window around the place, on one line whatever is in it.
        let (before, after) = self.expression.split_at(self.position);
        let column = before.chars().count();
        let skipped = column.saturating_sub(SHOWN_BEFORE);
        let line = |text: &mut dyn Iterator<Item = char>| -> String {
            text.map(|one| if one.is_control() { '\u{fffd}' } else { one })
                .collect()
        };
        let (left, right) = (
            line(&mut before.chars().skip(skipped)),
            line(&mut after.chars().take(SHOWN_AFTER)),
        );
        let (cut_left, cut_right) = (
            if skipped > 0 { "..." } else { "" },
            if after.chars().nth(SHOWN_AFTER).is_some() {
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

impl std::error::Error for ParseError {}

/// Whether a character can stand in a key without quotes.
pub(super) fn is_bare_key(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '/')
}

/// Whether a character can stand in a value without quotes.
pub(super) fn is_bare(character: char) -> bool {
    is_bare_key(character) || matches!(character, ':' | '@' | '+' | '%')
}

pub(super) fn filter(expression: &str) -> Result<Vec<Clause>, ParseError> {
    let mut cursor = Cursor {
        text: expression,
        at: 0,
        key: None,
        is_negated: false,
        in_values: false,
    };
    if expression.len() > Filter::BYTES_MAX {
        while !expression.is_char_boundary(cursor.at) || cursor.at < Filter::BYTES_MAX - 3 {
            cursor.at += 1;
        }
        return Err(cursor.expected("no more than 4096 bytes"));
    }
    let mut clauses = Vec::new();
    if cursor.peek().is_none() {
        return Ok(clauses);
    }
    loop {
        clauses.push(cursor.clause()?);
        if cursor.peek().is_none() {
            return Ok(clauses);
        }
        if !cursor.take(',') {
            return Err(cursor.expected("`,` or the end"));
        }
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// For hints, what is known of the clause so far.
    key: Option<String>,
    is_negated: bool,
    in_values: bool,
}

impl Cursor<'_> {
    fn clause(&mut self) -> Result<Clause, ParseError> {
        (self.key, self.is_negated, self.in_values) = (None, false, false);
        if self.take('!') {
            self.is_negated = true;
            let key = self.key("a key")?;
            return Ok(Clause {
                key,
                test: Test::Absent,
            });
        }
        let key = self.key("a key or `!`")?;
        let test = match self.peek() {
            None | Some(',') => Test::Present,
            Some('=') => {
                self.take('=');
                Test::Equal(self.value()?)
            }
            Some('!') => {
                self.take('!');
                // Taken together: `! =` is not an operator.
                if !self.rest().starts_with('=') {
                    return Err(self.expected("`=` after `!`"));
                }
                self.take('=');
                Test::NotEqual(self.value()?)
            }
            Some(_) => {
                if !self.take_in() {
                    return Err(self.expected("`=`, `!=`, `in`, `,` or the end"));
                }
                Test::OneOf(self.values()?)
            }
        };
        Ok(Clause { key, test })
    }

    fn values(&mut self) -> Result<Vec<String>, ParseError> {
        if !self.take('(') {
            return Err(self.expected("`(` after `in`"));
        }
        self.in_values = true;
        let mut values = vec![self.value()?];
        while self.take('|') {
            values.push(self.value()?);
        }
        if self.take(')') {
            self.in_values = false;
            Ok(values)
        } else {
            Err(self.expected("`|` or `)`"))
        }
    }

    /// The word `in`, and not one that begins with it.
    fn take_in(&mut self) -> bool {
        let found = self.bare(is_bare) == "in";
        if found {
            self.at += "in".len();
        }
        found
    }

    fn key(&mut self, expected: &'static str) -> Result<String, ParseError> {
        let key = self.word(expected, is_bare_key)?;
        self.key = Some(key.clone());
        Ok(key)
    }

    fn value(&mut self) -> Result<String, ParseError> {
        self.word("a value", is_bare)
    }

    fn word(
        &mut self,
        expected: &'static str,
        is_bare: fn(char) -> bool,
    ) -> Result<String, ParseError> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let word = self.bare(is_bare);
        if word.is_empty() {
            return Err(self.expected(expected));
        }
        let word = word.to_owned();
        self.at += word.len();
        Ok(word)
    }

    /// What can stand without quotes here.
    fn bare(&self, is_bare: fn(char) -> bool) -> &str {
        let rest = self.rest();
        let end = rest.find(|character| !is_bare(character));
        &rest[..end.unwrap_or(rest.len())]
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        self.at += 1;
        let mut word = String::new();
        let mut escaped = false;
        for (offset, character) in self.rest().char_indices() {
            match character {
                '"' | '\\' if escaped => {
                    word.push(character);
                    escaped = false;
                }
                _ if escaped => {
                    self.at += offset;
                    return Err(self.expected("`\"` or `\\` after `\\`"));
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += offset + 1;
                    return Ok(word);
                }
                _ => word.push(character),
            }
        }
        self.at = self.text.len();
        Err(self.expected("a closing `\"`"))
    }

    /// The next character that is not white space, and moves up to it.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn take(&mut self, character: char) -> bool {
        let found = self.peek() == Some(character);
        if found {
            self.at += character.len_utf8();
        }
        found
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> ParseError {
        ParseError {
            expression: self.text.to_owned(),
            position: self.at,
            expected,
            hint: hint::of(Place {
                text: self.text,
                at: self.at,
                key: self.key.as_deref(),
                is_negated: self.is_negated,
                in_values: self.in_values,
            }),
        }
    }
}

const SHOWN_BEFORE: usize = 60;
const SHOWN_AFTER: usize = 30;
