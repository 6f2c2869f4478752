//! Packages of the workspace, as `cargo metadata --no-deps` describes them.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// Output of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

/// Crate of the workspace.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) description: Option<String>,
    pub(crate) rust_version: Option<String>,
    pub(crate) license: Option<String>,
    /// `None`: may be published anywhere. An empty list: nowhere.
    pub(crate) publish: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) dependencies: Vec<Dependency>,
    /// Targets that cargo builds of it.
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
    /// The features, each with what it switches on.
    #[serde(default)]
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// A library, program, example, test or bench.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `example`, `test`, `bench`, ...
    pub(crate) kind: Vec<String>,
}

/// Dependency in a manifest.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// The version requirement as cargo writes it: `^0.2.0`, or `*` where the manifest has none.
    pub(crate) req: String,
    /// `None`: a normal dependency. Else `dev` or `build`.
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) optional: bool,
}

impl Metadata {
    /// Reads the output of `cargo metadata --format-version 1`.
    ///
    /// # Errors
    ///
    /// When `json` is no such output.
    pub(crate) fn parse(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// The crates that users get.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| package.is_published())
    }

    /// The crate of this name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

impl Package {
    pub(crate) fn is_published(&self) -> bool {
        self.publish
            .as_ref()
            .is_none_or(|registries| !registries.is_empty())
    }

    /// The folder of its manifest.
    pub(crate) fn folder(&self) -> PathBuf {
        self.manifest_path
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default()
    }
}

impl Dependency {
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}
