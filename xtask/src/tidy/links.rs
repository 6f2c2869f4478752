//! Relative links of the texts: each leads to a tracked file, and to a heading that is there.

use std::collections::BTreeSet;

use super::Problem;

/// Targets of links: the tracked texts, by path.
#[derive(Debug)]
pub(crate) struct Links<'a> {
    texts: &'a [(String, String)],
    paths: BTreeSet<&'a str>,
    /// Folders of the published crates.
    crates: Vec<&'a str>,
}

impl<'a> Links<'a> {
    pub(crate) fn new(texts: &'a [(String, String)], crates: &[&'a str]) -> Self {
        Self {
            texts,
            paths: texts.iter().map(|(path, _)| path.as_str()).collect(),
            crates: crates.to_vec(),
        }
    }

    /// Links that lead nowhere.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (path, text) in self.texts {
            if path.ends_with(".md") {
                for (line, target) in links(text) {
                    let what = self.broken_link(path, &target);
                    problems.extend(what.map(|what| Problem::new(format!("{path}:{line}"), what)));
                }
            } else if path.ends_with(".rs") && path.contains("/src/") {
                problems.extend(rustdoc(path, text));
            }
        }
        problems
    }

    fn broken_link(&self, path: &str, target: &str) -> Option<String> {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let home = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let to = match file {
            "" => path.to_owned(),
            _ => resolve(home, file),
        };
        let inside = self.crates.iter().find(|name| within(path, name));
        if let Some(name) = inside.filter(|name| !within(&to, name)) {
            return Some(format!(
                "links to {target}, which {name} is published without"
            ));
        }
        if !file.is_empty() && self.is_rustdoc(path) {
            let what = "which leads nowhere from the crate's documentation";
            return Some(format!("links to {target}, {what}"));
        }
        let is_folder = self.paths.iter().any(|path| within(path, &to));
        if !self.paths.contains(to.as_str()) && !is_folder {
            return Some(format!("links to {target}, which is not there"));
        }
        let page = if is_folder {
            format!("{to}/README.md")
        } else {
            to
        };
        let text = self.texts.iter().find(|(path, _)| *path == page);
        let has_anchor = |(_, text): &(String, String)| anchors(text).contains(anchor);
        if !anchor.is_empty() && !text.is_some_and(has_anchor) {
            return Some(format!("links to {target}, and {page} has no such heading"));
        }
        None
    }

    /// Whether the text is the documentation of its crate: rustdoc does not copy what it links to.
    fn is_rustdoc(&self, path: &str) -> bool {
        let Some(folder) = path.strip_suffix("/README.md") else {
            return false;
        };
        let root = format!("{folder}/src/lib.rs");
        let text = self.texts.iter().find(|(path, _)| *path == root);
        text.is_some_and(|(_, text)| text.contains("#![doc = include_str!(\"../README.md\")]"))
    }
}

/// Links in documentation comments that are paths: rustdoc knows items alone.
fn rustdoc(path: &str, text: &str) -> Vec<Problem> {
    let comments = |line: &'static str| move |text: &str| text.trim_start().starts_with(line);
    let (outer, inner) = (comments("///"), comments("//!"));
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !outer(line) && !inner(line) {
            continue;
        }
        for (_, target) in links(line) {
            let file = target.split('#').next().unwrap_or_default();
            let is_path = [".md", ".svg", ".png", ".rs"]
                .iter()
                .any(|end| file.ends_with(end));
            if is_path {
                let what = format!("links to {target}, which leads nowhere from documentation");
                problems.push(Problem::new(format!("{path}:{number}"), what));
            }
        }
    }
    problems
}

/// The relative targets of `[text](target)` and `[text]: target`, each with its line.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(markdown) {
        let plain = without_code(line);
        let inline = plain.match_indices("](").map(|(at, _)| &plain[at + 2..]);
        let inline = inline.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        let reference = plain
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
            .map(|(_, target)| target);
        for target in inline.chain(reference) {
            let target = target.split_whitespace().next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors that GitHub makes of headings.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = prose(markdown).filter_map(|(_, line)| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then(|| heading.trim())
    });
    headings
        .map(|heading| {
            let kept = |it: &char| it.is_alphanumeric() || " -_".contains(*it);
            let kept: String = heading.to_lowercase().chars().filter(kept).collect();
            kept.replace(' ', "-")
        })
        .collect()
}

/// The numbered lines outside of code blocks.
pub(crate) fn prose(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(markdown.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
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

    /// The problems of a workspace that has these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let owned = |(path, text): &(&str, &str)| (path.to_string(), text.to_string());
        let texts: Vec<_> = files.iter().map(owned).collect();
        let problems = Links::new(&texts, &["a"]).check();
        problems.iter().map(Problem::to_string).collect()
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
        let code = "//! See [x](docs/x.md).\n/// See [y](crate::y).\n// [z](z.md)\n";
        assert_eq!(
            found(&[("a/src/x.rs", code)]),
            ["a/src/x.rs:1: links to docs/x.md, which leads nowhere from documentation"]
        );
    }
}
