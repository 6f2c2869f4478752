//! Dependencies: those that crates may have on each other, and those that none may have.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Package};
use regex::Regex;

use super::{
    Problem,
    workspace::{Workspace, is_published},
};

/// A published crate, and what it may know.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) name: &'static str,
    pub(super) purity: Purity,
    /// Crates of the workspace that it may need, development apart.
    knows: &'static [&'static str],
    /// Those that it may need behind a feature only.
    knows_optionally: &'static [&'static str],
}

/// Whether a crate is a function of its inputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purity {
    /// It reads no clock, never sleeps, opens no socket and needs [nothing](PURE) else, in any
    /// configuration: people add it alone.
    Always,
    /// It runs on no runtime and opens no socket without its default features.
    WithoutDefaults,
    Never,
}

impl Layer {
    const fn new(name: &'static str, purity: Purity, knows: &'static [&'static str]) -> Self {
        let knows_optionally = &[];
        Self {
            name,
            purity,
            knows,
            knows_optionally,
        }
    }

    /// The layer of a package, if it is one of the published crates.
    pub(super) fn of(package: &Package) -> Option<&'static Self> {
        LAYERS.iter().find(|layer| layer.name == *package.name)
    }
}

/// The published crates.
pub(super) const LAYERS: &[Layer] = &[
    Layer::new("rpcnet-phi", Purity::Always, &[]),
    Layer::new("rpcnet-balance", Purity::Always, &[]),
    Layer::new("rpcnet-swim", Purity::WithoutDefaults, &["rpcnet-phi"]),
    Layer {
        knows_optionally: &["rpcnet-swim"],
        ..Layer::new(
            "rpcnet-registry",
            Purity::WithoutDefaults,
            &["rpcnet-balance"],
        )
    },
    Layer::new("rpcnet-transport-macros", Purity::Never, &[]),
    Layer::new(
        "rpcnet-transport",
        Purity::Never,
        &["rpcnet-transport-macros"],
    ),
    Layer::new(
        "rpcnet-client",
        Purity::Never,
        &[
            "rpcnet-phi",
            "rpcnet-balance",
            "rpcnet-swim",
            "rpcnet-registry",
            "rpcnet-transport",
            "rpcnet-transport-macros",
        ],
    ),
];

/// Crates that one that is always pure may bring along.
const PURE: &[&str] = &["libm"];

/// Runtimes, sockets and QUIC, by how their crates' names begin.
const IMPURE: &str = "^(tokio|quinn|mio|socket2|async-std|smol)(-|$)";

/// The crates know only those that the architecture lets them know.
pub(super) fn edges(workspace: &Workspace) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        let Some(layer) = Layer::of(package) else {
            if is_published(package) {
                let what =
                    "must say `publish = false`: it is not in the table of who may know whom";
                problems.push(workspace.in_manifest(package, what));
            }
            continue;
        };
        let dependencies = package.dependencies.iter();
        for dependency in dependencies.filter(|it| it.kind != DependencyKind::Development) {
            let name = dependency.name.as_str();
            let is_internal = workspace.package(name).is_some();
            let is_pure = layer.purity == Purity::Always;
            let what = if layer.knows_optionally.contains(&name) {
                (!dependency.optional).then(|| format!("may know {name} as optional only"))
            } else if is_internal {
                (!layer.knows.contains(&name)).then(|| format!("may not know {name}"))
            } else {
                let is_impure = is_pure && !PURE.contains(&name);
                is_impure.then(|| format!("is a pure crate, which may not need {name}"))
            };
            problems.extend(what.map(|what| workspace.in_manifest(package, what)));
        }
    }
    let missing = LAYERS
        .iter()
        .filter(|layer| workspace.package(layer.name).is_none());
    let missing = missing.map(|layer| format!("the workspace has no crate {}", layer.name));
    problems.extend(missing.map(|what| Problem::new("Cargo.toml", what)));
    problems
}

/// Versions between the crates: exact where published, none among development dependencies,
/// which would otherwise have to be published in circles.
pub(super) fn internal_versions(workspace: &Workspace) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        for dependency in &package.dependencies {
            let Some(target) = workspace.package(&dependency.name) else {
                continue;
            };
            let (name, required) = (&dependency.name, dependency.req.to_string());
            let is_dev = dependency.kind == DependencyKind::Development;
            let what = if is_dev || !is_published(target) {
                let kind = if is_dev { "development " } else { "" };
                let what = || format!("{kind}dependency {name} must carry no version");
                (required != "*").then(what)
            } else {
                let what = || format!("asks for {name} {required}, which is {}", target.version);
                (required != format!("^{}", target.version)).then(what)
            };
            problems.extend(what.map(|what| workspace.in_manifest(package, what)));
        }
    }
    problems
}

