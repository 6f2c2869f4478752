//! First lines of all modules: the table of contents of the workspace.

use std::fmt::Write as _;

use super::workspace::{Workspace, is_module};

/// The packages, and below each its modules: the path, and the first line of the docs.
pub(super) fn table(workspace: &Workspace) -> String {
    let mut table = String::new();
    for package in workspace.metadata.workspace_packages() {
        let description = package.description.as_deref().unwrap_or_default();
        let _ = writeln!(table, "{}: {description}", package.name);
        let sources = format!("{}/src/", workspace.folder(package));
        for (path, text) in workspace.texts.iter().filter(|(path, _)| is_module(path)) {
            if let Some(module) = path.strip_prefix(&sources) {
                let _ = writeln!(table, "    {module:40} {}", first_line(text));
            }
        }
        table.push('\n');
    }
    table
}

/// First line of the documentation of a module; nothing if it is in another file.
fn first_line(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim);
    lines
        .find_map(|line| line.strip_prefix("//!"))
        .unwrap_or_default()
        .trim()
}
