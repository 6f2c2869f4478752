//! Dependencies: those that crates may have on each other, and those that none may have.

use std::collections::BTreeMap;

use super::{
    Problem,
    manifests::{Metadata, Package},
};

/// The edges that may exist between the crates of the workspace, development ones apart.
const ALLOWED_EDGES: &[(&str, &[Edge])] = &[
    ("rpcnet-phi", &[]),
    ("rpcnet-balance", &[]),
    ("rpcnet-transport", &[]),
    ("rpcnet-swim", &[Edge::Always("rpcnet-phi")]),
    (
        "rpcnet-registry",
        &[
            Edge::Always("rpcnet-balance"),
            Edge::Optional("rpcnet-swim"),
        ],
    ),
    (
        "rpcnet-client",
        &[
            Edge::Always("rpcnet-phi"),
            Edge::Always("rpcnet-balance"),
            Edge::Always("rpcnet-swim"),
            Edge::Always("rpcnet-registry"),
            Edge::Always("rpcnet-transport"),
        ],
    ),
];

/// Crates that people add alone: all that they may bring along.
const MINIMAL: &[(&str, &[&str])] = &[("rpcnet-phi", &["libm"]), ("rpcnet-balance", &["libm"])];

/// Crates whose default-less build runs on no runtime and opens no socket.
pub(crate) const PURE: &[&str] = &[
    "rpcnet-phi",
    "rpcnet-balance",
    "rpcnet-swim",
    "rpcnet-registry",
];

/// Runtimes, sockets and QUIC, by how their crates' names begin.
const IMPURE: &[&str] = &["tokio", "quinn", "mio", "socket2", "async-std", "smol"];

/// Crates that need a system library or cmake, or bring a second TLS stack.
const BANNED: &[&str] = &[
    "openssl",
    "openssl-sys",
    "native-tls",
    "aws-lc-rs",
    "aws-lc-sys",
];

/// Crates of which two versions at once would mean two TLS stacks, or types that do not meet.
const SINGLE: &[&str] = &[
    "ring",
    "rustls",
    "rustls-webpki",
    "quinn",
    "quinn-proto",
    "tokio",
];

#[derive(Clone, Copy, Debug)]
enum Edge {
    Always(&'static str),
    /// Allowed behind a feature only.
    Optional(&'static str),
}

/// The crates know only those that the architecture lets them know.
pub(crate) fn allowed_edges(metadata: &Metadata) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &metadata.packages {
        if is_tool(&package.name) {
            if package.is_published() {
                problems.push(manifest(package, "must say `publish = false`"));
            }
            continue;
        }
        let Some((_, allowed)) = ALLOWED_EDGES.iter().find(|(name, _)| *name == package.name)
        else {
            problems.push(manifest(
                package,
                "is not in the table of who may know whom",
            ));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|it| !it.is_dev()) {
            let name = dependency.name.as_str();
            let internal = metadata.package(name).is_some();
            let is_edge = |edge: &&Edge| match edge {
                Edge::Always(it) | Edge::Optional(it) => *it == name,
            };
            match allowed.iter().find(is_edge) {
                Some(Edge::Optional(_)) if !dependency.optional => problems.push(manifest(
                    package,
                    format!("may know {name} as optional only"),
                )),
                None if internal => {
                    problems.push(manifest(package, format!("may not know {name}")));
                }
                _ => {}
            }
            let bare = MINIMAL.iter().find(|(bare, _)| *bare == package.name);
            if bare.is_some_and(|(_, bring)| !internal && !bring.contains(&name)) {
                problems.push(manifest(
                    package,
                    format!("stays bare, so it may not need {name}"),
                ));
            }
        }
    }
    for (name, _) in ALLOWED_EDGES
        .iter()
        .filter(|(name, _)| metadata.package(name).is_none())
    {
        problems.push(Problem::new(
            "Cargo.toml",
            format!("the workspace has no crate {name}"),
        ));
    }
    problems
}

/// Versions between the crates: exact where published, none among development dependencies,
/// which would otherwise have to be published in circles.
pub(crate) fn internal_versions(metadata: &Metadata) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            let Some(target) = metadata.package(&dependency.name) else {
                continue;
            };
            let name = &dependency.name;
            if dependency.is_dev() || is_tool(name) {
                if dependency.req != "*" {
                    let kind = if dependency.is_dev() {
                        "development "
                    } else {
                        ""
                    };
                    let what = format!("{kind}dependency {name} must carry no version");
                    problems.push(manifest(package, what));
                }
            } else if dependency.req != format!("^{}", target.version) {
                let what = format!(
                    "asks for {name} {}, which is {}",
                    dependency.req, target.version
                );
                problems.push(manifest(package, what));
            }
        }
    }
    problems
}

