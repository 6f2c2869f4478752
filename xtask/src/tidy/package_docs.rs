//! Documents of a package: README, changelog, licences, examples, lints.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Problem,
    manifests::{Metadata, Package},
    quoted_versions,
};

/// The licence files, which every published crate carries.
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// Commands that a newcomer types first; CI runs exactly these, too.
const FIRST_COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo test --workspace"];

/// Crates that read no clock, sleep never and open no socket, in any configuration.
const CLOCKLESS: &[&str] = &["rpcnet-phi", "rpcnet-balance"];

/// Methods that the `clippy.toml` of a clockless crate disallows at least.
const DISALLOWED_METHODS: [&str; 4] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::sleep",
    "std::net::UdpSocket",
];

/// The texts that lie in a crate's folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackageDocs {
    folder: PathBuf,
    manifest: String,
    readme: Option<String>,
    changelog: Option<String>,
    clippy: Option<String>,
    licences: [Option<String>; 2],
    examples: Vec<PathBuf>,
}

impl PackageDocs {
    /// Reads what there is in `folder`.
    ///
    /// # Errors
    ///
    /// When a file is there and cannot be read.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let text = |name: &str| optional(fs::read_to_string(folder.join(name)));
        let examples = optional(fs::read_dir(folder.join("examples")))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            manifest: text("Cargo.toml")?.unwrap_or_default(),
            readme: text("README.md")?,
            changelog: text("CHANGELOG.md")?,
            clippy: text("clippy.toml")?,
            licences: [text(LICENCES[0])?, text(LICENCES[1])?],
            examples: match examples {
                Some(entries) => entries
                    .map(|entry| entry.map(|it| it.path()))
                    .collect::<io::Result<_>>()?,
                None => Vec::new(),
            },
        })
    }

    fn problem(&self, file: &str, what: impl Into<String>) -> Problem {
        Problem::new(self.folder.join(file), what)
    }
}

/// Documents of the workspace: both licences, and a README that quotes the right versions.
pub(crate) fn check_workspace(root: &PackageDocs, metadata: &Metadata) -> Vec<Problem> {
    let mut problems = check_licences(root, None);
    let names = metadata.published().map(|package| package.name.as_str());
    let mentions: Vec<_> = FIRST_COMMANDS
        .into_iter()
        .chain(names)
        .map(str::to_owned)
        .collect();
    problems.extend(check_readme(root, &mentions, metadata));
    problems
}

/// Documents of one published crate.
pub(crate) fn check_crate(
    package: &Package,
    docs: &PackageDocs,
    root: &PackageDocs,
    metadata: &Metadata,
) -> Vec<Problem> {
    let mut problems = check_licences(docs, Some(root));
    if package
        .description
        .as_deref()
        .unwrap_or_default()
        .trim()
        .is_empty()
    {
        problems.push(docs.problem("Cargo.toml", "has no description"));
    }
    if package.license.is_none() {
        problems.push(docs.problem("Cargo.toml", "has no license"));
    }
    if package.rust_version.is_none() {
        problems.push(docs.problem("Cargo.toml", "has no rust-version"));
    }
    if !inherits_lints(&docs.manifest) {
        let what = "does not inherit the workspace's lints (`[lints] workspace = true`)";
        problems.push(docs.problem("Cargo.toml", what));
    }
    let features = package.features.keys().filter(|it| *it != "default");
    let features: Vec<_> = features.map(|it| format!("`{it}`")).collect();
    problems.extend(check_readme(docs, &features, metadata));
    let heading = format!("## {} (unreleased)", package.version);
    let changelog = docs.changelog.as_deref().unwrap_or_default();
    if changelog.lines().any(|line| line.trim() == heading) {
        let quotes = quoted_versions::unpublished(docs.readme.as_deref().unwrap_or_default());
        let quotes = quotes.into_iter();
        problems
            .extend(quotes.map(|(line, what)| docs.problem(&format!("README.md:{line}"), what)));
    }
    match &docs.changelog {
        None => problems.push(docs.problem("CHANGELOG.md", "is missing")),
        Some(changelog) if !has_entry(changelog, &package.version) => {
            let what = format!("has no `## {}` with something under it", package.version);
            problems.push(docs.problem("CHANGELOG.md", what));
        }
        Some(_) => {}
    }
    if !docs
        .examples
        .iter()
        .any(|path| path.is_dir() || path.extension() == Some("rs".as_ref()))
    {
        problems.push(docs.problem("examples", "has no example"));
    }
    if CLOCKLESS.contains(&package.name.as_str()) {
        let clippy = docs.clippy.as_deref().unwrap_or_default();
        for path in DISALLOWED_METHODS
            .iter()
            .filter(|path| !clippy.contains(*path))
        {
            problems.push(docs.problem("clippy.toml", format!("does not disallow {path}")));
        }
    }
    problems
}

