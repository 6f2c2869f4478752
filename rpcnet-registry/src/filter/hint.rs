//! Hints for filter errors: what to write instead.

use super::clause::{Literal, is_bare, is_bare_key};

/// Context of a filter error: where parsing stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrorContext<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    /// The key of the clause, once it was parsed.
    pub(super) key: Option<&'a str>,
    /// Whether the clause begins with `!`.
    pub(super) is_negated: bool,
    /// Whether parsing stopped between the parentheses of `in`.
    pub(super) in_values: bool,
}

/// The hint for a mistake that has a meaning in other languages; `None` for other mistakes.
pub(super) fn suggest(context: ErrorContext<'_>) -> Option<String> {
    let mistake = Mistake::new(context);
    let Some(found) = mistake.rest.chars().next() else {
        return mistake.hint_at_end();
    };
    mistake
        .hint_in_values(found)
        .or_else(|| mistake.hint_at_operator(found))
        .or_else(|| mistake.hint_at_word(found))
        .or_else(|| mistake.hint_to_quote(found))
}

/// Mistake in a filter: what stands around the place where parsing stopped.
struct Mistake<'a> {
    before: &'a str,
    rest: &'a str,
    /// The key of the clause, or `key` before it was parsed.
    key: Literal<'a>,
    has_key: bool,
    /// The word or the quoted text that follows, or `value`.
    value: Literal<'a>,
    /// Whether the clause begins with `!`.
    is_negated: bool,
    /// Whether the clause is about values that do not match: a hint must not negate that.
    is_unequal: bool,
    /// Whether `not` is a word of its own before this, and not the key of a clause that goes on.
    is_negation: bool,
    in_values: bool,
}

impl<'a> Mistake<'a> {
    fn new(context: ErrorContext<'a>) -> Self {
        let before = context.text[..context.at].trim_end();
        let rest = &context.text[context.at..];
        let value = operand(rest);
        let clause = before.rsplit(',').next().unwrap_or_default();
        let is_negation = context
            .key
            .is_some_and(|key| key.eq_ignore_ascii_case("not") && before.ends_with(key));
        Self {
            before,
            rest,
            key: Literal::key(context.key.unwrap_or("key")),
            has_key: context.key.is_some(),
            value: Literal::value(if value.is_empty() { "value" } else { value }),
            is_negated: context.is_negated,
            is_unequal: context.is_negated || clause.contains("!="),
            is_negation,
            in_values: context.in_values,
        }
    }

    /// The hint for a filter that ends too early.
    fn hint_at_end(&self) -> Option<String> {
        let is_empty = self.before.ends_with('=') && self.has_key;
        is_empty.then(|| {
            let is_unequal = self.before.ends_with("!=");
            let operator = if is_unequal { "!=" } else { "=" };
            format!(
                "for an empty value write `{key}{operator}\"\"`",
                key = self.key
            )
        })
    }

    /// The hint for a mistake between the parentheses of `in`.
    fn hint_in_values(&self, found: char) -> Option<String> {
        let key = &self.key;
        match found {
            ',' if self.in_values => Some(format!("separate values with `|`: `{key} in (a|b)`")),
            ')' | '|' if self.in_values => Some(format!(
                "a value is missing here: write `{key} in (a|b)`, an empty value as `\"\"`"
            )),
            _ => None,
        }
    }

    /// The hint for a character that is an operator or a bracket in other languages.
    fn hint_at_operator(&self, found: char) -> Option<String> {
        let (key, value, has_key) = (&self.key, &self.value, self.has_key);
        let is_unequal = self.is_unequal;
        Some(match found {
            '|' if self.rest.starts_with("||") && is_unequal => NO_OR.to_owned(),
            '|' | '(' if has_key && is_unequal => each_unequal(key),
            '~' if has_key => no_patterns(key),
            '<' if has_key && self.rest.starts_with("<>") => not_equal(key, value),
            '=' if has_key && (self.before.ends_with("!=") || self.is_negated) => {
                not_equal(key, value)
            }
            '=' | ':' if has_key => equal(key, value),
            '!' if has_key => not_equal(key, value),
            '<' | '>' if has_key => {
                format!("values have no order: list those that match, `{key} in (a|b)`")
            }
            '&' | ';' => AND.to_owned(),
            '|' => one_of(key),
            '(' if self.is_negation => NEGATE_EACH.to_owned(),
            '(' if has_key => format!("write `{key} in (a|b)`"),
            '(' => NO_GROUPS.to_owned(),
            ')' => "there is no `(` before it".to_owned(),
            '*' | '?' => no_patterns(key),
            '\'' => "quote with `\"`".to_owned(),
            _ => return None,
        })
    }

