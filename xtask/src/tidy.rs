//! `cargo xtask tidy`: rules that no compiler checks.
//!
//! A rule is a function from the [workspace](Workspace) to the problems that it finds, so that its
//! tests can plant one.

mod commands;
mod contents;
mod dependencies;
mod known;
mod language;
mod links;
mod modules;
mod package_docs;
mod quoted_versions;
mod signatures;
mod source_files;
mod third_party;
mod type_names;
mod use_circles;
mod workspace;

use std::{error::Error, fmt, fs, process::ExitCode};

use clap::Args;

use self::{known::Known, workspace::Workspace};
use crate::project::{self, Outcome};

pub(crate) fn published_crates() -> impl Iterator<Item = &'static str> {
    dependencies::LAYERS.iter().map(|layer| layer.name)
}

const RULES: &[fn(&Workspace) -> Vec<Problem>] = &[
    commands::that_do_not_exist,
    commands::that_are_not_listed,
    dependencies::edges,
    dependencies::internal_versions,
    dependencies::purity,
    language::find,
    links::find,
    package_docs::find,
    quoted_versions::find,
    signatures::find,
    source_files::find,
    third_party::find,
    type_names::find,
    use_circles::find,
];

/// Options of the command.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Remove from the list of tolerated findings what no longer occurs, and lower its numbers.
    #[arg(long)]
    shrink: bool,
    /// Print the first sentence of each module instead: the table of contents of the workspace.
    #[arg(long, conflicts_with = "shrink")]
    contents: bool,
}

/// A broken rule: where, and what is wrong there.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Problem {
    location: String,
    message: String,
    /// Rule and subject, where some problems are [tolerated](known).
    key: Option<String>,
}

impl Problem {
    /// `location` is a file, with a line number where one helps.
    fn new(location: impl Into<String>, message: impl Into<String>) -> Self {
        let (location, message) = (location.into(), message.into());
        Self {
            location,
            message,
            key: None,
        }
    }

    fn with_key(self, key: String) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.location, self.message)
    }
}

/// Checks the workspace and prints every problem.
pub(crate) fn run(options: &Options) -> Outcome {
    let workspace = Workspace::read()?;
    if options.contents {
        print!("{}", contents::table(&workspace));
        return Ok(ExitCode::SUCCESS);
    }
    let problems = check(&workspace, options.shrink)?;
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

/// Every problem of the workspace that is not tolerated. `shrink`: after what no longer occurs has
/// been removed from the list of those that are.
fn check(workspace: &Workspace, shrink: bool) -> Result<Vec<Problem>, Box<dyn Error>> {
    let mut problems: Vec<_> = RULES.iter().flat_map(|rule| rule(workspace)).collect();
    problems.sort();
    problems.dedup();
    let list = project::root().join(known::LIST);
    let mut known = Known::parse(&fs::read_to_string(&list)?)?;
    if shrink {
        known = known.shrunk(&problems);
        fs::write(&list, known.to_string())?;
    }
    Ok(known.check(problems))
}

#[cfg(test)]
mod tests;