/// `tree` is what `cargo tree -p name --no-default-features -e normal --prefix none` prints.
pub(crate) fn purity(package: &Package, tree: &str) -> Vec<Problem> {
    let mut names: Vec<&str> = tree.lines().filter_map(|it| it.split(' ').next()).collect();
    names.sort_unstable();
    names.dedup();
    let is_impure = |name: &str| {
        IMPURE.iter().any(|impure| {
            name.strip_prefix(impure)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    };
    names
        .into_iter()
        .filter(|name| is_impure(name))
        .map(|name| {
            manifest(
                package,
                format!("without default features it still needs {name}"),
            )
        })
        .collect()
}

/// Nothing in the lock file needs OpenSSL or cmake, and the TLS stack is there once.
pub(crate) fn lock_file(lock: &str) -> Vec<Problem> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for name in lock
        .lines()
        .filter_map(|it| it.strip_prefix("name = \"")?.strip_suffix('"'))
    {
        *versions.entry(name).or_default() += 1;
    }
    if versions.is_empty() {
        return vec![Problem::new("Cargo.lock", "names no crate")];
    }
    let banned = versions.keys().filter(|name| BANNED.contains(name));
    let banned = banned.map(|name| Problem::new("Cargo.lock", format!("must not need {name}")));
    let twice = versions
        .iter()
        .filter(|(name, times)| SINGLE.contains(name) && **times > 1);
    let twice = twice.map(|(name, times)| {
        Problem::new(
            "Cargo.lock",
            format!("has {times} versions of {name}, one is enough"),
        )
    });
    banned.chain(twice).collect()
}

/// Crates that are never published: this one, its parts, simulators, and what tests share.
fn is_tool(name: &str) -> bool {
    name == "xtask"
        || name == "rpcnet-testing"
        || name.starts_with("xtask-")
        || name.ends_with("-sim")
}

fn manifest(package: &Package, what: impl Into<String>) -> Problem {
    Problem::new(package.folder().join("Cargo.toml"), what)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dependency(name: &str) -> Value {
        json!({ "name": name, "req": "^0.2.0", "kind": null, "optional": false })
    }

    fn workspace() -> Vec<Value> {
        let mut packages: Vec<Value> = ALLOWED_EDGES
            .iter()
            .map(|(name, edges)| {
                let dependencies = edges.iter().map(|edge| match edge {
                    Edge::Always(name) => dependency(name),
                    Edge::Optional(name) => {
                        let mut optional = dependency(name);
                        optional["optional"] = true.into();
                        optional
                    }
                });
                json!({
                    "name": name, "version": "0.2.0", "manifest_path": format!("{name}/Cargo.toml"),
                    "dependencies": dependencies.collect::<Vec<_>>(),
                })
            })
            .collect();
        let mut tool = dependency("xtask-load");
        tool["req"] = "*".into();
        packages.push(json!({
            "name": "xtask", "version": "0.0.0", "manifest_path": "xtask/Cargo.toml",
            "publish": [], "dependencies": [dependency("rpcnet-client"), tool],
        }));
        packages.push(json!({
            "name": "xtask-load", "version": "0.0.0", "manifest_path": "xtask/load/Cargo.toml",
            "publish": [], "dependencies": [],
        }));
        packages.push(json!({
            "name": "rpcnet-swim-sim", "version": "0.0.0",
            "manifest_path": "rpcnet-swim/sim/Cargo.toml",
            "publish": [], "dependencies": [dependency("rpcnet-swim")],
        }));
        packages
    }

    /// The problems `rule` finds after `plant` has changed the crate called `name`.
    fn check(
        rule: fn(&Metadata) -> Vec<Problem>,
        name: &str,
        plant: impl FnOnce(&mut Value),
    ) -> Vec<String> {
        let mut packages = workspace();
        plant(packages.iter_mut().find(|it| it["name"] == name).unwrap());
        let metadata = json!({ "packages": packages }).to_string();
        let problems = rule(&Metadata::parse(&metadata).unwrap());
        problems.iter().map(Problem::to_string).collect()
    }

    fn push(package: &mut Value, dependency: Value) {
        package["dependencies"]
            .as_array_mut()
            .unwrap()
            .push(dependency);
    }

    #[test]
    fn the_architecture_as_drawn_passes() {
        assert_eq!(check(allowed_edges, "xtask", |_| ()), [""; 0]);
        assert_eq!(check(internal_versions, "xtask", |_| ()), [""; 0]);
    }

    #[test]
    fn a_dependency_that_is_not_allowed_is_caught() {
        for (name, other) in [
            ("rpcnet-phi", "rpcnet-balance"),
            ("rpcnet-transport", "rpcnet-swim"),
            ("rpcnet-swim", "rpcnet-registry"),
            ("rpcnet-swim", "rpcnet-client"),
            ("rpcnet-swim", "rpcnet-swim-sim"),
        ] {
            let found = check(allowed_edges, name, |it| push(it, dependency(other)));
            assert_eq!(found, [format!("{name}/Cargo.toml: may not know {other}")]);
        }
    }

    #[test]
    fn development_dependencies_are_allowed() {
        let mut dev = dependency("rpcnet-swim");
        dev["kind"] = "dev".into();
        assert_eq!(
            check(allowed_edges, "rpcnet-phi", |it| push(it, dev)),
            [""; 0]
        );
    }

    #[test]
    fn gossip_in_the_registry_stays_optional() {
        let found = check(allowed_edges, "rpcnet-registry", |it| {
            it["dependencies"][1]["optional"] = false.into();
        });
        assert_eq!(
            found,
            ["rpcnet-registry/Cargo.toml: may know rpcnet-swim as optional only"]
        );
    }

    #[test]
    fn minimal_crates_depend_on_libm_alone() {
        let found = check(allowed_edges, "rpcnet-phi", |it| {
            push(it, dependency("libm"));
            push(it, dependency("serde"));
        });
        assert_eq!(
            found,
            ["rpcnet-phi/Cargo.toml: stays bare, so it may not need serde"]
        );
    }

    #[test]
    fn a_publishable_xtask_and_an_unknown_package_are_caught() {
        let found = check(allowed_edges, "xtask", |it| it["publish"] = Value::Null);
        assert_eq!(found, ["xtask/Cargo.toml: must say `publish = false`"]);
        let found = check(allowed_edges, "xtask-load", |it| {
            it["publish"] = Value::Null;
        });
        assert_eq!(found, ["xtask/load/Cargo.toml: must say `publish = false`"]);
        let found = check(allowed_edges, "rpcnet-phi", |it| {
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
        let packages = json!({ "packages": workspace() }).to_string();
        let metadata = Metadata::parse(&packages).unwrap();
        let phi = metadata.package("rpcnet-phi").unwrap();
        assert!(
            purity(
                phi,
                "rpcnet-phi v0.2.0 (here)\nlibm v0.2.16\nsmolstr v0.1.0\n"
            )
            .is_empty()
        );
        let tree = "rpcnet-phi v0.2.0\ntokio v1.47.0\nquinn-proto v0.11.0\ntokio v1.47.0 (*)\n";
        let found: Vec<_> = purity(phi, tree).iter().map(Problem::to_string).collect();
        assert_eq!(
            found,
            [
                "rpcnet-phi/Cargo.toml: without default features it still needs quinn-proto",
                "rpcnet-phi/Cargo.toml: without default features it still needs tokio",
            ]
        );
    }

    #[test]
    fn the_lock_file_has_one_tls_stack_and_no_openssl() {
        let lock = |names: &[&str]| {
            let entry = |name: &&str| format!("[[package]]\nname = \"{name}\"\nversion = \"1\"\n");
            names.iter().map(entry).collect::<String>()
        };
        let check = |names: &[&str]| -> Vec<String> {
            lock_file(&lock(names))
                .iter()
                .map(Problem::to_string)
                .collect()
        };
        assert_eq!(check(&["ring", "rustls", "syn", "syn"]), [""; 0]);
        assert_eq!(
            check(&["openssl-sys"]),
            ["Cargo.lock: must not need openssl-sys"]
        );
        assert_eq!(
            check(&["rustls", "rustls"]),
            ["Cargo.lock: has 2 versions of rustls, one is enough"]
        );
        assert_eq!(check(&[]), ["Cargo.lock: names no crate"]);
    }
}
