//! Table of contents of the workspace: the first sentence of each module.

use std::fmt::Write as _;

use super::workspace::Workspace;

/// The packages, and below each its modules: the path, and the first sentence of the docs.
pub(super) fn table(workspace: &Workspace) -> String {
    let mut table = String::new();
    for package in workspace.metadata.workspace_packages() {
        let description = package.description.as_deref().unwrap_or_default();
        let _ = writeln!(table, "{}: {description}", package.name);
        for (module, path) in workspace.modules_in(workspace.folder(package)) {
            let sentence = first_sentence(&workspace.texts[path]);
            let _ = writeln!(table, "    {module:40} {sentence}");
        }
        table.push('\n');
    }
    table
}

/// First sentence of the documentation of a module; of a crate it may be in the README.
fn first_sentence(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<_> = lines
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    match paragraph.split_once(". ") {
        Some((sentence, _)) => format!("{sentence}."),
        None if paragraph.is_empty() => "See its README.".to_owned(),
        None => paragraph,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    #[test]
    fn modules_are_listed_below_their_package_with_their_first_sentences() {
        let texts = [
            ("a/src/lib.rs", "#![doc = \"x\"]\n"),
            ("a/src/b.rs", "//! What b\n//! is. And more.\n\nfn f() {}\n"),
        ];
        let table = table(&tests::workspace(&[tests::package("a")], &texts));
        let lines: Vec<_> = table.lines().map(|line| line.split_whitespace()).collect();
        let lines: Vec<Vec<_>> = lines.into_iter().map(Iterator::collect).collect();
        assert_eq!(lines[0].join(" "), "a: what it is");
        assert_eq!(lines[1].join(" "), "b.rs What b is.");
        assert_eq!(lines[2].join(" "), "lib.rs See its README.");
    }
}
