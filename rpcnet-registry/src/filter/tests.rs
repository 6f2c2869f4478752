//! Tests of filters: syntax, meaning, errors and hints.

use super::*;

fn parse(expression: &str) -> Filter {
    expression.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_clause_has_its_meaning() {
    let tags = Tags::from([("role", "worker"), ("zone", "eu-1"), ("empty", "")]);
    for (expression, expected) in [
        ("", true),
        ("  ", true),
        ("role=worker", true),
        ("role=work", false),
        ("Role=worker", false),
        ("role=worker,zone=eu-1", true),
        ("role=worker,zone=eu-2", false),
        ("zone!=eu-2", true),
        ("zone!=eu-1", false),
        ("rack!=7", true),
        ("zone", true),
        ("rack", false),
        ("!rack", true),
        ("!zone", false),
        ("zone in (eu-1|eu-2)", true),
        ("zone in (us-1|us-2)", false),
        ("rack in (a|b)", false),
        ("empty=\"\"", true),
        ("role=\"worker\"", true),
    ] {
        assert_eq!(parse(expression).matches(&tags), expected, "{expression}");
    }
}

#[test]
fn white_space_and_quotes_do_not_change_the_meaning() {
    for (loose, canonical) in [
        (
            "  role = worker ,\tzone\n!= eu-1 , ! a , b ",
            "role=worker,zone!=eu-1,!a,b",
        ),
        ("zone in(a|b)", "zone in (a|b)"),
        ("zone  in  ( a | b )", "zone in (a|b)"),
        ("in in (in)", "in in (in)"),
        ("in=1", "in=1"),
        ("\"key\"=\"value\"", "key=value"),
        (r#"a="x, \"y\" \\""#, r#"a="x, \"y\" \\""#),
        ("größe=ü", "größe=ü"),
        ("a=\"\"", "a=\"\""),
    ] {
        let filter = parse(loose);
        assert_eq!(filter.to_string(), canonical);
        assert_eq!(parse(canonical), filter);
    }
}

#[test]
fn an_error_has_position_and_expectation() {
    for (expression, position, expected) in [
        ("role=", 5, "a value"),
        ("role=,x", 5, "a value"),
        ("role==worker", 5, "a value"),
        (",role", 0, "a key or `!`"),
        ("role=worker,", 12, "a key or `!`"),
        ("a,,b", 2, "a key or `!`"),
        ("!", 1, "a key"),
        ("!!a", 1, "a key"),
        ("!a=b", 2, "`,` or the end"),
        ("a=b c", 4, "`,` or the end"),
        ("a b", 2, "`=`, `!=`, `in`, `,` or the end"),
        ("a inside (b)", 2, "`=`, `!=`, `in`, `,` or the end"),
        ("a!b", 2, "`=` after `!`"),
        ("a! =b", 2, "`=` after `!`"),
        ("a in b", 5, "`(` after `in`"),
        ("a in ()", 6, "a value"),
        ("a in (b|)", 8, "a value"),
        ("a in (b,c)", 7, "`|` or `)`"),
        ("a in (b", 7, "`|` or `)`"),
        ("a=\"b", 4, "a closing `\"`"),
        ("a=\"\\n\"", 4, "`\"` or `\\` after `\\`"),
        ("ä=ö)", 5, "`,` or the end"),
    ] {
        let error = expression.parse::<Filter>().unwrap_err();
        assert_eq!(
            (error.position(), error.expected()),
            (position, expected),
            "{error}"
        );
        assert_eq!(error.found(), expression[position..].chars().next());
    }
}

/// Checks that each expression is an error, found at this rest of it, with a hint that contains
/// this.
fn check_hints(rows: &[(&str, &str, &str)]) {
    for &(expression, found, hint) in rows {
        let error = expression
            .parse::<Filter>()
            .expect_err(&format!("`{expression}` is read"));
        assert_eq!(&expression[error.position()..], found, "{error}");
        let given = error.hint().unwrap_or_default();
        assert!(given.contains(hint), "{given:?} for `{expression}`");
        assert!(error.to_string().ends_with(given), "{error}");
    }
}

const COMMAS: &str = "separate clauses that must all hold with `,`";

#[test]
fn comparison_operators_of_other_languages_have_a_hint() {
    let list = "list those that match, `weight in (a|b)`";
    let patterns = "there are no patterns: list the values, `role in (a|b)`";
    check_hints(&[
        ("weight>3", ">3", list),
        ("weight >= 3", ">= 3", list),
        ("weight<3", "<3", list),
        ("weight=>3", ">3", list),
        ("role:worker", ":worker", "write `role=worker`"),
        ("role: worker", ": worker", "write `role=worker`"),
        ("role~worker", "~worker", patterns),
        ("role =~ worker", "~ worker", patterns),
        ("role!~worker", "~worker", patterns),
        ("role like worker", "like worker", patterns),
        ("role<>x", "<>x", "write `role!=x`"),
        ("role <> x", "<> x", "write `role!=x`"),
        ("role==x", "=x", "write `role=x`"),
        ("role===x", "==x", "write `role=x`"),
        ("role = = x", "= x", "write `role=x`"),
        ("role==\"a b\"", "=\"a b\"", "write `role=\"a b\"`"),
        ("role!==x", "=x", "write `role!=x`"),
        ("role!x", "x", "write `role!=x`"),
        ("role=!x", "!x", "write `role!=x`"),
        ("!role=x", "=x", "write `role!=x`"),
        ("role is a", "is a", "write `role=a`"),
        ("role EQ a", "EQ a", "write `role=a`"),
        ("role ne a", "ne a", "write `role!=a`"),
    ]);
}

#[test]
fn and_and_or_have_a_hint() {
    check_hints(&[
        ("a&b", "&b", COMMAS),
        ("a && b", "&& b", COMMAS),
        ("a=1&b=2", "&b=2", COMMAS),
        ("a=1;b=2", ";b=2", COMMAS),
        ("a=1 and b=2", "and b=2", COMMAS),
        ("a|b", "|b", "write `a in (a|b)`"),
        ("role=a||role=b", "||role=b", "write `role in (a|b)`"),
        ("role=a or role=b", "or role=b", "write `role in (a|b)`"),
        ("role!=a or role!=b", "or role!=b", "there is no `or`"),
        ("role!=a||role!=b", "||role!=b", "there is no `or`"),
        ("a=1 AND b=2", "AND b=2", COMMAS),
    ]);
}

#[test]
fn lists_of_values_in_other_syntax_have_a_hint() {
    check_hints(&[
        ("role=(a|b)", "(a|b)", "write `role in (a|b)`"),
        ("role(a)", "(a)", "write `role in (a|b)`"),
        ("role in a", "a", "write `role in (a|b)`"),
        ("role in (a,b)", ",b)", "separate values with `|`"),
        ("role!=(a|b)", "(a|b)", "write `role!=a,role!=b`"),
        ("zone!=a|b", "|b", "write `zone!=a,zone!=b`"),
        ("zone!=in (a|b)", "(a|b)", "write `zone!=a,zone!=b`"),
        ("!role in (a)", "in (a)", "write `role!=a,role!=b`"),
        ("!role in a", "in a", "write `role!=a,role!=b`"),
        ("x!=1,role in a", "a", "write `role in (a|b)`"),
        ("role in ()", ")", "a value is missing here"),
        ("role in (a|)", ")", "a value is missing here"),
        ("role in (|a)", "|a)", "a value is missing here"),
        ("role IN (a|b)", "IN (a|b)", "write `in` in lower case"),
        ("role In (a)", "In (a)", "write `in` in lower case"),
        ("role=a in (b)", "in (b)", "for one of several values"),
    ]);
}

#[test]
fn the_word_not_has_a_hint() {
    check_hints(&[
        ("role not in (a)", "not in (a)", "write `role!=a,role!=b`"),
        ("not role", "role", "write `!role`"),
        ("NOT role", "role", "write `!role`"),
        ("a,not role", "role", "write `!role`"),
        ("not role=x", "role=x", "write `role!=x`"),
        ("not role in (a)", "role in (a)", "write `role!=a,role!=b`"),
        ("not (role)", "(role)", "negate each"),
        ("not=1 role", "role", "separate clauses"),
    ]);
}

#[test]
fn groups_patterns_and_characters_to_quote_have_a_hint() {
    check_hints(&[
        ("(a)", "(a)", "clauses are not grouped"),
        ("!(a)", "(a)", "clauses are not grouped"),
        ("a)", ")", "no `(` before"),
        ("a,b)", ")", "no `(` before"),
        ("zone=eu-*", "*", "there are no patterns"),
        ("role='a'", "'a'", "quote with `\"`"),
        ("role=", "", "write `role=\"\"`"),
        ("role=a b", "b", "in double quotes"),
        ("admin x", "x", "separate clauses"),
        ("a$b", "$b", "'$' in it in double quotes"),
        ("a=b#c", "#c", "'#' in it in double quotes"),
        ("a\u{200b}", "\u{200b}", "in double quotes"),
    ]);
}

#[test]
fn hints_can_be_parsed() {
    for expression in [
        "role:worker",
        "role==x",
        "role!==x",
        "!role=x",
        "role=!x",
        "role<>x",
        "not role",
        "not role=x",
        "role is a",
        "role NE \"a b\"",
    ] {
        let error = expression.parse::<Filter>().unwrap_err();
        let hint = error.hint().expect("a hint");
        let better = hint.split('`').nth(1).expect("in quotes");
        assert!(better.parse::<Filter>().is_ok(), "{hint}");
    }
}

#[test]
fn addresses_and_versions_need_no_quotes() {
    let tags = Tags::from([
        ("addr", "10.0.0.1:7000"),
        ("k8s.io/v", "1.2+b-3"),
        ("a:b", "50%"),
    ]);
    for text in [
        "addr=10.0.0.1:7000",
        "k8s.io/v=1.2+b-3",
        "\"a:b\"=50%",
        "\"a:b\"",
    ] {
        assert!(parse(text).matches(&tags), "{text}");
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn the_caret_counts_characters() {
    let text = "ä=ö)".parse::<Filter>().unwrap_err().to_string();
    assert_eq!(
        text,
        "expected `,` or the end, found ')' at byte 5\n  ä=ö)\n     ^\nhint: there is no `(` before it"
    );
    let text = "a=\n\u{7},b".parse::<Filter>().unwrap_err().to_string();
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_long_expression_is_abbreviated() {
    let text = format!("{}=(", "k".repeat(500))
        .parse::<Filter>()
        .unwrap_err()
        .to_string();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[1].len() < 100 && lines[1].starts_with("  ..."),
        "{text}"
    );
    assert_eq!(lines[1].find('('), lines[2].find('^'), "{text}");
}

#[test]
fn the_length_is_bounded() {
    let longest = "k".repeat(Filter::BYTES_MAX);
    assert!(longest.parse::<Filter>().is_ok());
    for too_long in [longest + "k", "ü".repeat(Filter::BYTES_MAX)] {
        let error = too_long.parse::<Filter>().unwrap_err();
        assert_eq!(error.expected(), "no more than 4096 bytes", "{error}");
    }
}
