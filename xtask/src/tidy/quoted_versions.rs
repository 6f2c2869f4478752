//! Versions that a README quotes: of our crates (`rpcnet-phi = "0.2"`) and of Rust.

use std::collections::BTreeSet;

use regex::Regex;

use super::{
    Problem,
    workspace::{Workspace, join},
};

/// `rpcnet-phi = "0.2"` and `rpcnet-phi = { version = "0.2", .. }`.
const CRATE: &str = r#"^\s*(rpcnet[a-zA-Z0-9-]*)\s*=\s*(?:\{.*?version[ =]*)?"([^"]*)""#;

/// The version after `Rust`, `MSRV` or `rust-version`, as in `MSRV: 1.88` and `Rust 1.88.0`.
const RUST: &str = r#"(?:MSRV|Rust|rust-version)[ :="`*(]*(?:is )?(1\.[0-9.]*[0-9])"#;

/// Quotes in the README of the workspace and of each published crate that the manifests do not
/// bear out, or that fetch a version from a registry before it is released.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let [of_crate, of_rust] = [CRATE, RUST].map(|it| Regex::new(it).expect("a valid pattern"));
    let mut problems = Vec::new();
    for folder in workspace.published_folders().chain([""]) {
        let readme = join(folder, "README.md");
        for (number, line) in (1..).zip(workspace.text(&readme).unwrap_or_default().lines()) {
            let is_local = line.contains("path =") || line.contains("git =");
            let of_crate = of_crate.captures(line).map(|it| it.extract().1);
            let of_crate =
                of_crate.and_then(|[name, quoted]| wrong_crate(name, quoted, is_local, workspace));
            let of_rust = of_rust.captures_iter(line).map(|it| it.extract().1);
            let of_rust = of_rust.filter_map(|[quoted]| wrong_rust(quoted, workspace));
            let wrong: BTreeSet<_> = of_rust.chain(of_crate).collect();
            let problem = |what| Problem::new(format!("{readme}:{number}"), what);
            problems.extend(wrong.into_iter().map(problem));
        }
    }
    problems
}

fn wrong_crate(name: &str, quoted: &str, is_local: bool, workspace: &Workspace) -> Option<String> {
    let Some(package) = workspace.package(name) else {
        return Some(format!("quotes {name}, which is unknown"));
    };
    let version = package.version.to_string();
    let changelog = join(workspace.folder(package), "CHANGELOG.md");
    let changelog = workspace.text(&changelog).unwrap_or_default();
    let unreleased = format!("## {version} (unreleased)");
    if !is_prefix(&version, quoted) {
        Some(format!("quotes {name} {quoted}, which is {version}"))
    } else if !is_local && changelog.lines().any(|line| line.trim() == unreleased) {
        Some(format!(
            "quotes {name} {quoted} as if published, and it is unreleased"
        ))
    } else {
        None
    }
}

fn wrong_rust(quoted: &str, workspace: &Workspace) -> Option<String> {
    let minima = workspace
        .published()
        .filter_map(|package| package.rust_version.as_ref());
    let minimum = minima
        .map(ToString::to_string)
        .find(|it| !is_prefix(it, quoted))?;
    Some(format!("quotes Rust {quoted}, the minimum is {minimum}"))
}

/// Whether `quoted` is `version`, or its first parts.
fn is_prefix(version: &str, quoted: &str) -> bool {
    let rest = version.strip_prefix(quoted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    /// The problems in a README of the workspace, after a heading in the changelog of its crate.
    fn found(readme: &str, heading: &str) -> Vec<String> {
        let texts = [("README.md", readme), ("rpcnet-phi/CHANGELOG.md", heading)];
        tests::found(
            find,
            &tests::workspace(&[tests::package("rpcnet-phi")], &texts),
        )
    }

    #[test]
    fn a_stale_quote_is_caught() {
        for (readme, problem) in [
            (
                "rpcnet-phi = \"0.1\"",
                "quotes rpcnet-phi 0.1, which is 0.2.0",
            ),
            (
                "rpcnet-phi = \"0.20\"",
                "quotes rpcnet-phi 0.20, which is 0.2.0",
            ),
            (
                "rpcnet-phi = { version = \"0.3\", default-features = false }",
                "quotes rpcnet-phi 0.3, which is 0.2.0",
            ),
            (
                "rpcnet-psi = \"0.2\"",
                "quotes rpcnet-psi, which is unknown",
            ),
            (
                "The MSRV is 1.85.",
                "quotes Rust 1.85, the minimum is 1.88.0",
            ),
            (
                "needs **Rust 1.8** or newer",
                "quotes Rust 1.8, the minimum is 1.88.0",
            ),
            (
                "rust-version = \"1.90\"",
                "quotes Rust 1.90, the minimum is 1.88.0",
            ),
        ] {
            let text = format!("# phi\n{readme}\n");
            assert_eq!(found(&text, ""), [format!("README.md:2: {problem}")]);
        }
    }

    #[test]
    fn a_quote_of_what_is_not_published_is_caught() {
        let what = "quotes rpcnet-phi 0.2 as if published, and it is unreleased";
        for readme in [
            "rpcnet-phi = \"0.2\"",
            "rpcnet-phi = { version = \"0.2\", default-features = false }",
        ] {
            let expected = [format!("README.md:2: {what}")];
            assert_eq!(
                found(&format!("\n{readme}\n"), "## 0.2.0 (unreleased)\n"),
                expected
            );
            assert_eq!(found(readme, "## 0.2.0 (2026-01-01)\n"), [""; 0]);
        }
        for readme in [
            "rpcnet-phi = { path = \"../phi\", version = \"0.2\" }",
            "rpcnet-phi = { git = \"https://example.org/rpcnet\" }",
            "serde = \"1\"",
        ] {
            assert_eq!(
                found(readme, "## 0.2.0 (unreleased)\n"),
                [""; 0],
                "{readme}"
            );
        }
    }

    #[test]
    fn right_quotes_and_other_lines_pass() {
        for readme in [
            "rpcnet-phi = \"0.2.0\"",
            "rpcnet-phi = { version = \"0.2\", features = [\"x\"] }",
            "rpcnet-phi = { path = \"../rpcnet-phi\" }",
            "serde = \"1\"",
            "Rust 1.88 and later",
            "Rust is fine, Rust 2024 too",
        ] {
            assert_eq!(found(readme, ""), [""; 0], "{readme}");
        }
    }
}
