//! Language of docs, comments and messages: banned words, openings of docs, width of comment lines.

use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

use super::{
    known::Finding,
    links::prose,
    source_files::{comment, has_phrase, is_module},
};

/// A word that a text may not have.
struct Banned {
    word: &'static str,
    instead: &'static str,
    reason: &'static str,
}

impl Banned {
    const fn new(word: &'static str, instead: &'static str, reason: &'static str) -> Self {
        Self {
            word,
            instead,
            reason,
        }
    }
}

/// Words of a private language, with the terms that readers know.
const BANNED: &[Banned] = &[
    Banned::new("nobody", "no caller, no member, ...", NAME_THE_ACTOR),
    Banned::new("somebody", "a caller, a member, ...", NAME_THE_ACTOR),
    Banned::new("anybody", "any caller, any member, ...", NAME_THE_ACTOR),
    Banned::new(
        "everybody",
        "every caller, every member, ...",
        NAME_THE_ACTOR,
    ),
    Banned::new(
        "whoever",
        "the caller that, the member that, ...",
        NAME_THE_ACTOR,
    ),
    Banned::new("of late", "recently", PLAIN),
    Banned::new("is no use", "has no effect", PLAIN),
    Banned::new("what for", "why", PLAIN),
    Banned::new("accuse", "suspect", COURT),
    Banned::new("accuses", "suspects", COURT),
    Banned::new("accused", "suspected", COURT),
    Banned::new("accusation", "suspicion", COURT),
    Banned::new("accusations", "suspicions", COURT),
    Banned::new("guilty", "failed", COURT),
    Banned::new("court", "decision", COURT),
    Banned::new("verdict", "decision", COURT),
    Banned::new("verdicts", "decisions", COURT),
    Banned::new("plight", "fault", TERM),
    Banned::new("plights", "faults", TERM),
    Banned::new("affliction", "fault", TERM),
    Banned::new("toll", "cost", TERM),
    Banned::new("dice", "random number generator", TERM),
    Banned::new("bequest", "inherited state", TERM),
    Banned::new("lent", "detached", TERM),
    Banned::new("heed", "apply", TERM),
    Banned::new("heeded", "respected", TERM),
    Banned::new("tends", "scales down", TERM),
    Banned::new("relieve", "scale up", TERM),
    Banned::new("papers", "documents", TERM),
];

const NAME_THE_ACTOR: &str = "a sentence names the actor";
const PLAIN: &str = "plain words are found by a search";
const COURT: &str = "failure detection has terms of its own";
const TERM: &str = "the field has a term for it";

/// First words of a doc that make it a fragment. It begins with a noun or a verb instead.
const OPENERS: &[&str] = &["Of", "Who", "Whom", "Whose", "What", "So", "As"];

/// Further first words that a module doc does not begin with: the first lines of modules are read
/// like a table of contents.
const MODULE_OPENERS: &[&str] = &["Which", "How", "When", "Where", "Why"];

/// The file with the banned words, which it may say.
const HERE: &str = "xtask/src/tidy/language.rs";

/// Findings in the texts (path, text): widths of comments in all files of Rust, openings of docs
/// and words in all sources, words in documents.
pub(crate) fn find(files: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files {
        let package = path.split('/').next().unwrap_or_default();
        if path.ends_with(".rs") {
            findings.extend(too_wide(path, package, text));
        }
        if is_module(path) && !is_test_file(path) {
            let text = without_tests(text);
            findings.extend(fragments(path, package, text));
            let lines = comments(text).chain(messages(text));
            lines.filter(|_| path != HERE).for_each(|(line, text)| {
                findings.extend(banned(&format!("{path}:{line}"), package, &text));
            });
        } else if path.ends_with(".md") {
            for (line, text) in prose(text) {
                findings.extend(banned(&format!("{path}:{line}"), package, text));
            }
        }
    }
    findings
}

/// Comment lines that are wider than the code around them may be. A line with a link is as wide as
/// the link.
fn too_wide(path: &str, package: &str, text: &str) -> Vec<Finding> {
    let lines = comments(text).map(|(line, _)| line);
    let all: Vec<&str> = text.lines().collect();
    let is_wide = |line: &usize| {
        let text = all[line - 1];
        text.chars().count() > WIDTH && !text.contains("://")
    };
    let finding = |line| Finding {
        key: format!("width {package}"),
        location: format!("{path}:{line}"),
        message: format!("is a comment of more than {WIDTH} characters"),
    };
    lines.filter(is_wide).map(finding).collect()
}

fn banned(location: &str, package: &str, text: &str) -> Vec<Finding> {
    let text = text.to_lowercase();
    let found = BANNED
        .iter()
        .filter(|banned| has_phrase(&text, banned.word));
    found
        .map(
            |Banned {
                 word,
                 instead,
                 reason,
             }| Finding {
                key: format!("word {package} {word}"),
                location: location.to_owned(),
                message: format!("says {word:?}: {reason}, such as {instead:?}"),
            },
        )
        .collect()
}

/// Docs whose first line begins with a word that makes it no noun phrase and no sentence.
fn fragments(path: &str, package: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut before = None;
    for (line, text) in (1..).zip(text.lines()) {
        let doc = ["///", "//!"]
            .into_iter()
            .find(|mark| text.trim_start().starts_with(mark));
        let first = comment(text).and_then(|text| text.split_whitespace().next());
        let openers = match doc {
            Some("//!") => &[OPENERS, MODULE_OPENERS][..],
            Some(_) => &[OPENERS][..],
            None => &[],
        };
        let is_opener = |word: &&str| openers.iter().any(|words| words.contains(word));
        if let Some(word) = first.filter(is_opener).filter(|_| doc != before) {
            findings.push(Finding {
                key: format!("opening {package} {word}"),
                location: format!("{path}:{line}"),
                message: format!("is a doc that begins with {word:?}: begin with a noun or a verb"),
            });
        }
        before = doc;
    }
    findings
}

/// The comment lines, with their numbers.
fn comments(text: &str) -> impl Iterator<Item = (usize, String)> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(number, line)| Some((number, comment(line)?.to_owned())))
}

/// The contents of string literals, with their lines. Docs are literals to the tokenizer and are
/// not among them.
fn messages(text: &str) -> Vec<(usize, String)> {
    fn collect(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => collect(group.stream(), found),
                TokenTree::Literal(literal) => {
                    found.push((literal.span().start().line, literal.to_string()));
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    collect(TokenStream::from_str(text).unwrap_or_default(), &mut found);
    let lines: Vec<&str> = text.lines().collect();
    let is_doc = |line: usize| lines[line - 1].trim_start().starts_with("//");
    found.retain(|(line, literal)| literal.contains('"') && !is_doc(*line));
    found
}

/// The text up to its tests.
fn without_tests(text: &str) -> &str {
    let tests = text.find("\n#[cfg(test)]\nmod tests");
    &text[..tests.unwrap_or(text.len())]
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Greatest width of a comment line, as in `rustfmt.toml`.
const WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let findings = find(&[(path.to_owned(), text.to_owned())]);
        findings
            .into_iter()
            .map(|it| format!("{} {}", it.key, it.location))
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
        let text = "//! What b is.\n\n/// Who calls.\nfn f() {}\n    /// Of the last.\n";
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
        let link = format!("/// <https://{}>\n", "x".repeat(WIDTH));
        assert_eq!(found("b/src/b.rs", &link), [""; 0]);
        let code = format!("const A: &str = \"{}\";\n", "x".repeat(WIDTH));
        assert_eq!(found("b/src/b.rs", &code), [""; 0]);
    }
}
