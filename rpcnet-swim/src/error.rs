//! What can go wrong, and whose fault it is.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::id::MAX_NAME_BYTES;
use crate::seed::SeedSyntaxError;

/// A configuration that contradicts itself. The caller's to fix; nothing was started.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A node's or a cluster's name that is empty, too long or of other characters than allowed.
    #[error("invalid name {name:?}: 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ - are allowed")]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// A node's tags that have no room beside its name: both travel in one datagram.
    #[error(transparent)]
    TagsTooLargeWithName(TagError),
    /// A setting that must be more than zero is zero.
    #[error("{setting} must not be zero")]
    Zero {
        /// Which one.
        setting: &'static str,
    },
    /// The second stage of a probe would leave its helpers no time to answer.
    #[error("probe timeout {timeout:?} must be at most 0.7 of the probe interval {interval:?}")]
    ProbeTimeout {
        /// Time until the second ping.
        timeout: Duration,
        /// Length of a whole round.
        interval: Duration,
    },
    /// A setting out of the range in which it means anything.
    #[error("{setting} is {value}, must be within {min}..={max}")]
    OutOfRange {
        /// Which one.
        setting: &'static str,
        /// As given.
        value: f64,
        /// Smallest that works.
        min: f64,
        /// Largest that works.
        max: f64,
    },
    /// Gossip without a key on an address that others can reach.
    #[error(
        "{addr} is not loopback and there is no cluster key: set one with `with_key` (`cluster_key` of a `NodeBuilder`), \
         or ask for `insecure_gossip` by name"
    )]
    InsecureGossip {
        /// Where the node was to listen.
        addr: SocketAddr,
    },
    /// Both a key and [`insecure_gossip`](crate::ClusterConfig::insecure_gossip).
    #[error("a cluster key and insecure gossip contradict each other")]
    KeyAndInsecure,
    /// A seed that can never be one, whatever a name server says.
    #[error("invalid seed {seed:?}: {reason}")]
    InvalidSeed {
        /// The seed as given.
        seed: String,
        /// What is wrong with it.
        reason: SeedSyntaxError,
    },
    /// An epoch that is no time in milliseconds since the Unix epoch.
    #[error("epoch {epoch} is no time in milliseconds: past the year 10889")]
    UnusableEpoch {
        /// The epoch as given.
        epoch: u64,
    },
    /// An address that no other node could send to.
    #[error("{addr} cannot be advertised: others cannot send to it")]
    UnusableAdvertiseAddr {
        /// The address as given.
        addr: SocketAddr,
    },
}

/// Why a node that answered did not let this one in. It goes on trying.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// It tracks as many members as it may, and heard each of them.
    #[error("its member table is full: raise `with_members_max`")]
    TableFull,
    /// Nobody there could send to the address that this node advertises.
    #[error("the advertised address is of no use there: set one with `with_advertise_addr`")]
    UnusableAddress,
    /// Another member's name has the same 64-bit hash. Another name helps.
    #[error("another member's name has the same hash: choose another name")]
    NameCollision,
    /// Another member has this address, or a later life of this node is known. It passes when
    /// that one is found failed.
    #[error("another member has the address, or a later life of this node is known")]
    NotAdmitted,
    /// For a reason that this version does not know.
    #[error("for a reason that this version does not know")]
    Unknown,
}

impl JoinRefusal {
    /// Whether the same node may be let in later: as long as its name and its advertised address
    /// are not what it was refused for.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        !matches!(self, Self::UnusableAddress | Self::NameCollision)
    }
}

/// Tags that a node cannot carry. The caller's to fix; the tags are as they were.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagError {
    /// A key without a character.
    #[error("a tag's key must not be empty")]
    EmptyKey,
    /// A key or a value past 255 bytes.
    #[error("tag {key:?}: a key and a value take at most 255 bytes each")]
    EntryTooLong {
        /// Whose.
        key: String,
    },
    /// Too much of it all together.
    #[error("tags take {bytes} bytes encoded, at most {limit} are carried")]
    TooLarge {
        /// What they take.
        bytes: usize,
        /// What is carried.
        limit: usize,
    },
    /// Too much beside this node's name, which is longer than 63 bytes. A shorter name helps too.
    #[error(
        "tags take {bytes} bytes encoded, at most {limit} are carried beside a name of {name_bytes} \
         bytes"
    )]
    TooLargeWithName {
        /// What they take.
        bytes: usize,
        /// What is carried beside the name.
        limit: usize,
        /// What the name takes.
        name_bytes: usize,
    },
}

/// A text or a variable that holds no cluster key. The caller's to fix.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The environment variable is not set.
    #[error("environment variable {name} is not set")]
    NotSet {
        /// Its name.
        name: String,
    },
    /// Not 64 hexadecimal digits.
    #[error("a cluster key is 64 hexadecimal digits, this is {chars} characters that are not")]
    NotHex {
        /// How many there were.
        chars: usize,
    },
    /// A ring without a key, or with more than it can hold.
    #[error("a key ring holds 1 to {max} keys, not {given}")]
    RingSize {
        /// How many were given.
        given: usize,
        /// How many fit.
        max: usize,
    },
}
