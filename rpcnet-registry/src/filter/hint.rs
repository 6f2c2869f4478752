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
    let before = context.text[..context.at].trim_end();
    let rest = &context.text[context.at..];
    let key = Literal::key(context.key.unwrap_or("key"));
    let value = operand(rest);
    let value = Literal::value(if value.is_empty() { "value" } else { value });
    let Some(found) = rest.chars().next() else {
        let is_empty = before.ends_with('=') && context.key.is_some();
        return is_empty.then(|| {
            let operator = if before.ends_with("!=") { "!=" } else { "=" };
            format!("for an empty value write `{key}{operator}\"\"`")
        });
    };
    let has_key = context.key.is_some();
    let word = rest.split(|c| !is_bare(c)).next().unwrap_or_default();
    let word = word.to_ascii_lowercase();
    // Whether the clause is about values that do not match: a hint must not negate that.
    let clause = before.rsplit(',').next().unwrap_or_default();
    let is_unequal = context.is_negated || clause.contains("!=");
    // Whether `not` is a word of its own, and not the key of a clause that goes on.
    let is_negation = context
        .key
        .is_some_and(|key| key.eq_ignore_ascii_case("not") && before.ends_with(key));
    Some(match found {
        ',' if context.in_values => format!("separate values with `|`: `{key} in (a|b)`"),
        ')' | '|' if context.in_values => {
            format!("a value is missing here: write `{key} in (a|b)`, an empty value as `\"\"`")
        }
        '|' if rest.starts_with("||") && is_unequal => NO_OR.to_owned(),
        '|' | '(' if has_key && is_unequal => each_unequal(&key),
        '~' if has_key => no_patterns(&key),
        '<' if has_key && rest.starts_with("<>") => format!("write `{key}!={value}`"),
        '=' if has_key && (before.ends_with("!=") || context.is_negated) => {
            format!("write `{key}!={value}`")
        }
        '=' | ':' if has_key => format!("write `{key}={value}`"),
        '!' if has_key => format!("write `{key}!={value}`"),
        '<' | '>' if has_key => {
            format!("values have no order: list those that match, `{key} in (a|b)`")
        }
        '&' | ';' => AND.to_owned(),
        '|' => one_of(&key),
        '(' if is_negation => NEGATE_EACH.to_owned(),
        '(' if has_key => format!("write `{key} in (a|b)`"),
        '(' => NO_GROUPS.to_owned(),
        ')' => "there is no `(` before it".to_owned(),
        '*' | '?' => no_patterns(&key),
        '\'' => "quote with `\"`".to_owned(),
        _ if has_key && before.ends_with('!') => format!("write `{key}!={value}`"),
        _ if is_negation && is_bare(found) => negated(rest),
        _ if has_key && is_after_in(before) && is_bare(found) => match is_unequal {
            true => each_unequal(&key),
            false => format!("write `{key} in (a|b)`"),
        },
        _ if is_bare(found) && has_key => match &*word {
            "and" => AND.to_owned(),
            "or" if is_unequal => NO_OR.to_owned(),
            "or" => one_of(&key),
            "is" | "eq" | "equals" => format!("write `{key}={value}`", value = after_word(rest)),
            "ne" => format!("write `{key}!={value}`", value = after_word(rest)),
            "in" if is_unequal => each_unequal(&key),
            "in" if rest.starts_with("in") => one_of(&key),
            "in" => format!("write `in` in lower case: `{key} in (a|b)`"),
            "not" | "notin" => each_unequal(&key),
            "like" | "matches" => no_patterns(&key),
            _ => WHITE_SPACE.to_owned(),
        },
        _ if found == '"' || (found == '!' && !has_key) || found == ',' => return None,
        _ => format!("put a key or value with {found:?} in it in double quotes"),
    })
}

const AND: &str = "separate clauses that must all hold with `,`";

const NEGATE_EACH: &str = "clauses are not grouped: negate each, as `!key` or `key!=value`";

const NO_GROUPS: &str = "clauses are not grouped: write those that must all hold, separated by `,`";

const WHITE_SPACE: &str =
    "separate clauses with `,`, and put a key or value with white space in double quotes";

const NO_OR: &str = "there is no `or` between clauses: those separated by `,` must all hold";

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
