//! Errors of configuration, tags, keys and joining, each with whose fault it is.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::limits::MAX_NAME_BYTES;
use crate::seed::SeedSyntaxError;

/// A configuration that contradicts itself. The caller's fault; nothing was started.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name of a node or a cluster is empty, too long, or has characters that are not allowed.
    #[error("invalid name {name:?}: 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ - are allowed")]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// The tags have no room beside the node's name: both travel in one datagram.
    #[error(transparent)]
    TagsTooLargeWithName(TagError),
    /// A setting that must be more than zero is zero.
    #[error("{setting} must not be zero")]
    Zero {
        /// Name of the setting.
        setting: &'static str,
    },
    /// The second stage of a probe would leave the indirect probes no time for an answer.
    #[error("probe timeout {timeout:?} must be at most 0.7 of the probe interval {interval:?}")]
    ProbeTimeout {
        /// Time until the second ping.
        timeout: Duration,
        /// Length of a whole probe round.
        interval: Duration,
    },
    /// A setting is out of the range in which it means anything.
    #[error("{setting} is {value}, must be within {min}..={max}")]
    OutOfRange {
        /// Name of the setting.
        setting: &'static str,
        /// The value as given.
        value: f64,
        /// Least value that works.
        min: f64,
        /// Largest value that works.
        max: f64,
    },
    /// Gossip without a key on an address that other hosts can reach.
    #[error(
        "{addr} is not loopback and there is no cluster key: set one with `with_key` (`cluster_key` of a `NodeBuilder`), \
         or set `insecure_gossip`"
    )]
    InsecureGossip {
        /// The address that the node was to bind.
        addr: SocketAddr,
    },
    /// Both a key and [`insecure_gossip`](crate::ClusterConfig::insecure_gossip) are set.
    #[error("a cluster key and insecure gossip contradict each other")]
    KeyAndInsecure,
    /// The text can never be a seed, whatever a name server answers.
    #[error("invalid seed {seed:?}: {reason}")]
    InvalidSeed {
        /// The seed as given.
        seed: String,
        /// Syntax error in it.
        reason: SeedSyntaxError,
    },
    /// The epoch is no time in milliseconds since the Unix epoch.
    #[error("epoch {epoch} is no time in milliseconds: past the year 10889")]
    UnusableEpoch {
        /// The epoch as given.
        epoch: u64,
    },
    /// No other node could send to the address.
    #[error("{addr} cannot be advertised: no other node could send to it")]
    UnusableAdvertiseAddr {
        /// The address as given.
        addr: SocketAddr,
    },
}

/// Reason for which a node that answered did not let this node in, which goes on trying.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// It tracks as many members as it may, and has heard from each of them.
    #[error("its member table is full: raise `with_members_max`")]
    TableFull,
    /// No node there could send to the address that this node advertises.
    #[error(
        "no node there could send to the advertised address: set one with `with_advertise_addr`"
    )]
    UnusableAddress,
    /// Another member's name has the same 64-bit hash. Another name helps.
    #[error("another member's name has the same hash: choose another name")]
    NameCollision,
    /// Another member has this address, or a newer instance of this node is known. It passes when
    /// that member or instance is found failed.
    #[error("another member has the address, or a newer instance of this node is known")]
    NotAdmitted,
    /// A reason that this version does not know.
    #[error("a reason that this version does not know")]
    Unknown,
}

impl JoinRefusal {
    /// Whether the same node may be let in later: `false` if it was refused for its name or its
    /// advertised address, which stay the same.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        !matches!(self, Self::UnusableAddress | Self::NameCollision)
    }
}

/// Tags that a node cannot carry. The caller's fault; the tags are unchanged.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagError {
    /// A key is empty.
    #[error("a tag's key must not be empty")]
    EmptyKey,
    /// A key or a value is longer than 255 bytes.
    #[error("tag {key:?}: a key and a value take at most 255 bytes each")]
    EntryTooLong {
        /// The key of the entry.
        key: String,
    },
    /// All entries together take too many bytes.
    #[error("tags take {bytes} bytes encoded, at most {limit} are carried")]
    TooLarge {
        /// Bytes that they take, encoded.
        bytes: usize,
        /// Most bytes that a node carries.
        limit: usize,
    },
    /// The tags take too many bytes beside this node's name, which is longer than 63 bytes. A
    /// shorter name helps too.
    #[error(
        "tags take {bytes} bytes encoded, at most {limit} are carried beside a name of {name_bytes} \
         bytes"
    )]
    TooLargeWithName {
        /// Bytes that they take, encoded.
        bytes: usize,
        /// Most bytes that are carried beside the name.
        limit: usize,
        /// Bytes of the name.
        name_bytes: usize,
    },
}

/// A text or an environment variable that holds no cluster key. The caller's fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The environment variable is not set.
    #[error("environment variable {name} is not set")]
    NotSet {
        /// Name of the variable.
        name: String,
    },
    /// The text is not 64 hexadecimal digits.
    #[error("a cluster key is 64 hexadecimal digits, this is {chars} characters that are not")]
    NotHex {
        /// Characters of the text.
        chars: usize,
    },
    /// The text in the environment variable is not 64 hexadecimal digits.
    #[error(
        "environment variable {name}: a cluster key is 64 hexadecimal digits, this is {chars} \
         characters that are not"
    )]
    VariableNotHex {
        /// Name of the variable.
        name: String,
        /// Characters of the text.
        chars: usize,
    },
    /// A ring has no key, or more keys than it can hold.
    #[error("a key ring holds 1 to {max} keys, not {given}")]
    RingSize {
        /// Keys given.
        given: usize,
        /// Most keys in a ring.
        max: usize,
    },
}