    /// The hint for a word where none is expected: it may be an operator in other languages.
    fn hint_at_word(&self, found: char) -> Option<String> {
        let (key, is_unequal) = (&self.key, self.is_unequal);
        if self.has_key && self.before.ends_with('!') {
            return Some(not_equal(key, &self.value));
        }
        if !is_bare(found) || !self.has_key {
            return None;
        }
        if self.is_negation {
            return Some(negated(self.rest));
        }
        if is_after_in(self.before) {
            return Some(match is_unequal {
                true => each_unequal(key),
                false => format!("write `{key} in (a|b)`"),
            });
        }
        let word = self.rest.split(|c| !is_bare(c)).next().unwrap_or_default();
        Some(match &*word.to_ascii_lowercase() {
            "and" => AND.to_owned(),
            "or" if is_unequal => NO_OR.to_owned(),
            "or" => one_of(key),
            "is" | "eq" | "equals" => equal(key, &after_word(self.rest)),
            "ne" => not_equal(key, &after_word(self.rest)),
            "in" if is_unequal => each_unequal(key),
            "in" if self.rest.starts_with("in") => one_of(key),
            "in" => format!("write `in` in lower case: `{key} in (a|b)`"),
            "not" | "notin" => each_unequal(key),
            "like" | "matches" => no_patterns(key),
            _ => WHITE_SPACE.to_owned(),
        })
    }

    /// The hint for a character that stands in no bare key or value.
    fn hint_to_quote(&self, found: char) -> Option<String> {
        let is_syntax = matches!(found, '"' | ',') || (found == '!' && !self.has_key);
        let quote = || format!("put a key or value with {found:?} in it in double quotes");
        (!is_syntax).then(quote)
    }
}

const AND: &str = "separate clauses that must all hold with `,`";

const NEGATE_EACH: &str = "clauses are not grouped: negate each, as `!key` or `key!=value`";

const NO_GROUPS: &str = "clauses are not grouped: write those that must all hold, separated by `,`";

const WHITE_SPACE: &str =
    "separate clauses with `,`, and put a key or value with white space in double quotes";

const NO_OR: &str = "there is no `or` between clauses: those separated by `,` must all hold";

fn equal(key: &Literal<'_>, value: &Literal<'_>) -> String {
    format!("write `{key}={value}`")
}

fn not_equal(key: &Literal<'_>, value: &Literal<'_>) -> String {
    format!("write `{key}!={value}`")
}

fn one_of(key: &Literal<'_>) -> String {
    format!("for one of several values write `{key} in (a|b)`")
}

fn each_unequal(key: &Literal<'_>) -> String {
    format!("for none of several values write `{key}!=a,{key}!=b`")
}

fn no_patterns(key: &Literal<'_>) -> String {
    format!("there are no patterns: list the values, `{key} in (a|b)`")
}

/// The hint for `not key`, `not key=value` and the like; `rest` begins with the key.
fn negated(rest: &str) -> String {
    let end = rest.find(|c| !is_bare_key(c)).unwrap_or(rest.len());
    let (key, rest) = rest.split_at(end);
    let key = Literal::key(key);
    let rest = rest.trim_start();
    if rest.starts_with('=') {
        let value = operand(rest);
        let value = if value.is_empty() { "value" } else { value };
        format!("write `{key}!={}`", Literal::value(value))
    } else if rest.starts_with("in") {
        each_unequal(&key)
    } else {
        format!("write `!{key}`")
    }
}

/// Whether the word `in` stands before, after a key.
fn is_after_in(before: &str) -> bool {
    let key = before.strip_suffix("in");
    key.is_some_and(|key| key.ends_with(|c: char| c.is_whitespace() || c == '"'))
}

/// The value after a word that stands for an operator.
fn after_word(rest: &str) -> Literal<'_> {
    let end = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
    let value = operand(&rest[end..]);
    Literal::value(if value.is_empty() { "value" } else { value })
}

/// The word or the quoted text after an operator.
fn operand(rest: &str) -> &str {
    let is_operator = |c: char| c.is_whitespace() || (c != '"' && !is_bare_key(c));
    let word = rest.trim_start_matches(is_operator);
    if let Some((quoted, _)) = word.strip_prefix('"').and_then(|text| text.split_once('"')) {
        return quoted;
    }
    let word = word.trim_start_matches('"');
    let end = word.find(|c| !is_bare(c)).unwrap_or(word.len());
    &word[..end]
}
