//! Filter parser.

use super::{
    clause::{Clause, Condition, is_bare, is_bare_key},
    error::FilterError,
    hint::{self, ErrorContext},
};

/// The longest expression that is parsed, in bytes.
pub(super) const BYTES_MAX: usize = 4096;

/// Parses an expression into its clauses.
pub(super) fn parse_clauses(expression: &str) -> Result<Vec<Clause>, FilterError> {
    let mut cursor = Parser {
        text: expression,
        at: 0,
        key: None,
        is_negated: false,
        in_values: false,
    };
    if expression.len() > BYTES_MAX {
        while !expression.is_char_boundary(cursor.at) || cursor.at < BYTES_MAX - 3 {
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
        if !cursor.eat(',') {
            return Err(cursor.expected("`,` or the end"));
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Parts of the clause so far, for hints.
    key: Option<String>,
    is_negated: bool,
    in_values: bool,
}

impl Parser<'_> {
    fn clause(&mut self) -> Result<Clause, FilterError> {
        (self.key, self.is_negated, self.in_values) = (None, false, false);
        if self.eat('!') {
            self.is_negated = true;
            let key = self.key("a key")?;
            return Ok(Clause {
                key,
                condition: Condition::Absent,
            });
        }
        let key = self.key("a key or `!`")?;
        let test = match self.peek() {
            None | Some(',') => Condition::Present,
            Some('=') => {
                self.eat('=');
                Condition::Equal(self.value()?)
            }
            Some('!') => {
                self.eat('!');
                // Parsed together: `! =` is not an operator.
                if !self.rest().starts_with('=') {
                    return Err(self.expected("`=` after `!`"));
                }
                self.eat('=');
                Condition::NotEqual(self.value()?)
            }
            Some(_) => {
                if !self.eat_in() {
                    return Err(self.expected("`=`, `!=`, `in`, `,` or the end"));
                }
                Condition::OneOf(self.values()?)
            }
        };
        Ok(Clause {
            key,
            condition: test,
        })
    }

    fn values(&mut self) -> Result<Vec<String>, FilterError> {
        if !self.eat('(') {
            return Err(self.expected("`(` after `in`"));
        }
        self.in_values = true;
        let mut values = vec![self.value()?];
        while self.eat('|') {
            values.push(self.value()?);
        }
        if self.eat(')') {
            self.in_values = false;
            Ok(values)
        } else {
            Err(self.expected("`|` or `)`"))
        }
    }

    /// The word `in`, and not one that begins with it.
    fn eat_in(&mut self) -> bool {
        let found = self.bare(is_bare) == "in";
        if found {
            self.at += "in".len();
        }
        found
    }

    fn key(&mut self, expected: &'static str) -> Result<String, FilterError> {
        let key = self.literal(expected, is_bare_key)?;
        self.key = Some(key.clone());
        Ok(key)
    }

    fn value(&mut self) -> Result<String, FilterError> {
        self.literal("a value", is_bare)
    }

    fn literal(
        &mut self,
        expected: &'static str,
        is_bare: fn(char) -> bool,
    ) -> Result<String, FilterError> {
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

    /// The characters from here on that are allowed without quotes.
    fn bare(&self, is_bare: fn(char) -> bool) -> &str {
        let rest = self.rest();
        let end = rest.find(|character| !is_bare(character));
        &rest[..end.unwrap_or(rest.len())]
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
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

    /// Skips white space, and returns the next character without consuming it.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn eat(&mut self, character: char) -> bool {
        let found = self.peek() == Some(character);
        if found {
            self.at += character.len_utf8();
        }
        found
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        FilterError {
            expression: self.text.to_owned(),
            position: self.at,
            expected,
            hint: hint::suggest(ErrorContext {
                text: self.text,
                at: self.at,
                key: self.key.as_deref(),
                is_negated: self.is_negated,
                in_values: self.in_values,
            }),
        }
    }
}
