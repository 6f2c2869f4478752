//! `cargo xtask tidy`: rules that no compiler checks.
//!
//! Each rule is a function from parsed texts to problems, so that its tests can plant one. This
//! file reads the texts and prints what the rules find, a line each.

mod commands;
mod dependencies;
mod known;
mod language;
mod links;
mod manifests;
mod modules;
mod package_docs;
mod quoted_versions;
mod signatures;
mod source_files;
mod type_names;
mod use_circles;

use std::{error::Error, fmt, fs, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory};
use known::Known;
use links::Links;
use manifests::Metadata;
use modules::ModuleTree;
use package_docs::PackageDocs;

use crate::project::{self, Outcome};

/// Options of the command.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Remove from the list of tolerated findings what no longer occurs, and lower its numbers.
    #[arg(long)]
    shrink: bool,
}

/// A broken rule: where, and what is wrong there.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Problem {
    location: PathBuf,
    message: String,
}

impl Problem {
    /// `place` is a file, with a line number where one helps.
    fn new(place: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        let place = place.into();
        let place = place
            .strip_prefix(project::root())
            .map(PathBuf::from)
            .unwrap_or(place);
        Self {
            location: place,
            message: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.location.display(), self.message)
    }
}

/// Checks the workspace and prints every problem.
///
/// # Errors
///
/// When cargo or git cannot be asked or a file cannot be read.
pub(crate) fn run(options: &Options) -> Outcome {
    let problems = check_workspace(options)?;
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("tidy: every rule holds");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("tidy: {} problems", problems.len());
        Ok(ExitCode::FAILURE)
    }
}

/// Every broken rule in the workspace.
fn check_workspace(options: &Options) -> Result<Vec<Problem>, Box<dyn Error>> {
    let mut metadata = project::cargo();
    metadata.args(["metadata", "--no-deps", "--locked", "--format-version", "1"]);
    let metadata = Metadata::parse(&project::run_for_stdout(&mut metadata)?)?;

    let mut problems = dependencies::allowed_edges(&metadata);
    problems.extend(dependencies::internal_versions(&metadata));
    problems.extend(dependencies::lock_file(&fs::read_to_string(
        project::root().join("Cargo.lock"),
    )?));
    for name in dependencies::PURE {
        if let Some(package) = metadata.package(name) {
            problems.extend(dependencies::purity(package, &dependency_tree(name)?));
        }
    }

    let root = PackageDocs::read(project::root())?;
    problems.extend(package_docs::check_workspace(&root, &metadata));
    for package in metadata.published() {
        let docs = PackageDocs::read(&package.folder())?;
        problems.extend(package_docs::check_crate(package, &docs, &root, &metadata));
    }

    let files = tracked_files()?;
    let command_line = crate::Arguments::command();
    for (path, text) in &files {
        problems.extend(source_files::check(path, text));
        problems.extend(commands::check(path, text, &command_line, &metadata));
    }
    let readme = files.iter().find(|(path, _)| path == "README.md");
    let readme = readme.map_or("", |(_, text)| text);
    problems.extend(commands::unlisted_commands(
        readme,
        &command_line,
        &metadata,
    ));
    let published: Vec<_> = metadata.published().map(|it| it.name.as_str()).collect();
    problems.extend(Links::new(&files, &published).check());
    for package in metadata.published() {
        let sources = format!("{}/src/", package.name);
        let is_source = |path: &str| path.starts_with(&sources) && path.ends_with(".rs");
        let sources: Vec<_> = files
            .iter()
            .filter(|(path, _)| is_source(path))
            .cloned()
            .collect();
        problems.extend(signatures::check(&sources));
    }
    let roots = published.iter().map(|name| format!("{name}/src/lib.rs"));
    let roots: Vec<_> = roots.collect();
    let trees = roots.iter().map(|root| ModuleTree::read(root, &files));
    let trees = trees.collect::<Result<Vec<_>, _>>()?;
    problems.extend(use_circles::check(&trees, use_circles::KNOWN));
    let mut findings = language::find(&files);
    findings.extend(type_names::find(&trees));
    let list = project::root().join(known::LIST);
    let mut known = Known::parse(&fs::read_to_string(&list)?)?;
    if options.shrink {
        let shrunk = known.shrunk(&findings);
        fs::write(&list, &shrunk)?;
        known = Known::parse(&shrunk)?;
    }
    problems.extend(known.check(&findings));
    problems.sort();
    problems.dedup();
    Ok(problems)
}

/// The crates that `name` needs without its default features.
fn dependency_tree(name: &str) -> Result<String, Box<dyn Error>> {
    let mut tree = project::cargo();
    tree.args([
        "tree",
        "--locked",
        "--package",
        name,
        "--no-default-features",
    ]);
    tree.args(["--edges", "normal", "--prefix", "none"]);
    project::run_for_stdout(&mut tree)
}

/// The texts that git tracks, with their paths. What is no UTF-8 is no text.
fn tracked_files() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let listing = project::run_for_stdout(project::program("git").args(["ls-files", "-z"]))?;
    let mut files = Vec::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        let place = project::root().join(path);
        // Tracked, yet deleted or replaced by a folder in the working tree: not there to judge.
        if !place.is_file() {
            continue;
        }
        if let Ok(text) = String::from_utf8(fs::read(place)?) {
            files.push((path.to_owned(), text));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let problems = check_workspace(&Options::default()).unwrap();
        let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }

    #[test]
    fn locations_are_relative_to_the_root() {
        let problem = Problem::new(project::root().join("xtask/Cargo.toml"), "is odd");
        assert_eq!(problem.to_string(), "xtask/Cargo.toml: is odd");
    }
}
