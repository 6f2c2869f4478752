//! Errors of a schema lock, each with what to do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::BreakingChange;
use crate::{
    printable::Printable,
    schema::{Incompatibility, SCHEMA_BYTES_MAX},
};

/// Largest file.
pub(super) const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why the test of a [`SchemaLock`](crate::SchemaLock) fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaLockError {
    /// Methods changed incompatibly, or are gone. There is at least one change.
    #[error("{}", BreakingText { path, changes })]
    Breaking {
        /// Path of the file.
        path: PathBuf,
        /// The changes, by the names of the methods.
        changes: Vec<BreakingChange>,
    },
    /// Methods are new or changed compatibly, and are not in the file yet. If there are none, the
    /// file has another text for the same schemas.
    #[error("{}", OutdatedText { path, added, changed, without_type })]
    Outdated {
        /// Path of the file.
        path: PathBuf,
        /// Names of the methods that are new.
        added: Vec<String>,
        /// Names of the methods that changed compatibly.
        changed: Vec<String>,
        /// Names of the methods of which the file does not say whether they stream, as no file
        /// does that an earlier version has written.
        without_type: Vec<String>,
    },
    /// There is no file yet.
    #[error("{} does not exist: {WRITE_ADVICE}", .0.display())]
    Missing(PathBuf),
    /// The file is not one that a schema lock has written.
    #[error(
        "{}:{line}: damaged schema lock: {reason}; restore it, or delete it and {WRITE_ADVICE}",
        path.display()
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Fault of the line.
        reason: String,
    },
    /// The file exceeds 4 MiB, or would.
    #[error("schema lock {} exceeds {FILE_BYTES_MAX} bytes", .0.display())]
    TooManyBytes(PathBuf),
    /// The file cannot be read.
    #[error("schema lock {} cannot be read: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("schema lock {} cannot be written: {source}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Two methods of one name have different types, or one of them streams.
    #[error("two methods of different types are named {0}")]
    DuplicateMethod(String),
    /// The name of a method has spaces at its ends, or characters that are not printable.
    #[error("a name of a method in a schema lock is of printable characters: {0}")]
    UnprintableName(String),
    /// The schema of a method exceeds [`SCHEMA_BYTES_MAX`] or another bound.
    #[error("the schema of {0} exceeds a bound, such as that of {SCHEMA_BYTES_MAX} bytes")]
    SchemaTooLarge(String),
    /// A method writes its types with other names than it reads them with: callers and servers of
    /// one version do not understand each other.
    #[error("callers and servers of {method} do not understand each other: {source}")]
    Incompatible {
        /// Name of the method.
        method: String,
        /// Where its types differ from themselves.
        source: Incompatibility,
    },
    /// The environment variable `RPCNET_SCHEMA_LOCK` has an unknown value.
    #[error("RPCNET_SCHEMA_LOCK is {0}, expected check, write or write-breaking")]
    Mode(String),
}

/// Why a method cannot be locked.
#[derive(Debug)]
pub(super) enum MethodProblem {
    Duplicate,
    UnprintableName,
    TooLarge,
    Incompatible(Incompatibility),
}

impl MethodProblem {
    pub(super) fn of(self, name: &str) -> SchemaLockError {
        let name = Printable(name).to_string();
        match self {
            Self::Duplicate => SchemaLockError::DuplicateMethod(name),
            Self::UnprintableName => SchemaLockError::UnprintableName(name),
            Self::TooLarge => SchemaLockError::SchemaTooLarge(name),
            Self::Incompatible(source) => SchemaLockError::Incompatible {
                method: name,
                source,
            },
        }
    }
}

pub(super) fn check_len(path: &Path, bytes: usize) -> Result<(), SchemaLockError> {
    if bytes > FILE_BYTES_MAX {
        return Err(SchemaLockError::TooManyBytes(path.to_owned()));
    }
    Ok(())
}

const WRITE_ADVICE: &str =
    "run the test with RPCNET_SCHEMA_LOCK=write, and commit the file with the change";

struct BreakingText<'a> {
    path: &'a Path,
    changes: &'a [BreakingChange],
}

impl fmt::Display for BreakingText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        writeln!(f, "methods break compatibility with {path}:")?;
        for change in self.changes {
            writeln!(f, "    {change}")?;
        }
        f.write_str(
            "change the types so that each side can read the other (a field with a default, \
             an alias), or add a method; if no process runs the old version, run the test with \
             RPCNET_SCHEMA_LOCK=write-breaking",
        )
    }
}

struct OutdatedText<'a> {
    path: &'a Path,
    added: &'a [String],
    changed: &'a [String],
    without_type: &'a [String],
}

impl fmt::Display for OutdatedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is out of date:", self.path.display())?;
        for name in self.added {
            writeln!(f, "    {name} is new")?;
        }
        for name in self.changed {
            writeln!(f, "    {name} has changed, compatibly")?;
        }
        for name in self.without_type {
            writeln!(
                f,
                "    {name} is in the file without its type: unary or streaming"
            )?;
        }
        let lists = [self.added, self.changed, self.without_type];
        if lists.iter().all(|list| list.is_empty()) {
            writeln!(f, "    names of types, or their text, have changed")?;
        }
        f.write_str(WRITE_ADVICE)
    }
}
