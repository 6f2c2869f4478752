//! Language of docs, comments and messages: banned words, openings of docs, width of comment lines.

use std::{collections::BTreeMap, str::FromStr};

use proc_macro2::{TokenStream, TokenTree};
use regex::Regex;

use super::{
    Problem,
    signatures::flatten,
    workspace::{Workspace, is_module},
};
use crate::markdown::Markdown;

/// Words that a text may not have, with what it says instead, under the reason.
const WORDS: &str = include_str!("words.txt");

/// First words of a doc that make it a fragment. It begins with a noun or a verb instead.
const OPENERS: &[&str] = &["Of", "Who", "Whom", "Whose", "What", "So", "As"];

/// Further first words that a module doc does not begin with: the first lines of modules are read
/// like a table of contents.
const MODULE_OPENERS: &[&str] = &["Which", "How", "When", "Where", "Why"];

/// Greatest width of a comment line, as in `rustfmt.toml`.
const WIDTH: usize = 100;

/// Finding on a line. `rule` and `subject` are parts of the [key](Problem::key).
struct Finding {
    line: usize,
    rule: &'static str,
    subject: String,
    message: String,
}

/// Problems in the texts: widths of comments in all files of Rust, openings of docs and words in
/// all sources, words in documents.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let banned = BannedWords::parse(WORDS);
    let mut problems = Vec::new();
    for (path, text) in &workspace.texts {
        let package = path.split('/').next().unwrap_or_default();
        let mut findings = Vec::new();
        if path.ends_with(".rs") {
            findings.extend(too_wide(text));
        }
        if is_module(path) && !is_test_file(path) {
            let text = without_tests(text);
            findings.extend(fragments(text));
            let lines = comments(text).chain(messages(text));
            findings.extend(lines.flat_map(|(line, text)| banned.find(line, &text)));
        } else if path.ends_with(".md") {
            let blocks = Markdown::parse(text).blocks;
            let lines = (1..).zip(text.lines());
            let prose = lines.filter(|(line, _)| !blocks.iter().any(|it| it.contains(line)));
            findings.extend(prose.flat_map(|(line, text)| banned.find(line, text)));
        }
        problems.extend(findings.into_iter().map(|it| {
            let key = format!("{} {package} {}", it.rule, it.subject);
            let problem = Problem::new(format!("{path}:{}", it.line), it.message);
            problem.with_key(key.trim_end().to_owned())
        }));
    }
    problems
}

/// Comment lines that are wider than the code around them may be. A line with a link is as wide as
/// the link.
fn too_wide(text: &str) -> Vec<Finding> {
    let lines = (1..).zip(text.lines());
    let is_wide = |text: &str| text.chars().count() > WIDTH && !text.contains("://");
    let wide = lines.filter(|(_, text)| comment(text).is_some() && is_wide(text));
    let finding = |(line, _)| Finding {
        line,
        rule: "width",
        subject: String::new(),
        message: format!("is a comment of more than {WIDTH} characters"),
    };
    wide.map(finding).collect()
}

/// Docs whose first line begins with a word that makes it no noun phrase and no sentence.
fn fragments(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut before = None;
    for (line, text) in (1..).zip(text.lines()) {
        let mut marks = ["///", "//!"].into_iter();
        let doc = marks.find(|mark| text.trim_start().starts_with(mark));
        let first = comment(text).and_then(|text| text.split_whitespace().next());
        if let (Some(mark), Some(word)) = (doc, first)
            && doc != before
            && (OPENERS.contains(&word) || mark == "//!" && MODULE_OPENERS.contains(&word))
        {
            findings.push(Finding {
                line,
                rule: "opening",
                subject: word.to_owned(),
                message: format!("is a doc that begins with {word:?}: begin with a noun or a verb"),
            });
        }
        before = doc;
    }
    findings
}

/// The banned words: each with its better one and the reason.
struct BannedWords<'a> {
    words: BTreeMap<&'a str, (&'a str, &'a str)>,
    any: Regex,
}

