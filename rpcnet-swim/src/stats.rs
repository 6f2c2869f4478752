//! What the engine counts.

/// Counters of a node since it started. All only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams handed to the socket.
    pub sent: u64,
    /// Their bytes, without UDP and IP headers.
    pub sent_bytes: u64,
    /// Datagrams taken from the socket, good or bad.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams without effect, by reason.
    pub dropped: DropCounters,
    /// Probe rounds started.
    pub probe_rounds: u64,
    /// Rounds without an answer and with a witness: evidence.
    pub missed_probes: u64,
    /// Rounds without an answer nor a witness: evidence about this node's own network.
    pub inconclusive_rounds: u64,
    /// Answers after the end of their round, which clear its evidence.
    pub late_answers: u64,
    /// Suspicions that this node raised or joined.
    pub suspicions_raised: u64,
    /// Suspicions about this node that it refuted.
    pub refutations: u64,
    /// Times that this node advertised another address than before.
    pub address_changes: u64,
    /// Failures that this node declared; those it was told of are not counted.
    pub failures_declared: u64,
    /// Claims that a member failed or left on which this node had another look first.
    pub claims_rechecked: u64,
    /// Members forgotten because the table was full.
    pub members_evicted: u64,
    /// Newcomers not taken in because the table was full.
    pub members_refused: u64,
    /// Records without effect because nobody here could send to their address.
    pub unusable_addresses: u64,
    /// Answers cut short because the address of who asked was not validated yet.
    pub amplification_limited: u64,
    /// Anti-entropy exchanges started.
    pub syncs: u64,
    /// Records refused because their epoch is more than a day ahead of this node's clock.
    pub future_records: u64,
    /// Members asked at their address for their counter, because one was out of step.
    pub counter_checks: u64,
    /// Claims that there is a newer node of this node's name which it set out to verify.
    pub name_claims: u64,
    /// Those of them that proved wrong: nobody of its name was there.
    pub name_claims_disproved: u64,
    /// Times that a newer node proved to have this node's name.
    pub superseded: u64,
    /// Datagrams that the system refused to send because they are too large for the interface or
    /// the path (EMSGSIZE).
    pub datagrams_too_large: u64,
    /// Times that a path was found not to carry datagrams of the
    /// [configured size](crate::ClusterConfig::with_datagram_bytes_max): it gets smaller ones.
    pub path_mtu_reductions: u64,
    /// Reach checks started: a sample of the members was asked for a round trip, because too many
    /// probe rounds in a row went unanswered.
    pub reach_checks: u64,
    /// Times that this process found itself stopped and shifted its deadlines.
    pub stalls: u64,
}

/// Datagrams that had no effect, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropCounters {
    /// Not a datagram of this protocol, or one that contradicts itself.
    pub malformed: u64,
    /// Of another version of the wire format.
    pub version: u64,
    /// Of another cluster.
    pub foreign_cluster: u64,
    /// In clear, while this node has a key.
    pub unsealed: u64,
    /// Sealed with a key that this node does not have, or while it has none at all.
    pub unknown_key: u64,
    /// Sealed with a key of this name and yet not: changed on the way, or forged.
    pub bad_seal: u64,
    /// Seen before, or too old to tell.
    pub replayed: u64,
    /// Meant for another node, or for an earlier life of this one.
    pub misaddressed: u64,
    /// From a node that this one does not know; it is asked to say hello.
    pub unknown_sender: u64,
    /// An answer to what was not asked, other than to a ping: those come twice, and late.
    pub unexpected: u64,
    /// From a life, or about one, whose epoch is more than a day ahead of this node's clock.
    pub future_epoch: u64,
    /// Arrived while a newer node had this node's name.
    pub superseded: u64,
    /// Arrived after this node left.
    pub after_leave: u64,
}
