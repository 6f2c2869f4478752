//! Counters of the engine.

/// Counters of a node since its start. They only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams handed to the socket.
    pub sent: u64,
    /// Bytes of the datagrams sent, without UDP and IP headers.
    pub sent_bytes: u64,
    /// Datagrams received from the socket, valid or not.
    pub received: u64,
    /// Bytes of the datagrams received.
    pub received_bytes: u64,
    /// Datagrams without effect, by reason.
    pub dropped: DropCounters,
    /// Probe rounds started.
    pub probe_rounds: u64,
    /// Probe rounds without an answer that a witness confirmed: evidence against the probe target.
    pub missed_probes: u64,
    /// Probe rounds without an answer and without a witness: evidence about this node's own
    /// network.
    pub inconclusive_rounds: u64,
    /// Answers after the end of their probe round, which clear its evidence.
    pub late_answers: u64,
    /// Suspicions that this node raised or confirmed.
    pub suspicions_raised: u64,
    /// Suspicions about this node that it refuted.
    pub refutations: u64,
    /// Times that this node changed its advertised address.
    pub address_changes: u64,
    /// Failures that this node declared itself, not those that it learnt of.
    pub failures_declared: u64,
    /// Claims of others that a member failed or left that this node verified by a probe first.
    pub claims_rechecked: u64,
    /// Members forgotten because the table was full, or because too many others had their address.
    pub members_evicted: u64,
    /// Newcomers not admitted because the table was full.
    pub members_refused: u64,
    /// Records dropped because no node here could send to their address.
    pub unusable_addresses: u64,
    /// Answers cut short because the requester's address was not validated yet (as the
    /// anti-amplification limit of QUIC, RFC 9000 section 8).
    pub amplification_limited: u64,
    /// Anti-entropy exchanges started.
    pub syncs: u64,
    /// Records refused because their epoch is more than a day ahead of this node's clock.
    pub future_records: u64,
    /// Members asked at their address for their datagram counter, because one was out of step.
    pub counter_checks: u64,
    /// Claims of a newer node with this node's name that this node set out to verify.
    pub name_claims: u64,
    /// Such claims that proved wrong: no node of its name answered.
    pub name_claims_disproved: u64,
    /// Times that a newer node proved to have this node's name.
    pub superseded: u64,
    /// Datagrams that the system refused to send because they are too large for the interface or
    /// the path (EMSGSIZE).
    pub datagrams_too_large: u64,
    /// Times that a path was found not to carry datagrams of the [configured
    /// size](crate::ClusterConfig::with_datagram_bytes_max), and got smaller ones from then on.
    pub path_mtu_reductions: u64,
    /// Reach checks started: a sample of the members was asked for a round trip, because too many
    /// probe rounds in a row went unanswered.
    pub reach_checks: u64,
    /// Times that this process found that it had been stopped, and shifted its deadlines.
    pub stalls: u64,
}

/// Counters of datagrams that had no effect, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropCounters {
    /// Datagrams of another protocol, or that contradict themselves.
    pub malformed: u64,
    /// Datagrams of another version of the wire format.
    pub version: u64,
    /// Datagrams of another cluster.
    pub foreign_cluster: u64,
    /// Datagrams in clear, while this node has a key.
    pub unsealed: u64,
    /// Datagrams sealed with a key that this node does not have, or sealed at all while it has
    /// none.
    pub unknown_key: u64,
    /// Datagrams whose seal does not match their key: changed on the way, or forged.
    pub bad_seal: u64,
    /// Datagrams seen before, or too old to tell.
    pub replayed: u64,
    /// Datagrams for another node, or for an earlier instance of this one.
    pub misaddressed: u64,
    /// Datagrams from an unknown node, which is asked to say hello.
    pub unknown_sender: u64,
    /// Answers to a request that was not made, other than to a ping: those come twice, and late.
    pub unexpected: u64,
    /// Datagrams from a node, or about one, whose epoch is more than a day ahead of this node's
    /// clock.
    pub future_epoch: u64,
    /// Datagrams that arrived while a newer node had this node's name.
    pub superseded: u64,
    /// Datagrams that arrived after this node left.
    pub after_leave: u64,
}
