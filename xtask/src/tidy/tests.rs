//! Planted workspaces for the tests of the rules, and the rules on the real one.

use cargo_metadata::Metadata;
use serde_json::{Value, json};

use super::*;

/// Package with a manifest in the folder of its name, as `cargo metadata` describes it.
pub(super) fn package(name: &str) -> Value {
    json!({
        "name": name, "version": "0.2.0", "id": name, "source": null, "publish": null,
        "manifest_path": format!("/workspace/{name}/Cargo.toml"), "description": "what it is",
        "license": "MIT OR Apache-2.0", "rust_version": "1.88", "dependencies": [],
        "features": {}, "targets": [],
    })
}

/// Dependency as `cargo metadata` describes it.
pub(super) fn dependency(name: &str) -> Value {
    json!({
        "name": name, "source": null, "req": "^0.2.0", "kind": null, "optional": false,
        "uses_default_features": true, "features": [], "target": null, "rename": null,
        "registry": null, "path": null,
    })
}

/// Workspace of these packages and texts (path, text).
pub(super) fn workspace(packages: &[Value], texts: &[(&str, &str)]) -> Workspace {
    let members: Vec<_> = packages.iter().map(|package| &package["id"]).collect();
    let metadata = json!({
        "packages": packages, "workspace_members": members, "resolve": null,
        "workspace_root": "/workspace", "target_directory": "/workspace/target", "version": 1,
    });
    let metadata: Metadata = serde_json::from_value(metadata).unwrap();
    let owned = |(path, text): &(&str, &str)| (path.to_string(), text.to_string());
    Workspace::new(metadata, texts.iter().map(owned).collect()).unwrap()
}

/// The problems that a rule finds.
pub(super) fn found(rule: fn(&Workspace) -> Vec<Problem>, workspace: &Workspace) -> Vec<String> {
    rule(workspace).iter().map(Problem::to_string).collect()
}

#[test]
fn the_workspace_is_tidy() {
    let problems = check(&Workspace::read().unwrap(), false).unwrap();
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
