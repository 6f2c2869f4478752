//! Workspace as the rules see it: its packages, the texts that git tracks and their syntax.

use std::{collections::BTreeMap, error::Error, fs};

use cargo_metadata::{Metadata, MetadataCommand, Package};

use super::{
    Problem,
    dependencies::{LAYERS, Purity},
};
use crate::project;

/// Packages and texts of the workspace.
pub(super) struct Workspace {
    pub(super) metadata: Metadata,
    /// Texts that git tracks, by their path from the root.
    pub(super) texts: BTreeMap<String, String>,
    /// Syntax of each [module](is_module), by its path.
    pub(super) syntax: BTreeMap<String, syn::File>,
    /// Output of `cargo tree` without default features, of each crate that has to be pure.
    pub(super) dependency_trees: BTreeMap<&'static str, String>,
}

impl Workspace {
    pub(super) fn read() -> Result<Self, Box<dyn Error>> {
        let cargo =
            |arguments: &str| project::run_for_stdout(project::cargo().args(arguments.split(' ')));
        let metadata = cargo("metadata --locked --all-features --format-version 1")?;
        let mut workspace = Self::new(MetadataCommand::parse(metadata)?, tracked_texts()?)?;
        for layer in LAYERS.iter().filter(|layer| layer.purity != Purity::Never) {
            let name = layer.name;
            let options = "--locked --no-default-features --edges normal --prefix none";
            let tree = cargo(&format!("tree {options} --package {name}"))?;
            workspace.dependency_trees.insert(name, tree);
        }
        Ok(workspace)
    }

    pub(super) fn new(metadata: Metadata, texts: BTreeMap<String, String>) -> Result<Self, String> {
        let modules = texts.iter().filter(|(path, _)| is_module(path));
        let syntax = modules.map(|(path, text)| {
            let syntax = syn::parse_file(text).map_err(|error| format!("{path}: {error}"));
            Ok((path.clone(), syntax?))
        });
        Ok(Self {
            syntax: syntax.collect::<Result<_, String>>()?,
            dependency_trees: BTreeMap::new(),
            metadata,
            texts,
        })
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// The package of this name in the workspace.
    pub(super) fn package(&self, name: &str) -> Option<&Package> {
        let packages = self.metadata.workspace_packages();
        packages.into_iter().find(|package| *package.name == name)
    }

    /// The crates that users get.
    pub(super) fn published(&self) -> impl Iterator<Item = &Package> {
        let packages = self.metadata.workspace_packages().into_iter();
        packages.filter(|package| is_published(package))
    }

    /// The folders of the crates that users get.
    pub(super) fn published_folders(&self) -> impl Iterator<Item = &str> {
        self.published().map(|package| self.folder(package))
    }

    /// The folder of a package, from the root.
    pub(super) fn folder<'a>(&self, package: &'a Package) -> &'a str {
        let path = package.manifest_path.as_str();
        let path = path
            .strip_prefix(self.metadata.workspace_root.as_str())
            .unwrap_or(path);
        path.trim_matches('/')
            .trim_end_matches("Cargo.toml")
            .trim_end_matches('/')
    }

    /// Modules of the package in a folder: the path from its sources, and that from the root.
    pub(super) fn modules_in(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        let sources = join(folder, "src/");
        let all = self.syntax.keys();
        all.filter_map(move |path| Some((path.strip_prefix(&sources)?, path.as_str())))
    }

    pub(super) fn in_manifest(&self, package: &Package, what: impl Into<String>) -> Problem {
        Problem::new(join(self.folder(package), "Cargo.toml"), what)
    }
}

/// Whether users get the package.
pub(super) fn is_published(package: &Package) -> bool {
    package
        .publish
        .as_ref()
        .is_none_or(|registries| !registries.is_empty())
}

/// Whether cargo compiles the file as part of a crate: `*/src/**/*.rs`.
pub(super) fn is_module(path: &str) -> bool {
    path.ends_with(".rs") && path.split('/').skip(1).any(|folder| folder == "src")
}

/// The path of a file in a folder, where `""` is the root.
pub(super) fn join(folder: &str, file: &str) -> String {
    match folder {
        "" => file.to_owned(),
        folder => format!("{folder}/{file}"),
    }
}

/// The texts that git tracks. What is no UTF-8 is no text.
fn tracked_texts() -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let listing = project::run_for_stdout(project::program("git").args(["ls-files", "-z"]))?;
    let mut texts = BTreeMap::new();
    for path in listing.split_terminator('\0') {
        let file = project::root().join(path);
        // Tracked, yet deleted or replaced by a folder in the working tree: not there to judge.
        if !file.is_file() {
            continue;
        }
        if let Ok(text) = String::from_utf8(fs::read(file)?) {
            texts.insert(path.to_owned(), text);
        }
    }
    Ok(texts)
}
