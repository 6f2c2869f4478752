//! LockComparison of the methods of the code with those of a schema lock.

use std::fmt;

use super::contents::{LockedMethod, LockedMethods};
use crate::{
    method::MethodType,
    schema::{Incompatibility, MethodSchema},
};

/// Differences between locked methods and those of the code, by the names of the methods.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockComparison {
    pub(super) added: Vec<String>,
    /// Methods whose types are compatible, but not the same.
    pub(super) changed: Vec<String>,
    /// Methods of which the file does not say whether they stream.
    pub(super) without_type: Vec<String>,
    pub(super) breaking: Vec<BreakingChange>,
}

/// Change of a method that callers or servers of the locked version do not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakingChange {
    method: String,
    combination: BreakingCombination,
}

/// Sides that do not understand each other after a [`BreakingChange`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakingCombination {
    /// The code does not have the method.
    Gone,
    /// A caller of the locked version with a server of the code.
    LockedCaller(Incompatibility),
    /// A caller of the code with a server of the locked version.
    LockedServer(Incompatibility),
    /// Callers and servers of the two versions, in both directions: requests or replies are one
    /// message in one version and a stream in the other.
    MethodType {
        /// Type of the method in the file.
        locked: MethodType,
        /// Type of the method in the code.
        current: MethodType,
    },
}

impl LockComparison {
    pub(super) fn new(locked: &LockedMethods, current: &LockedMethods) -> Self {
        let is_added = |name: &&String| !locked.contains_key(*name);
        let mut comparison = Self {
            added: current.keys().filter(is_added).cloned().collect(),
            changed: Vec::new(),
            without_type: Vec::new(),
            breaking: Vec::new(),
        };
        for (name, locked) in locked {
            comparison.add(name, locked, current.get(name));
        }
        comparison
    }

    fn add(&mut self, name: &str, locked: &LockedMethod, current: Option<&LockedMethod>) {
        let breaking = |combination| BreakingChange {
            method: name.to_owned(),
            combination,
        };
        let Some(current) = current else {
            return self.breaking.push(breaking(BreakingCombination::Gone));
        };
        let other_type = match (locked.method_type, current.method_type) {
            (Some(locked), Some(current)) if locked != current => {
                Some(BreakingCombination::MethodType { locked, current })
            }
            (None, Some(_)) => {
                self.without_type.push(name.to_owned());
                None
            }
            _ => None,
        };
        let (locked, current) = (&locked.schema, &current.schema);
        let as_server = MethodSchema::check_compatible(locked, current);
        let as_caller = MethodSchema::check_compatible(current, locked);
        let is_compatible = as_server.is_ok() && as_caller.is_ok();
        let found = [
            other_type,
            as_server.err().map(BreakingCombination::LockedCaller),
            as_caller.err().map(BreakingCombination::LockedServer),
        ];
        self.breaking
            .extend(found.into_iter().flatten().map(breaking));
        if is_compatible && locked.hash() != current.hash() {
            self.changed.push(name.to_owned());
        }
    }
}

impl BreakingChange {
    /// Name of the method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The sides that do not understand each other, and why.
    #[must_use]
    pub fn combination(&self) -> &BreakingCombination {
        &self.combination
    }
}

impl fmt::Display for BreakingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = &self.method;
        match &self.combination {
            BreakingCombination::Gone => write!(f, "{method} is gone"),
            BreakingCombination::LockedCaller(why) => {
                write!(f, "{method}, old caller and new server: {why}")
            }
            BreakingCombination::LockedServer(why) => {
                write!(f, "{method}, new caller and old server: {why}")
            }
            BreakingCombination::MethodType { locked, current } => {
                write!(f, "{method} was {locked}, is {current}")
            }
        }
    }
}
