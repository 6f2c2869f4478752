//! Node identity: a name and the time of its start.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::ConfigError;
use crate::limits::MAX_NAME_BYTES;

/// Identity of a node: its name and its epoch.
///
/// A node that restarts keeps its name and gets a higher epoch, so it is a new node that takes the
/// place of the old one. It displays as the name alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Name chosen by the user, unique in the cluster: 1 to [`MAX_NAME_BYTES`] of `A-Z a-z 0-9 . _
    /// -`. Names are compared byte by byte; a node's own name is in lower case, without a dot at
    /// the end ([`with_name`](crate::ClusterConfig::with_name)).
    pub name: Arc<str>,
    /// Start of this instance of the node, in milliseconds since the Unix epoch.
    pub epoch: u64,
}

impl NodeId {
    /// The id of the instance of `name` that started at `epoch`.
    pub fn new(name: impl Into<Arc<str>>, epoch: u64) -> Self {
        Self {
            name: name.into(),
            epoch,
        }
    }

    /// Hash of the name, which stands for the node in the table, on the ring and on the wire.
    pub(crate) fn key(&self) -> u64 {
        name_key(&self.name)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.epoch)
    }
}

/// Hash of a name: the same on every machine and in every version.
pub fn name_key(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Keyed hash of a key, for hash tables: keys follow from names, which others choose. The seed
/// follows from a few hashes, so none may leave the process.
pub(crate) fn key_hash(key: u64, seed: u64) -> u64 {
    xxh3_64_with_seed(&key.to_le_bytes(), seed)
}

/// Hash of one instance of a node, for the addressee of a datagram. Never zero.
pub fn instance_key(key: u64, epoch: u64) -> u64 {
    // Zero means that the sender does not know the receiver.
    xxh3_64_with_seed(&key.to_le_bytes(), epoch).max(1)
}

/// Half of an instance key, as it is on the wire: a datagram that goes astray matches its receiver
/// with a chance of one in four billion.
pub fn short_instance_key(instance: u64) -> u32 {
    match instance {
        0 => 0,
        _ => (instance as u32).max(1),
    }
}

/// Whether `name` can be a node's or a cluster's name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    match is_valid_name(name) {
        true => Ok(()),
        false => Err(ConfigError::InvalidName {
            name: name.to_owned(),
        }),
    }
}

/// Canonical form of a node's name: ASCII lower case, without the dot at the end.
pub(crate) fn canonical_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for name in ["Worker-1.Pool", "worker-1.pool.", "worker-1.pool"] {
            assert_eq!(canonical_name(name), "worker-1.pool");
        }
    }
}
