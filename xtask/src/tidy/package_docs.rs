//! Documents of a package: README, changelog, licences, examples, lints.

use cargo_metadata::Package;

use super::{
    Problem,
    dependencies::{Layer, Purity},
    workspace::{Workspace, join},
};

/// The licence files, which every published crate carries.
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// Commands that a newcomer types first; CI runs exactly these, too.
const FIRST_COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo test --workspace"];

/// Methods that the `clippy.toml` of a crate that is always pure disallows at least.
const DISALLOWED_METHODS: [&str; 4] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::sleep",
    "std::net::UdpSocket",
];

/// Documents that are missing or incomplete, of the workspace and of each published crate.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let names = workspace.published().map(|package| package.name.as_str());
    let mut problems = check_readme("", FIRST_COMMANDS.into_iter().chain(names), workspace);
    problems.extend(check_licences("", workspace));
    for package in workspace.published() {
        problems.extend(check_crate(package, workspace));
    }
    problems
}

fn check_crate(package: &Package, workspace: &Workspace) -> Vec<Problem> {
    let folder = workspace.folder(package);
    let text = |file| workspace.text(&join(folder, file)).unwrap_or_default();
    let features = package.features.keys().filter(|name| *name != "default");
    let features: Vec<_> = features.map(|name| format!("`{name}`")).collect();
    let mut problems = check_readme(folder, features.iter().map(String::as_str), workspace);
    problems.extend(check_licences(folder, workspace));

    let mut check = |file: &str, holds: bool, what: &str| {
        let problem = Problem::new(join(folder, file), what);
        problems.extend((!holds).then_some(problem));
    };
    let description = package.description.as_deref().unwrap_or_default();
    check(
        "Cargo.toml",
        !description.trim().is_empty(),
        "has no description",
    );
    check("Cargo.toml", package.license.is_some(), "has no license");
    check(
        "Cargo.toml",
        package.rust_version.is_some(),
        "has no rust-version",
    );
    let what = "does not inherit the workspace's lints (`[lints] workspace = true`)";
    check("Cargo.toml", inherits_lints(text("Cargo.toml")), what);
    let version = package.version.to_string();
    let what = format!("has no `## {version}` with something under it");
    check(
        "CHANGELOG.md",
        has_entry(text("CHANGELOG.md"), &version),
        &what,
    );
    let examples = join(folder, "examples/");
    let is_example = |path: &String| path.starts_with(&examples) && path.ends_with(".rs");
    check(
        "examples",
        workspace.texts.keys().any(is_example),
        "has no example",
    );
    if Layer::of(package).is_some_and(|layer| layer.purity == Purity::Always) {
        for method in DISALLOWED_METHODS {
            let is_disallowed = text("clippy.toml").contains(method);
            check(
                "clippy.toml",
                is_disallowed,
                &format!("does not disallow {method}"),
            );
        }
    }
    problems
}

/// Both licence texts are there, and the same as those of the workspace.
fn check_licences(folder: &str, workspace: &Workspace) -> Vec<Problem> {
    let problem = |name: &str| {
        let what = match workspace.text(&join(folder, name)) {
            None => "is missing",
            ours if ours != workspace.text(name) => "is not the workspace's",
            _ => return None,
        };
        Some(Problem::new(join(folder, name), what))
    };
    LICENCES.into_iter().filter_map(problem).collect()
}

/// The README says something and mentions all of `mentions`.
fn check_readme<'a>(
    folder: &str,
    mentions: impl Iterator<Item = &'a str>,
    workspace: &Workspace,
) -> Vec<Problem> {
    let path = join(folder, "README.md");
    let problem = |what: String| Problem::new(&path, what);
    match workspace.text(&path) {
        None => vec![problem("is missing".into())],
        Some(text) if !is_written(text) => vec![problem("says nothing".into())],
        Some(text) => {
            let missing = mentions.filter(|it| !text.contains(it));
            missing
                .map(|it| problem(format!("does not mention {it}")))
                .collect()
        }
    }
}

