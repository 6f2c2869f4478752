//! Allow table: which callers may call which methods, and with which priority.

mod callers;
mod pattern;

use std::collections::HashMap;

use self::pattern::WildcardPattern;
pub use self::{callers::Callers, pattern::PatternError};
use crate::{Code, IncomingCall, Peer, Priority, ServerLayer, Status};

/// Table of the callers that may call each method. It denies what it does not allow.
///
/// A pattern of methods is a name, or has one `*` as its last or first character; it is compared
/// byte by byte. **The most specific pattern that matches a method decides alone**: the method's
/// own name before any pattern, then the pattern with the most characters beside the `*`; of
/// equally long ones, one that ends with the `*` goes before one that begins with it. So the order
/// of rules does not matter, and a rule for `*` stands for the methods that have no rule of their
/// own: it opens none that a narrower rule restricts. Rules of the same pattern are united: a
/// caller needs one of them, and of several that allow it the highest priority counts.
///
/// ```
/// use rpcnet_transport::{Access, AllowTable, Callers, Peer, Priority};
///
/// let table = AllowTable::new()
///     .allow("Render/*", Callers::names(["gateway-*"]))
///     .allow(
///         "Admin/*",
///         Callers::uris(["spiffe://example.org/ops/*"])
///             .with_priority_max(Priority::CriticalPlus),
///     )
///     .allow("*", Callers::any().with_priority_max(Priority::Sheddable));
///
/// let gateway = Peer::new("gateway-1", ([127, 0, 0, 1], 7946).into());
/// let decide = |method| table.decide(method, &gateway);
/// let allowed = |priority_max| Access::Allowed { priority_max };
/// assert_eq!(decide("Render/frame"), allowed(Priority::Critical));
/// assert_eq!(decide("Admin/stop"), Access::Denied); // It has no such URI.
/// assert_eq!(decide("status"), allowed(Priority::Sheddable));
/// ```
///
/// As a [layer](ServerLayer) of a router it rejects the calls that it denies, before their bodies
/// are read, and bounds the priority of the others. It does not hide the schemas of methods:
///
/// ```
/// # use rpcnet_transport::{AllowTable, Callers, Router};
/// # let table = AllowTable::new();
/// let router = Router::new().layer(table);
/// # drop(router);
/// ```
///
/// A decision allocates nothing. That about one peer and method stays the same for as long as the
/// connection, and may be kept, unless [a predicate decides](Self::has_predicate).
#[derive(Debug, Clone, Default)]
pub struct AllowTable {
    exact: HashMap<Box<str>, Vec<Callers>>,
    /// Rules of patterns with `*`, the most specific first.
    wildcards: Vec<(WildcardPattern, Vec<Callers>)>,
}

/// Decision of an [`AllowTable`] about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// The caller may not call the method.
    Denied,
    /// The caller may call the method.
    Allowed {
        /// Highest priority that the call may have.
        priority_max: Priority,
    },
}

impl ServerLayer for AllowTable {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        match self.decide(call.method(), call.peer()) {
            Access::Allowed { priority_max } => {
                call.limit_priority(priority_max);
                Ok(())
            }
            Access::Denied => {
                let (caller, method) = (call.peer().name(), call.method());
                let message = format!("node {caller} may not call {method:?}");
                Err(Status::new(Code::PermissionDenied, message))
            }
        }
    }
}

impl AllowTable {
    /// Empty table, which denies everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule: these callers may call the methods of this pattern.
    ///
    /// # Panics
    ///
    /// If the pattern is malformed, see [`try_allow`](Self::try_allow).
    #[must_use]
    #[track_caller]
    pub fn allow(self, methods: &str, callers: Callers) -> Self {
        self.try_allow(methods, callers)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`allow`](Self::allow), for a pattern that a program reads.
    ///
    /// # Errors
    ///
    /// [`PatternError`] if the pattern is empty, longer than a method name, or has a `*` that is
    /// neither its first nor its last character.
    pub fn try_allow(mut self, methods: &str, callers: Callers) -> Result<Self, PatternError> {
        match WildcardPattern::of_methods(methods)? {
            WildcardPattern::Exact(method) => self.exact.entry(method).or_default().push(callers),
            pattern => {
                let place = self
                    .wildcards
                    .binary_search_by(|(other, _)| other.compare_specificity(&pattern));
                match place {
                    Ok(known) => self.wildcards[known].1.push(callers),
                    Err(place) => self.wildcards.insert(place, (pattern, vec![callers])),
                }
            }
        }
        Ok(self)
    }

    /// Decides whether a caller may call a method.
    #[must_use]
    pub fn decide(&self, method: &str, caller: &Peer) -> Access {
        let mut access = Access::Denied;
        for callers in self.rules(method) {
            let offered = Access::Allowed {
                priority_max: callers.priority_max(),
            };
            if offered.is_wider_than(access) && callers.contains(caller) {
                access = offered;
            }
        }
        access
    }

    /// Whether the decision about this method depends on a [predicate](Callers::matching), whose
    /// answer may change while a connection is open.
    #[must_use]
    pub fn has_predicate(&self, method: &str) -> bool {
        self.rules(method).iter().any(Callers::has_predicate)
    }

    /// Rules of the most specific pattern that matches a method.
    fn rules(&self, method: &str) -> &[Callers] {
        if let Some(rules) = self.exact.get(method) {
            return rules;
        }
        let mut wildcards = self.wildcards.iter();
        let decisive = wildcards.find(|(pattern, _)| pattern.matches(method));
        decisive.map_or(&[], |(_, rules)| rules)
    }
}

impl Access {
    /// Whether the caller may call the method.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// Priority of a call that claims this one: the claimed one or, if that is higher than the
    /// caller may claim, the highest that it may. `None` if the call is denied.
    #[must_use]
    pub fn priority(self, claimed: Priority) -> Option<Priority> {
        match self {
            Self::Denied => None,
            // A higher priority compares as less.
            Self::Allowed { priority_max } => Some(claimed.max(priority_max)),
        }
    }

    fn is_wider_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::Denied, _) => false,
            (Self::Allowed { .. }, Self::Denied) => true,
            (Self::Allowed { priority_max: own }, Self::Allowed { priority_max }) => {
                own < priority_max
            }
        }
    }
}

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