impl<'a> BannedWords<'a> {
    fn parse(list: &'a str) -> Self {
        let mut words = BTreeMap::new();
        let mut reason = "";
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            if let Some((word, instead)) = line.split_once(" -> ") {
                words.insert(word, (instead, reason));
            } else {
                reason = line.trim_end_matches(':');
            }
        }
        let alternatives = words.keys().copied().collect::<Vec<_>>().join("|");
        let any = Regex::new(&format!(r"(?i)\b(?:{alternatives})\b")).expect("words alone");
        Self { words, any }
    }

    fn find(&self, line: usize, text: &str) -> Vec<Finding> {
        let found = self.any.find_iter(text).map(|word| {
            let word = word.as_str().to_lowercase();
            let (instead, reason) = self.words[word.as_str()];
            let message = format!("says {word:?}: {reason}, such as {instead:?}");
            Finding {
                line,
                rule: "word",
                subject: word,
                message,
            }
        });
        found.collect()
    }
}

/// Text of a line that is a comment or a line of docs.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']))
}

/// The comment lines, with their numbers.
fn comments(text: &str) -> impl Iterator<Item = (usize, String)> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(number, line)| Some((number, comment(line)?.to_owned())))
}

/// The contents of string literals, with their lines. Docs are literals to the tokenizer and are
/// not among them.
fn messages(text: &str) -> impl Iterator<Item = (usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let tokens = flatten(TokenStream::from_str(text).unwrap_or_default());
    tokens.into_iter().filter_map(move |token| match token {
        TokenTree::Literal(literal) => {
            let (line, text) = (literal.span().start().line, literal.to_string());
            let is_doc = lines[line - 1].trim_start().starts_with("//");
            (text.contains('"') && !is_doc).then_some((line, text))
        }
        _ => None,
    })
}

/// The text up to its tests.
fn without_tests(text: &str) -> &str {
    let tests = text.find("\n#[cfg(test)]\nmod tests");
    &text[..tests.unwrap_or(text.len())]
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    fn found(path: &str, text: &str) -> Vec<String> {
        let problems = find(&tests::workspace(&[], &[(path, text)])).into_iter();
        problems
            .map(|it| format!("{} {}", it.key.unwrap(), it.location))
            .collect()
    }

    #[test]
    fn banned_words_are_found_in_docs_comments_and_messages() {
        for text in [
            "/// Nobody waits.\nfn f() {}\n",
            "// A verdict of the\n",
            "fn f() { println!(\"is no use\") }\n",
            "#[error(\"of late\")]\nstruct E;\n",
        ] {
            assert_eq!(found("a/src/b.rs", text).len(), 1, "{text}");
        }
        let text = "# Title\n\nIt heeds whoever calls.\n";
        assert_eq!(found("a/README.md", text), ["word a whoever a/README.md:3"]);
    }

    #[test]
    fn code_and_tests_may_use_any_word() {
        for (path, text) in [
            ("a/src/b.rs", "fn nobody() {}\n"),
            (
                "a/src/b.rs",
                "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    // nobody\n}\n",
            ),
            ("a/src/b/tests.rs", "// nobody\n"),
            ("a/tests/b.rs", "// nobody\n"),
            ("a/README.md", "```\nnobody\n```\n"),
        ] {
            assert_eq!(found(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn a_doc_does_not_begin_with_a_fragment() {
        let text = "//! What b is.\n\n/// Who calls.\nfn f() {}\n    /// Of the last.\nfn g() {}\n";
        assert_eq!(
            found("a/src/b.rs", text),
            [
                "opening a What a/src/b.rs:1",
                "opening a Who a/src/b.rs:3",
                "opening a Of a/src/b.rs:5",
            ]
        );
        let text = "//! How b is.\n\n/// How c is.\nfn f() {}\n";
        assert_eq!(
            found("a/b/src/c.rs", text),
            ["opening a How a/b/src/c.rs:1"]
        );
        let text = "//! Of b.\n";
        assert_eq!(found("b/c/src/d.rs", text), ["opening b Of b/c/src/d.rs:1"]);
        let text = "//! Caller of b.\n//! What it calls.\n\n/// Whether it runs.\nfn f() {}\n";
        assert_eq!(found("a/src/b.rs", text), [""; 0]);
    }

    #[test]
    fn wide_comments_are_found_in_all_packages() {
        let wide = format!("    // {}\n", "x".repeat(WIDTH));
        assert_eq!(found("b/tests/b.rs", &wide), ["width b b/tests/b.rs:1"]);
        let link = format!("/// <https://{}>\nfn f() {{}}\n", "x".repeat(WIDTH));
        assert_eq!(found("b/src/b.rs", &link), [""; 0]);
        let code = format!("const A: &str = \"{}\";\n", "x".repeat(WIDTH));
        assert_eq!(found("b/src/b.rs", &code), [""; 0]);
    }
}
