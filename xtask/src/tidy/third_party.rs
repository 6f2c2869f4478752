//! Third-party crates: their licences, sources and versions, as `deny.toml` accepts them.
//!
//! A part of what `cargo deny check` finds by the same file: what needs neither that program nor a
//! network.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{
    Package,
    semver::{Version, VersionReq},
};
use serde::Deserialize;

use super::{Problem, workspace::Workspace};

const POLICY: &str = "deny.toml";

/// The settings of cargo-deny that are read here.
#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
    /// Versions that may be there beside another one.
    skip: Vec<Ban>,
}

/// A crate, as `name` or `name@version`.
#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    specification: String,
}

/// Third-party crates that the policy does not accept.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let policy = workspace.text(POLICY).unwrap_or_default();
    let policy: Policy = match toml::from_str(policy) {
        Ok(policy) => policy,
        Err(error) => return vec![Problem::new(POLICY, error.message())],
    };
    let all = workspace.metadata.packages.iter();
    let members = &workspace.metadata.workspace_members;
    let third_party = all.filter(|package| !members.contains(&package.id));
    let mut versions: BTreeMap<&str, Vec<&Version>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for package in third_party {
        let (name, version) = (package.name.as_str(), &package.version);
        wrong.extend(
            policy
                .wrong_package(package)
                .map(|what| format!("{name} {version}: {what}")),
        );
        versions.entry(name).or_default().push(version);
    }
    for (name, versions) in versions
        .iter_mut()
        .filter(|(_, versions)| versions.len() > 1)
    {
        versions.retain(|version| !policy.bans.skip.iter().any(|it| it.matches(name, version)));
        if versions.len() > 1 {
            wrong.push(format!(
                "{name}: has {} versions, one is enough",
                versions.len()
            ));
        }
    }
    wrong
        .into_iter()
        .map(|what| Problem::new("Cargo.lock", what))
        .collect()
}

impl Policy {
    fn wrong_package(&self, package: &Package) -> Option<String> {
        let licence = package.license.as_deref().unwrap_or("none");
        if self
            .bans
            .deny
            .iter()
            .any(|it| it.matches(&package.name, &package.version))
        {
            Some("is banned".to_owned())
        } else if !package.source.as_ref().is_some_and(|it| it.is_crates_io()) {
            Some("does not come from the registry".to_owned())
        } else if !self.licenses.accepts(licence) {
            Some(format!("has the licence {licence}, which is not accepted"))
        } else {
            None
        }
    }
}

impl Licences {
    /// Whether each part of an expression, of those joined by `AND`, has an accepted alternative.
    fn accepts(&self, expression: &str) -> bool {
        let mut parts = expression
            .split(" AND ")
            .map(|part| part.trim_matches(['(', ')']));
        parts.all(|part| {
            let mut alternatives = part.split(" OR ").flat_map(|it| it.split('/'));
            alternatives.any(|licence| self.allow.contains(licence.trim()))
        })
    }
}

impl Ban {
    fn matches(&self, name: &str, version: &Version) -> bool {
        match self.specification.split_once('@') {
            None => self.specification == name,
            Some((banned, versions)) => {
                let versions = VersionReq::parse(&format!("={versions}"));
                banned == name && versions.is_ok_and(|it| it.matches(version))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tidy::tests;

    const DENY: &str = r#"
        [licenses]
        allow = ["MIT", "ISC"]
        [bans]
        deny = [{ crate = "openssl-sys" }]
        skip = [{ crate = "syn@1", reason = "old" }]
    "#;

    fn third_party(name: &str, version: &str, licence: &str) -> Value {
        let mut package = tests::package(name);
        package["id"] = format!("{name}@{version}").into();
        package["version"] = version.into();
        package["license"] = licence.into();
        let lock = include_str!("../../../Cargo.lock").lines();
        let mut sources = lock.filter_map(|line| line.strip_prefix("source = "));
        package["source"] = serde_json::from_str(sources.next().unwrap()).unwrap();
        package
    }

    fn found(packages: &[Value]) -> Vec<String> {
        let mut workspace = tests::workspace(packages, &[(POLICY, DENY)]);
        workspace.metadata.workspace_members.clear();
        tests::found(find, &workspace)
    }

    #[test]
    fn accepted_crates_pass() {
        let packages = [
            third_party("ring", "0.17.0", "Apache-2.0/MIT AND (ISC OR GPL-3.0)"),
            third_party("syn", "1.0.2", "MIT OR Apache-2.0"),
            third_party("syn", "2.0.3", "MIT"),
        ];
        assert_eq!(found(&packages), [""; 0]);
    }

    #[test]
    fn each_fault_is_found() {
        let mut from_git = third_party("quinn", "0.11.0", "MIT");
        from_git["source"] = json!("git+https://example.org/quinn");
        for (packages, wrong) in [
            (
                vec![third_party("openssl-sys", "0.9.0", "MIT")],
                "openssl-sys 0.9.0: is banned",
            ),
            (
                vec![from_git],
                "quinn 0.11.0: does not come from the registry",
            ),
            (
                vec![third_party("ring", "0.17.0", "MIT AND Apache-2.0")],
                "ring 0.17.0: has the licence MIT AND Apache-2.0, which is not accepted",
            ),
            (
                ["0.22.0", "0.23.0"]
                    .map(|it| third_party("rustls", it, "MIT"))
                    .to_vec(),
                "rustls: has 2 versions, one is enough",
            ),
        ] {
            assert_eq!(found(&packages), [format!("Cargo.lock: {wrong}")]);
        }
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_a_problem() {
        let workspace = tests::workspace(&[], &[(POLICY, "[bans]\n")]);
        assert_eq!(tests::found(find, &workspace).len(), 1);
    }
}