/// Whether there is more than headings.
fn is_written(markdown: &str) -> bool {
    markdown
        .lines()
        .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

/// Whether a heading of the second level names `version`, and text follows it.
fn has_entry(changelog: &str, version: &str) -> bool {
    let mut sections = changelog.split("\n## ").skip(1);
    sections.any(|section| {
        let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
        let name = heading.split_whitespace().next().unwrap_or_default();
        name.trim_matches(['[', ']', 'v', ':', ',']) == version && is_written(text)
    })
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "lints.workspace = true")
        || manifest.contains("[lints]\nworkspace = true\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::tidy::tests;

    const README: &str = "# phi\nHow sure? With `std` or without.\n
        rpcnet-phi = \"0.2\"\n\nMSRV: 1.88. Try `cargo xtask demo` and `cargo test --workspace`.\n";

    /// Problems after `plant` has changed complete documents.
    fn check(plant: impl FnOnce(&mut BTreeMap<&str, String>)) -> Vec<String> {
        let methods = DISALLOWED_METHODS.join("\n");
        let documents = [
            ("README.md", README),
            ("LICENSE-MIT", "MIT"),
            ("LICENSE-APACHE", "Apache"),
            ("rpcnet-phi/README.md", README),
            ("rpcnet-phi/LICENSE-MIT", "MIT"),
            ("rpcnet-phi/LICENSE-APACHE", "Apache"),
            (
                "rpcnet-phi/Cargo.toml",
                "[package]\n[lints]\nworkspace = true\n[features]\n",
            ),
            (
                "rpcnet-phi/CHANGELOG.md",
                "# Changelog\n\n## 0.2.0 (2026-01-01)\n\n- phi\n",
            ),
            ("rpcnet-phi/clippy.toml", &methods),
            ("rpcnet-phi/examples/phi.rs", ""),
        ];
        let mut texts = documents.map(|(path, text)| (path, text.to_owned())).into();
        plant(&mut texts);
        let mut phi = tests::package("rpcnet-phi");
        phi["features"] = json!({"default": ["std"], "std": []});
        let texts: Vec<_> = texts
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        tests::found(find, &tests::workspace(&[phi], &texts))
    }

    /// Problems after one document has been written anew.
    fn check_text(path: &str, text: &str) -> Vec<String> {
        check(|it| *it.get_mut(path).unwrap() = text.to_owned())
    }

    #[test]
    fn complete_documents_pass() {
        assert_eq!(check(|_| ()), [""; 0]);
    }

    #[test]
    fn each_missing_document_is_caught() {
        for (path, problem) in [
            ("README.md", "README.md: is missing"),
            ("LICENSE-MIT", "LICENSE-MIT: is missing"),
            ("rpcnet-phi/README.md", "rpcnet-phi/README.md: is missing"),
            (
                "rpcnet-phi/LICENSE-APACHE",
                "rpcnet-phi/LICENSE-APACHE: is missing",
            ),
            (
                "rpcnet-phi/examples/phi.rs",
                "rpcnet-phi/examples: has no example",
            ),
        ] {
            let problems = check(|it| drop(it.remove(path)));
            assert_eq!(problems[0], problem);
        }
        let changelog = check(|it| drop(it.remove("rpcnet-phi/CHANGELOG.md")));
        assert_eq!(changelog.len(), 1, "{changelog:?}");
        let clippy = check(|it| drop(it.remove("rpcnet-phi/clippy.toml")));
        assert_eq!(clippy.len(), DISALLOWED_METHODS.len());
    }

    #[test]
    fn empty_documents_are_caught() {
        assert_eq!(
            check_text("rpcnet-phi/README.md", "# `std`\n\n"),
            ["rpcnet-phi/README.md: says nothing"]
        );
        for changelog in [
            "# Changelog\n",
            "\n## 0.2.0\n\n## 0.1.0\n- old\n",
            "\n## 0.2.00\n- x\n",
        ] {
            assert_eq!(
                check_text("rpcnet-phi/CHANGELOG.md", changelog),
                ["rpcnet-phi/CHANGELOG.md: has no `## 0.2.0` with something under it"],
                "{changelog}"
            );
        }
        assert_eq!(
            check_text("rpcnet-phi/CHANGELOG.md", "\n## [0.2.0]\n- phi\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_readme_mentions_features_crates_and_commands() {
        assert_eq!(
            check_text("rpcnet-phi/README.md", "How sure?"),
            ["rpcnet-phi/README.md: does not mention `std`"]
        );
        assert_eq!(
            check_text("README.md", "cargo test --workspace"),
            [
                "README.md: does not mention cargo xtask demo",
                "README.md: does not mention rpcnet-phi",
            ]
        );
    }

    #[test]
    fn another_licence_text_is_caught() {
        assert_eq!(
            check_text("rpcnet-phi/LICENSE-MIT", "my own"),
            ["rpcnet-phi/LICENSE-MIT: is not the workspace's"]
        );
    }

    #[test]
    fn lints_are_inherited() {
        for manifest in ["[package]\n", "[lints]\n[features]\nworkspace = true\n"] {
            let found = check_text("rpcnet-phi/Cargo.toml", manifest);
            assert!(
                found[0].contains("does not inherit"),
                "{manifest}: {found:?}"
            );
        }
        assert_eq!(
            check_text("rpcnet-phi/Cargo.toml", "lints.workspace = true\n"),
            [""; 0]
        );
    }
}
