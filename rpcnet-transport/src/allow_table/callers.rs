//! Callers that a rule of the allow table allows.

use std::{fmt, sync::Arc};

use super::pattern::{PatternError, WildcardPattern};
use crate::{Peer, Priority};

/// Callers that a rule of an [`AllowTable`](crate::AllowTable) allows, and the highest priority
/// that they may claim. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers {
    matcher: Matcher,
    priority_max: Priority,
}

#[derive(Debug, Clone)]
enum Matcher {
    Any,
    Names(Arc<[WildcardPattern]>),
    Uris(Arc<[WildcardPattern]>),
    Fingerprints(Arc<[[u8; 32]]>),
    Predicate(PeerPredicate),
}

#[derive(Clone)]
struct PeerPredicate(Arc<dyn Fn(&Peer) -> bool + Send + Sync>);

impl fmt::Debug for PeerPredicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerPredicate").finish_non_exhaustive()
    }
}

impl Callers {
    fn new(matcher: Matcher) -> Self {
        Self {
            matcher,
            priority_max: Priority::default(),
        }
    }

    /// Every caller with a valid certificate.
    #[must_use]
    pub fn any() -> Self {
        Self::new(Matcher::Any)
    }

    /// No caller: it closes methods that a wider pattern would open.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Matcher::Fingerprints(Arc::default()))
    }

    /// Callers whose node name matches one of these patterns, whatever its case: `gateway-1`,
    /// `gateway-*` or `*.gateways`. The node name is that of [`Peer::name`], not every DNS name of
    /// the certificate.
    ///
    /// # Panics
    ///
    /// If a pattern is malformed, see [`try_names`](Self::try_names).
    #[must_use]
    #[track_caller]
    pub fn names(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::try_names(patterns).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`names`](Self::names), for patterns that a program reads.
    ///
    /// # Errors
    ///
    /// [`PatternError`] if a pattern is empty, has a `*` that is neither its first nor its last
    /// character, or matches no node name.
    pub fn try_names(
        patterns: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, PatternError> {
        let patterns = patterns.into_iter();
        let patterns: Result<_, _> = patterns
            .map(|pattern| WildcardPattern::of_names(pattern.as_ref()))
            .collect();
        Ok(Self::new(Matcher::Names(patterns?)))
    }

    /// Callers with a URI in their certificate (subject alternative name) that matches one of these
    /// patterns, byte by byte: `spiffe://example.org/ops/alice`, `spiffe://example.org/ops/*` or
    /// `*/ops`.
    ///
    /// # Panics
    ///
    /// If a pattern is malformed, see [`try_uris`](Self::try_uris).
    #[must_use]
    #[track_caller]
    pub fn uris(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::try_uris(patterns).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`uris`](Self::uris), for patterns that a program reads.
    ///
    /// # Errors
    ///
    /// [`PatternError`] if a pattern is empty, has a `*` that is neither its first nor its last
    /// character, has characters that are in no URI, or ends within the host, as
    /// `spiffe://example.org*` does, which matches `spiffe://example.org.elsewhere/` too.
    pub fn try_uris(
        patterns: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, PatternError> {
        let patterns = patterns.into_iter();
        let patterns: Result<_, _> = patterns
            .map(|pattern| WildcardPattern::of_uris(pattern.as_ref()))
            .collect();
        Ok(Self::new(Matcher::Uris(patterns?)))
    }

    /// Callers with these certificates, by their SHA-256
    /// [fingerprints](crate::Identity::fingerprint). A renewed certificate has another one.
    #[must_use]
    pub fn fingerprints(fingerprints: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self::new(Matcher::Fingerprints(fingerprints.into_iter().collect()))
    }

    /// Callers for which this function returns true. It may be asked at every call, so it has to be
    /// quick and must not block; its answer may change while a connection is open.
    #[must_use]
    pub fn matching(predicate: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Matcher::Predicate(PeerPredicate(Arc::new(predicate))))
    }

    /// Sets the highest priority that these callers may claim. Default [`Priority::Critical`], the
    /// default of calls: [`Priority::CriticalPlus`] has to be granted.
    #[must_use]
    pub fn with_priority_max(mut self, priority: Priority) -> Self {
        self.priority_max = priority;
        self
    }

    /// Highest priority that they may claim.
    pub(super) fn priority_max(&self) -> Priority {
        self.priority_max
    }

    pub(super) fn has_predicate(&self) -> bool {
        matches!(self.matcher, Matcher::Predicate(_))
    }

    /// Whether a caller is one of them.
    #[must_use]
    pub fn contains(&self, peer: &Peer) -> bool {
        match &self.matcher {
            Matcher::Any => true,
            Matcher::Names(patterns) => {
                let name = peer.name();
                patterns.iter().any(|it| it.matches_ignore_case(name))
            }
            Matcher::Uris(patterns) => peer.identity().is_some_and(|identity| {
                let mut uris = identity.uris();
                uris.any(|uri| patterns.iter().any(|pattern| pattern.matches(uri)))
            }),
            Matcher::Fingerprints(fingerprints) => peer
                .identity()
                .is_some_and(|identity| fingerprints.contains(&identity.fingerprint())),
            Matcher::Predicate(predicate) => (predicate.0)(peer),
        }
    }
}
