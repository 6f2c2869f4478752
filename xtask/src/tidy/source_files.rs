//! Rules of every tracked text: modules that say what they are for, files that are not too
//! long, nothing left to do, no path of one machine.

use super::Problem;

/// Words that mark unfinished work. Put together here, so that this file has none.
const UNFINISHED: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// Beginnings of paths that exist on one machine only.
const HOMES: [&str; 4] = [
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
];

/// Most lines of a file of Rust, tests included: a longer one has two subjects.
const LINES_MAX: usize = 600;

/// All rules for the file at `path`.
pub(crate) fn check(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if is_module(path) && !has_module_doc(text) {
        problems.push(Problem::new(path, "does not begin with `//!` docs"));
    }
    let lines = text.lines().count();
    if path.ends_with(".rs") && lines > LINES_MAX {
        let what = format!("has {lines} lines, more than {LINES_MAX}");
        problems.push(Problem::new(path, what));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let at = |what: String| Problem::new(format!("{path}:{number}"), what);
        let mark = UNFINISHED.iter().find(|mark| has_phrase(line, mark));
        problems.extend(mark.map(|mark| at(format!("is unfinished: {mark}"))));
        let home = HOMES.iter().find(|home| has_path(line, home));
        problems.extend(home.map(|home| at(format!("has a path of one machine: {home}"))));
    }
    problems
}

/// Whether cargo compiles it as part of a crate: `*/src/**/*.rs`.
pub(super) fn is_module(path: &str) -> bool {
    path.ends_with(".rs") && path.split('/').skip(1).any(|folder| folder == "src")
}

/// Whether the first line that says something is documentation of the module.
fn has_module_doc(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.is_some_and(|line| line.starts_with("//!") || line.starts_with("#![doc"))
}

/// Whether the words of `phrase` stand in `text` by themselves.
pub(super) fn has_phrase(text: &str, phrase: &str) -> bool {
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    text.match_indices(phrase).any(|(at, _)| {
        let after = text[at + phrase.len()..].chars().next();
        !text[..at].ends_with(is_part) && !after.is_some_and(is_part)
    })
}

/// Text of a line that is a comment or a line of docs.
pub(super) fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']))
}

/// Whether an absolute path in `line` begins with `home`.
fn has_path(line: &str, home: &str) -> bool {
    let is_longer = |it: char| it.is_alphanumeric() || "._-/*}~".contains(it);
    line.match_indices(home)
        .any(|(at, _)| !line[..at].ends_with(is_longer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(path, text).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_module_begins_with_its_doc() {
        let problem = "a/src/b.rs: does not begin with `//!` docs";
        for text in [
            "",
            "use std::fs;\n",
            "// no doc\n",
            "/// of an item\nfn f() {}\n",
        ] {
            assert_eq!(found("a/src/b.rs", text), [problem], "{text}");
        }
        for text in [
            "//! What b is.\n",
            "\n//! What b is.\n",
            "#![doc = include_str!(\"x\")]\n",
        ] {
            assert_eq!(found("a/src/b.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn other_files_need_no_module_doc() {
        for path in [
            "a/tests/b.rs",
            "a/examples/b.rs",
            "a/src/data.csv",
            "README.md",
        ] {
            assert_eq!(found(path, "text\n"), [""; 0], "{path}");
        }
    }

    #[test]
    fn a_file_of_rust_is_not_too_long() {
        let text = "fine\n".repeat(LINES_MAX);
        assert_eq!(found("a/tests/b.rs", &text), [""; 0]);
        let text = text + "one more\n";
        let problem = "a/tests/b.rs: has 601 lines, more than 600";
        assert_eq!(found("a/tests/b.rs", &text), [problem]);
        assert_eq!(found("README.md", &text), [""; 0]);
    }

    #[test]
    fn unfinished_work_is_caught_with_its_line() {
        for mark in UNFINISHED {
            let text = format!("fine\nfn f() {{ {mark} later }}\n");
            assert_eq!(
                found("x.md", &text),
                [format!("x.md:2: is unfinished: {mark}")]
            );
        }
        assert_eq!(
            found("x.md", "todo = \"warn\"\nMASTODON\nmy_TODOS\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_path_of_one_machine_is_caught() {
        for home in HOMES {
            let text = format!("see {home}me/rpcnet\n");
            assert_eq!(
                found("x.md", &text),
                [format!("x.md:1: has a path of one machine: {home}")]
            );
            let text = format!("see `\"{home}me/rpcnet\"`\n");
            assert_eq!(found("x.md", &text).len(), 1);
            let text = format!("see https://example.org{home}x and ../target{home}x\n");
            assert_eq!(found("x.md", &text), [""; 0]);
        }
    }
}
