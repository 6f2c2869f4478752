//! Expressions that parse, those that do not, and what they match.

use super::*;

fn parse(expression: &str) -> Filter {
    expression.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_clause_means_what_it_says() {
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
fn an_error_points_at_the_character() {
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

#[test]
fn the_caret_counts_characters() {
    let text = "ä=ö)".parse::<Filter>().unwrap_err().to_string();
    assert_eq!(
        text,
        "expected `,` or the end, found ')' at byte 5\n  ä=ö)\n     ^"
    );
    let text = "a=\n\u{7},b)".parse::<Filter>().unwrap_err().to_string();
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_long_expression_is_shown_in_part() {
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