/// Pure crates need no runtime and no socket without their default features.
pub(super) fn purity(workspace: &Workspace) -> Vec<Problem> {
    let is_impure = Regex::new(IMPURE).expect("a valid pattern");
    let mut problems = Vec::new();
    for (name, tree) in &workspace.dependency_trees {
        let needed: BTreeSet<_> = tree.lines().filter_map(|it| it.split(' ').next()).collect();
        for impure in needed.iter().filter(|needed| is_impure.is_match(needed)) {
            let what = format!("without default features it still needs {impure}");
            problems.push(Problem::new(format!("{name}/Cargo.toml"), what));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tidy::tests::{dependency, found, package, workspace};

    fn packages() -> Vec<Value> {
        let mut packages: Vec<Value> = LAYERS
            .iter()
            .map(|layer| {
                let mut package = package(layer.name);
                for name in layer.knows {
                    push(&mut package, dependency(name));
                }
                for name in layer.knows_optionally {
                    let mut optional = dependency(name);
                    optional["optional"] = true.into();
                    push(&mut package, optional);
                }
                package
            })
            .collect();
        let mut part = dependency("xtask-load");
        part["req"] = "*".into();
        let mut xtask = package("xtask");
        push(&mut xtask, dependency("rpcnet-client"));
        push(&mut xtask, part);
        for mut tool in [xtask, package("xtask-load")] {
            tool["publish"] = json!([]);
            packages.push(tool);
        }
        packages
    }

    /// The problems `rule` finds after `plant` has changed the crate called `name`.
    fn check(
        rule: fn(&Workspace) -> Vec<Problem>,
        name: &str,
        plant: impl FnOnce(&mut Value),
    ) -> Vec<String> {
        let mut packages = packages();
        plant(packages.iter_mut().find(|it| it["name"] == name).unwrap());
        found(rule, &workspace(&packages, &[]))
    }

    fn push(package: &mut Value, dependency: Value) {
        package["dependencies"]
            .as_array_mut()
            .unwrap()
            .push(dependency);
    }

    #[test]
    fn the_architecture_as_drawn_passes() {
        assert_eq!(check(edges, "xtask", |_| ()), [""; 0]);
        assert_eq!(check(internal_versions, "xtask", |_| ()), [""; 0]);
    }

    #[test]
    fn a_dependency_that_is_not_allowed_is_caught() {
        for (name, other) in [
            ("rpcnet-phi", "rpcnet-balance"),
            ("rpcnet-transport", "rpcnet-swim"),
            ("rpcnet-swim", "rpcnet-registry"),
            ("rpcnet-swim", "rpcnet-client"),
        ] {
            let found = check(edges, name, |it| push(it, dependency(other)));
            assert_eq!(found, [format!("{name}/Cargo.toml: may not know {other}")]);
        }
    }

    #[test]
    fn development_dependencies_are_allowed() {
        let mut dev = dependency("rpcnet-swim");
        dev["kind"] = "dev".into();
        assert_eq!(check(edges, "rpcnet-phi", |it| push(it, dev)), [""; 0]);
    }

    #[test]
    fn gossip_in_the_registry_stays_optional() {
        let found = check(edges, "rpcnet-registry", |it| {
            it["dependencies"][1]["optional"] = false.into();
        });
        assert_eq!(
            found,
            ["rpcnet-registry/Cargo.toml: may know rpcnet-swim as optional only"]
        );
    }

    #[test]
    fn minimal_crates_depend_on_libm_alone() {
        let found = check(edges, "rpcnet-phi", |it| {
            push(it, dependency("libm"));
            push(it, dependency("serde"));
        });
        assert_eq!(
            found,
            ["rpcnet-phi/Cargo.toml: is a pure crate, which may not need serde"]
        );
    }

    #[test]
    fn a_publishable_xtask_and_an_unknown_package_are_caught() {
        let found = check(edges, "xtask", |it| it["publish"] = Value::Null);
        let what = "must say `publish = false`: it is not in the table of who may know whom";
        assert_eq!(found, [format!("xtask/Cargo.toml: {what}")]);
        let found = check(edges, "xtask-load", |it| {
            it["publish"] = Value::Null;
        });
        assert_eq!(found[0], format!("xtask-load/Cargo.toml: {what}"));
        let found = check(edges, "rpcnet-phi", |it| {
            it["name"] = "rpcnet-psi".into();
        });
        assert!(
            found.iter().any(|it| it.contains("not in the table")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|it| it.contains("no crate rpcnet-phi")),
            "{found:?}"
        );
    }

    #[test]
    fn versions_between_crates_are_checked() {
        let found = check(internal_versions, "rpcnet-phi", |it| {
            it["version"] = "0.3.0".into();
        });
        assert_eq!(
            found,
            [
                "rpcnet-swim/Cargo.toml: asks for rpcnet-phi ^0.2.0, which is 0.3.0",
                "rpcnet-client/Cargo.toml: asks for rpcnet-phi ^0.2.0, which is 0.3.0",
            ]
        );
        let mut dev = dependency("rpcnet-phi");
        dev["kind"] = "dev".into();
        let found = check(internal_versions, "rpcnet-balance", |it| {
            push(it, dev.clone());
        });
        assert_eq!(
            found,
            ["rpcnet-balance/Cargo.toml: development dependency rpcnet-phi must carry no version"]
        );
        dev["req"] = "*".into();
        assert_eq!(
            check(internal_versions, "rpcnet-balance", |it| push(it, dev)),
            [""; 0]
        );
    }

    #[test]
    fn a_runtime_in_a_pure_tree_is_caught() {
        let check = |tree: &str| {
            let mut workspace = workspace(&packages(), &[]);
            workspace
                .dependency_trees
                .insert("rpcnet-phi", tree.to_owned());
            found(purity, &workspace)
        };
        let tree = "rpcnet-phi v0.2.0 (here)\nlibm v0.2.16\nsmolstr v0.1.0\n";
        assert_eq!(check(tree), [""; 0]);
        let tree = "rpcnet-phi v0.2.0\ntokio v1.47.0\nquinn-proto v0.11.0\ntokio v1.47.0 (*)\n";
        assert_eq!(
            check(tree),
            [
                "rpcnet-phi/Cargo.toml: without default features it still needs quinn-proto",
                "rpcnet-phi/Cargo.toml: without default features it still needs tokio",
            ]
        );
    }
}
