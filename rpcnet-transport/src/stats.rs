//! Counters of an endpoint.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of an endpoint since it was opened. They only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TransportStats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        /// Sum of the counters of several endpoints.
        impl std::iter::Sum for TransportStats {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::default(), |sum, one| Self {
                    $($name: sum.$name + one.$name,)+
                })
            }
        }

        /// Live counters behind [`TransportStats`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> TransportStats {
                TransportStats { $($name: self.$name.value(),)+ }
            }
        }
    };
}

counters! {
    /// Incoming connections, with both certificates verified.
    connections_accepted,
    /// Handshakes that resumed a session of an earlier connection to this endpoint.
    sessions_resumed,
    /// Outgoing connections that were established.
    connections_opened,
    /// New TLS identities that the endpoint took.
    tls_reloads,
    /// New TLS identities that were rejected; the old one stayed.
    tls_reloads_rejected,
    /// Handshakes refused before they cost anything: too many at a time, too many connections, not
    /// serving yet, or shutting down.
    handshakes_refused,
    /// Handshakes sent back to prove their address (QUIC Retry).
    handshakes_retried,
    /// Connections refused because their peer had its share of `connections_max`. Those refused
    /// because all peers together have that many count in `handshakes_refused`.
    connections_refused,
    /// Handshakes that failed: a certificate of another CA or none, another protocol, or a timeout.
    handshakes_failed,
    /// Outgoing connections whose early data the server rejected, so that its calls were made
    /// again.
    early_data_rejected,
    /// Connections that the [authorizer](crate::TransportConfig::with_authorizer) denied.
    connections_denied,
    /// Connections closed by [`Endpoint::disconnect`](crate::Endpoint::disconnect), including
    /// handshakes of a node that was disconnected meanwhile.
    connections_disconnected,
    /// Calls handed to a handler.
    calls_started,
    /// Calls whose reply was sent completely; of a call with its own stream, also acknowledged if
    /// the caller lived to do so.
    calls_completed,
    /// Calls cancelled by their caller or by a shutdown at its deadline.
    calls_cancelled,
    /// Calls that exceeded their deadline on the server.
    calls_timed_out,
    /// Calls accepted as early data, of methods that are replay-safe.
    calls_early,
    /// Calls rejected as early data, of methods that are not replay-safe.
    calls_rejected_early,
    /// Calls rejected because the server was draining.
    calls_rejected_draining,
    /// Calls rejected because of overload, at once or after waiting: too many at a time, or no room
    /// for their bytes.
    calls_rejected_overloaded,
    /// Calls rejected because the types of their caller do not fit those of the method.
    calls_rejected_incompatible,
    /// Calls that a layer rejected.
    calls_rejected_by_layers,
    /// Replies and stream messages dropped because their caller had left too many earlier bytes
    /// unread.
    replies_dropped,
    /// Calls that waited for a permit, at their method's limit or the server's.
    calls_queued,
    /// Calls shed after waiting: too long, or for calls of higher priority. They count as
    /// rejected too.
    calls_shed,
    /// Calls whose deadline passed before their handlers started; they never ran.
    calls_expired,
    /// Calls answered from the idempotency cache, with the reply of an earlier call of the same
    /// key.
    keys_answered,
    /// Calls that joined a running call with the same idempotency key.
    keys_joined,
    /// Calls of unknown methods.
    unknown_methods,
    /// Handlers that panicked.
    handler_panics,
    /// Streams that did not start with a preface of this protocol.
    bad_prefaces,
    /// Streams with malformed or unexpected frames.
    malformed_frames,
    /// Messages above the size limit.
    oversized_messages,
    /// Requests that did not decode, in their body or in a stream message, or whose kind does not
    /// fit the method.
    invalid_requests,
    /// Streams reset because the header of their request did not arrive in time.
    header_timeouts,
    /// Calls reset because their caller stopped sending the request or reading the reply.
    stalled_calls,
    /// Datagrams delivered to the side channel.
    side_received,
    /// Datagrams of the side channel dropped because it is not read, or not fast enough.
    side_dropped,
    /// Datagrams of the side channel dropped because its
    /// [recognizer](crate::SideChannel::with_recognizer) does not recognise them and their part of
    /// the queue was full.
    side_unrecognized,
    /// Datagrams of the side channel that were empty or above the size limit.
    side_unfit,
    /// Spins of [busy polling](crate::TransportConfig::with_busy_poll) that have ended. On a
    /// current-thread runtime one spin goes on over many packets. While it stays, nothing spins:
    /// [`Endpoint::busy_poll_state`](crate::Endpoint::busy_poll_state) says why.
    busy_poll_spins,
    /// Spins in which there was work: packets that came, or calls that other tasks made meanwhile.
    busy_poll_hits,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
