//! Schema lock: a file of the schemas of methods, which a test compares with those of the code.

mod comparison;
mod contents;
mod error;
mod file;

use std::path::PathBuf;

use self::{
    comparison::LockComparison,
    contents::{LockedMethod, LockedMethods},
    error::{MethodProblem, check_len},
};
pub use self::{
    comparison::{BreakingChange, BreakingCombination},
    error::SchemaLockError,
};
use crate::{
    method::{Method, UntypedMethod},
    printable::Printable,
    schema::MethodSchema,
};

/// Environment variable that [`SchemaLock::check`] reads its [`SchemaLockMode`] from.
pub(crate) const MODE_VARIABLE: &str = "RPCNET_SCHEMA_LOCK";

/// A file with the schemas of methods (`schema.lock`), for a test that fails if a change of a type
/// breaks callers or servers that run already.
///
/// The file belongs into version control. It holds the schemas of the last version that others may
/// run, as text for reviewers and in encoded form. [`check`](Self::check) compares the methods of
/// the code with it, in both directions: a caller of that version with a server of the code, and
/// the reverse. A method that was unary and streams now, or the reverse, has changed incompatibly.
///
/// ```no_run
/// # use rpcnet_transport::Method;
/// # const SQUARE: Method<u64, u64> = Method::new("square");
/// # struct RenderMethods;
/// # impl RenderMethods { const ALL: &[rpcnet_transport::UntypedMethod] = &[]; }
/// use rpcnet_transport::SchemaLock;
///
/// #[test]
/// fn schemas_are_compatible_with_the_last_release() {
///     SchemaLock::new(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.lock"))
///         .service(RenderMethods::ALL)
///         .method(SQUARE)
///         .check();
/// }
/// ```
///
/// | methods of the code | `RPCNET_SCHEMA_LOCK` unset or `check` | `write` | `write-breaking` |
/// |---|---|---|---|
/// | as in the file | passes | passes | passes |
/// | new, or changed compatibly | fails | writes the file | writes the file |
/// | changed incompatibly, or gone | fails | fails | writes the file |
///
/// A file that is damaged, by a merge for example, fails in each mode and stays as it is.
///
/// All methods that a file is about are added in one test: one that is missing counts as gone.
/// Compatible types may still meet values that the other side cannot read, such as a new variant:
/// those fail when they are sent.
#[derive(Debug, Clone)]
pub struct SchemaLock {
    path: PathBuf,
    methods: Vec<UntypedMethod>,
}

/// Which changes of the methods a [`SchemaLock`] writes to its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SchemaLockMode {
    /// None: each change is an error.
    #[default]
    Check,
    /// New methods and compatible changes.
    Write,
    /// All changes.
    WriteBreaking,
}

impl SchemaLock {
    /// The lock in the file of this path, without methods.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            methods: Vec::new(),
        }
    }

    /// Adds the methods of a service: `RenderMethods::ALL` of a service `Render`.
    #[must_use]
    pub fn service(mut self, methods: &[UntypedMethod]) -> Self {
        self.methods.extend(methods);
        self
    }

    /// Adds a method.
    #[must_use]
    pub fn method<Req, Reply, E>(mut self, method: Method<Req, Reply, E>) -> Self {
        self.methods.push(method.untyped());
        self
    }

    /// Compares the methods with the file, or writes it, as `RPCNET_SCHEMA_LOCK` says.
    ///
    /// # Panics
    ///
    /// If the test is to fail, with the text of the [`SchemaLockError`].
    #[track_caller]
    pub fn check(&self) {
        let checked = SchemaLockMode::from_env().and_then(|mode| self.try_check(mode));
        if let Err(error) = checked {
            panic!("{error}");
        }
    }

    /// Compares the methods with the file, or writes it.
    ///
    /// # Errors
    ///
    /// [`SchemaLockError`] if a method cannot be locked, the file cannot be read or written, is
    /// damaged, or differs from the methods in a way that the mode does not write.
    pub fn try_check(&self, mode: SchemaLockMode) -> Result<(), SchemaLockError> {
        let current = self.current()?;
        let rendered = contents::render(&current);
        check_len(&self.path, rendered.len())?;
        let Some(text) = file::read(&self.path)? else {
            return match mode {
                SchemaLockMode::Check => Err(SchemaLockError::Missing(self.path.clone())),
                SchemaLockMode::Write | SchemaLockMode::WriteBreaking => {
                    file::write(&self.path, &rendered)
                }
            };
        };
        let locked = contents::parse(&text).map_err(|damage| SchemaLockError::Damaged {
            path: self.path.clone(),
            line: damage.line,
            reason: damage.reason,
        })?;
        let comparison = LockComparison::new(&locked, &current);
        let path = || self.path.clone();
        if !comparison.breaking.is_empty() && mode != SchemaLockMode::WriteBreaking {
            let changes = comparison.breaking;
            return Err(SchemaLockError::Breaking {
                path: path(),
                changes,
            });
        }
        if text.replace("\r\n", "\n") == rendered {
            return Ok(());
        }
        if mode == SchemaLockMode::Check {
            return Err(SchemaLockError::Outdated {
                path: path(),
                added: comparison.added,
                changed: comparison.changed,
                without_type: comparison.without_type,
            });
        }
        file::write(&self.path, &rendered)
    }

    /// The methods of the code by their names.
    fn current(&self) -> Result<LockedMethods, SchemaLockError> {
        let mut methods = LockedMethods::new();
        for method in &self.methods {
            let (name, schema) = (method.name(), method.schema());
            check_method(name, schema).map_err(|problem| problem.of(name))?;
            let method_type = method.method_type();
            let locked = LockedMethod {
                schema: schema.clone(),
                method_type,
            };
            let before = methods.insert(name.to_owned(), locked);
            let is_other = |before: LockedMethod| {
                before.schema.hash() != schema.hash() || before.method_type != method_type
            };
            if before.is_some_and(is_other) {
                return Err(MethodProblem::Duplicate.of(name));
            }
        }
        Ok(methods)
    }
}

/// Whether a method can be in the file, and its callers understand its servers.
fn check_method(name: &str, schema: &MethodSchema) -> Result<(), MethodProblem> {
    if Printable(name).to_string() != name || name.trim() != name {
        return Err(MethodProblem::UnprintableName);
    }
    if schema.encode().is_none() {
        return Err(MethodProblem::TooLarge);
    }
    MethodSchema::check_compatible(schema, schema).map_err(MethodProblem::Incompatible)
}

impl SchemaLockMode {
    /// The mode that the environment variable `RPCNET_SCHEMA_LOCK` names: `check`, `write` or
    /// `write-breaking`. [`Check`](Self::Check) if it is not set or empty.
    ///
    /// # Errors
    ///
    /// [`SchemaLockError::Mode`] if it has another value.
    pub fn from_env() -> Result<Self, SchemaLockError> {
        let value = std::env::var_os(MODE_VARIABLE).unwrap_or_default();
        Self::parse(&value.to_string_lossy())
    }

    fn parse(value: &str) -> Result<Self, SchemaLockError> {
        match value {
            "" | "check" => Ok(Self::Check),
            "write" => Ok(Self::Write),
            "write-breaking" => Ok(Self::WriteBreaking),
            other => Err(SchemaLockError::Mode(Printable(other).to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
