//! Hints: what to write instead of an expression that cannot be read.

use super::{Word, is_bare, is_bare_key};

/// Where the expression stopped making sense.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    /// The key of the clause, once it was read.
    pub(super) key: Option<&'a str>,
    /// Whether the clause begins with `!`.
    pub(super) is_negated: bool,
    /// Whether this is between the parentheses of `in`.
    pub(super) in_values: bool,
}

/// What to write, for mistakes that have a meaning elsewhere; `None` for others.
pub(super) fn of(place: Place<'_>) -> Option<String> {
    let before = place.text[..place.at].trim_end();
    let rest = &place.text[place.at..];
    let key = Word::key(place.key.unwrap_or("key"));
    let value = operand(rest);
    let value = Word::value(if value.is_empty() { "value" } else { value });
    let Some(found) = rest.chars().next() else {
        let is_empty = before.ends_with('=') && place.key.is_some();
        return is_empty.then(|| {
            let operator = if before.ends_with("!=") { "!=" } else { "=" };
            format!("for an empty value write `{key}{operator}\"\"`")
        });
    };
    let has_key = place.key.is_some();
    Some(match found {
        ',' if place.in_values => format!("separate values with `|`: `{key} in (a|b)`"),
        '=' if has_key && (before.ends_with("!=") || place.is_negated) => {
            format!("write `{key}!={value}`")
        }
        '=' | ':' | '~' if has_key => format!("write `{key}={value}`"),
        '!' if has_key => format!("write `{key}!={value}`"),
        '<' | '>' if has_key => {
            format!("values have no order: list those that match, `{key} in (a|b)`")
        }
        '&' | ';' => "separate clauses that must all hold with `,`".to_owned(),
        '|' => format!("for one of several values write `{key} in (a|b)`"),
        '(' if has_key => format!("write `{key} in (a|b)`"),
        '(' => "clauses are not grouped: write those that must all hold, separated by `,`".to_owned(),
        ')' => "there is no `(` before it".to_owned(),
        '*' | '?' => format!("there are no patterns: list the values, `{key} in (a|b)`"),
        '\'' => "quote with `\"`".to_owned(),
        _ if has_key && before.ends_with('!') => format!("write `{key}!={value}`"),
        _ if has_key && before.ends_with("in") && is_bare(found) => {
            format!("write `{key} in (a|b)`")
        }
        _ if is_bare(found) && has_key => match rest.split(|c| !is_bare(c)).next() {
            Some("and" | "AND") => "separate clauses that must all hold with `,`".to_owned(),
            Some("or" | "OR") => format!("for one of several values write `{key} in (a|b)`"),
            Some("is" | "eq") => format!("write `{key}=value`"),
            Some("not" | "notin") => format!("write `{key}!=value` for each value"),
            _ => "separate clauses with `,`, and put a key or value with white space in double quotes"
                .to_owned(),
        },
        _ if found == '"' || (found == '!' && !has_key) || found == ',' => return None,
        _ => format!("put a key or value with {found:?} in it in double quotes"),
    })
}

/// The word behind an operator.
fn operand(rest: &str) -> &str {
    let word = rest.trim_start_matches(|c: char| !is_bare_key(c) || c.is_whitespace());
    let end = word.find(|c| !is_bare(c)).unwrap_or(word.len());
    &word[..end]
}
