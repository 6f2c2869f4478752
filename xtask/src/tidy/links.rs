//! Relative links of the texts: each leads to a tracked file, and to a heading that is there.

use super::{
    Problem,
    workspace::{Workspace, join},
};
use crate::markdown::Markdown;

/// Links that lead nowhere.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in &workspace.texts {
        let Some(markdown) = Markdown::of_file(path, text, &["///", "//!"]) else {
            continue;
        };
        let relative = markdown
            .links
            .iter()
            .filter(|(_, to)| !to.is_empty() && !to.contains(':'));
        for (line, target) in relative {
            let wrong = match path.ends_with(".md") {
                true => broken_link(path, target, workspace),
                false => file_in_rustdoc(target),
            };
            let location = format!("{path}:{line}");
            let problem = |wrong| Problem::new(location, format!("links to {target}, {wrong}"));
            problems.extend(wrong.map(problem));
        }
    }
    problems
}

fn broken_link(path: &str, target: &str, workspace: &Workspace) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let home = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let to = match file {
        "" => path.to_owned(),
        _ => resolve(home, file),
    };
    let mut crates = workspace.published_folders();
    if let Some(name) = crates.find(|name| within(path, name) && !within(&to, name)) {
        return Some(format!("which {name} is published without"));
    }
    if !file.is_empty() && is_rustdoc(path, workspace) {
        return Some("which leads nowhere from the crate's documentation".to_owned());
    }
    let is_folder = workspace.texts.keys().any(|path| within(path, &to));
    if !workspace.texts.contains_key(&to) && !is_folder {
        return Some("which is not there".to_owned());
    }
    let page = if is_folder {
        join(&to, "README.md")
    } else {
        to
    };
    let has_anchor = workspace.text(&page).is_some_and(|text| {
        let headings = Markdown::parse(text).headings;
        headings.iter().any(|heading| anchor_of(heading) == anchor)
    });
    let what = || format!("and {page} has no such heading");
    (!anchor.is_empty() && !has_anchor).then(what)
}

/// Whether the text is the documentation of its crate: rustdoc does not copy what it links to.
fn is_rustdoc(path: &str, workspace: &Workspace) -> bool {
    let folder = path.strip_suffix("README.md");
    let root = folder.and_then(|folder| workspace.text(&format!("{folder}src/lib.rs")));
    root.is_some_and(|text| text.contains("#![doc = include_str!(\"../README.md\")]"))
}

/// Links in documentation comments that are paths: rustdoc knows items alone.
fn file_in_rustdoc(target: &str) -> Option<String> {
    let file = target.split('#').next().unwrap_or_default();
    let is_path = [".md", ".svg", ".png", ".rs"]
        .iter()
        .any(|end| file.ends_with(end));
    is_path.then(|| "which leads nowhere from documentation".to_owned())
}

/// The anchor that GitHub makes of a heading.
fn anchor_of(heading: &str) -> String {
    let is_kept = |it: &char| it.is_alphanumeric() || " -_".contains(*it);
    let kept: String = heading.to_lowercase().chars().filter(is_kept).collect();
    kept.replace(' ', "-")
}

/// `path` seen from `folder`, without `.` and `..`.
fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether `path` lies in `folder`.
fn within(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    /// The problems of a workspace that has these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        tests::found(find, &tests::workspace(&[tests::package("a")], files))
    }

    const A: (&str, &str) = ("a/README.md", "# a\n\n## What is in it, `a` and b?\n");

    #[test]
    fn links_that_resolve_pass() {
        let root = "[a](a), [b](a#what-is-in-it-a-and-b), [c](./a/README.md)\n[d]: a/README.md\n\
            [web](https://example.org/x) `[x](none)` \n```md\n[y](none)\n```\n# Here\n[e](#here)\n";
        assert_eq!(found(&[A, ("README.md", root)]), [""; 0]);
        let docs = ("a/docs/x.md", "[up](../README.md)\n");
        assert_eq!(found(&[A, docs]), [""; 0]);
    }

    #[test]
    fn a_link_to_nothing_is_caught() {
        for link in ["[x](a/none.md)", "![x](none.svg)", "[x]: none.md"] {
            let problems = found(&[A, ("README.md", &format!("\n{link}\n"))]);
            assert!(
                problems[0].starts_with("README.md:2: links to "),
                "{problems:?}"
            );
            assert!(problems[0].ends_with("which is not there"), "{problems:?}");
        }
    }

    #[test]
    fn a_heading_that_is_not_there_is_caught() {
        assert_eq!(
            found(&[A, ("README.md", "[x](a#what)\n")]),
            ["README.md:1: links to a#what, and a/README.md has no such heading"]
        );
        assert_eq!(found(&[("README.md", "[x](#none)\n")]).len(), 1);
    }

    #[test]
    fn a_published_crate_links_to_what_is_published_with_it() {
        assert_eq!(
            found(&[
                A,
                ("README.md", ""),
                ("a/CHANGELOG.md", "[x](../README.md)\n")
            ]),
            ["a/CHANGELOG.md:1: links to ../README.md, which a is published without"]
        );
    }

    #[test]
    fn a_readme_that_is_documentation_links_to_no_file() {
        let files = [
            ("a/README.md", "[x](docs/x.md), [y](#y)\n# y\n"),
            ("a/docs/x.md", "x\n"),
            ("a/src/lib.rs", "#![doc = include_str!(\"../README.md\")]\n"),
        ];
        assert_eq!(
            found(&files),
            [
                "a/README.md:1: links to docs/x.md, which leads nowhere from the crate's \
                 documentation"
            ]
        );
        assert_eq!(found(&files[..2]), [""; 0]);
    }

    #[test]
    fn a_documentation_comment_links_to_items_alone() {
        let code = "//! See [x](docs/x.md).\n/// See [y](crate::y).\nfn f() {}\n// [z](z.md)\n";
        assert_eq!(
            found(&[("a/src/x.rs", code)]),
            ["a/src/x.rs:1: links to docs/x.md, which leads nowhere from documentation"]
        );
    }
}