fn check_licences(docs: &PackageDocs, like: Option<&PackageDocs>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, name) in LICENCES.iter().enumerate() {
        match (&docs.licences[index], like.map(|it| &it.licences[index])) {
            (None, _) => problems.push(docs.problem(name, "is missing")),
            (Some(ours), Some(Some(root))) if ours != root => {
                problems.push(docs.problem(name, "is not the workspace's"));
            }
            _ => {}
        }
    }
    problems
}

/// The README says something, mentions all of `mentions`, and quotes versions as they are.
fn check_readme(docs: &PackageDocs, mentions: &[String], metadata: &Metadata) -> Vec<Problem> {
    let problem = |what: String| docs.problem("README.md", what);
    let Some(text) = &docs.readme else {
        return vec![problem("is missing".into())];
    };
    if !is_written(text) {
        return vec![problem("says nothing".into())];
    }
    let missing = mentions.iter().filter(|it| !text.contains(it.as_str()));
    let missing = missing.map(|it| problem(format!("does not mention {it}")));
    let stale = quoted_versions::check(text, metadata).into_iter();
    let stale = stale.map(|(line, what)| docs.problem(&format!("README.md:{line}"), what));
    missing.chain(stale).collect()
}

/// Whether there is more than headings.
fn is_written(markdown: &str) -> bool {
    markdown
        .lines()
        .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

/// Whether a heading of the second level names `version`, and text follows it.
fn has_entry(changelog: &str, version: &str) -> bool {
    let is_version = |line: &str| {
        let first = line
            .strip_prefix("## ")
            .and_then(|it| it.split_whitespace().next());
        first.is_some_and(|it| it.trim_matches(['[', ']', 'v', ':', ',']) == version)
    };
    let mut lines = changelog.lines().skip_while(|line| !is_version(line));
    lines.next().is_some()
        && lines
            .take_while(|line| !line.starts_with("## "))
            .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "lints.workspace = true")
        || manifest
            .lines()
            .map(str::trim)
            .skip_while(|line| *line != "[lints]")
            .skip(1)
            .take_while(|line| !line.starts_with('['))
            .any(|line| line == "workspace = true")
}

fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "# phi\nHow sure? With `std` or without.\n
        rpcnet-phi = \"0.2\"\n\nMSRV: 1.88. Try `cargo xtask demo` and `cargo test --workspace`.\n";

    fn metadata() -> Metadata {
        let json = r#"{"packages": [{
            "name": "rpcnet-phi", "version": "0.2.0", "manifest_path": "rpcnet-phi/Cargo.toml",
            "description": "phi", "rust_version": "1.88", "license": "MIT OR Apache-2.0",
            "features": {"default": ["std"], "std": []}
        }]}"#;
        Metadata::parse(json).unwrap()
    }

    fn docs(folder: &str) -> PackageDocs {
        PackageDocs {
            folder: folder.into(),
            manifest: "[package]\n[lints]\nworkspace = true\n[features]\n".into(),
            readme: Some(README.into()),
            changelog: Some("# Changelog\n\n## 0.2.0 (2026-01-01)\n\n- phi\n".into()),
            clippy: Some(DISALLOWED_METHODS.join("\n")),
            licences: [Some("MIT".into()), Some("Apache".into())],
            examples: vec!["examples/phi.rs".into()],
        }
    }

    /// Problems of a crate after `plant` has changed its documents.
    fn check(plant: impl FnOnce(&mut PackageDocs)) -> Vec<String> {
        let mut planted = docs("rpcnet-phi");
        plant(&mut planted);
        let metadata = metadata();
        check_crate(&metadata.packages[0], &planted, &docs(""), &metadata)
            .iter()
            .map(Problem::to_string)
            .collect()
    }

    #[test]
    fn complete_documents_pass() {
        assert_eq!(check(|_| ()), [""; 0]);
        assert!(check_workspace(&docs(""), &metadata()).is_empty());
    }

    #[test]
    fn each_missing_document_is_caught() {
        assert_eq!(
            check(|it| it.readme = None),
            ["rpcnet-phi/README.md: is missing"]
        );
        assert_eq!(
            check(|it| it.changelog = None),
            ["rpcnet-phi/CHANGELOG.md: is missing"]
        );
        assert_eq!(
            check(|it| it.licences[1] = None),
            ["rpcnet-phi/LICENSE-APACHE: is missing"]
        );
        assert_eq!(
            check(|it| it.examples.clear()),
            ["rpcnet-phi/examples: has no example"]
        );
        assert_eq!(check(|it| it.clippy = None).len(), DISALLOWED_METHODS.len());
        let bare = PackageDocs::default();
        assert_eq!(check_workspace(&bare, &metadata()).len(), 3);
    }

    #[test]
    fn empty_documents_are_caught() {
        assert_eq!(
            check(|it| it.readme = Some("# `std`\n\n".into())),
            ["rpcnet-phi/README.md: says nothing"]
        );
        for changelog in [
            "# Changelog\n",
            "## 0.2.0\n\n## 0.1.0\n- old\n",
            "## 0.2.00\n- x\n",
        ] {
            assert_eq!(
                check(|it| it.changelog = Some(changelog.into())),
                ["rpcnet-phi/CHANGELOG.md: has no `## 0.2.0` with something under it"],
                "{changelog}"
            );
        }
        assert_eq!(
            check(|it| it.changelog = Some("## [0.2.0]\n- phi\n".into())),
            [""; 0]
        );
    }

    #[test]
    fn a_readme_mentions_features_crates_and_commands() {
        assert_eq!(
            check(|it| it.readme = Some("How sure?".into())),
            ["rpcnet-phi/README.md: does not mention `std`"]
        );
        let root = PackageDocs {
            readme: Some("cargo test --workspace".into()),
            ..docs("")
        };
        let found: Vec<_> = check_workspace(&root, &metadata())
            .iter()
            .map(Problem::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "README.md: does not mention cargo xtask demo",
                "README.md: does not mention rpcnet-phi",
            ]
        );
    }

    #[test]
    fn a_stale_quote_is_reported_with_its_line() {
        assert_eq!(
            check(|it| it.readme = Some("`std`\nrpcnet-phi = \"0.1\"\n".into())),
            ["rpcnet-phi/README.md:2: quotes rpcnet-phi 0.1, which is 0.2.0"]
        );
    }

    #[test]
    fn a_quote_of_an_unreleased_version_is_reported_with_its_line() {
        let unreleased = "# Changelog\n\n## 0.2.0 (unreleased)\n\n- phi\n";
        assert_eq!(
            check(|it| {
                it.changelog = Some(unreleased.into());
                it.readme = Some("`std`\nrpcnet-phi = \"0.2\"\n".into());
            }),
            ["rpcnet-phi/README.md:2: quotes rpcnet-phi 0.2 as if published, and it is unreleased"]
        );
    }

    #[test]
    fn another_licence_text_is_caught() {
        assert_eq!(
            check(|it| it.licences[0] = Some("my own".into())),
            ["rpcnet-phi/LICENSE-MIT: is not the workspace's"]
        );
    }

    #[test]
    fn lints_are_inherited() {
        for manifest in ["[package]\n", "[lints]\n[features]\nworkspace = true\n"] {
            let found = check(|it| it.manifest = manifest.into());
            assert!(
                found[0].contains("does not inherit"),
                "{manifest}: {found:?}"
            );
        }
        assert_eq!(
            check(|it| it.manifest = "lints.workspace = true\n".into()),
            [""; 0]
        );
    }
}
