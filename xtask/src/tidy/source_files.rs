//! Rules of every tracked text: modules that say what they are for, files that are not too
//! long, nothing left to do, no path of one machine.

use regex::Regex;

use super::{
    Problem,
    workspace::{Workspace, is_module},
};

/// Words that mark unfinished work. Brackets keep them out of this file.
const UNFINISHED: &str = r"\b(?:TO[D]O\b|FIX[M]E\b|to[d]o!|unimplemente[d]!)";

/// Beginnings of paths that exist on one machine only.
const HOME: &str = r"(?:^|[^\w./*}~-])(/(?:home|Users|root|work)/)";

/// Most lines of a file of Rust, tests included: a longer one has two subjects.
const LINES_MAX: usize = 600;

/// All rules for all texts.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let [unfinished, home] = [UNFINISHED, HOME].map(|it| Regex::new(it).expect("a valid pattern"));
    let mut problems = Vec::new();
    for (path, text) in &workspace.texts {
        if is_module(path) && !has_module_doc(text) {
            problems.push(Problem::new(path, "does not begin with `//!` docs"));
        }
        let lines = text.lines().count();
        if path.ends_with(".rs") && lines > LINES_MAX {
            let what = format!("has {lines} lines, more than {LINES_MAX}");
            problems.push(Problem::new(path, what));
        }
        for (number, line) in (1..).zip(text.lines()) {
            let mut note = |what: String| {
                problems.push(Problem::new(format!("{path}:{number}"), what));
            };
            if let Some(mark) = unfinished.find(line) {
                note(format!("is unfinished: {}", mark.as_str()));
            }
            if let Some(home) = home.captures(line) {
                note(format!("has a path of one machine: {}", &home[1]));
            }
        }
    }
    problems
}

/// Whether the first line that says something is documentation of the module.
fn has_module_doc(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.is_some_and(|line| line.starts_with("//!") || line.starts_with("#![doc"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    fn found(path: &str, text: &str) -> Vec<String> {
        tests::found(find, &tests::workspace(&[], &[(path, text)]))
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
        for mark in [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("to", "do!"),
            concat!("unimple", "mented!"),
        ] {
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
        for home in ["home", "Users", "root", "work"].map(|name| format!("/{name}/")) {
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
